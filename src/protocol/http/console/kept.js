// What came over a stream and is kept: so many, and so much of it, the oldest going first. JSON is read when it is first seen.

const letters = (texts) => texts.reduce((sum, one) => sum + (one?.base64 ?? one ?? '').length, 0);
const sizeOf = (item) => (typeof item === 'string' ? item.length
  : 200 + letters([item.value ?? item.value_base64, item.key ?? item.key_base64]) + (item.headers ?? []).reduce((sum, header) => sum + 50 + letters(header), 0));

export class Kept {
  #kept = [];
  #letters = 0;
  newestFirst = false;

  constructor(most, letters) {
    Object.assign(this, { most, letters });
  }

  get size() {
    return this.#kept.length;
  }

  get isFull() {
    return this.#kept.length >= this.most || this.#letters >= this.letters;
  }

  at(n) {
    const entry = this.#kept[this.newestFirst ? this.#kept.length - 1 - n : n];
    if (typeof entry.item === 'string') entry.item = JSON.parse(entry.item);
    return entry.item;
  }

  #entries(items) {
    const entries = items.map((item) => ({ item, size: sizeOf(item) }));
    for (const { size } of entries) this.#letters += size;
    return entries;
  }

  // Adds what is newer than all; returns how many of the oldest went.
  append(items) {
    this.extend(items);
    let gone = 0;
    while (this.#kept.length - gone > this.most || (this.#letters > this.letters && gone < this.#kept.length - 1)) this.#letters -= this.#kept[gone++].size;
    this.#kept.splice(0, gone);
    return gone;
  }

  // Adds what is newer than all, though nothing goes: for who asks first whether there is room.
  extend(items) {
    for (const entry of this.#entries(items)) this.#kept.push(entry);
  }

  // Adds what is older than all.
  prepend(items) {
    this.#kept = [...this.#entries(items), ...this.#kept];
  }

  clear() {
    this.#kept = [];
    this.#letters = 0;
  }
}
