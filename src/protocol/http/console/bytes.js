// Bytes as text, as JSON and as hex.

import { h } from './dom.js';
import { lines } from './format.js';
import { list } from './list.js';

export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
// The bytes of a text in base64.
export const toBase64 = (text) => btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(''));
export const fromHex = (text) => Uint8Array.from({ length: text.length >> 1 }, (_, n) => parseInt(text.slice(2 * n, 2 * n + 2), 16));

const DEPTH_MAX = 100;

// JSON with its lines indented, each value as it was written: numbers keep their digits, and repeated names stay. Throws where it
// is none, or nested too deep to be read by anybody.
export const pretty = (text) => {
  JSON.parse(text);
  const out = [];
  let depth = 0;
  let last = '';
  const line = () => out.push('\n', '  '.repeat(depth));
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const closes = token === '}' || token === ']';
    if (closes) depth -= 1;
    const opened = last === '{' || last === '[';
    if (closes ? !opened : opened || last === ',') line();
    if (token === '{' || token === '[') depth += 1;
    if (depth > DEPTH_MAX) throw new Error('it is nested too deep');
    out.push(token === ':' ? ': ' : token);
    last = token;
  }
  return out.join('');
};

// Whose bytes are lit: there is one highlight for the whole page.
let lighting;

// Bytes in lines of sixteen, or of eight where there is no room. `spans` are { from, to } in the order of the bytes, which can be lit; `pick(n)` is called with the
// number of the span whose byte was clicked.
export const hex = (bytes, { label, spans = [], pick } = {}) => {
  const COLUMNS = matchMedia('(max-width: 720px)').matches ? 8 : 16;
  let lit;
  const source = { size: Math.ceil(bytes.length / COLUMNS), at: (n) => n };
  const digits = (n) => Array.from(bytes.subarray(n * COLUMNS, (n + 1) * COLUMNS), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const letters = (n) => Array.from(bytes.subarray(n * COLUMNS, (n + 1) * COLUMNS), (byte) => (byte > 0x1f && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
  const lines_ = list({
    label: label ?? `${bytes.length} bytes`,
    source,
    drawn: () => mark(),
    columns: [{ class: 'soft', text: (n) => (n * COLUMNS).toString(16).padStart(6, '0') }, { class: 'digits', text: digits }, { class: 'letters', text: letters }],
  });
  lines_.node.classList.add('hex');
  // A highlight of the browser's, where it has them, marks bytes without an element for each.
  const mark = () => {
    if (!globalThis.Highlight || lighting !== lines_) return;
    const ranges = [];
    for (const row of lines_.node.querySelectorAll('.row')) {
      const first = Math.max(lit.from, row.n * COLUMNS) - row.n * COLUMNS;
      const last = Math.min(lit.to, (row.n + 1) * COLUMNS) - row.n * COLUMNS;
      if (first >= last) continue;
      for (const [cell, width, gap] of [[row.cells[1], 3, 1], [row.cells[2], 1, 0]]) {
        const range = new Range();
        range.setStart(cell.firstChild, first * width);
        range.setEnd(cell.firstChild, last * width - gap);
        ranges.push(range);
      }
    }
    CSS.highlights.set('lit', new Highlight(...ranges));
  };
  lines_.node.addEventListener('click', (event) => {
    const cell = event.target.closest('.digits, .letters');
    if (!cell || !pick) return;
    const box = cell.getBoundingClientRect();
    const letter = ((event.clientX - box.left) / box.width) * cell.textContent.length;
    const at = cell.closest('.row').n * COLUMNS + Math.floor(cell.classList.contains('digits') ? letter / 3 : letter);
    // Of those that hold the byte, the narrowest.
    const holding = spans.map((span, n) => ({ ...span, n })).filter((span) => span.from <= at && at < span.to);
    if (holding.length) pick(holding.sort((a, b) => (a.to - a.from) - (b.to - b.from))[0].n);
  });
  return {
    node: lines_.node,
    rows: source.size,
    light(span) {
      [lit, lighting] = [span, lines_];
      lines_.pick(Math.floor(span.from / COLUMNS), true);
      mark();
    },
  };
};

// A value in three ways, of which one is seen; `bytes` may be null.
export const value = (name, bytes) => {
  if (bytes === null) return h('p', { class: 'soft' }, `${name}: null`);
  let decoded = null;
  try {
    decoded = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // No text: hex shows it.
  }
  let json;
  try {
    json = decoded !== null && /^\s*[{["\-\dtfn]/.test(decoded) ? pretty(decoded) : undefined;
  } catch {
    json = undefined;
  }
  const CUT = 65536;
  const page = (text) => {
    const body = h('pre', { tabindex: '0' }, text.slice(0, CUT));
    if (text.length <= CUT) return body;
    const rest = h('button', { class: 'small', onclick: () => (body.append(lines(text.slice(CUT))), rest.remove()) }, `Show all ${text.length.toLocaleString('en-US')} characters`);
    return h('div', {}, body, rest);
  };
  const ways = {
    ...(json !== undefined && { JSON: () => page(json) }),
    ...(decoded !== null && { Text: () => page(decoded) }),
    Hex: () => hex(bytes, { label: `${name} in hex` }).node,
  };
  const shown = h('div', { class: 'value' });
  const tabs = Object.keys(ways).map((way) => h('button', { class: 'small', type: 'button', onclick: () => choose(way) }, way));
  const choose = (way) => {
    for (const tab of tabs) tab.setAttribute('aria-pressed', tab.textContent === way);
    shown.replaceChildren(ways[way]());
  };
  choose(Object.keys(ways)[0]);
  return h('section', {}, h('div', { class: 'tabs' }, h('h3', {}, name), h('span', { class: 'soft' }, `${bytes.length.toLocaleString('en-US')} B`),
    h('div', { role: 'group', 'aria-label': `${name} as` }, tabs)), shown);
};
