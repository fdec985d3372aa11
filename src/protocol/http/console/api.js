// The broker's API, relative to the page, so that it works behind a proxy's path.

// A path whose parts are encoded: path`topics/${name}`.
export const path = (texts, ...parts) => texts.reduce((whole, text, n) => whole + encodeURIComponent(parts[n - 1]) + text);

export const query = (parameters) => {
  const wanted = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return wanted.length ? `?${new URLSearchParams(wanted)}` : '';
};

// What was asked for was not done: the broker says why, or did not answer (status 0).
export class Refused extends Error {
  constructor(status, { error, message }) {
    super(message ?? error ?? `the broker answered ${status}`);
    Object.assign(this, { status, error });
  }
}

// Whether the broker answers, for the line in the page's head.
export const reached = { tell: () => {} };

const ask = async (address, options) => {
  let [answer, told] = [];
  try {
    answer = await fetch(address, { cache: 'no-store', ...options });
    told = await answer.text();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    reached.tell(false);
    throw new Refused(0, { message: 'the broker does not answer' });
  }
  reached.tell(true);
  let body;
  try {
    body = JSON.parse(told);
  } catch {
    // Not the broker's: somebody between answered.
    throw new Refused(answer.ok ? 0 : answer.status, { message: `what came is no answer of a broker (${answer.status})` });
  }
  // 422 tells record by record what was refused.
  if (!answer.ok && answer.status !== 422) throw new Refused(answer.status, body);
  return body;
};

export const get = (where, signal) => ask(`api/${where}`, { signal });
export const send = (method, where, body) => ask(`api/${where}`, {
  method,
  headers: { 'Content-Type': 'application/json' },
  body: body === undefined ? undefined : JSON.stringify(body),
});
