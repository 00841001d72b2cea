// Stripe's idempotency keys: the first answer of a key is kept and replayed, whatever its status, and a key
// whose first request is still being answered is refused. What is kept is the exact text of the answer.
//
//   begin()  -> 'new' | 'replay' (with the record) | 'in_flight' | 'mismatch'
//   finish() -> keeps the answer; abandon() -> as if the key had never been seen (a failed validation,
//               a 409 or a 429 stores nothing).

export class IdempotencyKeys {
  #records = new Map();

  reset() {
    this.#records.clear();
  }

  get size() {
    return this.#records.size;
  }

  begin(key, fingerprint) {
    const record = this.#records.get(key);
    if (!record) {
      this.#records.set(key, { fingerprint, answer: null, uses: 1 });
      return { outcome: 'new' };
    }
    record.uses++;
    if (record.fingerprint !== fingerprint) return { outcome: 'mismatch' };
    return record.answer && !record.held ? { outcome: 'replay', answer: record.answer } : { outcome: 'in_flight' };
  }

  finish(key, answer) {
    const record = this.#records.get(key);
    if (record) record.answer = { status: answer.status, body: answer.body, headers: answer.headers };
  }

  // While the answer is on its way (latency, a delay fault) the key counts as in flight.
  hold(key, held) {
    const record = this.#records.get(key);
    if (record) record.held = held;
  }

  abandon(key) {
    this.#records.delete(key);
  }

  // Keys older than a provider keeps them are forgotten; a test says so instead of waiting for a day.
  forgetAll() {
    for (const [key, record] of this.#records) if (record.answer) this.#records.delete(key);
  }

  list() {
    return [...this.#records].map(([key, r]) => ({ key, uses: r.uses, status: r.answer?.status ?? null, in_flight: !r.answer || r.held === true }));
  }
}
