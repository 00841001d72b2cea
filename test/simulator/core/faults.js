// Faults: what goes wrong on the way, queued by a test and matched against requests.
//
//   {match: {provider, method, path, body, idempotency_key}, action, times, after, probability, ...}
//
// path, body and idempotency_key are regular expressions. A fault is used `times` times (0: always), after
// letting `after` matching requests pass. The first fault in the queue that matches is taken.

const ACTIONS = new Set([
  'delay', 'drop_before', 'drop_after', 'status', 'hang', 'malformed_body', 'huge_body', 'malformed_status', 'redirect',
  'not_utf8', 'slow_loris', 'truncate',
]);

// With these the call is carried out although the client gets no (good) answer, unless `perform` says no.
const PERFORMED = new Set(['delay', 'drop_after', 'malformed_body', 'huge_body', 'malformed_status', 'not_utf8', 'slow_loris', 'truncate']);

// A small seeded generator: a run with probabilities can be repeated from its seed.
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class Faults {
  constructor() {
    this.reset(1);
  }

  reset(seed = 1) {
    this.queue = [];
    this.used = 0;
    this.nextId = 1;
    this.random = generator(seed);
  }

  add(given) {
    if (!ACTIONS.has(given.action)) throw new Error(`unknown action ${given.action}; known are ${[...ACTIONS].join(', ')}`);
    if (given.action === 'status' && !(given.status >= 200 && given.status <= 599)) throw new Error('action status needs a status from 200 to 599');
    const match = given.match ?? {};
    const pattern = (text) => (text === undefined ? null : new RegExp(text));
    const fault = {
      ...given,
      id: this.nextId++,
      times: given.times ?? 1,
      after: given.after ?? 0,
      perform: given.perform ?? PERFORMED.has(given.action),
      used: 0,
      tests: { path: pattern(match.path), body: pattern(match.body), key: pattern(match.idempotency_key) },
      match,
    };
    this.queue.push(fault);
    return fault.id;
  }

  clear(id) {
    this.queue = id === undefined ? [] : this.queue.filter((f) => f.id !== id);
  }

  list() {
    return this.queue.map(({ tests, ...fault }) => fault);
  }

  take(request) {
    if (this.queue.length === 0) return null;
    for (const fault of this.queue) {
      if (!this.#matches(fault, request)) continue;
      if (fault.after > 0) {
        fault.after--;
        continue;
      }
      if (fault.probability !== undefined && this.random() >= fault.probability) continue;
      fault.used++;
      this.used++;
      if (fault.times > 0 && fault.used >= fault.times) this.clear(fault.id);
      return fault;
    }
    return null;
  }

  #matches({ match, tests }, request) {
    return (
      (!match.method || match.method === request.method) &&
      (!match.provider || match.provider === request.provider) &&
      (!tests.path || tests.path.test(request.path)) &&
      (!tests.body || tests.body.test(request.body)) &&
      (!tests.key || tests.key.test(request.headers['idempotency-key'] ?? ''))
    );
  }
}
