// Messages: reading a topic page by page, searching it, following it, and writing to it.
//
//   page      newest first, going back as one scrolls; or from a place, going on
//   search    all that match between there and the end, as they are found
//   live      what comes after what is shown

import { h, text, link, table, ask, field, option, say, facts } from './dom.js';
import { get, send, path, query } from './api.js';
import { rights } from './login.js';
import { number, bytes as size, count, time } from './format.js';
import { list } from './list.js';
import { Kept } from './kept.js';
import { stream } from './stream.js';
import { value, fromBase64, toBase64 } from './bytes.js';

const PAGE = 100;
// What a page keeps at most.
const KEPT_RECORDS = 200000;
const KEPT_LETTERS = 64 << 20;

export const open = (view) => (view.path[1] ? read(view, view.path[1]) : choose(view));

const choose = (view) => {
  let topics = [];
  const rows = table('Topics', [
    { name: 'Topic', node: (topic) => link(topic.name, ['messages', topic.name]) },
    { name: 'Records', class: 'n', text: (topic) => number(topic.records) },
  ], (topic) => topic.name);
  const filter = view.filter('Filter topics', () => show());
  const show = () => rows.show(topics.filter((topic) => filter.matches(topic.name)));
  view.show('Messages', h('h1', {}, 'Messages'), h('p', { class: 'soft' }, 'Of which topic?'), h('div', { class: 'tools' }, filter.input), rows.node);
  view.every(5000, async () => {
    ({ topics } = await get('topics', view.signal));
    show();
  });
};

const bytesOf = (record, name) => {
  if (record[`${name}_base64`] !== undefined) return fromBase64(record[`${name}_base64`]);
  return typeof record[name] === 'string' ? new TextEncoder().encode(record[name]) : null;
};
// A key or value on one line, as far as a line goes.
const short = (record, name) => {
  if (record[`${name}_base64`] !== undefined) return `base64 ${record[`${name}_base64`].slice(0, 200)}`;
  return typeof record[name] === 'string' ? record[name].slice(0, 300) : name === 'value' ? 'tombstone' : '';
};

// Headers, so many at once: a record may have a hundred thousand.
const HEADERS_AT_ONCE = 100;
const headersOf = (all) => {
  const shown = h('dl', { class: 'headers' });
  const rest = h('button', { class: 'small', onclick: () => more() });
  const word = (held) => (held === null ? 'null' : held.base64 !== undefined ? `base64 ${held.base64}` : held);
  let next = 0;
  const more = () => {
    shown.append(...all.slice(next, next + HEADERS_AT_ONCE).flatMap(([name, held]) => [h('dt', {}, word(name)), h('dd', {}, word(held))]));
    next += HEADERS_AT_ONCE;
    rest.hidden = next >= all.length;
    text(rest, `Show more of ${count(all.length, 'header')}`);
  };
  more();
  return [shown, rest];
};

// A header that was typed as a line; `null`: it is none.
const headerOf = (line) => {
  const at = line.indexOf(':');
  return at < 1 ? null : [line.slice(0, at).trim(), line.slice(at + 1).replace(/^ /, '')];
};
// The line that means this header; `null`: there is none.
const lineOf = (header) => {
  const line = header.join(': ');
  const isText = header.every((word) => typeof word === 'string') && !/[\r\n]/.test(line) && line.trim() !== '';
  return isText && JSON.stringify(headerOf(line)) === JSON.stringify(header) ? line : null;
};

const STARTS = [['', 'Newest first'], ['earliest', 'Oldest first'], ['place', 'From an offset'], ['time', 'From a time'], ['ago', 'From a time ago']];
const EXAMPLES = { place: '0', ago: '15m' };
const startOf = (from) => {
  if (from === '' || from === 'earliest') return from;
  if (/^\d+[a-z]+$/.test(from)) return 'ago';
  return from.includes('-') && !Number.isNaN(Date.parse(from)) && !/^-\d+$/.test(from) ? 'time' : 'place';
};

const read = (view, topic) => {
  const records = new Kept(KEPT_RECORDS, KEPT_LETTERS);
  const asked = (name) => view.query.get(name) ?? '';
  const where = path`topics/${topic}/records`;
  let work = new AbortController();
  let stop = () => {};
  let cursor = {};
  let loading = false;
  let waiting = [];

  // What is asked
  const partition = h('select', {}, option('', 'all'), asked('partition') && option(asked('partition')));
  partition.value = asked('partition');
  const start = h('select', {}, STARTS.map(([name, label]) => option(name, label)));
  start.value = startOf(asked('from'));
  const from = h('input', { spellcheck: 'false', autocomplete: 'off', class: 'from', 'aria-label': 'Where to start' });
  const match = h('input', { type: 'search', placeholder: 'part of a key, value or header', value: asked('match'), spellcheck: 'false' });
  const key = h('input', { placeholder: 'the whole key', value: asked('key'), spellcheck: 'false' });
  const header = h('input', { placeholder: 'name=value', value: asked('header'), spellcheck: 'false' });
  const started = () => {
    from.hidden = !['place', 'time', 'ago'].includes(start.value);
    from.type = start.value === 'time' ? 'datetime-local' : 'text';
    from.step = start.value === 'time' ? '1' : '';
    from.placeholder = EXAMPLES[start.value] ? `such as ${EXAMPLES[start.value]}` : '';
    from.required = !from.hidden;
  };
  started();
  if (start.value === 'time') {
    const date = new Date(asked('from'));
    from.value = new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  } else if (!from.hidden) from.value = asked('from');
  const place = () => {
    if (start.value !== 'time') return from.hidden ? start.value : from.value;
    const date = new Date(from.value);
    return Number.isNaN(date.getTime()) ? '' : date.toISOString();
  };
  const headerParameter = () => {
    const at = header.value.indexOf('=');
    return at > 0 ? { [`header.${header.value.slice(0, at)}`]: header.value.slice(at + 1) } : {};
  };
  const filters = () => ({ match: match.value, key: key.value, ...headerParameter() });
  const searches = () => Object.values(filters()).some(Boolean);

  const live = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => (view.set('live', live.ariaPressed === 'true' ? '' : 'yes'), begin()) }, 'Live');
  const stopper = h('button', { type: 'button', hidden: true, onclick: () => finish(`stopped; ${found()}`) }, 'Stop');
  const status = h('p', { class: 'soft status', role: 'status', 'aria-live': 'polite' });
  // What changes all the time is not read out.
  const tell = (what, often) => {
    status.setAttribute('aria-live', often ? 'off' : 'polite');
    text(status, what);
  };

  const rows = list({
    label: `Messages of ${topic}`,
    source: records,
    choose: (record) => show(record),
    reached: () => more(),
    columns: [
      { class: 'when', text: (record) => time(record.timestamp) },
      { class: 'at', text: (record) => `${record.partition}:${record.offset}` },
      { class: 'key', text: (record) => short(record, 'key') },
      { class: 'value', text: (record) => short(record, 'value') },
    ],
  });
  rows.node.classList.add('messages');

  const failed = (error) => {
    if (error.name === 'AbortError') return;
    tell(error.message);
    status.classList.add('bad');
  };
  const parameters = () => ({ partition: partition.value });

  // Reads on where the list ends.
  const more = async () => {
    const next = records.newestFirst ? cursor.previous : cursor.next;
    if (loading || !next || records.isFull || searches() || (isLive() && !records.newestFirst)) return;
    loading = true;
    const { signal } = work;
    try {
      const page = await get(where + query({ ...parameters(), from: next, count: PAGE }), signal);
      tellGaps(page.gaps);
      if (records.newestFirst) {
        records.prepend(page.records);
        cursor.previous = page.records.length ? page.previous : undefined;
      } else {
        records.extend(page.records);
        cursor.next = page.next;
      }
      (isLive() ? liveTold : told)();
      // The end of the log is asked for again when somebody scrolls there, not now.
      loading = !page.records.length;
      rows.show();
      if (loading) setTimeout(() => (loading = false), 2000);
    } catch (error) {
      loading = false;
      failed(error);
    }
  };
  const told = () => {
    const rest = records.isFull ? '; more are not kept here, read on from another place' : records.newestFirst && cursor.previous ? '; older ones as you scroll' : '';
    tell(records.size ? `${count(records.size, 'record')} shown${rest}` : 'No records here.');
  };
  const isLive = () => view.query.has('live');
  // What is not there stays told, until something else is read.
  const missing = h('p', { class: 'bad', role: 'status', hidden: true });
  let gaps = 0;
  const tellGaps = (found = []) => {
    gaps += found.length;
    missing.hidden = gaps === 0;
    if (found.length) text(missing, `Partition ${found.at(-1).partition}: ${found.at(-1).message}${gaps > 1 ? `; ${count(gaps, 'gap')} so far` : ''}`);
  };

  const begin = async () => {
    work.abort();
    stop();
    work = new AbortController();
    const { signal } = work;
    status.classList.remove('bad');
    records.clear();
    rows.clear();
    gaps = 0;
    tellGaps();
    waiting = [];
    cursor = {};
    loading = false;
    live.setAttribute('aria-pressed', isLive());
    stopper.hidden = true;
    records.newestFirst = start.value === '' && !searches();
    exports();
    if (searches()) {
      search();
      return;
    }
    tell('reading …');
    try {
      loading = true;
      const page = await get(where + query({ ...parameters(), from: place() || `-${PAGE}`, count: PAGE }), signal);
      loading = false;
      tellGaps(page.gaps);
      records.extend(page.records);
      cursor = { next: page.next, previous: page.records.length ? page.previous : undefined };
      told();
      rows.show();
      if (isLive()) follow(cursor.next);
    } catch (error) {
      failed(error);
      if (error.status === 0) setTimeout(() => signal.aborted || begin(), 1000);
    }
  };

  // What comes over the stream is gathered until the next frame.
  const arrive = (data) => {
    if (!waiting.length) requestAnimationFrame(arrived);
    waiting.push(data);
  };
  const arrived = () => {
    const before = records.size;
    const [atTop, atEnd] = [rows.atTop(), rows.atEnd()];
    const gone = records.append(waiting);
    const came = waiting.length;
    waiting = [];
    if (records.newestFirst) {
      if (!atTop || rows.current >= 0) rows.shift(came);
      // What went is not read again, so that no hole is left.
      if (gone) cursor.previous = undefined;
    } else {
      if (gone) rows.shift(-gone);
      if (atEnd && isLive() && before) rows.toEnd();
    }
    total += came;
    rows.show();
    liveTold();
  };
  let total = 0;
  const kept = () => (total > records.size ? `; the last ${number(records.size)} are kept here` : '');
  const found = () => `${count(total, 'record')} found${kept()}`;
  let connected = true;
  let liveTold = () => {};
  const gap = (data) => tellGaps([JSON.parse(data)]);

  const follow = (next) => {
    total = 0;
    connected = false;
    liveTold = () => tell(`${connected ? 'live' : 'live, connecting …'}: ${count(total, 'new record')}${records.isFull ? `; the last ${number(records.size)} are kept here` : ''}`, true);
    liveTold();
    stop = stream(where + query({ ...parameters(), from: next }), { message: arrive, gap }, {
      signal: view.signal, refused: failed, state: (open) => ((connected = open), liveTold()),
    });
  };

  const search = () => {
    let progress = '';
    total = 0;
    stopper.hidden = false;
    const wanted = { ...parameters(), ...filters(), from: place() || 'earliest', ...(!isLive() && { to: 'latest' }) };
    liveTold = () => tell(`${isLive() ? 'searching, and waiting for more' : 'searching'}: ${found()}${progress}`, true);
    liveTold();
    stop = stream(where + query(wanted), {
      message: arrive,
      gap,
      progress: (data) => {
        const told = JSON.parse(data);
        progress = told.of ? `, ${Math.floor((100 * told.bytes) / told.of)} % of ${size(told.of)} read` : '';
        liveTold();
      },
      end: () => requestAnimationFrame(() => finish(`${count(total, 'record')} found in all, oldest first in each partition${kept()}`)),
    }, { signal: view.signal, refused: (error) => (finish(), failed(error)) });
  };
  const finish = (what) => {
    stop();
    liveTold = () => {};
    stopper.hidden = true;
    if (what) tell(what);
  };
  view.signal.addEventListener('abort', () => (work.abort(), stop()));

  // One record
  const detail = h('aside', { class: 'detail', 'aria-label': 'The record that is chosen', hidden: true });
  const close = () => {
    detail.hidden = true;
    layout.classList.remove('open');
    view.set('at', '');
    rows.node.focus();
  };
  const show = (record) => {
    view.set('at', `${record.partition}:${record.offset}`);
    const about = facts(['Partition', 'Offset', 'Time']);
    about.show(number(record.partition), number(record.offset), time(record.timestamp));
    const headers = record.headers?.length ? [h('h3', {}, 'Headers'), ...headersOf(record.headers)] : [];
    detail.replaceChildren(
      h('div', { class: 'tools' }, h('h2', {}, `${topic} ${record.partition}:${record.offset}`),
        h('button', { class: 'small end', onclick: () => produce(record) }, 'Send again…'),
        h('button', { class: 'small', 'aria-label': 'Close the record', onclick: close }, 'Close')),
      about.node, ...headers, ...(bytesOf(record, 'key') ? [value('Key', bytesOf(record, 'key'))] : []), value('Value', bytesOf(record, 'value')));
    detail.hidden = false;
    layout.classList.add('open');
  };
  detail.addEventListener('keydown', (event) => event.key === 'Escape' && close());
  rows.node.addEventListener('keydown', (event) => event.key === 'Escape' && !detail.hidden && close());

  // Writing
  const produce = (again) => {
    const kinds = (name) => h('select', { 'aria-label': `${name} as` }, ['text', 'base64', 'null'].map((one) => option(one)));
    const keyKind = kinds('Key');
    const keyInput = h('input', { spellcheck: 'false', autocomplete: 'off', oninput: () => keyKind.value === 'null' && (keyKind.value = 'text') });
    const valueKind = kinds('Value');
    const body = h('textarea', { rows: '8', spellcheck: 'false', autofocus: true });
    // What a field would change, such as the ends of lines, stands there in base64.
    const fill = (name, input, kind) => {
      const [held, base64] = [again?.[name] ?? null, again?.[`${name}_base64`]];
      [input.value, kind.value] = [base64 ?? held ?? '', base64 !== undefined ? 'base64' : held === null ? 'null' : 'text'];
      if (kind.value === 'text' && input.value !== held) [input.value, kind.value] = [toBase64(held), 'base64'];
    };
    if (again) {
      fill('key', keyInput, keyKind);
      fill('value', body, valueKind);
    } else keyKind.value = 'null';
    const lines = (again?.headers ?? []).map(lineOf);
    const headers = h('textarea', { rows: '2', placeholder: 'name: value, one on each line', spellcheck: 'false', value: lines.filter((line) => line !== null).join('\n') });
    const unchanged = headers.value;
    // What cannot be written in a line is sent again as it was.
    const carried = (again?.headers ?? []).filter((_, n) => lines[n] === null);
    const to = h('select', {}, option('', 'by its key'), ...[...partition.options].filter((one) => one.value).map((one) => option(one.value)));
    const json = h('input', { type: 'checkbox', onchange: () => check() });
    const checked = h('p', { class: 'soft', role: 'status' });
    const check = () => {
      try {
        if (body.value.trim()) JSON.parse(body.value);
        text(checked, json.checked && body.value.trim() ? 'The value is JSON.' : '');
        return true;
      } catch (error) {
        text(checked, json.checked ? `The value is no JSON: ${error.message}` : '');
        return !json.checked;
      }
    };
    body.addEventListener('input', check);
    const held = (name, input, kind) => (kind.value === 'null' ? { [name]: null } : { [kind.value === 'text' ? name : `${name}_base64`]: input.value });
    let sent = 0;
    ask({
      title: again ? `Send ${again.partition}:${again.offset} to ${topic} again` : `Produce to ${topic}`,
      action: 'Send',
      content: [
        h('div', { class: 'tools' }, field('Key', keyInput, 'grow'), keyKind, field('Partition', to)),
        h('div', { class: 'stack' }, h('div', { class: 'tools' }, h('label', { for: body.id = 'produced' }, 'Value'), valueKind, h('label', { class: 'check' }, json, 'must be JSON')), body, checked),
        field('Headers', headers),
        carried.length > 0 && h('p', { class: 'soft' }, `${count(carried.length, 'header')} that ${carried.length === 1 ? 'is no line goes' : 'are no lines go'} with it as before.`),
      ],
      act: async () => {
        if (!check()) throw new Error('Nothing was sent: the value is no JSON.');
        const typed = headers.value.split('\n').filter((line) => line.trim()).map((line) => {
          const header = headerOf(line);
          if (!header) throw new Error(`Nothing was sent: a header is “name: value”, not “${line}”.`);
          return header;
        });
        // In their order, unless somebody gave them another.
        const all = again && headers.value === unchanged ? again.headers ?? [] : [...typed, ...carried];
        const record = { ...held('key', keyInput, keyKind), headers: all, ...held('value', body, valueKind) };
        const { records: [stored] } = await send('POST', where + query({ partition: to.value }), [record]);
        if (stored.error) throw new Error(stored.message);
        sent += 1;
        say(`Stored in partition ${stored.partition} at offset ${number(stored.offset)}${sent > 1 ? `; ${number(sent)} sent` : ''}.`);
        body.focus();
        body.select();
        if (!isLive() && !searches() && records.newestFirst && rows.atTop()) begin();
      },
    });
    if (again) check();
  };

  const saved = h('div', { class: 'tools saved' });
  const exports = () => {
    const range = { ...parameters(), from: start.value ? place() : '', ...filters() };
    const file = (label, format) => h('a', { class: 'button', download: `${topic}.${format}`, href: `api/${path`topics/${topic}/export`}${query({ ...range, format })}` }, label);
    saved.replaceChildren(h('span', { class: 'soft' }, 'Export'), file('NDJSON', 'ndjson'), file('CSV', 'csv'));
  };

  const form = h('form', {
    class: 'asked',
    onsubmit: (event) => {
      event.preventDefault();
      for (const [name, input] of Object.entries({ partition, match, key, header })) view.set(name, input.value);
      view.set('from', place());
      begin();
    },
  },
  h('div', { class: 'tools' },
    field('Partition', partition), field('Start', start), from,
    field('Search', match, 'grow'), field('Key', key), field('Header', header),
    h('button', {}, 'Read'), stopper));
  const submit = () => form.requestSubmit();
  partition.addEventListener('change', submit);
  start.addEventListener('change', () => (started(), from.hidden ? submit() : from.focus()));

  const producer = h('button', { class: 'first', onclick: () => produce() }, 'Produce…');
  rights(view, 'topic', topic).then((may) => may?.(producer, 'write'));
  const layout = h('div', { class: 'split' }, rows.node, detail);
  view.show(`Messages of ${topic}`,
    h('div', { class: 'tools' }, h('h1', {}, 'Messages ', h('small', {}, 'of '), link(topic, ['topics', topic])),
      h('span', { class: 'end' }, live, ' ', producer)),
    form, h('div', { class: 'tools' }, status, saved), missing, layout);

  view.once(async () => {
    const { partitions } = await get(path`topics/${topic}`, view.signal);
    const chosen = partition.value;
    partition.replaceChildren(option('', 'all'), ...partitions.map((one) => option(String(one.partition))));
    partition.value = chosen;
    begin();
    if (asked('at')) {
      const [in_, offset] = asked('at').split(':');
      get(where + query({ partition: in_, from: offset, count: 1 }), view.signal).then(({ records: [record] }) => record && show(record), failed);
    }
    if (view.query.has('produce')) {
      view.set('produce', '');
      produce();
    }
  });
};
