// The control API under /_control/: how a test looks into the simulator and steers it. JSON in and out;
// README.md has the table. Nothing here is logged as a request, delayed or spoiled by faults.

const number = (text, otherwise) => (text === undefined || text === null ? otherwise : Number(text));

function byPath(object, path) {
  return path.split('.').reduce((value, step) => value?.[step], object);
}

export class Control {
  constructor(simulator) {
    this.simulator = simulator;
    this.routes = {
      'GET health': () => this.#health(),
      'POST reset': ({ seed }) => (simulator.reset(seed), { ok: true }),
      'POST settings': (body) => this.#settings(body),
      'GET settings': () => this.#currentSettings(),
      'POST latency': (body) => this.#latency(body),
      'POST faults': (body) => ({ ids: [body].flat().map((fault) => simulator.faults.add(fault)) }),
      'GET faults': () => ({ faults: simulator.faults.list(), used: simulator.faults.used }),
      'DELETE faults': (body, query) => (simulator.faults.clear(number(query.id)), { ok: true }),
      'GET requests': (body, query) => simulator.log.select({ ...query, after: number(query.after, 0), limit: number(query.limit, 1000) }),
      'DELETE requests': () => (simulator.log.clear(), { ok: true }),
      'GET totals': () => this.#totals(),
      'POST log': (body) => this.#log(body),
      'GET violations': () => ({ count: simulator.log.violationCount, violations: simulator.log.violations }),
      'DELETE violations': () => this.#clearViolations(),
      'GET objects': (body, query) => this.#counts(query),
      'GET idempotency_keys': (body, query) => this.#provider(query).keys.list(),
      'POST forget_idempotency_keys': (body) => (this.#provider(body).keys.forgetAll(), { ok: true }),
      'GET events': (body, query) => this.#events(query),
      'POST webhooks': (body) => this.#webhooks(body),
      'GET webhooks': () => ({ ...simulator.webhooks.config, secrets: simulator.webhooks.secrets }),
      'POST flush': async () => (await simulator.webhooks.flush(), { ok: true }),
      'GET deliveries': () => ({ waiting: simulator.webhooks.waiting.length, in_flight: simulator.webhooks.inFlight, deliveries: simulator.webhooks.deliveries }),
      'POST redeliver': (body) => this.#redeliver(body),
      'GET clock': () => this.#clockState(),
      'POST clock': (body) => this.#clock(body),
      'POST call': (body) => this.#call(body),
      'POST edit': (body) => this.#edit(body),
      'POST emit': (body) => ({ id: this.#provider(body).emit(body) }),
      'POST act': (body) => this.#act(body),
      'GET signing_keys': (body, query) => this.#signingKeys(query),
    };
  }

  async handle(req, res, text) {
    const url = new URL(req.url, 'http://simulator');
    const [name, rest] = url.pathname.slice('/_control/'.length).split('/');
    const query = Object.fromEntries(url.searchParams);
    try {
      const body = text === '' ? {} : JSON.parse(text);
      const result = name === 'objects' && rest ? this.#objects(rest, query) : await this.#run(req.method, name, body, query);
      this.#send(res, 200, result);
    } catch (error) {
      this.#send(res, error.status ?? 400, { error: error.message, ...(error.body && { answer: error.body }) });
    }
  }

  async #run(method, name, body, query) {
    const route = this.routes[`${method} ${name}`];
    if (!route) throw Object.assign(new Error(`no control call ${method} ${name}; there are: ${Object.keys(this.routes).join(', ')}`), { status: 404 });
    return route(body, query);
  }

  #send(res, status, value) {
    const bytes = Buffer.from(JSON.stringify(value) + '\n');
    res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': bytes.length });
    res.end(bytes);
  }

  #provider({ provider } = {}) {
    const found = this.simulator.providers.get(provider ?? this.simulator.first);
    if (!found) throw new Error(`no provider ${provider}`);
    return found;
  }

  #health() {
    const { providers, validating, connections } = this.simulator;
    return { ok: true, providers: [...providers.keys()], validating, connections, pid: process.pid };
  }

  // ---- what arrived ----

  #totals() {
    const { log, faults, providers, connections } = this.simulator;
    const sizes = Object.fromEntries([...providers].map(([name, p]) => [name, p.sizes()]));
    return { ...log.totals, violations: log.violationCount, faults_used: faults.used, connections, providers: sizes };
  }

  #log({ log, enabled, limit }) {
    const wanted = enabled ?? (log === undefined ? undefined : log !== 'off');
    if (wanted !== undefined) this.simulator.log.enabled = wanted;
    if (limit !== undefined) this.simulator.log.limit = limit;
    return { enabled: this.simulator.log.enabled, limit: this.simulator.log.limit };
  }

  #clearViolations() {
    this.simulator.log.violations = [];
    this.simulator.log.violationCount = 0;
    return { ok: true };
  }

  #counts(query) {
    if (query.provider) return this.#provider(query).store.counts();
    const sums = {};
    for (const provider of this.simulator.providers.values()) {
      for (const [kind, count] of Object.entries(provider.store.counts())) sums[kind] = (sums[kind] ?? 0) + count;
    }
    return sums;
  }

  // Objects of a kind; any other query parameter is a dotted field that must have that value.
  #objects(kind, { provider, count, limit, ...fields }) {
    const all = this.#provider({ provider }).store.all(kind);
    const chosen = all.filter((o) => Object.entries(fields).every(([path, value]) => String(byPath(o, path)) === value));
    return count === undefined ? chosen.slice(0, number(limit, 10000)) : { count: chosen.filter((o) => !o.deleted).length };
  }

  // ---- settings ----

  #latency({ ms, min_ms: min, max_ms: max }) {
    this.simulator.latency = { min: min ?? ms ?? 0, max: max ?? ms ?? 0 };
    return this.simulator.latency;
  }

  #settings({ provider, ...given }) {
    const { settings } = this.#provider({ provider });
    for (const [name, value] of Object.entries(given)) {
      if (!(name in settings)) throw new Error(`no setting ${name}; there are: ${Object.keys(settings).join(', ')}`);
      settings[name] = value;
    }
    return settings;
  }

  #currentSettings() {
    return Object.fromEntries([...this.simulator.providers].map(([name, p]) => [name, p.settings]));
  }

  // ---- events ----

  // ?after=N&limit=&type=&provider=&times=&order=reverse&secret=&timestamp=: signed at this moment.
  #events(query) {
    const { webhooks } = this.simulator;
    const events = webhooks.select({ ...query, after: number(query.after, 0), limit: number(query.limit, 10000) });
    const options = { secrets: query.secret === undefined ? undefined : query.secret.split(','), timestamp: number(query.timestamp) };
    return webhooks.arrange(events, query.order, number(query.times, 1)).map((event) => webhooks.signed(event, options));
  }

  #webhooks({ secrets, ...config }) {
    const { webhooks } = this.simulator;
    for (const name of Object.keys(config)) if (!(name in webhooks.config)) throw new Error(`no webhook setting ${name}`);
    if (config.mode === 'push' && !(config.url ?? webhooks.config.url)) throw new Error('mode push needs a url');
    Object.assign(webhooks.config, config);
    for (const [provider, value] of Object.entries(secrets ?? {})) webhooks.secrets[provider] = [value].flat();
    return { ...webhooks.config, secrets: webhooks.secrets };
  }

  // Pushes known events (again), in the order given.
  async #redeliver({ seqs }) {
    const { webhooks } = this.simulator;
    webhooks.waiting.push(...seqs.map((seq) => webhooks.events.find((e) => e.seq === seq)).filter(Boolean));
    await webhooks.flush();
    return { ok: true };
  }

  // ---- time ----

  #clockState() {
    const { clock } = this.simulator;
    return { now: clock.now(), frozen: clock.frozen };
  }

  // {set: epoch} or {advance: seconds} moves time on and does what comes due; {freeze: bool} stops it;
  // {jump: epoch} only sets the clock, also back, and nothing happens.
  #clock({ set, advance, freeze, jump }) {
    const { clock, providers } = this.simulator;
    if (freeze !== undefined) clock.freeze(freeze);
    if (jump !== undefined) clock.set(jump);
    const target = set ?? (advance === undefined ? undefined : clock.now() + advance);
    let steps = 0;
    if (target !== undefined) {
      if (target < clock.now()) throw new Error(`the clock does not go back: it is ${clock.now()}`);
      const from = clock.now();
      for (const provider of providers.values()) {
        clock.set(from);
        steps += provider.advance(target);
      }
      clock.set(target);
    }
    return { ...this.#clockState(), steps };
  }

  // ---- by hand ----

  #call({ provider, method = 'POST', path, params = {} }) {
    const answer = this.#provider({ provider }).call(method, path, params);
    return { status: answer.status, body: JSON.parse(answer.body) };
  }

  // What nobody does by a call of the API: the buyer pays, the bank takes back, the month is over.
  #act({ provider, action, ...given }) {
    const found = this.#provider({ provider });
    if (!found.act) throw new Error(`${found.name} has no actions`);
    return found.act(action, given);
  }

  #signingKeys(query) {
    const found = this.#provider(query);
    if (!found.signingKeys) throw new Error(`${found.name} has no key pairs`);
    return found.signingKeys();
  }

  #edit({ provider, kind, id, fields }) {
    const object = this.#provider({ provider }).edit(kind, id, fields);
    if (!object) throw new Error(`no ${kind} ${id}`);
    return object;
  }
}
