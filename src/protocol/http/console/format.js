// Numbers, sizes, times and others' texts as people read them.

// Control characters, and those that turn the direction of a line, are shown by a sign, so that none of them steers anything.
const STEERING = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const sign = (letter) => {
  const code = letter.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? '\u2421' : `\\u${code.toString(16).padStart(4, '0')}`;
};
// A text on one line.
export const plain = (text) => text.replace(STEERING, sign);
// A text on as many lines as it has.
export const lines = (text) => text.replace(STEERING, (letter) => (letter === '\n' || letter === '\t' ? letter : sign(letter)));

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
export const number = (value) => (value === null || value === undefined ? '–' : grouped.format(value));

const scaled = (value, step, units) => {
  let unit = 0;
  while (value >= step && unit < units.length - 1) [value, unit] = [value / step, unit + 1];
  return `${unit && value < 99.95 ? value.toFixed(1) : grouped.format(value)} ${units[unit]}`.trimEnd();
};
export const bytes = (value) => (value === null || value === undefined ? '–' : scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']));
export const rate = (value) => (value === undefined ? '–' : `${value > 0 && value < 10 ? value.toFixed(1) : scaled(value, 1000, ['', 'k', 'M', 'G'])}/s`);
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export const duration = (ms) => {
  const units = [['d', 86400000], ['h', 3600000], ['min', 60000], ['s', 1000]];
  const first = units.findIndex(([, size]) => ms >= size);
  if (first < 0) return `${Math.round(ms)} ms`;
  const [unit, size] = units[first];
  const rest = units[first + 1] && first < 2 ? Math.floor((ms % size) / units[first + 1][1]) : 0;
  return `${Math.floor(ms / size)} ${unit}${rest ? ` ${rest} ${units[first + 1][0]}` : ''}`;
};

const two = (value) => String(value).padStart(2, '0');
export const time = (ms) => {
  if (ms === null || ms === undefined || ms < 0) return '–';
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return String(ms);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
};

// What a number gained for each second between two readings, and the last of these. Those that were read last stand last, and
// what was not read for as long as a course is shown is forgotten.
const readings = new Map();
const COURSE_MS = 120000;
export const gain = (name, value, now = performance.now()) => {
  const known = readings.get(name) ?? { course: [] };
  if (known.value !== undefined && now - known.at < 400) return known.course;
  if (known.value !== undefined && now - known.at < 15000) {
    known.course = [...known.course, (Math.max(0, value - known.value) * 1000) / (now - known.at)].slice(-60);
  }
  readings.delete(name);
  readings.set(name, Object.assign(known, { value, at: now }));
  for (const [old, { at }] of readings) {
    if (now - at < COURSE_MS) break;
    readings.delete(old);
  }
  return known.course;
};

// How many are remembered.
export const remembered = () => readings.size;

// A whole number that somebody typed; nothing where nothing was.
export const whole = (label, typed) => {
  if (typed.trim() === '') return null;
  if (!/^\d{1,15}$/.test(typed.trim())) throw new Error(`${label} is a whole number, not “${typed}”.`);
  return Number(typed);
};
