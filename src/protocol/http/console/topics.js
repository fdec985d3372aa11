// Topics: the list, and one topic with its partitions, readers and settings.

import { h, text, link, table, facts, chart, ask, field, option, say } from './dom.js';
import { get, send, path } from './api.js';
import { rights } from './login.js';
import { number, bytes, rate, count, duration, gain } from './format.js';

export const open = (view) => (view.path[1] ? one(view, view.path[1]) : list(view));

const list = (view) => {
  let topics = [];
  const course = (topic) => gain(`topic ${topic.name}`, topic.written ?? 0);
  const charts = new WeakMap();
  const rows = table('Topics', [
    { name: 'Topic', node: (topic) => link(topic.name, ['topics', topic.name]) },
    { name: 'Partitions', class: 'n wide', text: (topic) => number(topic.partitions) },
    { name: 'Records', class: 'n', text: (topic) => (topic.offline ? 'offline' : number(topic.records)) },
    { name: 'Size', class: 'n wide', text: (topic) => bytes(topic.bytes) },
    { name: 'Records/s', class: 'n', text: (topic) => rate(course(topic).at(-1)) },
    {
      name: 'Last 2 min', class: 'fit wide',
      node: () => {
        const made = chart(120, 20);
        charts.set(made.node, made);
        return made.node;
      },
      update: (cell, topic) => charts.get(cell.firstChild).show(course(topic)),
    },
    { name: '', class: 'fit wide', node: (topic) => link('Messages', ['messages', topic.name], {}, { 'aria-label': `Messages of ${topic.name}` }) },
  ], (topic) => topic.name);

  const filter = view.filter('Filter topics', () => show());
  const internal = h('input', { type: 'checkbox', checked: view.query.has('internal'), onchange: () => (view.set('internal', internal.checked && 'yes'), update()) });
  const said = h('p', { class: 'soft' });
  const empty = h('div', { class: 'empty', hidden: true },
    h('p', {}, 'No topic yet. Create one, or write a record from a terminal, and its topic is made:'),
    h('p', {}, h('code', {}, `printf 'PRODUCE hello\\nQUIT\\n' | nc ${location.hostname} ${location.port || 80}`)));

  const show = () => {
    const found = topics.filter((topic) => filter.matches(topic.name));
    rows.show(found);
    const records = found.reduce((sum, topic) => sum + (topic.records ?? 0), 0);
    const size = found.reduce((sum, topic) => sum + (topic.bytes ?? 0), 0);
    text(said, `${count(found.length, 'topic')}${found.length === topics.length ? '' : ` of ${number(topics.length)}`}, ${count(records, 'record')}, ${bytes(size)}`);
    empty.hidden = topics.length > 0;
    rows.node.hidden = topics.length === 0;
  };
  const update = view.every(2000, async () => {
    ({ topics } = await get(`topics${internal.checked ? '?internal=true' : ''}`, view.signal));
    show();
  });

  view.show('Topics',
    h('h1', {}, 'Topics'), said,
    h('div', { class: 'tools' }, filter.input, h('label', { class: 'check' }, internal, 'the broker’s own too'),
      h('button', { class: 'first end', onclick: create }, 'New topic')),
    rows.node, empty);
};

const create = async () => {
  const name = h('input', { required: true, maxlength: '249', autocomplete: 'off', spellcheck: 'false', autofocus: true });
  const partitions = h('input', { type: 'number', min: '1', max: '10000', value: '1', class: 'narrow' });
  const kept = h('input', { placeholder: '604800000', inputmode: 'numeric', size: '12' });
  const policy = h('select', {}, ['delete', 'compact', 'compact,delete'].map((value) => option(value)));
  const made = await ask({
    title: 'New topic',
    action: 'Create topic',
    content: [
      field('Name', name),
      h('div', { class: 'tools' }, field('Partitions', partitions), field('cleanup.policy', policy), field('retention.ms', kept)),
      h('p', { class: 'soft' }, 'More partitions can be added later, not taken away. All other settings can be changed at any time.'),
    ],
    act: () => send('POST', 'topics', {
      name: name.value,
      partitions: Number(partitions.value),
      configs: { 'cleanup.policy': policy.value, ...(kept.value && { 'retention.ms': kept.value }) },
    }),
  });
  if (!made) return;
  say(`Topic ${made.name} is there, with ${count(made.partitions.length, 'partition')}.`);
  location.hash = `#/topics/${encodeURIComponent(made.name)}`;
};

const sum = (topic, what) => topic.partitions.reduce((total, partition) => total + what(partition), 0);
const records = (partition) => partition.high_watermark - partition.start;

const one = async (view, name) => {
  const may = await rights(view, 'topic', name);
  if (!may) return;
  let topic;
  const line = chart(160, 24);
  const about = facts(['Records', 'Size', 'Partitions', 'Records/s', 'Last 2 min', 'Kept', 'Cleanup']);
  about.values[4].replaceChildren(line.node);

  const partitions = table('Partitions', [
    { name: 'Partition', class: 'fit', node: (partition) => link(String(partition.partition), ['messages', name], { partition: partition.partition }, { 'aria-label': `Messages of partition ${partition.partition}` }) },
    { name: 'Start', class: 'n', text: (partition) => number(partition.start) },
    { name: 'End', class: 'n', text: (partition) => number(partition.high_watermark) },
    { name: 'Stable', class: 'n wide', text: (partition) => number(partition.last_stable_offset) },
    { name: 'Records', class: 'n wide', text: (partition) => number(records(partition)) },
    { name: 'Size', class: 'n', text: (partition) => bytes(partition.bytes) },
    { name: 'Segments', class: 'n wide', text: (partition) => number(partition.segments) },
    { name: 'Leader epoch', class: 'n wide', text: (partition) => number(partition.leader_epoch) },
    { name: '', class: 'n fit', node: (partition) => !topic.internal && may(h('button', { class: 'small', onclick: () => trim(partition.partition) }, 'Trim…'), 'delete') },
  ], (partition) => partition.partition);

  const readers = table('Groups that read this topic', [
    { name: 'Group', node: (group) => link(group.name, ['groups', group.name]) },
    { name: 'State', class: 'fit', text: (group) => group.state },
    { name: 'Members', class: 'n', text: (group) => number(group.members) },
  ], (group) => group.name);
  const nobody = h('p', { class: 'soft' }, 'No group has read this topic.');

  const filter = view.filter('Filter settings', () => showConfigs());
  const configs = table('Settings', [
    { name: 'Setting', text: (config) => config.name },
    { name: 'Value', class: 'break', text: (config) => config.value || '(empty)' },
    { name: '', class: 'fit soft wide', text: (config) => (config.default ? 'default' : 'its own') },
    { name: '', class: 'n fit', node: (config) => !topic.internal && may(h('button', { class: 'small', 'aria-label': `Change ${config.name}`, onclick: () => change(config.name) }, 'Change…'), 'alter-configs') },
  ], (config) => config.name);
  const settings = h('div', {}, h('h2', {}, 'Settings'), h('div', { class: 'tools' }, filter.input), configs.node);
  const showConfigs = () => {
    const all = Object.entries(topic.configs).map(([name, config]) => ({ name, ...config }));
    // Its own come first.
    configs.show(all.filter((config) => filter.matches(config.name)).sort((a, b) => a.default - b.default));
  };

  const show = (now) => {
    topic = now;
    const course = gain(`topic-end ${name}`, sum(topic, (partition) => partition.high_watermark));
    // Who may not see settings is told none.
    const kept = Number(topic.configs['retention.ms']?.value);
    about.show(number(sum(topic, records)), bytes(sum(topic, (partition) => partition.bytes)), number(topic.partitions.length),
      rate(course.at(-1)), line.node, Number.isNaN(kept) ? '–' : kept < 0 ? 'for ever' : duration(kept), topic.configs['cleanup.policy']?.value ?? '–');
    line.show(course);
    partitions.show(topic.partitions);
    showConfigs();
    settings.hidden = !Object.keys(topic.configs).length;
  };
  const update = view.every(2000, async () => {
    show(await get(path`topics/${name}`, view.signal));
    const { groups } = await get(`groups?${new URLSearchParams({ topic: name })}`, view.signal);
    readers.show(groups);
    readers.node.hidden = !groups.length;
    nobody.hidden = groups.length > 0;
    tools.hidden = topic.internal;
  });

  const alter = async (body, told) => {
    show(await send('PATCH', path`topics/${name}`, body));
    say(told);
    return true;
  };
  const change = (setting) => {
    const { value, default: isDefault } = topic.configs[setting];
    const input = h('input', { value, spellcheck: 'false', autocomplete: 'off', autofocus: true });
    const reset = h('input', { type: 'checkbox', onchange: () => (input.disabled = reset.checked) });
    ask({
      title: `${setting} of ${name}`,
      action: 'Change setting',
      content: [field('Value', input), !isDefault && h('label', { class: 'check' }, reset, 'back to the default')],
      act: () => alter({ configs: { [setting]: reset.checked ? null : input.value } }, `${setting} is changed.`),
    });
  };
  const grow = () => {
    const now = topic.partitions.length;
    const input = h('input', { type: 'number', min: now + 1, max: '10000', value: now + 1, class: 'narrow', autofocus: true });
    ask({
      title: `Add partitions to ${name}`,
      action: 'Add partitions',
      content: [field('Partitions in all', input), h('p', { class: 'soft' }, `It has ${number(now)}. New records of a key may then go to another partition than its older ones. Partitions cannot be taken away again.`)],
      act: () => alter({ partitions: Number(input.value) }, `${name} has ${count(Number(input.value), 'partition')}.`),
    });
  };
  const trim = (number_) => {
    const partition = topic.partitions[number_];
    const before = h('input', { value: partition.high_watermark, class: 'narrow', required: true, autofocus: true });
    ask({
      title: `Trim partition ${number_} of ${name}`,
      action: 'Delete these records',
      danger: true,
      content: [
        h('p', {}, `It holds offsets ${number(partition.start)} up to its end ${number(partition.high_watermark)}. All records before this position are deleted for good:`),
        field('Before: an offset, -N from the end, a time, or 15m ago', before),
      ],
      act: async () => {
        const { start } = await send('DELETE', path`topics/${name}/records?partition=${number_}&before=${before.value}`);
        say(`Partition ${number_} of ${name} starts at ${number(start)} now.`);
        update();
        return true;
      },
    });
  };
  const drop = async () => {
    const { groups } = await get(`groups?${new URLSearchParams({ topic: name })}`);
    const read = groups.length ? ` ${count(groups.length, 'group reads it and loses its place in it', 'groups read it and lose their places in it')}: ${groups.slice(0, 5).map((group) => group.name).join(', ')}${groups.length > 5 ? ', …' : ''}.` : '';
    const gone = await ask({
      title: `Delete ${name}?`,
      action: `Delete ${name}`,
      danger: true,
      content: h('p', {}, `${count(topic.partitions.length, 'partition')} with ${count(sum(topic, records), 'record')}, ${bytes(sum(topic, (partition) => partition.bytes))} on disk, are deleted for good.${read}`),
      act: () => send('DELETE', path`topics/${name}`),
    });
    if (!gone) return;
    say(`Topic ${name} is deleted.`);
    location.hash = '#/topics';
  };

  // What is not known yet cannot be changed.
  const tools = h('div', { class: 'tools', hidden: true },
    link('Messages', ['messages', name], {}, { class: 'button' }),
    link('Produce', ['messages', name], { produce: 'yes' }, { class: 'button' }),
    may(h('button', { onclick: grow }, 'Add partitions…'), 'alter'),
    may(h('button', { class: 'bad end', onclick: drop }, 'Delete topic…'), 'delete'));
  view.show(name,
    h('h1', {}, name), about.node, tools,
    h('h2', {}, 'Partitions'), partitions.node,
    h('h2', {}, 'Read by'), readers.node, nobody,
    settings);
};
