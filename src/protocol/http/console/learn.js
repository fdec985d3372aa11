// Learn: the README's lesson, each step run with a click; and the architecture, drawn from what runs.

import { h, svg, text, address, link, ask } from './dom.js';
import { get, send, path } from './api.js';
import { count } from './format.js';
import { exchange, wordsOf } from './exchange.js';

const TOPIC = 'lesson';
const GROUP = `readers-of-the-${TOPIC}`;
const STEPS = [
  ['Write a record', 'A request is a line, and its answer is a line. This one makes the topic, too. The offset is the record’s number in its partition.',
    { text: `SEND ${TOPIC} key:user-1 message:hello` }],
  ['Write another', 'It is appended behind the first. Nothing that stands in a log is ever changed.',
    { text: `SEND ${TOPIC} key:user-1 header.from:console message:world` }],
  ['Read them', 'From the beginning to the end. Reading takes nothing away: run it again and the same lines come.',
    { text: `TAIL ${TOPIC} from:earliest until:end` }],
  ['Look at the topic', 'A topic has partitions, and each is a log of its own with a start and an end. Records of one key go to one partition, in order.',
    { text: `TOPIC ${TOPIC}` }],
  ['Remember a position', 'A group’s position is a number: the offset of the record that it reads next. Members of a group share partitions, and go on there.',
    { text: `RESET ${GROUP} ${TOPIC}/0 1` }],
  ['See how far behind it is', 'The end less the position is the lag: how many records it has not read.',
    { text: `GROUP ${GROUP}` }],
  ['Read the same by Kafka’s protocol', 'Any Kafka client reads and writes the same records, on the same port. Its requests are not lines, so look at the bytes: each belongs to a field.',
    { kafka: 'Fetch', topic: TOPIC, partition: 0, offset: 0 }],
];

const step = ([title, why, asked]) => {
  const out = h('div', { class: 'answer' });
  const button = h('button', { class: 'first' }, 'Run');
  const command = asked.text ?? `${asked.kafka} ${TOPIC}/0 from offset 0`;
  button.setAttribute('aria-label', `Run: ${title}`);
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      const one = await send('POST', 'try', asked);
      const bytes = h('details', {}, h('summary', {}, asked.text ? 'Its bytes' : 'Its bytes and fields'));
      bytes.addEventListener('toggle', () => bytes.open && bytes.childElementCount === 1 && bytes.append(exchange(one)));
      if (asked.text) out.replaceChildren(h('pre', { class: 'said' }, wordsOf(one.response).trimEnd()), bytes);
      else {
        out.replaceChildren(bytes);
        bytes.open = true;
      }
    } catch (error) {
      out.replaceChildren(h('p', { class: 'bad' }, error.message));
    }
    button.disabled = false;
  });
  return h('li', {}, h('h3', {}, title), h('p', {}, why), h('div', { class: 'run' }, h('code', {}, command), button), out);
};

const MOST = 24;

// What is written and read, from left to right: connections, topics with their partitions, groups.
const drawing = async (signal) => {
  const [{ topics }, { groups }] = await Promise.all([get('topics', signal), get('groups', signal)]);
  const { connections } = await get('connections', signal).catch(() => ({ connections: [] }));
  const shown = topics.filter((topic) => topic.records > 0 || topics.length <= MOST).sort((a, b) => (b.records ?? 0) - (a.records ?? 0)).slice(0, MOST);
  const read = await Promise.all(groups.slice(0, MOST).map((group) => get(path`groups/${group.name}`, signal).catch(() => ({ ...group, offsets: [], members: [] }))));
  const clients = [...connections.reduce((all, one) => {
    const name = one.client?.startsWith('Mozilla/') ? 'browsers' : one.client || one.protocol;
    return all.set(name, (all.get(name) ?? 0) + 1);
  }, new Map())].slice(0, MOST);

  const [WIDTH, ROW, BOX] = [1180, 44, 280];
  const height = Math.max(shown.length, read.length, clients.length, 1) * ROW + 40;
  const middle = (n, all) => 40 + ((height - 40) * (n + 0.5)) / all;
  const cut = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
  const box = (x, y, name, under, to) => {
    const inside = [svg('rect', { x, y: y - 17, width: BOX, height: 34, rx: 4 }), svg('text', { x: x + 12, y: y - 3 }, cut(name, 30)), svg('text', { x: x + 12, y: y + 10, class: 'under' }, under)];
    return to ? svg('a', { href: address(to), class: 'box' }, inside) : svg('g', { class: 'box' }, inside);
  };
  const line = (fromX, fromY, toX, toY, kind) => svg('path', { class: kind, d: `M${fromX} ${fromY}C${(fromX + toX) / 2} ${fromY} ${(fromX + toX) / 2} ${toY} ${toX} ${toY}` });
  // Each partition is a log, a piece of the line below its topic.
  const logs = (x, y, many) => svg('path', { class: 'logs', 'stroke-dasharray': many > 1 && many <= 60 ? `${BOX / many - 3} 3` : null, d: `M${x + 1} ${y}H${x + BOX}` });
  const [left, centre, right] = [0, 450, WIDTH - BOX];
  const at = new Map(shown.map((topic, n) => [topic.name, middle(n, shown.length)]));
  const edges = read.flatMap((group, n) => [...new Set(group.offsets.map((offset) => offset.topic))].filter((name) => at.has(name))
    .map((name) => line(centre + BOX, at.get(name), right, middle(n, read.length), group.members.length ? 'reads' : 'rests')));
  const heads = [[left, 'who is connected'], [centre, 'topics, each a few logs'], [right, 'groups, each a position in every log']].map(([x, name]) => svg('text', { x, y: 14, class: 'under' }, name));
  const [bus, busY] = [BOX + 60, 40];
  const broker = svg('g', { class: 'box' }, svg('rect', { x: bus, y: busY, width: 50, height: height - busY - 2, rx: 4 }),
    svg('text', { transform: `translate(${bus + 30} ${(height + busY) / 2}) rotate(-90)`, 'text-anchor': 'middle' }, cut(`port ${location.port || 80}`, 30)));
  const left_ = clients.map(([name, many], n) => [line(BOX, middle(n, clients.length), bus, middle(n, clients.length), 'reads'), box(left, middle(n, clients.length), name, count(many, 'connection'))]);
  const out = shown.map((topic) => line(bus + 50, at.get(topic.name), centre, at.get(topic.name), ''));
  const drawn = svg('svg', { viewBox: `0 0 ${WIDTH} ${height}`, class: 'drawing', role: 'group', 'aria-label': `${count(clients.length, 'client')}, ${count(shown.length, 'topic')}, ${count(read.length, 'group')}` },
    heads, broker, out, edges, left_,
    shown.map((topic) => [
      box(centre, at.get(topic.name), topic.name, `${count(topic.partitions, 'partition')}, ${count(topic.records, 'record')}`, ['topics', topic.name]),
      logs(centre, at.get(topic.name) + 17, topic.partitions),
    ]),
    read.map((group, n) => box(right, middle(n, read.length), group.name, `${count(group.members.length, 'member')}, ${count(group.lag ?? 0, 'record')} behind`, ['groups', group.name])));
  const rest = [[topics.length - shown.length, 'topic'], [groups.length - read.length, 'group']].filter(([many]) => many > 0).map(([many, what]) => `${count(many, what)} more`);
  return [h('div', { class: 'scroll' }, drawn), rest.length > 0 && h('p', { class: 'soft' }, `Not drawn: ${rest.join(', ')}.`)];
};

export const open = (view) => {
  const picture = h('div');
  const draw = async () => {
    // Who stands on one of its links keeps it.
    if (!picture.contains(document.activeElement)) picture.replaceChildren(...(await drawing(view.signal)).filter(Boolean));
  };
  const remove = async () => {
    const said = [];
    for (const [what, where] of [['topic', path`topics/${TOPIC}`], ['group', path`groups/${GROUP}`]]) {
      await send('DELETE', where).then(() => said.push(`${what} deleted`), (error) => said.push(error.message));
    }
    text(tidied, said.join('; '));
    draw();
    return true;
  };
  const tidy = h('button', {
    onclick: () => ask({
      title: `Delete the topic ${TOPIC}?`,
      action: `Delete ${TOPIC}`,
      danger: true,
      content: h('p', {}, `The topic ${TOPIC} with all its records and the group ${GROUP} are deleted, and the lesson begins at offset 0 again.`),
      act: remove,
    }),
  }, 'Clear the lesson away…');
  const tidied = h('span', { class: 'soft', role: 'status' });
  view.show('Learn',
    h('h1', {}, 'Learn'),
    h('p', {}, 'How a log works, in a few steps, on this broker. Each is sent over a connection of its own; the same lines work from any netcat: ',
      h('code', {}, `nc ${location.hostname} ${location.port || 80}`), '.'),
    h('ol', { class: 'steps' }, STEPS.map(step)),
    h('div', { class: 'tools' }, tidy, tidied),
    h('p', {}, 'All verbs are in ', link('Try it', ['try'], { call: 'HELP' }), '; what clients do is in ', link('Wire', ['wire']), '.'),
    h('h2', {}, 'What runs now'), picture);
  view.every(10000, draw);
};
