// Try it: a request to this broker by any of its protocols, with its bytes and what it answered.

import { h, text, field, option, ask } from './dom.js';
import { whole } from './format.js';
import { send } from './api.js';
import { exchange } from './exchange.js';

// The calls that every Kafka client makes, with what can be filled in.
const KAFKA = {
  ApiVersions: [],
  Metadata: ['topic'],
  CreateTopics: ['topic', 'partitions'],
  DescribeTopicPartitions: ['topic'],
  Produce: ['topic', 'partition', 'key', 'value'],
  Fetch: ['topic', 'partition', 'offset'],
};
const FIELDS = { topic: 'orders', partition: 0, partitions: 1, offset: 0, key: 'user-1', value: 'hello' };
const TEXT = [
  'PING', 'INFO', 'HELP', 'HELP SEND',
  'TOPICS', 'TOPIC orders', 'CREATE orders partitions:3', 'ALTER orders retention.ms:86400000',
  'SEND orders key:user-1 message:hello', 'PRODUCE hello', 'CONSUME 0', 'USE orders/0', 'FETCH orders/0 earliest',
  'TAIL orders from:earliest until:end', 'TRIM orders/0 earliest',
  'GROUPS', 'GROUP analytics', 'COMMIT orders/0 0', 'RESET analytics orders/0 earliest', 'JOIN analytics orders',
  'POLL max:10', 'SEEK orders/0 earliest', 'ACCEPT orders/0 0', 'RELEASE orders/0 0', 'REJECT orders/0 0', 'RENEW orders/0 0', 'LEAVE',
  'PRODUCER', 'BEGIN transfer-1', 'END', 'ABORT transfer-1',
  'TRANSACTIONS', 'TRANSACTION transfer-1', 'DROP orders',
  'WHOAMI', 'AUTH alice her-password', 'USER list', 'ACL list', 'QUIT',
];

const labelOf = (name) => name[0].toUpperCase() + name.slice(1);

const DESTROYS = /^\s*(drop|delete|remove|rm|trim|truncate|purge|reset)\b/i;

export const open = (view) => {
  const chosen = h('select', { size: '1' },
    h('optgroup', { label: 'Kafka' }, Object.keys(KAFKA).map((name) => option(`kafka ${name}`, name))),
    h('optgroup', { label: 'Text' }, TEXT.map((line) => option(line, line.split(' ')[0] === 'HELP' ? line : line.split(' ')[0]))));
  chosen.value = view.query.get('call') ?? 'SEND orders key:user-1 message:hello';
  if (chosen.selectedIndex < 0) chosen.selectedIndex = 0;
  const inputs = {};
  const form = h('div', { class: 'tools' });
  const status = h('p', { class: 'status', role: 'status' });
  const answer = h('div', { class: 'below' });
  const fill = () => {
    view.set('call', chosen.value);
    for (const name of Object.keys(inputs)) delete inputs[name];
    const kafka = chosen.value.startsWith('kafka ') ? KAFKA[chosen.value.slice(6)] : undefined;
    const shown = kafka ?? ['line'];
    form.replaceChildren(...shown.map((name) => {
      const known = FIELDS[name];
      inputs[name] = h('input', {
        value: name === 'line' ? chosen.value : view.query.get(name) ?? known, spellcheck: 'false', autocomplete: 'off',
        inputmode: typeof known === 'number' ? 'numeric' : null, class: typeof known === 'number' ? 'narrow' : null,
      });
      return field(labelOf(name), inputs[name], name === 'line' || name === 'value' ? 'grow' : '');
    }), h('button', { class: 'first' }, 'Send'));
  };
  const asked = () => {
    if (inputs.line) return { text: inputs.line.value };
    const filled = Object.entries(inputs).filter(([, input]) => input.value !== '');
    return { kafka: chosen.value.slice(6), ...Object.fromEntries(filled.map(([name, input]) => [name, typeof FIELDS[name] === 'number' ? whole(labelOf(name), input.value) : input.value])) };
  };
  const submit = async (event) => {
    event.preventDefault();
    const line = inputs.line?.value ?? '';
    if (DESTROYS.test(line) && !(await ask({ title: `Send ${line}?`, action: 'Send it', danger: true, content: h('p', {}, 'This deletes records, or positions of a group, for good.'), act: () => true }))) return;
    status.classList.remove('bad');
    text(status, 'asking …');
    try {
      const one = await send('POST', 'try', asked());
      text(status, '');
      if (one.whole === false) text(status, 'It was not answered to its end in 5 s; this came.');
      answer.replaceChildren(exchange(one));
    } catch (error) {
      text(status, error.message);
      status.classList.add('bad');
      answer.replaceChildren();
    }
  };
  chosen.addEventListener('change', fill);
  fill();
  view.show('Try it',
    h('h1', {}, 'Try it'),
    h('p', { class: 'soft' }, 'Sends a request to this broker over a connection of its own, and shows each byte of it and of the answer.'),
    h('form', { onsubmit: submit }, h('div', { class: 'tools' }, field('Request', chosen)), form),
    status, answer);
};
