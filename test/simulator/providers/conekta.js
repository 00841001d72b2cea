// Conekta as a provider of the simulator: the protocol around the objects. Headers, error bodies, event
// bodies and signatures are here; what a call does is in conekta/customers.js, orders.js, refunds.js,
// subscriptions.js, checkouts.js and endpoints.js, and what the buyer and the bank do in conekta/buyer.js.
//
// There are no idempotency keys: a repeated POST makes a second object.

import { JsonProvider } from '../core/json_provider.js';
import { newKeyPair, signConekta } from '../core/sign.js';
import { Buyer } from './conekta/buyer.js';
import { Checkouts } from './conekta/checkouts.js';
import { Customers } from './conekta/customers.js';
import { Endpoints } from './conekta/endpoints.js';
import { Orders } from './conekta/orders.js';
import { Refunds } from './conekta/refunds.js';
import { ConektaStore, MEDIA_TYPE, invalid, missing, objectId, other, unauthorized, unprocessed } from './conekta/store.js';
import { Subscriptions } from './conekta/subscriptions.js';

const DEFAULTS = {
  declined_leaves_order: true, // whether a 402 leaves the order with its declined charge behind
  reusable_tokens: false, // whether a card token may be used more than once
  refund_status: 'refunded', // what a refund to a card is at once; "pending" to be finished by hand
  card_outcomes: {}, // src_... -> pay, decline, no_funds: a card changes its ways after it was saved
  search_lag_ms: 0, // how long a fresh object stays invisible to searches
  currencies: ['MXN'], // of orders
  media_types: [MEDIA_TYPE], // what Accept may be; the Oxxo Pay twin has one of its own
  refused_keys: [], // API keys that are answered 401
  fee_percent: 2.9, // what is kept of a charge,
  fee_fixed: 250, // and beside it, in minor units; tax comes on top
};

export class ConektaProvider extends JsonProvider {
  name = 'conekta';
  documentFile = 'conekta.json';

  constructor({ clock, publish, log, document }) {
    super();
    this.store = new ConektaStore(clock, (event) => publish(this, event));
    this.settings = structuredClone(DEFAULTS);
    this.eventById = new Map();
    this.customers = new Customers(this);
    this.orders = new Orders(this);
    this.refunds = new Refunds(this);
    this.subscriptions = new Subscriptions(this);
    this.checkouts = new Checkouts(this);
    this.endpoints = new Endpoints(this);
    this.buyer = new Buyer(this);
    this.start({ log, document });
    if (clock) this.#firstKey();
  }

  // One key is there from the start. Its pair survives a reset: it takes a tenth of a second to make.
  #firstKey() {
    this.endpoints.addKey(() => (this.pair ??= newKeyPair()));
  }

  reset() {
    this.store.reset();
    this.eventById.clear();
    this.customers.usedTokens.clear();
    this.settings = structuredClone(DEFAULTS);
    this.#firstKey();
  }

  routeTables() {
    const { customers: c, orders: o, refunds: r, subscriptions: s, checkouts: k, endpoints: e } = this;
    const customers = {
      'POST /customers': c.create, 'GET /customers': c.list, 'GET /customers/{id}': c.read, 'PUT /customers/{id}': c.update, 'DELETE /customers/{id}': c.delete,
      'POST /customers/{id}/payment_sources': c.createSource, 'GET /customers/{id}/payment_sources': c.listSources,
      'PUT /customers/{id}/payment_sources/{source}': c.updateSource, 'DELETE /customers/{id}/payment_sources/{source}': c.deleteSource,
      'POST /customers/{id}/fiscal_entities': c.createEntity, 'PUT /customers/{id}/fiscal_entities/{entity}': c.updateEntity,
    };
    const orders = {
      'POST /orders': o.create, 'GET /orders': o.list, 'GET /orders/{id}': o.read, 'PUT /orders/{id}': o.update, 'POST /orders/{id}/charges': o.addCharge,
      'POST /orders/{id}/capture': o.capture, 'POST /orders/{id}/cancel': o.cancel, 'GET /charges': o.listCharges, 'PUT /charges/{id}': o.updateCharge,
    };
    const refunds = { 'POST /orders/{id}/refunds': r.create, 'DELETE /orders/{id}/refunds/{refund}': r.delete };
    const one = '/customers/{customer}/subscriptions/{id}';
    const subscriptions = {
      'POST /plans': s.createPlan, 'GET /plans': s.listPlans, 'GET /plans/{id}': s.readPlan, 'PUT /plans/{id}': s.updatePlan, 'DELETE /plans/{id}': s.deletePlan,
      'POST /customers/{id}/subscriptions': s.create, 'GET /customers/{id}/subscriptions': s.list, [`GET ${one}`]: s.read, [`PUT ${one}`]: s.update, [`GET ${one}/events`]: s.events,
      [`POST ${one}/cancel`]: s.cancel, [`POST ${one}/pause`]: s.pause, [`POST ${one}/resume`]: s.resume, [`POST ${one}/retry`]: s.retry,
      'GET /subscriptions/{id}/customer_portal': s.readPortal, 'POST /subscriptions/{id}/customer_portal': s.createPortal,
    };
    const checkouts = {
      'POST /checkouts': k.create, 'GET /checkouts': k.list, 'GET /checkouts/{id}': k.read, 'PUT /checkouts/{id}/cancel': k.cancel, 'POST /checkouts/{id}/email': k.email,
    };
    const endpoints = {
      'POST /webhooks': e.create, 'GET /webhooks': e.list, 'GET /webhooks/{id}': e.read, 'PUT /webhooks/{id}': e.update, 'DELETE /webhooks/{id}': e.delete, 'POST /webhooks/{id}/test': e.test,
      'POST /webhook_keys': e.createKey, 'GET /webhook_keys': e.listKeys, 'GET /webhook_keys/{id}': e.readKey, 'PUT /webhook_keys/{id}': e.updateKey, 'DELETE /webhook_keys/{id}': e.deleteKey,
      'GET /events': e.listEvents, 'GET /events/{id}': e.readEvent, 'POST /events/{id}/resend': e.resend,
    };
    return [[c, customers], [o, orders], [r, refunds], [s, subscriptions], [k, checkouts], [e, endpoints]];
  }

  // ---- before the call ----

  inspectHeaders({ method, headers, body, entry }) {
    const note = (message) => this.log.violation(entry, 'header', message);
    let refusal = null;
    const key = /^Bearer (key_\w+)$/.exec(headers.authorization ?? '')?.[1];
    if (!key) note('Authorization is not "Bearer key_..."');
    if (!key || this.settings.refused_keys.includes(key)) refusal = unauthorized(key ? 'invalid_key' : 'missing_key', 'Acceso no autorizado.');
    if (!this.settings.media_types.includes(headers.accept)) {
      note(`Accept is ${headers.accept ?? 'absent'}, not ${this.settings.media_types.join(' or ')}`);
      refusal ??= other(406, 'api_version_error', 'api_version.unsupported', 'The API version of the Accept header is not supported.');
    }
    if (headers['accept-language'] !== undefined && !['es', 'en'].includes(headers['accept-language'])) note(`Accept-Language is ${headers['accept-language']}`);
    if (headers['user-agent'] === undefined) note('User-Agent is absent');
    if (headers.expect !== undefined) note(`Expect is present: ${headers.expect}`);
    if (method === 'DELETE' && body) note('A DELETE has no body');
    return refusal;
  }

  invalidParameter(status, message, param) {
    return invalid(message, param);
  }

  errorBody({ status, message, fields: { type = 'api_error', details } }) {
    return { details: details ?? [{ code: `conekta.errors.${type}`, message, debug_message: message }], log_id: objectId(), object: 'error', type, ...(status === 501 && { message }) };
  }

  wordsFor(status) {
    switch (status) {
      case 401:
        return unauthorized('invalid_key', 'Acceso no autorizado.');
      case 402:
        return unprocessed('bank.declined', 'La tarjeta fue declinada por el banco.');
      case 404:
        return missing('Resource', '');
      case 409:
        return other(409, 'conflict_error', 'conflict', 'The resource is being changed by another request.');
      case 422:
        return invalid('The request was refused.');
      case 428:
        return other(428, 'precondition_required_error', 'precondition_required.state', 'The state of the object forbids it.');
      case 429:
        return other(429, 'rate_limit_error', 'rate_limit', 'Too many requests.');
      default:
        return status >= 500 ? other(status, 'api_error', 'api_error', 'An error occurred.') : other(status, 'invalid_request_error', 'invalid_request', 'The request was refused.');
    }
  }

  // ---- events ----

  register(event) {
    this.eventById.set(event.id, event);
  }

  eventObject(event) {
    const { id, type, created, object, previous, data, raw } = event;
    if (raw !== undefined) return raw;
    return {
      data: data ?? { object, previous_attributes: previous ?? {} }, livemode: false, webhook_status: 'pending', webhook_logs: [], id, object: 'event', type, created_at: created,
    };
  }

  eventBody(event) {
    return typeof event.raw === 'string' ? event.raw : JSON.stringify(this.eventObject(event));
  }

  // The events that a list shows, newest first.
  eventsOf(filter) {
    return [...this.eventById.values()].filter(filter).reverse().map((event) => this.eventObject(event));
  }

  // The control API's secrets for Conekta are private keys in PEM; without them the newest active key signs.
  eventHeaders(event, body, secrets) {
    const privateKey = secrets[0] ?? this.endpoints.signer();
    return { 'Content-Type': 'application/json', ...(privateKey && { Digest: signConekta(body, privateKey) }) };
  }

  signingKeys() {
    return this.endpoints.pairs();
  }

  newEventId() {
    return objectId();
  }

  updateEventOf(kind) {
    return `${kind.replace(/s$/, '')}.updated`;
  }

  // ---- for the control API ----

  actions() {
    return this.buyer.actions();
  }

  *dueWork() {
    yield* this.orders.dueWork();
    yield* this.checkouts.dueWork();
    yield* this.subscriptions.dueWork();
  }
}
