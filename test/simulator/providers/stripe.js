// Stripe as a provider of the simulator: the protocol around the objects. Headers, the closed request
// schemas, idempotency keys, error bodies, event bodies and signatures are here; what a call does is in
// stripe/, a file for each subject, and what time does is in renewals.js and in the timers of the store.
//
// The interface that every provider fills is described in README.md, "Adding a provider".

import { FormError, coerceWithoutSchema, parseForm } from '../core/form.js';
import { IdempotencyKeys } from '../core/idempotency.js';
import { explain } from '../core/openapi.js';
import { PathTree } from '../core/paths.js';
import { signStripe } from '../core/sign.js';
import { Balance } from './stripe/balance.js';
import { Catalog } from './stripe/catalog.js';
import { Checkout } from './stripe/checkout.js';
import { Coupons } from './stripe/coupons.js';
import { Customers } from './stripe/customers.js';
import { Invoices } from './stripe/invoices.js';
import { Meters } from './stripe/meters.js';
import { Payments } from './stripe/payments.js';
import { expand, list } from './stripe/query.js';
import { Refunds } from './stripe/refunds.js';
import { Renewals } from './stripe/renewals.js';
import { Setups } from './stripe/setups.js';
import { API_VERSION, Store, StripeError, applyFields, invalid, mergeMetadata, missing, newId, randomText } from './stripe/store.js';
import { Subscriptions } from './stripe/subscriptions.js';

const FORM = 'application/x-www-form-urlencoded';

const DEFAULTS = {
  search_lag_ms: 0, // how long a fresh object stays invisible to searches
  dunning_days: [3, 5, 7], // days after finalisation at which a failed renewal is tried again
  dunning_then: 'cancel', // cancel | unpaid | past_due
  invoice_payments: 'on_expand', // on_expand | always
  refused_keys: [], // API keys that are answered 401
  fee_percent: 2.9, // what is kept of a payment,
  fee_fixed: 30, // and beside it, in minor units
  refund_fee: 0, // below 0 it is given back
  dispute_fee: 1500,
  balance_currency: null, // null: that of the money
  balance_forbidden: null, // before | after: the key may not read movements; answered 403 before or after the call is carried out
};

export class StripeProvider {
  name = 'stripe';
  documentFile = 'stripe.json';

  constructor({ clock, publish, log, document }) {
    this.log = log;
    this.document = document;
    this.keys = new IdempotencyKeys();
    this.store = new Store(clock, (event) => publish(this, event));
    this.settings = structuredClone(DEFAULTS);
    this.customers = new Customers(this);
    this.setups = new Setups(this);
    this.catalog = new Catalog(this);
    this.coupons = new Coupons(this);
    this.balance = new Balance(this);
    this.payments = new Payments(this);
    this.refunds = new Refunds(this);
    this.checkout = new Checkout(this);
    this.invoices = new Invoices(this);
    this.subscriptions = new Subscriptions(this);
    this.meters = new Meters(this);
    this.renewals = new Renewals(this);
    this.eventById = new Map();
    this.routes = this.#routes();
  }

  reset() {
    this.keys.reset();
    this.store.reset();
    this.eventById.clear();
    this.settings = structuredClone(DEFAULTS);
  }

  #routes() {
    const tree = new PathTree();
    const { customers: c, setups: u, catalog: k, coupons: o, payments: p, refunds: r, checkout: h, invoices: i, subscriptions: s } = this;
    const table = {
      'POST /v1/customers': c.create, 'GET /v1/customers': c.list, 'GET /v1/customers/search': c.search,
      'GET /v1/customers/{id}': c.get, 'POST /v1/customers/{id}': c.update, 'DELETE /v1/customers/{id}': c.delete,
      'GET /v1/customers/{id}/tax_ids': c.listTaxIds, 'POST /v1/customers/{id}/tax_ids': c.createTaxId,
      'GET /v1/customers/{customer}/tax_ids/{id}': c.getTaxId, 'DELETE /v1/customers/{customer}/tax_ids/{id}': c.deleteTaxId,
      'GET /v1/customers/{id}/payment_methods': c.listMethods, 'GET /v1/payment_methods/{id}': c.getMethod,
      'POST /v1/payment_methods/{id}': c.updateMethod, 'POST /v1/payment_methods/{id}/attach': c.attachMethod,
      'POST /v1/payment_methods/{id}/detach': c.detachMethod,
    };
    const setups = {
      'POST /v1/setup_intents': u.create, 'GET /v1/setup_intents': u.list, 'GET /v1/setup_intents/{id}': u.get,
      'POST /v1/setup_intents/{id}/confirm': u.confirm, 'POST /v1/setup_intents/{id}/cancel': u.cancel,
    };
    const coupons = { 'POST /v1/coupons': o.create, 'GET /v1/coupons': o.list, 'GET /v1/coupons/{id}': o.get };
    const payments = {
      'POST /v1/payment_intents': p.create, 'GET /v1/payment_intents': p.list, 'GET /v1/payment_intents/search': p.search,
      'GET /v1/payment_intents/{id}': p.get, 'POST /v1/payment_intents/{id}': p.update, 'POST /v1/payment_intents/{id}/confirm': p.confirm,
      'POST /v1/payment_intents/{id}/capture': p.capture, 'POST /v1/payment_intents/{id}/cancel': p.cancel,
      'POST /v1/payment_intents/{id}/verify_microdeposits': p.verifyMicrodeposits, 'GET /v1/charges/{id}': this.#reader('charges', 'charge'),
    };
    const refunds = {
      'POST /v1/refunds': r.create, 'GET /v1/refunds': r.list, 'GET /v1/refunds/{id}': r.get, 'POST /v1/refunds/{id}': r.update,
      'POST /v1/refunds/{id}/cancel': r.cancel, 'GET /v1/disputes': r.listDisputes, 'GET /v1/disputes/{id}': r.getDispute,
      'POST /v1/disputes/{id}': r.updateDispute, 'POST /v1/disputes/{id}/close': r.close,
    };
    const checkout = {
      'POST /v1/checkout/sessions': h.create, 'GET /v1/checkout/sessions': h.list, 'GET /v1/checkout/sessions/{id}': h.get,
      'POST /v1/checkout/sessions/{id}/expire': h.expire, 'GET /v1/checkout/sessions/{id}/line_items': h.lineItems,
      'POST /v1/payment_links': h.createLink, 'GET /v1/payment_links': h.listLinks, 'GET /v1/payment_links/{id}': h.getLink,
      'POST /v1/payment_links/{id}': h.updateLink, 'POST /v1/billing_portal/sessions': h.createPortalSession,
    };
    const catalog = {
      'POST /v1/products': k.createProduct, 'GET /v1/products': k.listProducts, 'GET /v1/products/search': k.searchProducts,
      'GET /v1/products/{id}': k.getProduct, 'POST /v1/products/{id}': k.updateProduct, 'DELETE /v1/products/{id}': k.deleteProduct,
      'POST /v1/prices': k.createPrice, 'GET /v1/prices': k.listPrices, 'GET /v1/prices/search': k.searchPrices,
      'GET /v1/prices/{id}': (params, id) => k.price(id), 'POST /v1/prices/{id}': k.updatePrice,
    };
    const subscriptions = {
      'POST /v1/subscriptions': s.create, 'GET /v1/subscriptions': s.list, 'GET /v1/subscriptions/search': s.search,
      'GET /v1/subscriptions/{id}': s.get, 'POST /v1/subscriptions/{id}': s.update, 'DELETE /v1/subscriptions/{id}': s.cancel,
      'POST /v1/subscriptions/{id}/pause': s.pause, 'POST /v1/subscriptions/{id}/resume': s.resume,
    };
    const invoices = {
      'GET /v1/invoices': i.list, 'GET /v1/invoices/{id}': i.get, 'POST /v1/invoices/{id}': i.update, 'POST /v1/invoices/{id}/pay': i.pay,
      'POST /v1/invoices/{id}/finalize': i.finalizeInvoice, 'POST /v1/invoices/{id}/send': i.send, 'POST /v1/invoices/{id}/void': i.void,
      'POST /v1/invoices/{id}/mark_uncollectible': i.markUncollectible, 'GET /v1/invoice_payments': i.listPayments,
      'GET /v1/invoice_payments/{id}': this.#reader('invoice_payments', 'invoice_payment'),
    };
    const { meters: m } = this;
    const meters = {
      'POST /v1/billing/meters': m.create, 'GET /v1/billing/meters': m.list, 'GET /v1/billing/meters/{id}': m.get, 'POST /v1/billing/meters/{id}/deactivate': m.deactivate,
      'GET /v1/billing/meters/{id}/event_summaries': m.summaries, 'POST /v1/billing/meter_events': m.tell,
    };
    const own = {
      'GET /v1/events': this.#listEvents, 'GET /v1/events/{id}': this.#getEvent,
      'POST /v1/webhook_endpoints': this.#createEndpoint, 'GET /v1/webhook_endpoints': this.#listEndpoints,
      'GET /v1/webhook_endpoints/{id}': this.#getEndpoint, 'POST /v1/webhook_endpoints/{id}': this.#updateEndpoint,
      'DELETE /v1/webhook_endpoints/{id}': this.#deleteEndpoint,
    };
    for (const [part, subject] of [
      [table, c], [setups, u], [catalog, k], [coupons, o], [payments, p], [refunds, r], [checkout, h], [subscriptions, s], [invoices, i], [meters, m], [own, this],
    ]) {
      for (const [route, handler] of Object.entries(part)) {
        const [method, pattern] = route.split(' ');
        tree.add(method, pattern, { pattern, run: handler.bind(subject) });
      }
    }
    return tree;
  }

  #reader(kind, what) {
    return (params, id) => {
      const object = this.store.find(kind, id);
      if (!object) throw missing(what, id);
      return object;
    };
  }

  notImitated(what) {
    this.log.violation(this.currentEntry ?? { violations: [] }, 'not_imitated', `the simulator does not imitate ${what}`);
    throw new StripeError(501, 'api_error', `The simulator does not imitate ${what}.`);
  }

  // ---- before the call: headers, path, parameters ----

  // -> {refusal} for what is answered with an error before anything runs, or {handler, id, params}.
  // Every violation is recorded, also where the real one would let it pass.
  inspect(request) {
    const refusal = this.#checkHeaders(request);
    const path = request.path;
    const documented = this.document?.find(request.method, path);
    const route = this.routes.find(request.method, path);
    request.entry.operation = documented?.operation.pattern ?? route?.value.pattern;
    if (this.document && !documented) {
      this.log.violation(request.entry, 'path', `${request.method} ${path} is not in the OpenAPI document`);
      return { refusal: new StripeError(404, 'invalid_request_error', `Unrecognized request URL (${request.method}: ${path}).`) };
    }
    if (!route) {
      this.log.violation(request.entry, 'not_imitated', `the simulator does not imitate ${request.method} ${path}`);
      return { refusal: new StripeError(501, 'api_error', `The simulator does not imitate ${request.method} ${path}.`) };
    }
    try {
      const params = this.#params(request, documented?.operation);
      return { refusal, handler: route.value.run, id: route.params.id, params };
    } catch (error) {
      if (!(error instanceof StripeError)) throw error;
      this.log.violation(request.entry, 'parameters', error.body.error.message, error.body.error.param);
      return { refusal: refusal ?? error };
    }
  }

  #checkHeaders({ method, headers, entry }) {
    const note = (message) => this.log.violation(entry, 'header', message);
    let refusal = null;
    const authorization = headers.authorization ?? '';
    if (!/^Bearer sk_test_\w+$/.test(authorization) || this.settings.refused_keys.includes(authorization.slice(7))) {
      if (!this.settings.refused_keys.includes(authorization.slice(7))) note('Authorization is not "Bearer sk_test_..."');
      refusal = new StripeError(401, 'invalid_request_error', `Invalid API Key provided: ${authorization.slice(7, 15)}****`);
    }
    if (headers['stripe-version'] !== API_VERSION) {
      note(`Stripe-Version is ${headers['stripe-version'] ?? 'absent'}, not ${API_VERSION}`);
      refusal ??= invalid(`Invalid Stripe API version: ${headers['stripe-version']}`);
    }
    if (headers['user-agent'] === undefined) note('User-Agent is absent');
    if (headers.expect !== undefined) note(`Expect is present: ${headers.expect}`);
    if (method !== 'POST') return refusal;
    const key = headers['idempotency-key'];
    if (key === undefined || key === '') note('Idempotency-Key is absent');
    else if (key.length > 255) {
      note('Idempotency-Key is longer than 255 characters');
      refusal ??= invalid('Idempotency keys can be up to 255 characters.');
    }
    const type = headers['content-type'];
    if (type !== undefined ? type.split(';')[0].trim() !== FORM : entry.body !== '') {
      note(`Content-Type is ${type ?? 'absent'}, not ${FORM}`);
      refusal ??= invalid(`Invalid request (check that your POST content type is ${FORM}).`);
    }
    return refusal;
  }

  #params(request, operation) {
    const post = request.method === 'POST';
    if (post && request.query) throw invalid('Parameters of a POST belong in the body, not in the URL.');
    if (!post && request.body) throw invalid(`A ${request.method} has no body.`);
    try {
      const raw = parseForm(post ? request.body : request.query);
      if (!operation) return coerceWithoutSchema(raw);
      const params = post ? operation.coerceBody(raw) : operation.coerceQuery(raw);
      const judge = post ? operation.bodyJudge : operation.queryJudge;
      if (judge(params)) return params;
      const { message, param, code } = explain(judge.errors);
      throw invalid(message, param, code);
    } catch (error) {
      if (error instanceof FormError) throw invalid(error.message, error.param);
      throw error;
    }
  }

  // ---- the call ----

  // -> {status, headers, body, key?}. A key stays in flight until release() when hold() was called.
  perform(request, inspected) {
    const requestId = `req_${randomText(14)}`;
    if (inspected.refusal) return this.#failure(inspected.refusal, requestId);
    const key = request.method === 'POST' ? request.headers['idempotency-key'] : undefined;
    const scoped = key && `${request.headers.authorization} ${request.headers['stripe-account'] ?? ''} ${key}`;
    if (scoped) {
      const begun = this.keys.begin(scoped, `${request.path}\n${request.body}`);
      if (begun.outcome !== 'new') return this.#repeated(begun, request, requestId);
    }
    const answer = this.#run(inspected, requestId, key, request.entry);
    if (scoped) {
      this.keys.finish(scoped, answer);
      if (answer.status === 409 || answer.status === 429 || answer.status === 501) this.keys.abandon(scoped);
      answer.key = scoped;
    }
    return answer;
  }

  #repeated(begun, request, requestId) {
    if (begun.outcome === 'replay') {
      request.entry.replayed = true;
      const { status, body, headers } = begun.answer;
      return { status, body, headers: { ...headers, 'Idempotent-Replayed': 'true', 'Original-Request': headers['Request-Id'] } };
    }
    if (begun.outcome === 'mismatch') {
      this.log.violation(request.entry, 'idempotency', 'the same Idempotency-Key with other parameters');
      return this.#failure(new StripeError(400, 'idempotency_error', `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${request.headers['idempotency-key']}' if you meant to execute a different request.`), requestId);
    }
    return this.#failure(new StripeError(409, 'idempotency_error', 'There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through).', { code: 'idempotency_key_in_use' }), requestId);
  }

  #run({ handler, id, params }, requestId, key, entry) {
    this.store.request = { id: requestId, idempotency_key: key ?? null };
    this.currentEntry = entry;
    try {
      if (this.settings.balance_forbidden === 'before') this.#refuseBalance(params);
      let object = handler(params, id);
      if (this.settings.balance_forbidden === 'after') this.#refuseBalance(params);
      if (this.settings.invoice_payments === 'always' && object.object === 'invoice') object = { ...object, payments: this.invoices.includable(object, 'payments') };
      if (params.expand) object = expand(this.store, object, params.expand, (value, name) => this.#includable(value, name));
      return { status: 200, headers: this.#headers(requestId), body: JSON.stringify(object) };
    } catch (error) {
      return this.#failure(error, requestId);
    } finally {
      this.store.request = null;
      this.currentEntry = null;
    }
  }

  // A restricted key without rak_balance_transaction_read.
  #refuseBalance({ expand: paths = [] }) {
    if (paths.some((path) => path.endsWith('balance_transaction'))) {
      throw new StripeError(403, 'invalid_request_error', "The provided key 'rk_test_****' does not have the required permissions for this endpoint. Having the 'rak_balance_transaction_read' permission would allow this request to continue.");
    }
  }

  #includable(value, name) {
    if (value.object === 'invoice') return this.invoices.includable(value, name);
    if (value.object === 'customer' && name === 'subscriptions') {
      return list(this.store, 'subscriptions', {}, `/v1/customers/${value.id}/subscriptions`, (s) => s.customer === value.id && !this.subscriptions.ended(s));
    }
    return undefined;
  }

  #headers(requestId) {
    return { 'Request-Id': requestId, 'Content-Type': 'application/json', 'Stripe-Version': API_VERSION };
  }

  #failure(error, requestId) {
    if (!(error instanceof StripeError)) throw error;
    const body = { error: { ...error.body.error, request_log_url: `https://dashboard.stripe.com/test/logs/${requestId}` } };
    if (body.error.code) body.error.doc_url = `https://stripe.com/docs/error-codes/${body.error.code.replaceAll('_', '-')}`;
    return { status: error.status, headers: this.#headers(requestId), body: JSON.stringify(body) };
  }

  // ---- faults ----

  // A made-up answer of this status, in the provider's own form.
  failureFor(status) {
    const words = {
      401: ['invalid_request_error', 'Invalid API Key provided: sk_test_****'],
      402: ['card_error', 'Your card was declined.', { code: 'card_declined', decline_code: 'generic_decline' }],
      403: ['invalid_request_error', 'The provided key does not have the required permissions.'],
      404: ['invalid_request_error', 'No such object.', { code: 'resource_missing' }],
      409: ['invalid_request_error', 'This object cannot be accessed right now because another API request or Stripe process is currently accessing it.', { code: 'lock_timeout' }],
      429: ['invalid_request_error', 'Request rate limit exceeded.', { code: 'rate_limit' }],
    }[status] ?? (status >= 500 ? ['api_error', 'An error occurred while processing your request.'] : ['invalid_request_error', 'The request was refused.']);
    return this.#failure(new StripeError(status, ...words), `req_${randomText(14)}`);
  }

  hold(answer) {
    if (answer.key) this.keys.hold(answer.key, true);
  }

  release(answer) {
    if (answer.key) this.keys.hold(answer.key, false);
  }

  // A fault's answer takes the place of the stored one, or becomes it.
  keep(request, answer) {
    const key = request.headers['idempotency-key'];
    if (request.method !== 'POST' || !key) return;
    const scoped = `${request.headers.authorization} ${request.headers['stripe-account'] ?? ''} ${key}`;
    this.keys.begin(scoped, `${request.path}\n${request.body}`);
    this.keys.finish(scoped, answer);
  }

  // ---- events ----

  // Called once per event; the text is made when it is asked for, in Stripe's indented form.
  register(event) {
    this.eventById.set(event.id, event);
  }

  #eventObject(event) {
    if (event.raw) return event.raw;
    return {
      id: event.id,
      object: 'event',
      api_version: API_VERSION,
      created: event.created,
      data: { object: event.object, ...(event.previous && { previous_attributes: event.previous }) },
      livemode: false,
      pending_webhooks: 1,
      request: event.request ?? { id: null, idempotency_key: null },
      type: event.type,
    };
  }

  eventBody(event) {
    return JSON.stringify(this.#eventObject(event), null, 2);
  }

  eventHeaders(event, body, secrets, timestamp) {
    return { 'Content-Type': 'application/json; charset=utf-8', 'User-Agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)', 'Stripe-Signature': signStripe(body, secrets, timestamp) };
  }

  #listEvents(params) {
    const types = params.types ?? (params.type ? [params.type] : null);
    const matches = (type) => !types || types.some((t) => (t.endsWith('*') ? type.startsWith(t.slice(0, -1)) : t === type));
    const events = [...this.eventById.values()].reverse().filter((e) => !e.raw);
    const index = { newestFirst: () => events, find: (kind, id) => this.eventById.get(id) };
    const page = list(index, 'events', params, '/v1/events', (e) => matches(e.type));
    return { ...page, data: page.data.map((e) => this.#eventObject(e)) };
  }

  #getEvent(params, id) {
    const event = this.eventById.get(id);
    if (!event) throw missing('event', id);
    return this.#eventObject(event);
  }

  // ---- webhook endpoints ----

  #createEndpoint(params) {
    const endpoint = {
      id: newId('we'),
      object: 'webhook_endpoint',
      api_version: params.api_version ?? null,
      application: null,
      created: this.store.clock.now(),
      description: params.description || null,
      enabled_events: params.enabled_events,
      livemode: false,
      metadata: mergeMetadata({}, params.metadata),
      status: 'enabled',
      url: params.url,
    };
    this.store.insert('webhook_endpoints', endpoint);
    // Shown in this answer only.
    return { ...endpoint, secret: `whsec_${randomText(32)}` };
  }

  #getEndpoint(params, id) {
    const endpoint = this.store.find('webhook_endpoints', id);
    if (!endpoint || endpoint.deleted) throw missing('webhook endpoint', id);
    return endpoint;
  }

  #listEndpoints(params) {
    return list(this.store, 'webhook_endpoints', params, '/v1/webhook_endpoints');
  }

  #updateEndpoint(params, id) {
    const endpoint = this.#getEndpoint({}, id);
    const changes = applyFields(endpoint, params, ['description', 'url', 'enabled_events']);
    if (params.disabled !== undefined) changes.status = params.disabled === true || params.disabled === 'true' ? 'disabled' : 'enabled';
    return this.store.change('webhook_endpoints', id, changes);
  }

  #deleteEndpoint(params, id) {
    this.#getEndpoint({}, id);
    return this.store.replace('webhook_endpoints', { id, object: 'webhook_endpoint', deleted: true });
  }

  // ---- for the control API ----

  advance(target) {
    return this.renewals.advance(target);
  }

  // A call as a person in the dashboard would make it: no key, no header, no schema.
  call(method, path, params) {
    const route = this.routes.find(method, path);
    if (!route) throw new StripeError(404, 'invalid_request_error', `Unrecognized request URL (${method}: ${path}).`);
    return this.#run({ handler: route.value.run, id: route.params.id, params }, `req_${randomText(14)}`, null, null);
  }

  // What nobody does by a call of the API: the buyer pays or proves who he is, the bank decides.
  act(action, given) {
    const actions = {
      authenticate: () => (given.setup_intent ? this.setups : this.payments).authenticate(given),
      settle: () => this.payments.settle(given.payment_intent, given.outcome ?? 'succeeded'),
      pay_reference: () => this.payments.payReference(given),
      expire: () => (given.checkout_session ? this.checkout.expire({}, given.checkout_session) : this.payments.expireVoucher(given.payment_intent)),
      finish_refund: () => this.refunds.finish(given),
      dispute: () => this.refunds.dispute(given),
      resolve_dispute: () => this.refunds.resolve(given),
      complete_checkout: () => this.checkout.complete(given),
      pay_link: () => this.checkout.payLink(given),
      draft_invoice: () => this.invoices.draft(given),
      report_meter_error: () => this.meters.report(given),
    };
    if (!actions[action]) throw new Error(`no action ${action}; there are: ${Object.keys(actions).join(', ')}`);
    return actions[action]();
  }

  // Fields set by hand, whatever they are, told of by the kind's update event.
  edit(kind, id, fields) {
    const before = this.store.find(kind, id);
    if (!before) return null;
    const merged = { ...before };
    for (const [name, value] of Object.entries(fields)) {
      const both = [before[name], value].every((v) => v !== null && typeof v === 'object' && !Array.isArray(v));
      merged[name] = both ? { ...before[name], ...value } : value;
    }
    const event = { subscriptions: 'customer.subscription.updated' }[kind] ?? `${kind.replace(/s$/, '')}.updated`;
    return this.store.change(kind, id, merged, event);
  }

  // An event made by hand. raw: the whole body is given, for thin or unreadable events.
  emit({ id, type, object, previous_attributes: previous, created, raw }) {
    const event = { id: id ?? raw?.id ?? newId('evt'), type: type ?? raw?.type ?? 'unknown', created: created ?? this.store.clock.now(), object, previous: previous ?? null, request: null, raw };
    this.store.publish(event);
    return event.id;
  }

  sizes() {
    return { idempotency_keys: this.keys.size, events: this.eventById.size };
  }
}
