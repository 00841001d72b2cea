// The events of all providers in one numbered list, and their delivery.
//
// pull: a test fetches bodies and headers from the control API and hands them to SQL itself.
// push: each event is posted to a URL, if wished late, twice, or in another order.

const MAX_KEPT = 500000;

export class Webhooks {
  constructor(clock) {
    this.clock = clock;
    this.reset();
  }

  reset() {
    this.seq = 0;
    this.events = [];
    this.secrets = { stripe: ['whsec_simulator_test_secret'] };
    this.config = { mode: 'pull', url: null, delay_ms: 0, times: 1, order: 'in_order', types: null, retries: 0, retry_ms: 200 };
    this.waiting = [];
    this.deliveries = [];
    this.inFlight = 0;
    clearTimeout(this.timer);
    this.timer = null;
  }

  publish(provider, event) {
    event.seq = ++this.seq;
    event.provider = provider;
    this.events.push(event);
    if (this.events.length > MAX_KEPT * 1.1) this.events.splice(0, this.events.length - MAX_KEPT);
    provider.register(event);
    if (this.config.mode !== 'push' || !this.#wanted(event.type)) return;
    this.waiting.push(event);
    this.timer ??= setTimeout(() => this.flush(), this.config.delay_ms);
  }

  #wanted(type) {
    return !this.config.types || this.config.types.includes(type);
  }

  // What a receiver would get for this event at this moment: exact text and headers.
  signed(event, { secrets, timestamp } = {}) {
    const { provider } = event;
    const body = provider.eventBody(event);
    const headers = provider.eventHeaders(event, body, secrets ?? this.secrets[provider.name] ?? [], timestamp ?? Math.floor(Date.now() / 1000));
    return { seq: event.seq, id: event.id, type: event.type, provider: provider.name, created: event.created, body, headers };
  }

  select({ after = 0, limit = 10000, type, provider }) {
    const first = this.events[0]?.seq ?? 1;
    const chosen = [];
    for (let i = Math.max(0, after + 1 - first); i < this.events.length && chosen.length < limit; i++) {
      const event = this.events[i];
      if (type && !(type.endsWith('*') ? event.type.startsWith(type.slice(0, -1)) : event.type === type)) continue;
      if (provider && event.provider.name !== provider) continue;
      chosen.push(event);
    }
    return chosen;
  }

  arrange(events, order, times = 1) {
    const repeated = events.flatMap((e) => Array(times).fill(e));
    if (order === 'reverse') repeated.reverse();
    if (order === 'odd_even') return [...repeated.filter((_, i) => i % 2), ...repeated.filter((_, i) => i % 2 === 0)];
    return repeated;
  }

  // Sends what is waiting, one after the other, as one receiver would see it.
  async flush() {
    clearTimeout(this.timer);
    this.timer = null;
    const batch = this.arrange(this.waiting.splice(0), this.config.order, this.config.times);
    this.inFlight += batch.length;
    for (const event of batch) {
      await this.#deliver(event);
      this.inFlight--;
    }
  }

  async #deliver(event) {
    for (let attempt = 1; attempt <= this.config.retries + 1; attempt++) {
      const { body, headers, id, type } = this.signed(event);
      const delivery = { id, type, attempt, status: null };
      try {
        const answer = await fetch(this.config.url, { method: 'POST', headers, body, redirect: 'manual', signal: AbortSignal.timeout(10000) });
        delivery.status = answer.status;
        await answer.arrayBuffer();
      } catch (error) {
        delivery.error = String(error.cause?.code ?? error.message);
      }
      this.deliveries.push(delivery);
      if (this.deliveries.length > 20000) this.deliveries.splice(0, 10000);
      if (delivery.status >= 200 && delivery.status < 300) return;
      if (attempt <= this.config.retries) await new Promise((done) => setTimeout(done, this.config.retry_ms));
    }
  }
}
