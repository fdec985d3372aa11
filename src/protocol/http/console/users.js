// Users: who there is, and how one is made, gets another password and goes.

import { h, text, link, table, ask, field, say } from './dom.js';
import { get, send, path } from './api.js';
import { count } from './format.js';
import { me, mayAlter, allow } from './login.js';

const TAKES = 'alter on the cluster';

export const open = (view) => {
  let users = [];
  const button = (label, name, act, danger) => allow(h('button', { class: danger ? 'small bad' : 'small', 'aria-label': `${label} ${name}`, onclick: act }, `${label}…`), mayAlter(), TAKES);
  const rows = table('Users', [
    { name: 'User', text: (user) => user.name },
    { name: 'May', class: 'fit', text: (user) => (user.super ? 'everything' : 'what rules say') },
    { name: 'Logs in by', class: 'wide', text: (user) => user.mechanisms.join(', ') },
    { name: '', class: 'fit', node: (user) => link('Rules', ['rules'], { filter: `User:${user.name}` }, { 'aria-label': `Rules of ${user.name}` }) },
    { name: '', class: 'fit', node: (user) => button('Password', user.name, () => change(user.name)) },
    { name: '', class: 'fit', node: (user) => user.name !== 'admin' && button('Delete', user.name, () => remove(user.name), true) },
  ], (user) => user.name);
  const filter = view.filter('Filter users', () => show());
  const said = h('p', { class: 'soft', role: 'status' });
  const show = () => {
    const found = users.filter((user) => filter.matches(user.name));
    rows.show(found);
    text(said, count(found.length, 'user'));
  };
  const update = view.every(5000, async () => {
    ({ users } = await get('users', view.signal));
    show();
  });
  const password = () => h('input', { type: 'password', required: true, autocomplete: 'new-password' });

  const add = async () => {
    const [name, secret] = [h('input', { required: true, autocomplete: 'off', spellcheck: 'false', autofocus: true }), password()];
    const made = await ask({
      title: 'New user', action: 'Make user', content: [field('Name', name), field('Password', secret), h('p', { class: 'soft' }, 'A new user may do nothing until rules say so.')],
      act: () => send('POST', 'users', { name: name.value, password: secret.value }),
    });
    if (made) (say(`User ${made.name} is there.`), update());
  };
  const change = async (name) => {
    const secret = password();
    const changed = await ask({
      title: `Password of ${name}`, action: 'Change password', content: [field('New password', secret), h('p', { class: 'soft' }, 'Its sessions here end. Connections that are open go on.')],
      act: () => send('PATCH', path`users/${name}`, { password: secret.value }),
    });
    if (changed) say(`User ${name} has another password.`);
  };
  const remove = async (name) => {
    const gone = await ask({
      title: `Delete user ${name}?`, action: 'Delete user', danger: true, content: h('p', {}, 'Its connections and sessions end. Rules that name it stay.'),
      act: () => send('DELETE', path`users/${name}`),
    });
    if (gone) (say(`User ${name} is gone; ${count(gone.rules, 'rule')} still name it.`), update());
  };
  view.show('Users', h('h1', {}, 'Users'), said,
    h('div', { class: 'tools' }, filter.input, allow(h('button', { class: 'first end', onclick: add }, 'New user'), mayAlter(), TAKES)), rows.node,
    me.principal && h('p', { class: 'soft' }, `You are ${me.principal}.`));
};
