// What arrived: the request log and the violations. Both are bounded, because a load test sends hundreds
// of thousands of requests; the totals are counted even when the log is off.

export class RequestLog {
  constructor() {
    this.reset();
  }

  reset() {
    this.enabled = true;
    this.limit = 10000;
    this.clear();
  }

  clear() {
    this.seq = 0;
    this.entries = [];
    this.totals = { requests: 0, by_status: {}, by_operation: {}, replayed: 0 };
    this.violations = [];
    this.violationCount = 0;
  }

  // One entry per request, made on arrival and completed by answered(); the object is shared, so a
  // request that never gets its answer is in the log all the same.
  arrived(entry) {
    entry.seq = ++this.seq;
    this.totals.requests++;
    if (this.enabled) {
      this.entries.push(entry);
      if (this.entries.length > this.limit * 1.25) this.entries.splice(0, this.entries.length - this.limit);
    }
    return entry;
  }

  answered(entry, status, at) {
    entry.status = status;
    entry.answered_at = at;
    this.totals.by_status[status] = (this.totals.by_status[status] ?? 0) + 1;
    const operation = `${entry.method} ${entry.operation ?? entry.path.split('?')[0]}`;
    if (entry.operation || this.totals.by_operation[operation] || Object.keys(this.totals.by_operation).length < 500) {
      this.totals.by_operation[operation] = (this.totals.by_operation[operation] ?? 0) + 1;
    }
    if (entry.replayed) this.totals.replayed++;
  }

  violation(entry, kind, message, param) {
    const violation = { seq: entry.seq, provider: entry.provider, method: entry.method, path: entry.path, kind, message, ...(param && { param }) };
    this.violationCount++;
    if (this.violations.length < 1000) this.violations.push(violation);
    entry.violations.push({ kind, message, ...(param && { param }) });
  }

  select({ after = 0, limit = 1000, method, path, provider, status, key }) {
    const pattern = path && new RegExp(path);
    const chosen = this.entries.filter(
      (e) =>
        e.seq > after &&
        (!method || e.method === method) &&
        (!pattern || pattern.test(e.path)) &&
        (!provider || e.provider === provider) &&
        (!status || String(e.status) === status) &&
        (!key || e.idempotency_key === key),
    );
    return chosen.slice(0, limit);
  }
}
