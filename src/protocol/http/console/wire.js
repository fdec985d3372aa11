// Wire: the exchanges of connections as they happen, with every byte. Off until it is switched on here.

import { h, text, field, option, say } from './dom.js';
import { send } from './api.js';
import { bytes as size, count, time, whole } from './format.js';
import { list } from './list.js';
import { Kept } from './kept.js';
import { stream } from './stream.js';
import { exchange, took, wordsOf } from './exchange.js';

const KEPT_EXCHANGES = 2000;
const KEPT_LETTERS = 32 << 20;

export const open = (view) => {
  const exchanges = new Kept(KEPT_EXCHANGES, KEPT_LETTERS);
  let missed = 0;
  let limits = '';
  // Whether exchanges are kept, and whether it was this page that wanted it.
  let on = false;
  let ours = false;
  const asked = (name) => view.query.get(name) ?? '';
  const connection = h('input', { class: 'narrow', inputmode: 'numeric', placeholder: 'any', value: asked('connection') });
  const client = h('input', { placeholder: 'any', value: asked('client'), spellcheck: 'false' });
  const api = h('input', { placeholder: 'any: Produce, SEND, …', value: asked('api'), spellcheck: 'false', list: 'apis' });
  const apis = h('datalist', { id: 'apis' }, ['Produce', 'Fetch', 'Metadata', 'ApiVersions', 'FindCoordinator', 'JoinGroup', 'SyncGroup', 'Heartbeat', 'OffsetCommit', 'OffsetFetch', 'ListOffsets', 'SEND', 'PRODUCE', 'CONSUME', 'TAIL', 'POLL'].map((name) => option(name)));
  const watch = h('button', { class: 'first' }, 'Watch');
  const stop = h('button', { type: 'button', hidden: true, onclick: () => switchOff() }, 'Stop');
  const status = h('p', { class: 'soft status', role: 'status' });
  const line = (message) => wordsOf({ hex: (message?.hex ?? '').slice(0, 300) }).trimEnd();
  const what = (one) => (one.protocol === 'text' ? line(one.request) : Object.values(one.request?.spans ?? []).filter((span) => /(^|\.)(topic|name|group_id|key)$/.test(span.name)).slice(0, 4).map((span) => span.value).join(' '));
  const detail = h('div', { class: 'below' });
  const rows = list({
    label: 'Exchanges',
    source: exchanges,
    choose: (one) => detail.replaceChildren(exchange(one)),
    columns: [
      { class: 'when', text: (one) => time(one.time_ms).slice(11) },
      { class: 'who', text: (one) => one.client || one.address },
      { class: 'api', text: (one) => one.api },
      { class: 'what', text: what },
      { class: 'n', text: (one) => took(one.took_us) },
      { class: 'n', text: (one) => size(one.response?.length) },
    ],
  });
  rows.node.classList.add('exchanges');

  const told = () => text(status, [
    on ? `Watching ${limits || 'all'}` : 'Not watching',
    exchanges.size ? count(exchanges.size, 'exchange') : '',
    missed ? `${count(missed, 'other')} went by too fast to be kept` : '',
  ].filter(Boolean).join('; '));
  const switched = (now) => {
    on = now.on;
    stop.hidden = !on;
    text(watch, on ? 'Watch these' : 'Watch');
    limits = ['connection', 'client', 'api'].filter((name) => now[name] !== null).map((name) => `${name} ${now[name]}`).join(', ');
    told();
  };
  const filter = () => ({ connection: whole('A connection', connection.value), client: client.value || null, api: api.value || null });
  const switchOn = async () => {
    for (const [name, input] of Object.entries({ connection, client, api })) view.set(name, input.value);
    try {
      const wanted = { on: true, ...filter() };
      ours = true;
      switched(await send('POST', 'wire', wanted));
      // It was left meanwhile, and what was sent then may have come first.
      if (view.signal.aborted) off();
      status.classList.remove('bad');
    } catch (error) {
      text(status, error.message);
      status.classList.add('bad');
    }
  };
  const switchOff = async () => {
    await send('POST', 'wire', { on: false }).then((now) => ((ours = false), switched(now)), (error) => say(error.message));
  };
  // Nobody looks any more: it costs nothing again.
  const off = () => fetch('api/wire', { method: 'POST', keepalive: true, headers: { 'Content-Type': 'application/json' }, body: '{"on":false}' }).catch(() => {});
  const leave = () => {
    if (ours) off();
    ours = false;
  };
  view.signal.addEventListener('abort', leave);
  addEventListener('pagehide', leave, { signal: view.signal });

  let waiting = [];
  const arrived = () => {
    const atEnd = rows.atEnd();
    const gone = exchanges.append(waiting);
    waiting = [];
    if (gone) rows.shift(-gone);
    if (atEnd) rows.toEnd();
    rows.show();
    told();
  };
  view.show('Wire',
    h('h1', {}, 'Wire'),
    h('p', { class: 'soft' }, 'Every byte that a client sends and gets, beside the field that it belongs to. Watch one connection, one client or one API; with nothing filled in, all of them.'),
    h('form', { class: 'tools', onsubmit: (event) => (event.preventDefault(), switchOn()) },
      field('Connection', connection), field('Client', client), field('API or verb', api), apis, watch, stop,
      h('button', { type: 'button', class: 'end', onclick: () => (exchanges.clear(), rows.clear(), detail.replaceChildren(), told()) }, 'Clear')),
    status, rows.node, detail);
  told();
  stream('wire', {
    message: (data) => {
      if (!waiting.length) requestAnimationFrame(arrived);
      waiting.push(data);
    },
    missed: (data) => ((missed += JSON.parse(data).count), told()),
    filter: (data) => switched(JSON.parse(data)),
  }, { signal: view.signal, refused: (error) => text(status, error.message) });
};
