// The shell: which page an address means, and what all pages have.

import { h, text, link, address, say } from './dom.js';
import { get, reached, Refused } from './api.js';
import { duration, plain } from './format.js';
import * as topics from './topics.js';
import * as messages from './messages.js';
import * as groups from './groups.js';
import * as connections from './connections.js';
import * as wire from './wire.js';
import * as tryIt from './try.js';
import * as learn from './learn.js';
import * as users from './users.js';
import * as rules from './rules.js';
import * as login from './login.js';

const PAGES = {
  topics: ['Topics', topics],
  messages: ['Messages', messages],
  groups: ['Groups', groups],
  connections: ['Connections', connections],
  wire: ['Wire', wire],
  try: ['Try it', tryIt],
  learn: ['Learn', learn],
  users: ['Users', users],
  rules: ['Rules', rules],
};

// What a page takes that not everybody sees, where there are users.
const TAKES = {
  connections: ['describe', 'describe on the cluster'],
  wire: ['alter', 'alter on the cluster'],
  users: ['describe', 'describe on the cluster'],
  rules: ['describe', 'describe on the cluster'],
};
// Pages that mean nothing where there are no users.
const OF_USERS = ['users', 'rules'];

const mayOpen = (page) => !login.me.users || !TAKES[page] || login.me.cluster.includes(TAKES[page][0]);

// When a broker is asked again that did not answer.
const AGAIN_MS = 1000;

// A page as it is shown: its address, and what ends with it.
class View {
  #ended = new AbortController();
  // Why there is nothing, or nothing new, to be seen.
  #trouble = h('p', { class: 'bad', role: 'alert', hidden: true });

  constructor(main, path, query) {
    Object.assign(this, { main, path, query, signal: this.#ended.signal });
  }

  end() {
    this.#ended.abort();
  }

  show(title, ...nodes) {
    document.title = `${plain(title)} – plainlog`;
    this.main.replaceChildren(this.#trouble, ...nodes.flat(9).filter(Boolean));
  }

  // Keeps a part of the page's state in its address.
  set(name, value) {
    if (value) this.query.set(name, value);
    else this.query.delete(name);
    history.replaceState(null, '', address(this.path, Object.fromEntries(this.query)));
  }

  // A field that filters a list as one types.
  filter(label, changed) {
    const input = h('input', {
      type: 'search', class: 'filter', placeholder: label, 'aria-label': label, value: this.query.get('filter') ?? '', spellcheck: 'false',
      oninput: () => (this.set('filter', input.value), changed()),
    });
    const matches = (...texts) => texts.join(' ').toLowerCase().includes(input.value.toLowerCase());
    return { input, matches };
  }

  // Whether it could be done.
  async #attempt(work) {
    try {
      await work();
      this.#trouble.hidden = true;
      return true;
    } catch (error) {
      if (error instanceof Refused) this.failed(error);
      else if (error.name !== 'AbortError') reportError(error);
      return false;
    }
  }

  // Does something, and again until it can be done.
  async once(work) {
    if (!(await this.#attempt(work)) && !this.signal.aborted) setTimeout(() => this.once(work), AGAIN_MS);
  }

  // Does something now and every so often, but not while nobody sees it.
  every(ms, work) {
    let timer;
    const run = async () => {
      clearTimeout(timer);
      if (document.hidden || this.signal.aborted) return;
      const pause = (await this.#attempt(work)) ? ms : Math.min(ms, AGAIN_MS);
      clearTimeout(timer);
      if (!this.signal.aborted) timer = setTimeout(run, pause);
    };
    document.addEventListener('visibilitychange', run, { signal: this.signal });
    this.signal.addEventListener('abort', () => clearTimeout(timer));
    run();
    return run;
  }

  // What is asked for is not there. A broker that does not answer, or cannot now, is asked again.
  failed(error) {
    if (error.status === 401) {
      this.end();
      login.ask(this.main);
      return;
    }
    if (!error.status || error.status >= 500) {
      text(this.#trouble, `${error.message}; trying again`);
      this.#trouble.hidden = false;
      return;
    }
    this.end();
    this.main.replaceChildren(h('h1', { tabindex: '-1' }, 'Not here'), h('p', {}, error.message), h('p', {}, link(`Back to ${PAGES[this.path[0]][0]}`, [this.path[0]])));
  }
}

const parse = (hash) => {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const decode = (part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  return { path: path.split('/').map(decode), query: new URLSearchParams(query ?? '') };
};

let view;
const open = (first) => {
  const { path, query } = parse(location.hash);
  if (!Object.hasOwn(PAGES, path[0]) || (OF_USERS.includes(path[0]) && !login.me.users)) {
    location.replace('#/topics');
    return;
  }
  view?.end();
  const main = document.getElementById('main');
  view = new View(main, path, query);
  for (const one of document.querySelectorAll('#pages a')) {
    if (one.dataset.page === path[0]) one.setAttribute('aria-current', 'page');
    else one.removeAttribute('aria-current');
  }
  if (mayOpen(path[0])) PAGES[path[0]][1].open(view);
  else login.closed(view, PAGES[path[0]][0], TAKES[path[0]][1]);
  if (first) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
};

const pages = document.getElementById('pages');
const menu = () => {
  const shown = Object.entries(PAGES).filter(([page]) => login.me.users || !OF_USERS.includes(page));
  const entry = ([page, [name]]) => {
    const why = mayOpen(page) ? {} : { class: 'off', title: `You may not see this: it takes ${TAKES[page][1]}` };
    return link(name, [page], {}, { 'data-page': page, ...why });
  };
  pages.replaceChildren(...shown.map(entry));
};
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  document.getElementById('main').focus();
});

// `/` goes to the page's filter, as it does in `less`.
addEventListener('keydown', (event) => {
  const writes = event.target.matches('input, textarea, select') || document.querySelector('dialog[open]');
  if (event.key !== '/' || writes || event.ctrlKey || event.metaKey || event.altKey) return;
  const filter = document.querySelector('main input[type="search"]');
  if (!filter) return;
  event.preventDefault();
  filter.select();
});

const broker = document.getElementById('broker');
const told = [h('span', { class: 'wide' }, location.host, ' · '), h('span')];
const lost = h('span', {}, 'no answer; trying again');
reached.tell = (answers) => {
  if (answers === broker.contains(told[1])) return;
  broker.classList.toggle('lost', !answers);
  broker.setAttribute('aria-live', answers ? 'off' : 'assertive');
  broker.replaceChildren(...(answers ? told : [lost]));
};
const head = async () => {
  if (!document.hidden) {
    try {
      const { version, uptime_ms } = await get('cluster');
      text(told[1], `${version} · up ${duration(uptime_ms)}`);
    } catch {
      // Told already.
    }
  }
  setTimeout(head, broker.classList.contains('lost') ? AGAIN_MS : 10000);
};

// What somebody asked for with a click and was not done is told.
addEventListener('unhandledrejection', (event) => {
  const { reason } = event;
  if (!(reason instanceof Refused) && reason?.name !== 'AbortError') return;
  event.preventDefault();
  if (reason instanceof Refused) say(reason.message);
});
// Who one is decides what there is to be seen.
const begin = async () => {
  const main = document.getElementById('main');
  try {
    await login.learn();
  } catch (error) {
    if (error.status === 401) return login.ask(main);
    // A build without users does not know the question; a broker that does not answer is asked again by the page.
    if (!error.status || error.status >= 500) return void setTimeout(begin, AGAIN_MS);
  }
  if (login.me.users && !login.me.principal) return login.ask(main);
  login.head(document.getElementById('me'));
  menu();
  addEventListener('hashchange', () => open(false));
  head();
  open(true);
};
begin();
