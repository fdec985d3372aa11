// The one connection of a page over which events come. It is closed while the page is hidden, and goes on where it was.
//
// The events are those that an EventSource would read. It is not used, because it dispatches each of 100,000 events by itself, and
// tells nobody why it was refused.

import { Refused, reached } from './api.js';

const AGAIN_MS = 1000;

// `where` is an address of the API; `heard` has a function for each kind of event, called with its data. Returns what ends it.
export const stream = (where, heard, { state = () => {}, refused = () => {}, signal }) => {
  let reading;
  let last;
  let again;
  let ended = false;
  const close = () => {
    clearTimeout(again);
    reading?.abort();
    reading = undefined;
  };
  const end = () => {
    ended = true;
    close();
  };
  const take = (event) => {
    let [kind, data] = ['message'];
    for (const line of event.split('\n')) {
      const at = line.indexOf(': ');
      const [name, value] = [line.slice(0, at), line.slice(at + 2)];
      if (name === 'data') data = value;
      else if (name === 'event') kind = value;
      else if (name === 'id' && value !== 'end') last = value;
    }
    if (data === undefined) return;
    if (kind === 'end') ended = true;
    heard[kind]?.(data);
  };
  const read = async (body) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split('\n\n');
      rest = events.pop();
      events.forEach(take);
    }
  };
  const open = async () => {
    close();
    if (ended || document.hidden || signal.aborted) return;
    const mine = new AbortController();
    reading = mine;
    try {
      const headers = { Accept: 'text/event-stream', ...(last !== undefined && { 'Last-Event-ID': last }) };
      const answer = await fetch(`api/${where}`, { cache: 'no-store', headers, signal: mine.signal });
      reached.tell(true);
      if (answer.status === 204) ended = true;
      else if (answer.ok) {
        state(true);
        await read(answer.body);
      } else if (answer.status < 500) {
        const why = await answer.json().catch(() => ({}));
        // Nobody wants to know any more.
        if (mine.signal.aborted) return;
        end();
        refused(new Refused(answer.status, why));
      }
    } catch {
      // It broke: it is opened again below, unless it was closed from here.
    }
    if (mine.signal.aborted || ended) return;
    state(false);
    again = setTimeout(open, AGAIN_MS);
  };
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()), { signal });
  signal.addEventListener('abort', end);
  open();
  return end;
};
