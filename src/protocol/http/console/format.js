// Numbers, sizes and times as people read them.

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

// What a number gained for each second between two readings, and the last of these.
const readings = new Map();
export const gain = (name, value, now = performance.now()) => {
  const known = readings.get(name) ?? { course: [] };
  if (known.value !== undefined && now - known.at < 400) return known.course;
  if (known.value !== undefined && now - known.at < 15000) {
    known.course = [...known.course, (Math.max(0, value - known.value) * 1000) / (now - known.at)].slice(-60);
  }
  readings.set(name, Object.assign(known, { value, at: now }));
  return known.course;
};
