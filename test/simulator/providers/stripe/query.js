// Lists, searches and expansion: the parts of an answer that read many objects.

import { invalid, int, missing } from './store.js';

function inRange(value, range) {
  if (range === undefined) return true;
  if (typeof range !== 'object') return value === Number(range);
  return (
    (range.gt === undefined || value > Number(range.gt)) &&
    (range.gte === undefined || value >= Number(range.gte)) &&
    (range.lt === undefined || value < Number(range.lt)) &&
    (range.lte === undefined || value <= Number(range.lte))
  );
}

function pageSize(params) {
  const limit = int(params.limit, 10);
  if (limit < 1 || limit > 100) throw invalid('Invalid integer: limit must be between 1 and 100', 'limit');
  return limit;
}

// Newest first, by cursor. The filter says which objects belong to the list at all.
export function list(store, kind, params, url, filter = () => true) {
  const limit = pageSize(params);
  const cursor = params.starting_after ?? params.ending_before;
  if (cursor !== undefined && !store.find(kind, cursor)) throw missing(kind.replace(/s$/, ''), cursor, params.starting_after ? 'starting_after' : 'ending_before');
  const data = [];
  let more = false;
  let started = params.starting_after === undefined;
  for (const object of store.newestFirst(kind)) {
    if (!filter(object) || !inRange(object.created, params.created)) {
      if (object.id === cursor && !started) started = true;
      continue;
    }
    if (object.id === params.ending_before) break;
    if (!started) {
      started = object.id === params.starting_after;
      continue;
    }
    data.push(object);
    if (data.length > limit) {
      more = true;
      if (params.ending_before === undefined) {
        data.pop();
        break;
      }
      data.shift();
    }
  }
  return { object: 'list', data, has_more: more, url };
}

const CLAUSE = /\s*(-?)([a-z_]+)(?:\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*\])?\s*(:|~|>=|<=|>|<)\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(null|-?\d+))\s*/y;
const unquote = (text) => text?.replace(/\\(.)/g, '$1');

// Stripe's search language, as far as it is documented: field:'exact', field~'part', metadata['k']:'v',
// numbers with <, >, -clause for not, and either AND or OR between clauses, never both.
export function parseSearch(query) {
  const clauses = [];
  let joint = null;
  let at = 0;
  while (at < query.length) {
    CLAUSE.lastIndex = at;
    const m = CLAUSE.exec(query);
    if (!m) throw invalid(`We were unable to parse your search query at: ${query.slice(at)}`, 'query');
    clauses.push({ not: m[1] === '-', field: m[2], key: unquote(m[3] ?? m[4]), op: m[5], value: unquote(m[6] ?? m[7]) ?? m[8] });
    at = CLAUSE.lastIndex;
    if (at >= query.length) break;
    const word = /(AND|OR)\s+/iy;
    word.lastIndex = at;
    const w = word.exec(query);
    const next = w ? w[1].toUpperCase() : 'AND';
    if (joint && joint !== next) throw invalid('AND and OR cannot be combined in one query', 'query');
    joint = next;
    if (w) at = word.lastIndex;
  }
  if (clauses.length === 0) throw invalid('The search query is empty', 'query');
  return { clauses, any: joint === 'OR' };
}

function holds(clause, object) {
  const field = object[clause.field];
  const actual = clause.key === undefined ? field : field?.[clause.key];
  const compare = () => {
    if (clause.value === 'null') return actual === null || actual === undefined;
    if (actual === null || actual === undefined) return false;
    switch (clause.op) {
      case ':':
        return String(actual).toLowerCase() === clause.value.toLowerCase();
      case '~':
        return String(actual).toLowerCase().includes(clause.value.toLowerCase());
      case '>':
        return actual > Number(clause.value);
      case '<':
        return actual < Number(clause.value);
      case '>=':
        return actual >= Number(clause.value);
      default:
        return actual <= Number(clause.value);
    }
  };
  return compare() !== clause.not;
}

// The real index lags behind; `lag` milliseconds make a fresh object invisible to searches for that long.
export function search(store, kind, params, url, lag) {
  const limit = pageSize(params);
  const { clauses, any } = parseSearch(String(params.query ?? ''));
  const from = params.page === undefined ? 0 : Number(params.page);
  const newest = Date.now() - lag;
  const hits = [];
  for (const object of store.newestFirst(kind)) {
    if (lag > 0 && store.touchedAt(kind, object.id) > newest) continue;
    if (any ? clauses.some((c) => holds(c, object)) : clauses.every((c) => holds(c, object))) hits.push(object);
  }
  const data = hits.slice(from, from + limit);
  const more = hits.length > from + limit;
  return { object: 'search_result', data, has_more: more, next_page: more ? String(from + limit) : null, url };
}

const KIND_OF_PREFIX = {
  cus: 'customers', pm: 'payment_methods', pi: 'payment_intents', ch: 'charges', seti: 'setup_intents', sub: 'subscriptions',
  in: 'invoices', inpay: 'invoice_payments', price: 'prices', prod: 'products', re: 'refunds', du: 'disputes', cs: 'checkout_sessions', plink: 'payment_links',
  txn: 'balance_transactions',
};

function expandPath(store, value, path, includable) {
  if (path.length === 0 || value === null || value === undefined) return value;
  if (Array.isArray(value)) return value.map((item) => expandPath(store, item, path, includable));
  const [name, ...rest] = path;
  let inner = value[name];
  if (inner === undefined) inner = includable(value, name);
  if (inner === undefined) throw invalid(`This property cannot be expanded (${name}).`, 'expand');
  if (typeof inner === 'string') {
    const kind = KIND_OF_PREFIX[inner.slice(0, inner.indexOf('_'))] ?? (name === 'product' ? 'products' : undefined);
    const object = kind && store.find(kind, inner);
    if (!object) throw invalid(`This property cannot be expanded (${name}).`, 'expand');
    inner = object;
  }
  return { ...value, [name]: expandPath(store, inner, rest, includable) };
}

// expand[]=latest_invoice.payments: ids become objects, and fields that are only sent when asked for appear.
export function expand(store, object, paths, includable) {
  let result = object;
  for (const path of paths) {
    const steps = path.split('.');
    if (steps.length > 4 + (steps[0] === 'data' ? 1 : 0)) throw invalid('You cannot expand more than 4 levels of a property', 'expand');
    result = expandPath(store, result, steps, includable);
  }
  return result;
}
