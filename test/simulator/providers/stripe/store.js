// The objects of the Stripe stand-in and the events that tell of them.
//
// Objects are never changed in place: a change makes a new object and puts it where the old one was. So an
// event can keep the very object it is about, without copying it, and a log of 100,000 customers stays small.

import { randomFillSync } from 'node:crypto';

export const API_VERSION = '2026-10-28.endive';

export class StripeError extends Error {
  constructor(status, type, message, extra = {}) {
    super(message);
    this.status = status;
    this.body = { error: { type, message, ...extra } };
  }
}

export const invalid = (message, param, code) => new StripeError(400, 'invalid_request_error', message, { ...(code && { code }), ...(param && { param }) });

export const missing = (what, id, param = 'id') =>
  new StripeError(404, 'invalid_request_error', `No such ${what}: '${id}'`, { code: 'resource_missing', param });

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const pool = Buffer.alloc(8192);
let poolAt = pool.length;

export function randomText(length) {
  if (poolAt + length > pool.length) {
    randomFillSync(pool);
    poolAt = 0;
  }
  let text = '';
  for (let i = 0; i < length; i++) text += LETTERS[pool[poolAt++] % 62];
  return text;
}

// Customers and products have 14 characters, all that came later has "1", then 23.
const LONG = new Set(['pm', 'pi', 'ch', 'seti', 'sub', 'in', 'price', 'evt', 'we', 'inpay', 'il', 'ii', 'txn', 'bps', 'plink', 'du', 're', 'di', 'li']);
export const newId = (prefix) => `${prefix}_${LONG.has(prefix) ? '1' + randomText(23) : randomText(14)}`;

// What the simulator must remember about an object but a provider would not show. A symbol survives the
// copies that a change makes and is left out of JSON.
export const HIDDEN = Symbol('hidden');

const isHash = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);

// data.previous_attributes: the old values of what changed, down to the names inside a hash.
export function previousAttributes(before, after) {
  let changed = null;
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const a = before[name];
    const b = after[name];
    if (a === b) continue;
    if (isHash(a) && isHash(b)) {
      const inner = previousAttributes(a, b);
      if (inner) (changed ??= {})[name] = inner;
    } else if (JSON.stringify(a) !== JSON.stringify(b)) {
      (changed ??= {})[name] = a === undefined ? null : a;
    }
  }
  return changed;
}

export class Store {
  constructor(clock, publish) {
    this.clock = clock;
    this.publish = publish;
    this.reset();
  }

  reset() {
    this.kinds = new Map();
    this.timers = [];
    this.request = null;
    this.counters = { invoice: 0 };
  }

  #kind(kind) {
    let found = this.kinds.get(kind);
    if (!found) this.kinds.set(kind, (found = { byId: new Map(), order: [], touched: new Map() }));
    return found;
  }

  insert(kind, object) {
    const k = this.#kind(kind);
    k.byId.set(object.id, object);
    k.order.push(object.id);
    k.touched.set(object.id, Date.now());
    return object;
  }

  find(kind, id) {
    return this.kinds.get(kind)?.byId.get(id);
  }

  replace(kind, object) {
    const k = this.#kind(kind);
    k.byId.set(object.id, object);
    k.touched.set(object.id, Date.now());
    return object;
  }

  touchedAt(kind, id) {
    return this.kinds.get(kind)?.touched.get(id) ?? 0;
  }

  // Newest first, without what was deleted.
  *newestFirst(kind) {
    const k = this.kinds.get(kind);
    if (!k) return;
    for (let i = k.order.length - 1; i >= 0; i--) {
      const object = k.byId.get(k.order[i]);
      if (object && !object.deleted) yield object;
    }
  }

  all(kind) {
    return [...(this.kinds.get(kind)?.byId.values() ?? [])];
  }

  counts() {
    const counts = {};
    for (const [kind, { byId }] of this.kinds) {
      let n = 0;
      for (const object of byId.values()) if (!object.deleted) n++;
      counts[kind] = n;
    }
    return counts;
  }

  // What is to happen when the clock gets there; it has to look whether it still applies.
  later(seconds, run) {
    this.timers.push({ at: this.clock.now() + seconds, run });
  }

  // The earliest that is due by then, taken off the list.
  takeDue(target) {
    let best = -1;
    this.timers.forEach(({ at }, i) => {
      if (at <= target && (best < 0 || at < this.timers[best].at)) best = i;
    });
    return best < 0 ? null : this.timers.splice(best, 1)[0];
  }

  nextDue() {
    return this.timers.reduce((first, { at }) => Math.min(first, at), Infinity);
  }

  emit(type, object, previous) {
    this.publish({ id: newId('evt'), type, created: this.clock.now(), object, previous: previous ?? null, request: this.request });
  }

  // Writes the new state and, if anything visible changed, tells of it; extra events share the object.
  change(kind, id, changes, eventType) {
    const before = this.find(kind, id);
    const after = { ...before, ...changes };
    const previous = previousAttributes(before, after);
    this.replace(kind, after);
    if (previous && eventType) this.emit(eventType, after, previous);
    return after;
  }

  add(kind, object, eventType) {
    this.insert(kind, object);
    if (eventType) this.emit(eventType, object);
    return object;
  }
}

// An object with the given fields set from a request: '' clears (null), metadata is merged key by key.
export function applyFields(object, params, names) {
  const changes = {};
  for (const name of names) {
    if (params[name] !== undefined) changes[name] = params[name] === '' ? null : params[name];
  }
  if (params.metadata !== undefined) changes.metadata = mergeMetadata(object.metadata ?? {}, params.metadata);
  return changes;
}

export function mergeMetadata(old, given) {
  if (given === '' || given === undefined) return {};
  const merged = { ...old };
  for (const [key, value] of Object.entries(given)) {
    if (value === '') delete merged[key];
    else merged[key] = value;
  }
  checkMetadata(merged);
  return merged;
}

function checkMetadata(metadata) {
  const keys = Object.keys(metadata);
  if (keys.length > 50) throw invalid('You can only set 50 metadata keys at a time', 'metadata');
  for (const key of keys) {
    if ([...key].length > 40) throw invalid(`Metadata keys can be up to 40 characters; the key '${key}' is longer`, `metadata[${key}]`);
    if ([...String(metadata[key])].length > 500) throw invalid(`Metadata values can have up to 500 characters`, `metadata[${key}]`);
  }
}

export const int = (value, otherwise) => (value === undefined || value === '' ? otherwise : Number(value));
export const bool = (value, otherwise) => (value === undefined ? otherwise : value === true || value === 'true');

export const address = (given) =>
  given ? { city: null, country: null, line1: null, line2: null, postal_code: null, state: null, ...given } : null;
