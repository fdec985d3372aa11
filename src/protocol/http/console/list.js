// A list of any length, of which only what is seen is in the page. Rows are equally high.

import { h, text } from './dom.js';

// Rows that are made around those that are seen, and how near the end more are asked for.
const AROUND = 6;
const AHEAD = 50;
let lists = 0;

// `columns` are { class, text(item) }; `source` has `size` and `at(n)`; `choose(item, n)` is called for the row that is chosen,
// `reached()` when the end is near, `drawn()` when the rows that are seen are there.
export const list = ({ label, columns, source, choose = () => {}, reached = () => {}, mark, drawn = () => {} }) => {
  const id = `list${++lists}`;
  const rows = new Map();
  const room = h('div', { class: 'room', role: 'presentation' });
  const node = h('div', { class: 'list', role: 'listbox', tabindex: '0', 'aria-label': label, id }, room);
  let current = -1;
  let height = 30;
  let asked = false;

  const make = () => {
    const cells = columns.map((column) => h('span', { class: column.class }));
    const row = h('div', { class: 'row', role: 'option' }, cells);
    row.addEventListener('click', () => pick(row.n));
    return Object.assign(row, { cells });
  };
  const fill = (row, n) => {
    const item = source.at(n);
    Object.assign(row, { n, id: `${id}-${n}` });
    row.style.top = `${n * height}px`;
    row.setAttribute('aria-posinset', n + 1);
    row.setAttribute('aria-setsize', source.size);
    row.setAttribute('aria-selected', n === current);
    row.classList.toggle('even', n % 2 === 1);
    if (mark) row.classList.toggle('marked', mark(item));
    columns.forEach((column, c) => text(row.cells[c], column.text(item)));
  };
  const draw = () => {
    asked = false;
    height = parseFloat(getComputedStyle(node).getPropertyValue('--row')) || 30;
    room.style.height = `${source.size * height}px`;
    const first = Math.max(0, Math.floor(node.scrollTop / height) - AROUND);
    const last = Math.min(source.size, Math.ceil((node.scrollTop + node.clientHeight) / height) + AROUND);
    const spare = [];
    for (const [n, row] of rows) {
      if (n >= first && n < last) continue;
      rows.delete(n);
      spare.push(row);
    }
    for (let n = first; n < last; n++) {
      const row = rows.get(n) ?? spare.pop() ?? make();
      rows.set(n, row);
      fill(row, n);
      if (!row.isConnected) room.append(row);
    }
    for (const row of spare) row.remove();
    // Only what is in the page can be told to be chosen.
    if (rows.has(current)) node.setAttribute('aria-activedescendant', `${id}-${current}`);
    else node.removeAttribute('aria-activedescendant');
    drawn();
    if (last + AHEAD > source.size && node.clientHeight > 0) reached();
  };
  const show = () => {
    if (!asked) requestAnimationFrame(draw);
    asked = true;
  };
  const seen = (n) => {
    const top = n * height;
    if (top < node.scrollTop) node.scrollTop = top;
    else if (top + height > node.scrollTop + node.clientHeight) node.scrollTop = top + height - node.clientHeight;
  };
  const pick = (n, silent) => {
    if (n < 0 || n >= source.size) return;
    current = n;
    seen(n);
    draw();
    if (!silent) choose(source.at(n), n);
  };
  node.addEventListener('scroll', show, { passive: true });
  node.addEventListener('keydown', (event) => {
    const page = Math.max(1, Math.floor(node.clientHeight / height) - 1);
    const steps = { ArrowDown: current + 1, ArrowUp: current - 1, PageDown: current + page, PageUp: current - page, Home: 0, End: source.size - 1, Enter: current };
    if (!Object.hasOwn(steps, event.key) || !source.size) return;
    event.preventDefault();
    pick(Math.min(source.size - 1, Math.max(0, steps[event.key])));
  });
  new ResizeObserver(show).observe(node);
  return {
    node, show, pick,
    get current() {
      return current;
    },
    // Rows came above (or went, if negative): what is seen stays where it is.
    shift(count) {
      if (current >= 0) current = Math.max(-1, current + count);
      if (node.scrollTop > 0) {
        room.style.height = `${source.size * height}px`;
        node.scrollTop += count * height;
      }
    },
    atTop: () => node.scrollTop < height,
    atEnd: () => node.scrollTop + node.clientHeight > node.scrollHeight - height,
    toTop: () => (node.scrollTop = 0),
    toEnd() {
      room.style.height = `${source.size * height}px`;
      node.scrollTop = node.scrollHeight;
    },
    clear() {
      current = -1;
      node.scrollTop = 0;
      show();
    },
  };
};
