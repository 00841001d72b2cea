// Conekta: webhooks, the keys that sign them, and the list of events.

import { Answer } from '../../core/json_provider.js';
import { newKeyPair } from '../../core/sign.js';
import { HIDDEN, invalid, missing, newId, objectId, page, pick } from './store.js';

const EVERY_EVENT = [
  'charge.created', 'charge.paid', 'charge.declined', 'charge.refunded', 'charge.chargeback.created', 'order.created', 'order.paid', 'order.pending_payment', 'order.refunded',
  'order.partially_refunded', 'order.canceled', 'order.expired', 'order.declined', 'customer.created', 'customer.updated', 'customer.deleted', 'plan.created', 'plan.updated',
  'plan.deleted', 'subscription.created', 'subscription.paid', 'subscription.paused', 'subscription.resumed', 'subscription.canceled', 'subscription.updated',
  'subscription.payment_failed', 'webhook_ping',
];

export class Endpoints {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.webhook_key = (key) => ({ ...key, public_key: key[HIDDEN]().publicKey });
  }

  // ---- webhooks ----

  create({ body }) {
    this.#checkUrl(body.url);
    const webhook = {
      id: objectId(), object: 'webhook', livemode: false, active: true, status: 'listening', description: '', url: body.url, subscribed_events: body.subscribed_events ?? EVERY_EVENT,
    };
    return this.store.add('webhooks', webhook, 'webhook.created');
  }

  #checkUrl(url) {
    if (!/^https:\/\//.test(url)) throw invalid('The URL has to begin with https.', 'url', 'webhook.url.protocol');
    if (/^https:\/\/(localhost|127\.)/.test(url)) throw invalid('The URL cannot be of this machine.', 'url', 'webhook.url.host');
  }

  list({ query, base }) {
    return page(this.store.newest('webhooks').filter((w) => query.url === undefined || w.url === query.url), query, { base, path: '/webhooks' });
  }

  read({ ids: [id] }) {
    return this.store.get('webhooks', id, 'Webhook');
  }

  update({ ids: [id], body }) {
    this.read({ ids: [id] });
    if (body.url !== undefined) this.#checkUrl(body.url);
    return this.store.change('webhooks', id, pick(body, ['url', 'subscribed_events', 'active']), 'webhook.updated');
  }

  delete({ ids: [id] }) {
    const webhook = this.read({ ids: [id] });
    this.store.change('webhooks', id, { deleted: true });
    this.store.emit('webhook.deleted', webhook);
    return webhook;
  }

  test({ ids: [id] }) {
    const webhook = this.read({ ids: [id] });
    this.store.publish({ id: objectId(), type: 'webhook_ping', created: this.store.clock.now(), object: null, previous: null, data: { action: 'ping', livemode: false } });
    return webhook;
  }

  // ---- keys ----

  // pair: a function, because the pair of the first key is only made when somebody looks at it.
  addKey(pair) {
    const key = { id: objectId(), object: 'webhook_key', active: true, created_at: this.store.clock.now(), livemode: false, [HIDDEN]: pair };
    return this.store.insert('webhook_keys', key);
  }

  createKey({ body }) {
    const pair = newKeyPair();
    const { id } = this.addKey(() => pair);
    return this.store.show(body.active === false ? this.#deactivate(id) : this.store.find('webhook_keys', id));
  }

  #deactivate(id) {
    return this.store.change('webhook_keys', id, { active: false, deactivated_at: this.store.clock.now() });
  }

  listKeys({ query, base }) {
    return page(this.store.newest('webhook_keys'), query, { base, path: '/webhook_keys' });
  }

  key(id) {
    return this.store.get('webhook_keys', id, 'WebhookKey');
  }

  readKey({ ids: [id] }) {
    return this.store.show(this.key(id));
  }

  updateKey({ ids: [id], body }) {
    this.key(id);
    if (body.active === undefined) return this.readKey({ ids: [id] });
    return this.store.show(body.active ? this.store.change('webhook_keys', id, { active: true, deactivated_at: null }) : this.#deactivate(id));
  }

  deleteKey({ ids: [id] }) {
    const { public_key: gone, ...key } = this.store.show(this.key(id));
    this.store.change('webhook_keys', id, { deleted: true, active: false });
    return { ...key, active: false, deleted: true };
  }

  // The newest active key signs; without one an event goes out unsigned, as the provider does it.
  signer() {
    for (const key of this.store.newestFirst('webhook_keys')) if (key.active) return key[HIDDEN]().privateKey;
    return null;
  }

  pairs() {
    return [...this.store.newestFirst('webhook_keys')].map(({ id, active, [HIDDEN]: pair }) => ({ id, active, public_key: pair().publicKey, private_key: pair().privateKey }));
  }

  // ---- events ----

  listEvents({ query, base }) {
    return page(this.provider.eventsOf(() => true), query, { base, path: '/events' });
  }

  readEvent({ ids: [id] }) {
    const event = this.provider.eventById.get(id);
    if (!event) throw missing('Event', id);
    return this.provider.eventObject(event);
  }

  // Sent again: the same id, a new line in the list of what is to be delivered.
  resend({ ids: [id] }) {
    const event = this.provider.eventById.get(id);
    if (!event) throw missing('Event', id);
    this.store.publish({ ...event });
    return new Answer(200, { id: newId('resend'), object: 'event_resend', event_id: id });
  }
}
