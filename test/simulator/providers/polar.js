// Polar as a provider of the simulator: the protocol around the objects. Headers, the redirect of a path
// without its trailing slash, error bodies, event bodies and signatures are here; what a call does is in
// polar/customers.js, catalog.js, discounts.js, checkouts.js, orders.js, refunds.js, subscriptions.js, meters.js and endpoints.js.
//
// There are no idempotency keys; a customer's external_id is unique, and nothing else is.

import { HttpError, JsonProvider } from '../core/json_provider.js';
import { signPolar } from '../core/sign.js';
import { Catalog } from './polar/catalog.js';
import { Checkouts } from './polar/checkouts.js';
import { Customers } from './polar/customers.js';
import { Discounts } from './polar/discounts.js';
import { Endpoints } from './polar/endpoints.js';
import { Meters } from './polar/meters.js';
import { Orders } from './polar/orders.js';
import { Refunds } from './polar/refunds.js';
import { PolarStore, VERSION, invalid, iso, missing, newId, refused } from './polar/store.js';
import { Subscriptions } from './polar/subscriptions.js';

const DEFAULT_SECRETS = ['polar_whs_SimulatorTestSecret0123456789abcdef'];

const DEFAULTS = {
  tax_rate: 0, // on top of every net amount: 0.16 is 16 %
  off_session_charges: true, // whether finalize is allowed to this organization
  refund_status: 'succeeded', // what a refund is at once; "pending" to be finished by hand
  dunning_days: [2, 5, 7, 7], // days from each failed charge of a subscription to the next try
  card_outcomes: {}, // payment method id -> pay, decline, authenticate: a card changes its ways
  invoice_lag_ms: 0, // how long an invoice takes to be generated
  webhook_key: 'a', // a: the whole secret's bytes; b: what is after whsec_, decoded from base64
  refused_keys: [], // access tokens that are answered 401
  fee_percent: 4, // what is kept of an order,
  fee_fixed: 40, // and beside it, in minor units
  payout_currency: null, // in which it is kept; null: that of the order
};

export class PolarProvider extends JsonProvider {
  name = 'polar';
  documentFile = 'polar.json';

  constructor({ clock, publish, log, document }) {
    super();
    this.store = new PolarStore(clock, (event) => publish(this, event));
    this.settings = structuredClone(DEFAULTS);
    this.eventById = new Map();
    this.customers = new Customers(this);
    this.catalog = new Catalog(this);
    this.discounts = new Discounts(this);
    this.orders = new Orders(this);
    this.refunds = new Refunds(this);
    this.subscriptions = new Subscriptions(this);
    this.checkouts = new Checkouts(this);
    this.endpoints = new Endpoints(this);
    this.meters = new Meters(this);
    this.start({ log, document });
  }

  reset() {
    this.store.reset();
    this.eventById.clear();
    this.settings = structuredClone(DEFAULTS);
  }

  routeTables() {
    const { customers: c, catalog: p, orders: o, refunds: r, subscriptions: s, checkouts: k, endpoints: e } = this;
    const sales = {
      'POST /v1/checkouts/': k.create, 'GET /v1/checkouts/': k.list, 'GET /v1/checkouts/{id}': k.read, 'PATCH /v1/checkouts/{id}': k.update,
      'POST /v1/checkout-links/': k.createLink, 'GET /v1/checkout-links/': k.listLinks, 'GET /v1/checkout-links/{id}': k.readLink,
      'PATCH /v1/checkout-links/{id}': k.updateLink, 'DELETE /v1/checkout-links/{id}': k.deleteLink,
    };
    const orders = {
      'POST /v1/orders/': o.create, 'GET /v1/orders/': o.list, 'GET /v1/orders/{id}': o.read, 'PATCH /v1/orders/{id}': o.update, 'POST /v1/orders/{id}/finalize': o.finalize,
      'POST /v1/orders/{id}/invoice': o.generateInvoice, 'GET /v1/orders/{id}/invoice': o.readInvoice, 'GET /v1/orders/{id}/receipt': o.readReceipt,
      'GET /v1/payments/': o.listPayments, 'GET /v1/payments/{id}': o.readPayment,
    };
    const refunds = {
      'POST /v1/refunds/': r.create, 'GET /v1/refunds/': r.list, 'GET /v1/disputes/': r.listDisputes, 'GET /v1/disputes/{id}': r.readDispute, 'POST /v1/disputes/{id}/accept': r.accept,
    };
    const subscriptions = {
      'POST /v1/subscriptions/': s.create, 'GET /v1/subscriptions/': s.list, 'GET /v1/subscriptions/{id}': s.read, 'PATCH /v1/subscriptions/{id}': s.update,
      'DELETE /v1/subscriptions/{id}': s.delete,
    };
    const endpoints = {
      'POST /v1/webhooks/endpoints': e.create, 'GET /v1/webhooks/endpoints': e.list, 'GET /v1/webhooks/endpoints/{id}': e.read, 'PATCH /v1/webhooks/endpoints/{id}': e.update,
      'DELETE /v1/webhooks/endpoints/{id}': e.delete, 'PATCH /v1/webhooks/endpoints/{id}/secret': e.rotate, 'POST /v1/webhooks/events/{id}/redeliver': e.redeliver,
    };
    const { discounts: d } = this;
    const discounts = {
      'POST /v1/discounts/': d.create, 'GET /v1/discounts/': d.list, 'GET /v1/discounts/{id}': d.read, 'PATCH /v1/discounts/{id}': d.update, 'DELETE /v1/discounts/{id}': d.delete,
    };
    const { meters: m } = this;
    const meters = { 'POST /v1/meters/': m.create, 'GET /v1/meters/': m.list, 'GET /v1/meters/{id}': m.read, 'POST /v1/events/ingest': m.ingest };
    const products = { 'POST /v1/products/': p.create, 'GET /v1/products/': p.list, 'GET /v1/products/{id}': p.read, 'PATCH /v1/products/{id}': p.update };
    return [[c, c.routes()], [p, products], [d, discounts], [k, sales], [o, orders], [r, refunds], [s, subscriptions], [e, endpoints], [m, meters]];
  }

  // ---- before the call ----

  inspectHeaders({ method, headers, body, entry }) {
    const note = (message) => this.log.violation(entry, 'header', message);
    let refusal = null;
    const token = /^Bearer (polar_oat_\w+)$/.exec(headers.authorization ?? '')?.[1];
    if (!token) note('Authorization is not "Bearer polar_oat_..."');
    if (!token || this.settings.refused_keys.includes(token)) refusal = refused(401, 'Unauthorized', 'The access token is not valid.');
    if (headers['polar-version'] !== VERSION) {
      note(`Polar-Version is ${headers['polar-version'] ?? 'absent'}, not ${VERSION}`);
      refusal = new HttpError(404, 'Not Found');
    }
    if (headers['user-agent'] === undefined) note('User-Agent is absent');
    if (headers.expect !== undefined) note(`Expect is present: ${headers.expect}`);
    if (method === 'DELETE' && body) note('A DELETE has no body');
    return refusal;
  }

  // Collections end in a slash; without it the client is sent there, as the real one does.
  noSuchPath({ method, path, query, headers }) {
    const known = this.document ? this.document.find(method, `${path}/`) : this.routes.find(method, `${path}/`);
    if (!known) return new HttpError(404, 'Not Found');
    return new HttpError(307, '', {}, { Location: `http://${headers.host}/${this.name}${path}/${query ? `?${query}` : ''}` });
  }

  // Repeated names are lists; metadata[key]=value is a hash.
  parseQuery(text) {
    const result = {};
    for (const [name, value] of new URLSearchParams(text)) {
      const inner = /^(\w+)\[([^\]]+)\]$/.exec(name);
      const [target, key] = inner ? [result[inner[1]] ??= {}, inner[2]] : [result, name];
      target[key] = target[key] === undefined ? value : [target[key], value].flat();
    }
    if (typeof result.sorting === 'string') result.sorting = [result.sorting];
    return result;
  }

  invalidParameter(status, message, param) {
    return invalid(['body', ...(param ? param.split(/[[\].]+/).filter(Boolean) : [])], message);
  }

  errorBody({ status, message, fields: { error, list } }) {
    if (status === 307) return undefined;
    if (error === undefined) return { detail: message };
    return { error, detail: list ?? message };
  }

  wordsFor(status) {
    switch (status) {
      case 401:
        return refused(401, 'Unauthorized', 'The access token is not valid.');
      case 402:
        return refused(402, 'PaymentFailed', 'Your card was declined.');
      case 403:
        return refused(403, 'NotPermitted', 'Not permitted.');
      case 404:
        return missing();
      case 409:
        return refused(409, 'SubscriptionLocked', 'The subscription is pending an update.');
      case 412:
        return refused(412, 'OrderNotDraft', 'The order is not in draft status.');
      case 422:
        return invalid(['body'], 'The request was refused.');
      case 429:
        return new HttpError(429, 'Too Many Requests', { error: 'RateLimitExceeded' }, { 'Retry-After': '1' });
      default:
        return refused(status, status >= 500 ? 'InternalServerError' : 'PolarRequestError', status >= 500 ? 'Internal Server Error' : 'The request was refused.');
    }
  }

  // ---- events ----

  register(event) {
    event.timestamp ??= iso(event.created);
    this.eventById.set(event.id, event);
  }

  eventBody({ type, timestamp, object, raw }) {
    if (raw !== undefined) return typeof raw === 'string' ? raw : JSON.stringify(raw);
    return JSON.stringify({ type, timestamp, data: object });
  }

  // The control API's secrets come first, then that of the newest endpoint.
  eventHeaders(event, body, secrets, timestamp) {
    const used = secrets.length > 0 ? secrets : this.endpoints.secrets() ?? DEFAULT_SECRETS;
    return {
      'Content-Type': 'application/json', 'webhook-id': event.id, 'webhook-timestamp': String(timestamp),
      'webhook-signature': signPolar(body, used, event.id, timestamp, this.settings.webhook_key),
    };
  }

  newEventId() {
    return newId();
  }

  updateEventOf(kind) {
    return { customers: 'customer.updated', subscriptions: 'subscription.updated', orders: 'order.updated', checkouts: 'checkout.updated', refunds: 'refund.updated', products: 'product.updated' }[kind];
  }

  // ---- for the control API ----

  actions() {
    const { customers: c, checkouts: k, orders: o, refunds: r, subscriptions: s } = this;
    return {
      add_payment_method: (given) => c.addMethod(given),
      remove_payment_method: (given) => c.removeMethod(given),
      confirm_checkout: (given) => k.confirm(given),
      complete_checkout: (given) => k.complete(given),
      expire_checkout: (given) => k.expire(given),
      follow_checkout_link: (given) => k.follow(given),
      cycle: (given) => s.cycleNow(given),
      retry: (given) => s.retryNow(given),
      void_order: (given) => o.void(given),
      finish_refund: (given) => r.finish(given),
      dispute: (given) => r.open(given),
      move_dispute: (given) => r.move(given),
    };
  }

  *dueWork() {
    yield* this.checkouts.dueWork();
    yield* this.subscriptions.dueWork();
  }
}
