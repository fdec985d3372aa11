// Rules: who may do what, and who may not.

import { h, text, table, ask, field, option, say } from './dom.js';
import { get, send, query } from './api.js';
import { count } from './format.js';
import { mayAlter, allow } from './login.js';

const TAKES = 'alter on the cluster';
const TYPES = ['topic', 'group', 'cluster', 'transactional-id'];
const OPERATIONS = ['all', 'read', 'write', 'create', 'delete', 'alter', 'describe', 'describe-configs', 'alter-configs', 'cluster-action', 'idempotent-write'];

const about = (rule) => (rule.resource_type === 'cluster' ? 'the cluster' : `${rule.resource_type} ${rule.resource_name}${rule.pattern_type === 'prefixed' ? '…' : ''}`);
const key = (rule) => JSON.stringify(Object.entries(rule).sort());
const sentence = (rule) => `${rule.principal} ${rule.permission_type === 'deny' ? 'must not' : 'may'} ${rule.operation} ${about(rule)}${rule.host === '*' ? '' : ` from ${rule.host}`}`;

export const open = (view) => {
  let rules = [];
  const rows = table('Rules', [
    { name: 'Who', class: 'break', text: (rule) => rule.principal },
    { name: '', class: 'fit', text: (rule) => (rule.permission_type === 'deny' ? 'must not' : 'may') },
    { name: 'What', class: 'fit', text: (rule) => rule.operation },
    { name: 'On', class: 'break', text: about },
    { name: 'From', class: 'fit wide', text: (rule) => (rule.host === '*' ? 'anywhere' : rule.host) },
    { name: '', class: 'fit', node: (rule) => allow(h('button', { class: 'small bad', 'aria-label': `Delete: ${sentence(rule)}`, onclick: () => remove(rule) }, 'Delete…'), mayAlter(), TAKES) },
  ], key);
  const filter = view.filter('Filter rules', () => show());
  const said = h('p', { class: 'soft', role: 'status' });
  const show = () => {
    const found = rules.filter((rule) => filter.matches(...Object.values(rule)));
    rows.show(found);
    text(said, count(found.length, 'rule'));
  };
  const update = view.every(5000, async () => {
    ({ acls: rules } = await get('acls', view.signal));
    show();
  });
  const add = async () => {
    const word = (attributes) => h('input', { autocomplete: 'off', spellcheck: 'false', ...attributes });
    const choice = (words) => h('select', {}, words.map((one) => option(one)));
    const who = word({ required: true, value: 'User:', autofocus: true });
    const [may, what, type, pattern] = [choice(['allow', 'deny']), choice(OPERATIONS), choice(TYPES), choice(['literal', 'prefixed'])];
    const [name, host] = [word({ placeholder: 'orders, or * for all' }), word({ value: '*', size: '12' })];
    const made = await ask({
      title: 'New rule', action: 'Make rule',
      content: [
        h('div', { class: 'tools' }, field('Who', who), field('Rule', may), field('Operation', what)),
        h('div', { class: 'tools' }, field('On', type), field('Name', name), field('Pattern', pattern), field('From', host)),
      ],
      act: () => send('POST', 'acls', {
        principal: who.value, permission_type: may.value, operation: what.value, resource_type: type.value, host: host.value,
        ...(type.value === 'cluster' ? { resource_name: 'kafka-cluster' } : { resource_name: name.value, pattern_type: pattern.value }),
      }),
    });
    if (made) (say(`${sentence(made)}.`), update());
  };
  const remove = async (rule) => {
    const gone = await ask({
      title: 'Delete this rule?', action: 'Delete rule', danger: true, content: h('p', {}, sentence(rule)),
      act: () => send('DELETE', `acls${query(rule)}`),
    });
    if (gone) (say('The rule is gone.'), update());
  };
  view.show('Rules', h('h1', {}, 'Rules'), said,
    h('div', { class: 'tools' }, filter.input, allow(h('button', { class: 'first end', onclick: add }, 'New rule'), mayAlter(), TAKES)), rows.node,
    h('p', { class: 'soft' }, 'What no rule allows is refused. A rule that refuses goes before all that allow. Super users may do everything.'));
};
