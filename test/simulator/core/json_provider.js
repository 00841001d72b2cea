// What the providers with JSON bodies have in common: routes, the document as a judge, faults' answers and
// the control API's calls. What a call does, which headers it needs and how an error looks is said by the
// class that extends this one:
//
//   routeTables()       [[subject, {'POST /orders': subject.create, ...}], ...]
//   inspectHeaders(r)   records violations, returns the refusal (an HttpError) or null
//   errorBody(error)    -> the JSON of an HttpError
//   wordsFor(status)    -> the HttpError that a fault of this status means
//   updateEventOf(kind) -> the event that tells of a change made by hand
//
// A handler gets {body, query, ids, base} and returns the object to answer with 200, or an Answer.

import { parseForm } from './form.js';
import { explain, unknownMembers } from './openapi.js';
import { PathTree } from './paths.js';

export class HttpError extends Error {
  constructor(status, message, fields = {}, headers = {}) {
    super(message);
    Object.assign(this, { status, fields, headers });
  }
}

export class Answer {
  constructor(status, object) {
    Object.assign(this, { status, object });
  }
}

const notImitated = (what) => new HttpError(501, `The simulator does not imitate ${what}.`);

export class JsonProvider {
  keys = { list: () => [], forgetAll: () => {} }; // these providers have no idempotency keys

  // The routes are built last, when the class that extends this one has its subjects.
  start({ log, document }) {
    this.log = log;
    this.document = document;
    this.routes = new PathTree();
    for (const [subject, table] of this.routeTables()) {
      for (const [route, handler] of Object.entries(table)) {
        const [method, pattern] = route.split(' ');
        this.routes.add(method, pattern, { pattern, run: handler.bind(subject) });
      }
    }
  }

  notImitated(what) {
    this.log.violation(this.currentEntry ?? { violations: [] }, 'not_imitated', `the simulator does not imitate ${what}`);
    throw notImitated(what);
  }

  // ---- before the call ----

  inspect(request) {
    const { method, path, entry } = request;
    const refusal = this.inspectHeaders(request);
    const documented = this.document?.find(method, path);
    const route = this.routes.find(method, path);
    entry.operation = documented?.operation.pattern ?? route?.value.pattern;
    if (!documented && (this.document || !route)) {
      this.log.violation(entry, 'path', `${method} ${path} is not in the OpenAPI document`);
      return { refusal: this.noSuchPath(request) };
    }
    if (!route) {
      this.log.violation(entry, 'not_imitated', `the simulator does not imitate ${method} ${path}`);
      return { refusal: notImitated(`${method} ${path}`) };
    }
    const body = this.#body(request, documented?.operation);
    const query = this.#query(request, documented?.operation);
    const context = { body: body.value, query: query.value, ids: Object.values(route.params), base: this.#base(request) };
    return { refusal: refusal ?? body.refusal ?? query.refusal, handler: route.value.run, context };
  }

  // A path that the document has not; a provider may know better, such as a redirect.
  noSuchPath() {
    return this.wordsFor(404);
  }

  #base({ headers }) {
    return `http://${headers.host}/${this.name}`;
  }

  #refuse(request, status, message, param) {
    this.log.violation(request.entry, 'parameters', message, param);
    return { value: {}, refusal: this.invalidParameter(status, message, param) };
  }

  #body(request, operation) {
    const type = (request.headers['content-type'] ?? '').split(';')[0].trim();
    if (request.method === 'GET' && request.body) return this.#refuse(request, 400, 'A GET has no body.');
    if (request.body === '') {
      if (operation?.bodyRequired) return this.#refuse(request, 422, 'The body is missing.');
      return { value: {} };
    }
    if (type !== 'application/json') this.log.violation(request.entry, 'header', `Content-Type is ${type || 'absent'}, not application/json`);
    let value;
    try {
      value = JSON.parse(request.body);
    } catch (error) {
      return this.#refuse(request, 422, `The body is not JSON: ${error.message}`);
    }
    if (!operation) return { value };
    if (!operation.bodyJudge(value)) {
      const { message, param } = explain(operation.bodyJudge.errors);
      return this.#refuse(request, 422, message, param);
    }
    for (const name of operation.bodySchema ? unknownMembers(operation.bodySchema, value, this.document.resolve) : []) {
      this.log.violation(request.entry, 'parameters', `Received unknown parameter: ${name}`, name);
    }
    return { value };
  }

  #query(request, operation) {
    let value;
    try {
      value = this.parseQuery(request.query);
    } catch (error) {
      return this.#refuse(request, 422, error.message);
    }
    if (!operation) return { value };
    value = operation.coerceQuery(value);
    if (operation.queryJudge(value)) return { value };
    const { message, param } = explain(operation.queryJudge.errors);
    return this.#refuse(request, 422, message, param);
  }

  parseQuery(text) {
    return parseForm(text);
  }

  // ---- the call ----

  perform(request, inspected) {
    if (inspected.refusal) return this.failure(inspected.refusal);
    return this.#run(inspected.handler, inspected.context, request.entry);
  }

  #run(handler, context, entry) {
    this.currentEntry = entry;
    try {
      const result = handler(context);
      const { status, object } = result instanceof Answer ? result : { status: 200, object: result };
      return { status, headers: this.answerHeaders(), body: object === undefined ? '' : JSON.stringify(object) };
    } catch (error) {
      return this.failure(error);
    } finally {
      this.currentEntry = null;
    }
  }

  answerHeaders() {
    return { 'Content-Type': 'application/json' };
  }

  failure(error) {
    if (!(error instanceof HttpError)) throw error;
    return { status: error.status, headers: { ...this.answerHeaders(), ...error.headers }, body: JSON.stringify(this.errorBody(error)) ?? '' };
  }

  // ---- faults ----

  failureFor(status) {
    return this.failure(this.wordsFor(status));
  }

  hold() {}

  release() {}

  keep() {}

  // ---- for the control API ----

  call(method, path, params = {}) {
    const [bare, query = ''] = path.split('?');
    const route = this.routes.find(method, bare);
    if (!route) throw new HttpError(404, `no such path: ${method} ${bare}`);
    const context = { body: params, query: this.parseQuery(query), ids: Object.values(route.params), base: `http://simulator/${this.name}` };
    return this.#run(route.value.run, context, null);
  }

  act(action, given) {
    const actions = this.actions();
    if (!actions[action]) throw new Error(`no action ${action}; there are: ${Object.keys(actions).join(', ')}`);
    try {
      return actions[action](given);
    } catch (error) {
      if (error instanceof HttpError) error.body = this.errorBody(error);
      throw error;
    }
  }

  edit(kind, id, fields) {
    const before = this.store.find(kind, id);
    if (!before) return null;
    const merged = { ...before };
    for (const [name, value] of Object.entries(fields)) {
      const both = [before[name], value].every((v) => v !== null && typeof v === 'object' && !Array.isArray(v));
      merged[name] = both ? { ...before[name], ...value } : value;
    }
    return this.store.change(kind, id, merged, this.updateEventOf(kind));
  }

  emit({ id, type, object, previous_attributes: previous, created, raw }) {
    const event = {
      id: id ?? raw?.id ?? this.newEventId(), type: type ?? raw?.type ?? 'unknown', created: created ?? this.store.clock.now(), object,
      previous: previous ?? null, raw,
    };
    this.store.publish(event);
    return event.id;
  }

  // A repeated reference to due work: what is due first is done first, at its own time.
  advance(target) {
    let steps = 0;
    for (;;) {
      let next = null;
      for (const due of this.dueWork()) if (due.at <= target && (next === null || due.at < next.at)) next = due;
      if (next === null) return steps;
      if (next.at > this.store.clock.now()) this.store.clock.set(next.at);
      next.run();
      steps++;
    }
  }

  sizes() {
    return { idempotency_keys: 0, events: this.eventById.size };
  }
}
