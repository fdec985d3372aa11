// Connections: who is there, with which client, and how fast.

import { h, text, link, table } from './dom.js';
import { get } from './api.js';
import { number, bytes, rate, count, duration, gain } from './format.js';

export const open = (view) => {
  let connections = [];
  const perSecond = (connection, what) => gain(`connection ${connection.id} ${what}`, connection[what]).at(-1);
  const flow = (connection, what) => {
    const now = perSecond(connection, what);
    return now === undefined ? '–' : `${bytes(Math.round(now))}/s`;
  };
  const ago = (ms) => (ms ? duration(Math.max(0, Date.now() - ms)) : '–');
  const rows = table('Connections', [
    { name: 'Address', class: 'fit', text: (one) => one.address },
    { name: 'Protocol', class: 'fit', text: (one) => one.protocol },
    { name: 'Client', class: 'cut', text: (one) => one.client ?? '' },
    { name: 'Connected', class: 'n wide', text: (one) => ago(one.connected_ms) },
    { name: 'Silent', class: 'n wide', text: (one) => ago(one.last_request_ms) },
    { name: 'Requests', class: 'n wide', text: (one) => number(one.requests) },
    { name: 'Requests/s', class: 'n', text: (one) => rate(perSecond(one, 'requests')) },
    { name: 'In/s', class: 'n wide', text: (one) => flow(one, 'bytes_in') },
    { name: 'Out/s', class: 'n wide', text: (one) => flow(one, 'bytes_out') },
    { name: '', class: 'fit', node: (one) => link('Wire', ['wire'], { connection: one.id }, { 'aria-label': `Watch ${one.address} in Wire` }) },
  ], (one) => one.id);
  const filter = view.filter('Filter connections', () => show());
  const said = h('p', { class: 'soft', role: 'status' });
  const show = () => {
    const found = connections.filter((one) => filter.matches(one.address, one.protocol, one.client ?? ''));
    rows.show(found);
    text(said, `${count(found.length, 'connection')}${found.length === connections.length ? '' : ` of ${number(connections.length)}`}`);
  };
  view.every(2000, async () => {
    ({ connections } = await get('connections', view.signal));
    show();
  });
  view.show('Connections', h('h1', {}, 'Connections'), said, h('div', { class: 'tools' }, filter.input), rows.node);
};
