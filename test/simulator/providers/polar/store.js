// The objects of the Polar stand-in, how they are shown, and its errors.
//
// An object is kept without what it refers to (an order without its customer, product and subscription);
// that is put in when it is shown: in an answer, in an event, in the control API. Times are RFC 3339 with
// microseconds, and no two of the simulator are equal.

import { randomUUID } from 'node:crypto';
import { HttpError } from '../../core/json_provider.js';
import { HIDDEN, Store, randomText } from '../stripe/store.js';

export { HIDDEN, randomText };
export const newId = () => randomUUID();
export const VERSION = '2026-10';
export const ORGANIZATION = '6f0f5a5b-5c5d-4e5f-8061-626364656667';

// ---- errors ----

export const refused = (status, error, detail) => new HttpError(status, detail, { error });
export const missing = (what = 'Not found') => refused(404, 'ResourceNotFound', what);

export const invalid = (where, message, type = 'value_error') =>
  new HttpError(422, message, { error: 'RequestValidationError', list: [{ loc: where, msg: message, type }] });

export const invalidBody = (name, message) => invalid(['body', ...String(name).split('.')], message);

// ---- times ----

export const iso = (seconds, micros = 0) => `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(micros).padStart(6, '0')}Z`;

export const seconds = (text) => Math.floor(Date.parse(text) / 1000);

// ---- pages ----

// Newest first, unless the query names a member to sort by; "-" before it turns the order around.
function sorted(items, [order = '-created_at'] = []) {
  const name = order.replace(/^-/, '');
  const up = [...items].reverse().sort((a, b) => (a[name] === b[name] ? 0 : a[name] === null || a[name] < b[name] ? -1 : 1));
  return order === '-created_at' ? items : order.startsWith('-') ? up.reverse() : up;
}

export function page(all, { page: number = 1, limit = 10, sorting }) {
  const items = sorted(all, sorting);
  if (!(number >= 1)) throw invalid(['query', 'page'], 'Input should be greater than 0');
  if (!(limit >= 1 && limit <= 100)) throw invalid(['query', 'limit'], 'Input should be from 1 to 100');
  return { items: items.slice((number - 1) * limit, number * limit), pagination: { total_count: items.length, max_page: Math.ceil(items.length / limit) } };
}

// A filter of a list holds when the value is the one given, or one of those given.
export const holds = (wanted, value) => wanted === undefined || wanted === null || [wanted].flat().some((w) => String(w) === String(value));

export const holdsMetadata = (wanted, metadata) => Object.entries(wanted ?? {}).every(([key, value]) => holds(value, metadata?.[key]));

// ---- the store ----

const KIND = Symbol('kind');
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export class PolarStore extends Store {
  views = {};

  // The present time; a microsecond later than the last one that was asked for within a second.
  stamp() {
    const now = this.clock.now();
    const micros = this.clock.frozen ? 0 : (Date.now() % 1000) * 1000;
    this.last = this.last?.now === now ? { now, micros: Math.max(this.last.micros + 1, micros) } : { now, micros };
    return iso(now, this.last.micros);
  }

  show(object) {
    const view = object && this.views[object[KIND]];
    return view ? view(object) : object;
  }

  all(kind) {
    return super.all(kind).map((object) => this.show(object));
  }

  newest(kind) {
    return [...this.newestFirst(kind)].map((object) => this.show(object));
  }

  create(kind, fields) {
    return this.insert(kind, { id: newId(), created_at: this.stamp(), modified_at: null, ...fields, [KIND]: kind });
  }

  // By the id in a path: 404; by an id in a body: 422 of that member.
  get(kind, id) {
    if (!UUID.test(id)) throw invalid(['path', 'id'], 'Input should be a valid UUID', 'uuid_parsing');
    const object = this.find(kind, id);
    if (!object || object.deleted) throw missing();
    return object;
  }

  named(kind, id, name) {
    const object = UUID.test(id) ? this.find(kind, id) : undefined;
    if (!object || object.deleted) throw invalidBody(name, `${name.replace(/_id$/, '')} does not exist.`);
    return object;
  }

  set(kind, id, changes) {
    return this.change(kind, id, { ...changes, modified_at: this.stamp() });
  }

  change(kind, id, changes, eventType) {
    const after = this.replace(kind, { ...this.find(kind, id), ...changes });
    if (eventType) this.emit(eventType, after);
    return after;
  }

  emit(type, object) {
    const timestamp = this.stamp();
    this.publish({ id: newId(), type, created: this.clock.now(), timestamp, object: structuredClone(this.show(object)) });
  }
}

// The fields of a request that are there, out of those that a call takes.
export const pick = (body, names) => Object.fromEntries(names.filter((name) => body[name] !== undefined).map((name) => [name, body[name]]));

export function checkMetadata(metadata = {}) {
  const keys = Object.keys(metadata);
  if (keys.length > 50) throw invalidBody('metadata', 'Dictionary should have at most 50 items');
  for (const key of keys) {
    if (key.length > 40) throw invalidBody(`metadata.${key}`, 'String should have at most 40 characters');
    const value = metadata[key];
    if (!['string', 'number', 'boolean'].includes(typeof value)) throw invalidBody(`metadata.${key}`, 'Input should be a string, a number or a boolean');
    if (typeof value === 'string' && (value === '' || value.length > 500)) throw invalidBody(`metadata.${key}`, 'String should have 1 to 500 characters');
  }
  return { ...metadata };
}
