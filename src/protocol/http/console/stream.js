// The one connection of a page over which events come. It is closed while the page is hidden, and goes on where it was.

import { query, reached } from './api.js';

// `where` is a path of the API, `parameters` its query; `heard` has a function for each kind of event. `resume(id)` makes the
// parameters with which to go on after an event's id. `probe` asks the same plainly, for what an EventSource does not tell: why
// it was refused.
export const stream = (where, parameters, heard, { resume, probe, state = () => {}, refused = () => {}, signal }) => {
  let source;
  let last;
  let again;
  let ended = false;
  const close = () => {
    clearTimeout(again);
    source?.close();
    source = undefined;
  };
  const open = () => {
    close();
    if (ended || document.hidden || signal.aborted) return;
    const from = last !== undefined ? { ...parameters, ...resume(last) } : parameters;
    source = new EventSource(`api/${where}${query(from)}`);
    const mine = source;
    for (const [kind, hear] of Object.entries(heard)) {
      source.addEventListener(kind, (event) => {
        if (event.lastEventId && event.lastEventId !== 'end') last = event.lastEventId;
        if (kind === 'end') end();
        hear(event.data, event.lastEventId);
      });
    }
    source.onopen = () => (reached.tell(true), state(true));
    source.onerror = async () => {
      state(false);
      if (mine.readyState !== EventSource.CLOSED || ended || mine !== source) return;
      // The browser gave up.
      close();
      try {
        await probe?.(from);
      } catch (error) {
        if (error.status && error.status < 500) {
          end();
          refused(error);
          return;
        }
      }
      again = setTimeout(open, 2000);
    };
  };
  const end = () => {
    ended = true;
    close();
  };
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()), { signal });
  signal.addEventListener('abort', end);
  open();
  return end;
};

// The positions after the offsets that an id names: `0:17,1:4` read on is `0:18,1:5`.
export const after = (id) => id.split(',').map((one) => one.split(':')).map(([partition, offset]) => `${partition}:${Number(offset) + 1}`).join(',');
