// Groups: the list, and one group with its members, positions and lag.

import { h, text, link, table, facts, chart, ask, field, option, say } from './dom.js';
import { get, send, path } from './api.js';
import { rights } from './login.js';
import { number, count, gain } from './format.js';

export const open = (view) => (view.path[1] ? one(view, view.path[1]) : list(view));

const list = (view) => {
  let groups = [];
  const rows = table('Groups', [
    { name: 'Group', node: (group) => link(group.name, ['groups', group.name]) },
    { name: 'State', class: 'fit', text: (group) => group.state },
    { name: 'Type', class: 'fit wide', text: (group) => group.type },
    { name: 'Members', class: 'n', text: (group) => number(group.members) },
  ], (group) => group.name);
  const filter = view.filter('Filter groups', () => show());
  const said = h('p', { class: 'soft', role: 'status' });
  const empty = h('div', { class: 'empty', hidden: true },
    h('p', {}, 'No group yet. Whoever reads with a group’s name makes it:'),
    h('p', {}, h('code', {}, 'consumer --topic orders --group analytics')));
  const show = () => {
    const found = groups.filter((group) => filter.matches(group.name, group.state));
    rows.show(found);
    text(said, `${count(found.length, 'group')}${found.length === groups.length ? '' : ` of ${number(groups.length)}`}, ${count(found.reduce((sum, group) => sum + group.members, 0), 'member')}`);
    empty.hidden = groups.length > 0;
    rows.node.hidden = groups.length === 0;
  };
  view.every(2000, async () => {
    ({ groups } = await get('groups', view.signal));
    show();
  });
  view.show('Groups', h('h1', {}, 'Groups'), said, h('div', { class: 'tools' }, filter.input), rows.node, empty);
};

const one = (view, name) => {
  let group;
  const courses = new Map();
  const line = chart(160, 24);
  const about = facts(['State', 'Members', 'Lag', 'Last 2 min', 'Generation', 'Assignor', 'Type']);
  about.values[3].replaceChildren(line.node);
  const place = (at) => `${at.topic}/${at.partition}`;

  const members = table('Members', [
    { name: 'Member', class: 'break', text: (member) => member.member_id },
    { name: 'Client', class: 'break', text: (member) => [member.client_id, member.instance_id].filter(Boolean).join(', ') },
    { name: 'From', class: 'fit wide', text: (member) => member.client_host },
    { name: 'Epoch', class: 'n wide', text: (member) => group.type === 'classic' ? '' : number(member.epoch) },
    { name: 'Reads', class: 'break', text: (member) => member.assigned.map(place).join(' ') || 'nothing' },
    { name: 'Is to hold', class: 'break wide', text: (member) => member.target.map(place).join(' ') },
  ], (member) => member.member_id);
  const nobody = h('p', { class: 'soft' }, 'No members now. The group’s positions stay until it is deleted or they expire.');

  const filter = view.filter('Filter partitions', () => showOffsets());
  const charts = new WeakMap();
  const offsets = table('Positions', [
    { name: 'Partition', node: (offset) => [link(offset.topic, ['topics', offset.topic]), `/${offset.partition}`] },
    { name: 'Committed', class: 'n', node: (offset) => h('a'), update: (cell, offset) => {
      text(cell.firstChild, offset.committed === null ? 'none' : number(offset.committed));
      cell.firstChild.href = `#/messages/${encodeURIComponent(offset.topic)}?partition=${offset.partition}&from=${offset.committed ?? 0}`;
    } },
    { name: 'End', class: 'n wide', text: (offset) => number(offset.end) },
    { name: 'Lag', class: 'n', text: (offset) => number(offset.lag) },
    { name: 'In flight', class: 'n wide', text: (offset) => (offset.in_flight === null ? '' : number(offset.in_flight)) },
    { name: 'Last 2 min', class: 'fit wide', node: () => {
      const made = chart(120, 20);
      charts.set(made.node, made);
      return made.node;
    }, update: (cell, offset) => charts.get(cell.firstChild).show(courses.get(place(offset)) ?? []) },
    { name: 'Holder', class: 'break wide', text: (offset) => holder(offset)?.client_id ?? '' },
  ], place);
  const holder = (offset) => group.members.find((member) => member.assigned.some((at) => place(at) === place(offset)));
  const nothing = h('p', { class: 'soft' }, 'It has committed nothing yet.');
  const showOffsets = () => {
    offsets.show(group.offsets.filter((offset) => filter.matches(place(offset), holder(offset)?.client_id ?? '')));
    offsets.node.hidden = !group.offsets.length;
    nothing.hidden = group.offsets.length > 0;
  };
  const remember = (key, value) => courses.set(key, [...(courses.get(key) ?? []), value ?? 0].slice(-60));

  let may = (node) => node;
  rights(view, 'group', name).then((known) => (may = known ?? may));
  const update = view.every(2000, async () => {
    group = await get(path`groups/${name}`, view.signal);
    remember('', group.lag);
    group.offsets.forEach((offset) => remember(place(offset), offset.lag));
    const there = new Set(['', ...group.offsets.map(place)]);
    for (const key of courses.keys()) if (!there.has(key)) courses.delete(key);
    about.show(group.state, number(group.members.length), number(group.lag), line.node, number(group.generation), group.protocol || '–', group.type);
    line.show(courses.get(''));
    members.show(group.members);
    members.node.hidden = !group.members.length;
    nobody.hidden = group.members.length > 0;
    showOffsets();
    const busy = group.members.length > 0;
    for (const [button, operation] of [[resets, 'read'], [deletes, 'delete']]) {
      button.disabled = busy;
      if (!busy) may(button, operation);
    }
    text(why, busy ? `Reset and delete are for a group without members; this one has ${number(group.members.length)}.` : '');
  });

  const reset = async () => {
    const known = [...new Set(group.offsets.map((offset) => offset.topic))];
    const names = known.length ? known : (await get('topics')).topics.map((topic) => topic.name);
    const topic = h('select', { autofocus: true }, names.map((name) => option(name)));
    const partition = h('select');
    const partitions = async () => {
      const { partitions } = await get(path`topics/${topic.value}`);
      partition.replaceChildren(option('', 'all'), ...partitions.map((one) => option(String(one.partition))));
    };
    const kind = h('select', {}, [['earliest', 'earliest'], ['latest', 'latest'], ['offset', 'an offset'], ['back', 'N before the end'], ['ago', 'a time ago'], ['time', 'a time']].map(([value, label]) => option(value, label)));
    const value = h('input', { disabled: true, required: true });
    // What is filled in where a place needs more than its kind.
    const places = {
      offset: () => group.offsets.find((offset) => offset.topic === topic.value && (!partition.value || offset.partition === Number(partition.value)))?.committed ?? 0,
      back: () => 100,
      ago: () => '15m',
      time: () => new Date(Date.now() - 3600000).toISOString().slice(0, 19) + 'Z',
    };
    const typed = () => {
      value.disabled = !places[kind.value];
      value.value = places[kind.value]?.() ?? '';
      preview();
    };
    const body = () => ({
      topic: topic.value,
      ...(partition.value && { partition: Number(partition.value) }),
      to: { earliest: 'earliest', latest: 'latest', back: `-${value.value}` }[kind.value] ?? value.value,
    });
    const changes = table('What it does', [
      { name: 'Partition', text: place },
      { name: 'Before', class: 'n', text: (offset) => (offset.before === null ? 'none' : number(offset.before)) },
      { name: 'After', class: 'n', text: (offset) => number(offset.after) },
      { name: 'Moves', class: 'n', text: (offset) => `${offset.after > offset.before ? '+' : ''}${number(offset.after - (offset.before ?? 0))}` },
    ], place);
    const wrong = h('p', { class: 'soft', role: 'status' });
    let asked = 0;
    const preview = async () => {
      const mine = ++asked;
      try {
        if (!value.disabled && !value.value) throw new Error('Fill in where it is to go on, and what that changes is shown here.');
        const { offsets } = await send('POST', path`groups/${name}/reset`, { ...body(), dry_run: true });
        if (mine !== asked) return;
        changes.show(offsets);
        text(wrong, '');
      } catch (error) {
        if (mine !== asked) return;
        changes.show([]);
        text(wrong, error.message);
      }
    };
    topic.addEventListener('change', async () => (await partitions(), preview()));
    partition.addEventListener('change', preview);
    kind.addEventListener('change', typed);
    value.addEventListener('input', preview);
    await partitions();
    preview();
    const done = await ask({
      title: `Set how far ${name} has read`,
      action: 'Reset positions',
      danger: true,
      content: [
        h('div', { class: 'tools' }, field('Topic', topic), field('Partition', partition), field('To', kind), field('Value', value, 'grow')),
        h('div', { class: 'preview' }, changes.node, wrong),
      ],
      act: () => send('POST', path`groups/${name}/reset`, body()),
    });
    if (!done) return;
    say(`${count(done.offsets.length, 'position')} of ${name} set.`);
    update();
  };
  const drop = async () => {
    const gone = await ask({
      title: `Delete group ${name}?`,
      action: `Delete ${name}`,
      danger: true,
      content: h('p', {}, `Its ${count(group.offsets.length, 'position')} are forgotten. Whoever reads as ${name} next begins where its own settings say, at the end or the beginning.`),
      act: () => send('DELETE', path`groups/${name}`),
    });
    if (!gone) return;
    say(`Group ${name} is deleted.`);
    location.hash = '#/groups';
  };
  const resets = h('button', { disabled: true, onclick: reset }, 'Reset positions…');
  const deletes = h('button', { class: 'bad end', disabled: true, onclick: drop }, 'Delete group…');
  const why = h('p', { class: 'soft' });
  view.show(name,
    h('h1', {}, name), about.node,
    h('div', { class: 'tools' }, resets, deletes), why,
    h('h2', {}, 'Members'), members.node, nobody,
    h('h2', {}, 'Positions'), h('div', { class: 'tools' }, filter.input), offsets.node, nothing);
};
