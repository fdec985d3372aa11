// One exchange of a connection: a request and its answer, each as bytes beside its fields. A field lights its bytes, a byte its field.

import { h, facts } from './dom.js';
import { bytes as size, count, number, time } from './format.js';
import { list } from './list.js';
import { hex, fromHex } from './bytes.js';

export const took = (us) => (us === undefined || us === null ? '–' : us < 1000 ? `${us} µs` : `${(us / 1000).toFixed(us < 10000 ? 2 : 0)} ms`);

// A field's own name, set in as deep as it lies: the elements of an array are told by their index.
const ownName = (name) => {
  const parts = name.split('.');
  const [index] = /\[\d+\]$/.exec(parts.at(-2) ?? '') ?? [''];
  return `${'\u00a0\u00a0'.repeat(parts.length - 1)}${index}${index && ' '}${parts.at(-1)}`;
};

const decoder = new TextDecoder();
// A message's text, for the protocol that is text.
export const wordsOf = (message) => decoder.decode(fromHex(message?.hex ?? ''));

const message = (name, { hex: digits = '', spans = [], length, truncated } = {}, isText) => {
  const bytes = fromHex(digits);
  if (!bytes.length) return h('section', {}, h('h3', {}, name), h('p', { class: 'soft' }, 'nothing'));
  const seen = hex(bytes, { label: `${name}: its bytes`, spans, pick: (n) => fields.pick(n) });
  const fields = list({
    label: `${name}: its fields`,
    source: { size: spans.length, at: (n) => spans[n] },
    choose: (span) => seen.light(span),
    columns: [
      { class: 'name', text: (span) => ownName(span.name) },
      { class: 'type', text: (span) => span.type },
      { class: 'value', text: (span) => String(span.value ?? '').slice(0, 300) },
    ],
  });
  fields.node.classList.add('fields');
  const rows = Math.min(14, Math.max(seen.rows, spans.length, 3));
  for (const node of [seen.node, fields.node]) node.style.height = `${rows * 22 + 12}px`;
  return h('section', {},
    h('div', { class: 'tabs' }, h('h3', {}, name), h('span', { class: 'soft' }, `${truncated ? `the first ${count(bytes.length, 'byte')} of ${number(length)}` : count(bytes.length, 'byte')}${spans.length ? `, ${count(spans.length, 'field')}` : ''}`)),
    isText && h('pre', { class: 'said' }, decoder.decode(bytes).replace(/\n$/, '')),
    h('div', { class: spans.length ? 'bytes' : '' }, seen.node, spans.length > 0 && fields.node));
};

export const exchange = (one) => {
  const isText = one.protocol !== 'kafka';
  const about = facts(['Asked', 'By', 'When', 'Took', 'Request', 'Answer']);
  about.show(one.api ?? '–', one.client || one.address || '–', one.time_ms ? time(one.time_ms).slice(11) : '–', took(one.took_us),
    size(one.request?.length), size(one.response?.length));
  const { file } = one;
  return h('div', { class: 'exchange' },
    (one.api || one.time_ms) && about.node,
    message('Request', one.request, isText),
    file && h('section', {}, h('h3', {}, 'Lines of the log'),
      h('p', { class: 'break' }, `${file.path}, bytes ${file.from} to ${file.to}`),
      file.text && h('pre', { class: 'said' }, file.text)),
    message('Answer', one.response, isText));
};
