// Who one is: the page that asks for it, and the place in the page's head that tells it.

import { h, text, field, link } from './dom.js';
import { get, send, query } from './api.js';
import { plain } from './format.js';

// What the broker said last of who one is; nobody is asked where there are no users.
export let me = { users: false };

export const learn = async () => (me = await get('me'));
export const mayAlter = () => !me.users || (me.cluster ?? []).includes('alter');

// Makes a button, or whatever else can be disabled, tell why it does nothing.
export const allow = (node, may, why) => {
  node.disabled = !may;
  if (may) node.removeAttribute('title');
  else node.title = `${plain(me.principal ?? 'You')} may not do this: it takes ${why}`;
  return node;
};

// What one may do with a topic or a group: a function that makes a button tell so. Nothing if the page is gone meanwhile.
export const rights = async (view, kind, name) => {
  if (!me.users) return (node) => node;
  try {
    const { [kind]: granted } = await get(`me${query({ [kind]: name })}`, view.signal);
    return (node, operation) => allow(node, granted.includes(operation), `${operation} on the ${kind} ${name}`);
  } catch (error) {
    if (error.name !== 'AbortError') view.failed(error);
    return undefined;
  }
};

// Who one is, and the way out.
export const head = (place) => {
  const out = h('button', { class: 'small', onclick: leave }, 'Log out');
  place.replaceChildren(...(me.users && me.principal ? [h('span', {}, me.principal), ' ', ...(me.session ? [out] : [])] : []));
};

const leave = async () => {
  await send('POST', 'logout');
  location.reload();
};

// Asks for a name and a password, in place of the page that was refused.
export const ask = (main) => {
  const user = h('input', { required: true, autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', autofocus: true });
  const password = h('input', { type: 'password', required: true, autocomplete: 'current-password' });
  const wrong = h('p', { class: 'wrong', role: 'alert' });
  const button = h('button', { class: 'first' }, 'Log in');
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    text(wrong, '');
    try {
      await send('POST', 'login', { user: user.value, password: password.value });
      location.reload();
    } catch (error) {
      text(wrong, error.message);
      password.value = '';
      password.focus();
    }
    button.disabled = false;
  };
  document.title = 'Log in – plainlog';
  main.replaceChildren(h('h1', {}, 'Log in'),
    h('form', { class: 'login', onsubmit: submit }, field('User', user), field('Password', password), wrong, button));
  user.focus();
};

// The page of somebody who may not see it.
export const closed = (view, title, why) =>
  view.show(title, h('h1', {}, title), h('p', {}, `${me.principal ?? 'Who has not logged in'} may not see this: it takes ${why}.`), h('p', {}, link('Back to Topics', ['topics'])));
