// The objects of the Conekta stand-in, how they are shown, and its errors.
//
// Orders, charges, refunds, customers and payment sources are kept apart (so a test can count them) and put
// together when they are shown: in an answer, in an event, in the control API.

import { randomBytes } from 'node:crypto';
import { HttpError } from '../../core/json_provider.js';
import { HIDDEN, Store, randomText } from '../stripe/store.js';

export { HIDDEN };
export const MEDIA_TYPE = 'application/vnd.conekta-v2.3.0+json';

// ---- errors ----

const failure = (status, type, code, message, param) =>
  new HttpError(status, message, { type, details: [{ code: `conekta.errors.${code}`, message, debug_message: message, ...(param && { param }) }] });

export const invalid = (message, param, code = 'invalid') => failure(422, 'parameter_validation_error', `parameter_validation.${code}`, message, param);
export const missing = (what, id) => failure(404, 'resource_not_found_error', 'resource_not_found.entity', `The object ${what} "${id}" could not be found.`);
export const precondition = (message, code = 'state') => failure(428, 'precondition_required_error', `precondition_required.${code}`, message);
export const unprocessed = (code, message) => failure(402, 'processing_error', `processing.${code}`, message);
export const unauthorized = (code, message) => failure(401, 'authentication_error', `authentication.${code}`, message);
export const other = (status, type, code, message) => failure(status, type, code, message);

// ---- ids ----

export const objectId = () => randomBytes(12).toString('hex');
export const newId = (prefix) => `${prefix}_2${randomText(16)}`;

// Eighteen digits that begin like STP's, with the control digit of a CLABE.
export function newClabe() {
  const digits = `646180${String(randomBytes(6).readUIntBE(0, 6) % 1e11).padStart(11, '0')}`;
  const weights = [3, 7, 1];
  const sum = [...digits].reduce((total, digit, i) => total + ((Number(digit) * weights[i % 3]) % 10), 0);
  return `${digits}${(10 - (sum % 10)) % 10}`;
}

export const newReference = () => `9${String(randomBytes(6).readUIntBE(0, 6) % 1e13).padStart(13, '0')}`;

// ---- lists ----

export const list = (data) => ({ object: 'list', has_more: false, total: data.length, data });

const texts = (object) => [
  object.id, object.email, object.name, object.phone, object.custom_reference, object.reference_id, object.url, object.customer_info?.email,
  object.customer_info?.name, object.customer_info?.customer_id, ...Object.values(object.metadata ?? {}), ...(object.charges?.data ?? []).map((c) => c.reference_id),
];

const found = (object, search) => texts(object).some((text) => text !== null && text !== undefined && String(text).toLowerCase().includes(search.toLowerCase()));

// Newest first, by cursor; the URLs of the next and the previous page are whole, as the provider's are.
export function page(objects, query, { base, path }) {
  const limit = query.limit === undefined ? 20 : Number(query.limit);
  if (!(limit >= 1 && limit <= 250)) throw invalid('limit must be between 1 and 250', 'limit', 'limit.out_of_range');
  const all = query.search === undefined || query.search === '' ? objects : objects.filter((o) => found(o, String(query.search)));
  const place = (id) => {
    const at = all.findIndex((o) => o.id === id);
    if (at < 0) throw invalid(`The cursor ${id} is unknown`, 'next', 'cursor.unknown');
    return at;
  };
  const start = query.next !== undefined ? place(query.next) + 1 : query.previous !== undefined ? Math.max(0, place(query.previous) - limit) : 0;
  const end = query.previous !== undefined && query.next === undefined ? place(query.previous) : start + limit;
  const data = all.slice(start, end);
  const url = (name, id) => {
    const parameters = new URLSearchParams({ limit: String(limit), ...(query.search && { search: query.search }), [name]: id });
    return `${base}${path}?${parameters}`;
  };
  return {
    object: 'list', has_more: end < all.length, total: all.length, data,
    next_page_url: end < all.length && data.length > 0 ? url('next', data.at(-1).id) : null,
    previous_page_url: start > 0 && data.length > 0 ? url('previous', data[0].id) : null,
  };
}

// ---- the store ----

export class ConektaStore extends Store {
  views = {};

  show(object) {
    const view = object && this.views[object.object];
    return view ? view(object) : object;
  }

  all(kind) {
    return super.all(kind).map((object) => this.show(object));
  }

  // The objects of a list, as they are shown, without those that a search index does not have yet.
  newest(kind, lag = 0) {
    const until = Date.now() - lag;
    return [...this.newestFirst(kind)].filter((o) => lag === 0 || this.touchedAt(kind, o.id) <= until).map((o) => this.show(o));
  }

  get(kind, id, what) {
    const object = this.find(kind, id);
    if (!object || object.deleted) throw missing(what, id);
    return object;
  }

  emit(type, object, previous) {
    this.publish({ id: objectId(), type, created: this.clock.now(), object: structuredClone(this.show(object)), previous: previous ?? {} });
  }
}

export function mergeMetadata(old, given) {
  const merged = { ...old };
  for (const [key, value] of Object.entries(given ?? {})) {
    if (value === null || value === '') delete merged[key];
    else merged[key] = value;
  }
  return merged;
}

// The fields of a request that are there, out of those that a call takes.
export const pick = (body, names) => Object.fromEntries(names.filter((name) => body[name] !== undefined).map((name) => [name, body[name]]));
