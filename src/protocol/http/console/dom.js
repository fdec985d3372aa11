// Builds elements and keeps them up to date. What comes from the broker becomes text, never markup, and text that steers nothing.

import { number, plain, lines } from './format.js';

const build = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  const there = children.flat(9).filter((child) => child !== undefined && child !== null && child !== false);
  node.append(...there.map((child) => (typeof child === 'string' ? lines(child) : child)));
  return node;
};

export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) =>
  build(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

// Sets a text of one line only where it changed, so that a selection stays.
export const text = (node, value) => {
  const wanted = plain(String(value ?? ''));
  if (node.textContent !== wanted) node.textContent = wanted;
};

export const address = (path, query = {}) => {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined));
  return `#/${path.map(encodeURIComponent).join('/')}${parameters.size ? `?${parameters}` : ''}`;
};
export const link = (label, path, query, attributes) => h('a', { href: address(path, query), ...attributes }, label);

const kept = new WeakMap();

// Makes the children of `parent` stand for `items`: what is the same item keeps its element.
export const keep = (parent, items, key, make) => {
  const old = kept.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [key(item), item]));
  for (const [id, { node }] of old) if (!now.has(id)) node.remove();
  let at = parent.firstElementChild;
  for (const [id, item] of now) {
    const row = old.get(id) ?? make(item);
    row.update?.(item);
    now.set(id, row);
    if (row.node === at) at = at.nextElementSibling;
    else parent.insertBefore(row.node, at);
  }
  kept.set(parent, now);
};

const SHOWN_AT_ONCE = 200;

// A table whose columns are { name, class, text(item) } or { name, class, node(item), update(cell, item) }. Of many rows it shows
// some, and more when asked.
export const table = (caption, columns, key) => {
  const body = h('tbody');
  const row = (item) => {
    const cells = columns.map((column, n) => h(n ? 'td' : 'th', { class: column.class, scope: n ? null : 'row' }, column.node?.(item)));
    const update = (item) => columns.forEach((column, n) => (column.text ? text(cells[n], column.text(item)) : column.update?.(cells[n], item)));
    return { node: h('tr', {}, cells), update };
  };
  const heads = columns.map((column) => h('th', { scope: 'col', class: column.class }, column.name));
  let [all, limit] = [[], SHOWN_AT_ONCE];
  const more = h('button', { type: 'button', hidden: true, onclick: () => ((limit += SHOWN_AT_ONCE), show(all)) });
  const show = (items) => {
    all = items;
    keep(body, items.slice(0, limit), key, row);
    more.hidden = items.length <= limit;
    text(more, `Show more of ${number(items.length)}`);
  };
  const node = h('div', { class: 'scroll' },
    h('table', {}, h('caption', { class: 'unseen' }, caption), h('thead', {}, h('tr', {}, heads)), body), more);
  return { node, show };
};

// A list of [name, value] in a line of facts; a value is a text or an element.
export const facts = (names) => {
  const values = names.map(() => h('dd', {}, '–'));
  const node = h('dl', { class: 'facts' }, names.map((name, n) => h('div', {}, h('dt', {}, name), values[n])));
  return { node, values, show: (...shown) => shown.forEach((value, n) => (value instanceof Node ? values[n].replaceChildren(value) : text(values[n], value))) };
};

// The course of a number: the last readings as a line over its area. The number itself stands beside it.
export const chart = (width, height) => {
  const under = svg('path', { class: 'under' });
  const line = svg('path');
  const node = svg('svg', { class: 'chart', width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' },
    under, svg('path', { class: 'base', d: `M0 ${height - 0.5}H${width}` }), line);
  return {
    node,
    show(readings, most = 60) {
      const top = Math.max(1, ...readings);
      const x = (n) => width - ((readings.length - 1 - n) * width) / (most - 1);
      const y = (value) => height - 1 - (value / top) * (height - 3);
      const way = readings.map((value, n) => `${n ? 'L' : 'M'}${x(n).toFixed(1)} ${y(value).toFixed(1)}`).join('');
      line.setAttribute('d', way);
      under.setAttribute('d', way && `${way}L${width} ${height}L${x(0).toFixed(1)} ${height}Z`);
    },
  };
};

// Tells what was done, for whoever sees it and whoever hears it.
let saying;
export const say = (what) => {
  clearTimeout(saying);
  text(document.getElementById('said'), what);
  saying = setTimeout(() => text(document.getElementById('said'), ''), 6000);
};

// A dialog with a form. `act` does what its button says; what it throws is told, and the dialog stays. Resolves to what `act`
// returned, or to nothing if it was closed.
export const ask = ({ title, content, action, danger, act }) =>
  new Promise((resolve) => {
    let done;
    const left = new AbortController();
    const wrong = h('p', { class: 'wrong', role: 'alert' });
    const close = () => dialog.close();
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      text(wrong, '');
      try {
        done = await act();
        if (done !== undefined) close();
      } catch (error) {
        text(wrong, error.message);
      }
      button.disabled = false;
    };
    const button = h('button', { class: danger ? 'bad' : 'first' }, action);
    const cancel = h('button', { type: 'button', onclick: close, autofocus: danger }, danger ? 'Keep it' : 'Close');
    const dialog = h('dialog', { 'aria-labelledby': 'asked', onclose: () => (left.abort(), dialog.remove(), resolve(done)) },
      h('h2', { id: 'asked' }, title),
      h('form', { onsubmit: submit }, content, wrong, h('div', { class: 'buttons' }, cancel, button)));
    document.body.append(dialog);
    dialog.showModal();
    addEventListener('hashchange', close, { signal: left.signal });
  });

let fields = 0;
export const field = (label, control, kind = '') => {
  control.id ||= `field${++fields}`;
  return h('div', { class: `field ${kind}` }, h('label', { for: control.id }, label), control);
};
export const option = (value, label = value) => h('option', { value }, label);
