// Polar: customers, what they own (state, payment methods) and their sessions in the portal.

import { HIDDEN, ORGANIZATION, checkMetadata, holds, holdsMetadata, invalidBody, iso, missing, page, pick, randomText } from './store.js';
import { Answer } from '../../core/json_provider.js';

const HOUR = 3600;
const EU = new Set('AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE'.split(' '));
const TAX_TYPES = { MX: 'mx_rfc', US: 'us_ein', GB: 'gb_vat', CA: 'ca_bn', CH: 'ch_vat', NO: 'no_vat', BR: 'br_cnpj', IN: 'in_gst', AU: 'au_abn' };

const FIELDS = ['email', 'external_id', 'name', 'billing_address', 'locale', 'type'];

export class Customers {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.payment_methods = (m) => ({ ...m, is_default: this.store.find('customers', m.customer_id)?.default_payment_method_id === m.id });
  }

  // ---- customers ----

  // What belongs to one person is unique: the e-mail address and our own id.
  #checkUnique(body, self) {
    for (const [field, name] of [['email', 'email address'], ['external_id', 'external ID']]) {
      const value = body[field];
      if (value === undefined || value === null) continue;
      for (const other of this.store.newestFirst('customers')) {
        if (other.id !== self && String(other[field] ?? '').toLowerCase() === value.toLowerCase()) throw invalidBody(field, `A customer with this ${name} already exists.`);
      }
    }
  }

  // Polar finds out the kind of a tax id from the country, and refuses one that is not valid.
  #taxId(taxId, address) {
    if (taxId === null || taxId === undefined) return null;
    if (Array.isArray(taxId)) return taxId;
    if (!address?.country) throw invalidBody('tax_id', 'A billing address with a country is needed.');
    if (/invalid/i.test(taxId)) throw invalidBody('tax_id', 'Invalid tax ID.');
    return [taxId, EU.has(address.country) ? 'eu_vat' : TAX_TYPES[address.country] ?? `${address.country.toLowerCase()}_vat`];
  }

  create({ body }) {
    const metadata = checkMetadata(body.metadata);
    this.#checkUnique(body);
    return new Answer(201, this.insert({ ...body, metadata }));
  }

  insert(body) {
    const customer = this.store.create('customers', {
      metadata: {}, external_id: null, email: null, email_verified: false, type: 'individual', name: null, billing_name: body.name ?? null, billing_address: null,
      tax_id: this.#taxId(body.tax_id, body.billing_address), locale: null, organization_id: ORGANIZATION, default_payment_method_id: null, deleted_at: null,
      first_user_event_at: null, avatar_url: null, ...pick(body, [...FIELDS, 'metadata']),
    });
    this.store.emit('customer.created', customer);
    return customer;
  }

  byExternalId(externalId) {
    for (const customer of this.store.newestFirst('customers')) if (customer.external_id === externalId) return customer;
    throw missing();
  }

  #one = ([id]) => this.store.get('customers', id);

  #external = ([id]) => this.byExternalId(id);

  // Every call that names a customer exists twice: by Polar's id, and by ours.
  routes() {
    const both = {
      'GET /v1/customers/{}': this.#read, 'PATCH /v1/customers/{}': this.#update, 'DELETE /v1/customers/{}': this.#delete, 'GET /v1/customers/{}/state': this.#state,
      'GET /v1/customers/{}/payment-methods': this.#listMethods,
    };
    const table = { 'POST /v1/customers/': this.create, 'GET /v1/customers/': this.list, 'POST /v1/customer-sessions/': this.createSession };
    for (const [route, run] of Object.entries(both)) {
      table[route.replace('{}', '{id}')] = (context) => run.call(this, this.#one(context.ids), context);
      table[route.replace('{}', 'external/{external_id}')] = (context) => run.call(this, this.#external(context.ids), context);
    }
    return table;
  }

  list({ query }) {
    const found = this.store.newest('customers').filter((c) => holds(query.email, c.email) && holdsMetadata(query.metadata, c.metadata)
      && (!query.query || [c.name, c.email, c.external_id].some((text) => text?.toLowerCase().includes(String(query.query).toLowerCase()))));
    if (query.active !== undefined) this.provider.notImitated('the filter active of customers');
    return page(found, query);
  }

  #read(customer) {
    return customer;
  }

  #update(customer, { body }) {
    this.#checkUnique(body, customer.id);
    if (body.external_id !== undefined && customer.external_id !== null && body.external_id !== customer.external_id) throw invalidBody('external_id', 'The external ID cannot be changed once it is set.');
    if (body.email === null && customer.type === 'individual') throw invalidBody('email', 'Field required');
    const changes = pick(body, FIELDS);
    if (body.name !== undefined) changes.billing_name = body.name;
    if (body.metadata !== undefined) changes.metadata = checkMetadata(body.metadata);
    if (body.tax_id !== undefined) changes.tax_id = this.#taxId(body.tax_id, body.billing_address ?? customer.billing_address);
    const after = this.store.set('customers', customer.id, changes);
    this.store.emit('customer.updated', after);
    return after;
  }

  #delete(customer, { query }) {
    for (const subscription of this.store.all('subscriptions')) {
      if (subscription.customer_id === customer.id && subscription.ended_at === null) this.provider.subscriptions.revoke(subscription.id);
    }
    for (const method of this.store.all('payment_methods')) if (method.customer_id === customer.id) this.store.change('payment_methods', method.id, { deleted: true });
    const hidden = query.anonymize ? { email: `${customer.id}@anonymized.invalid`, name: 'Anonymized', billing_name: 'Anonymized', billing_address: null, tax_id: null } : {};
    const after = this.store.set('customers', customer.id, { ...hidden, deleted_at: this.store.stamp() });
    this.store.emit('customer.deleted', after);
    this.store.change('customers', customer.id, { deleted: true });
    return new Answer(204);
  }

  #state(customer) {
    const active = this.store.all('subscriptions').filter((s) => s.customer_id === customer.id && ['active', 'trialing'].includes(s.status));
    const names = [
      'id', 'created_at', 'modified_at', 'metadata', 'status', 'amount', 'currency', 'recurring_interval', 'current_period_start', 'current_period_end', 'trial_start', 'trial_end',
      'cancel_at_period_end', 'canceled_at', 'started_at', 'ends_at', 'product_id', 'discount_id',
    ];
    return { ...customer, active_subscriptions: active.map((s) => ({ ...pick(s, names), meters: [] })), granted_benefits: [], active_meters: [] };
  }

  // A snapshot that Polar sends whenever what a customer may use has changed.
  stateChanged(customerId) {
    this.store.emit('customer.state_changed', this.#state(this.store.find('customers', customerId)));
  }

  // ---- payment methods: only the customer makes them, in a checkout or in the portal ----

  // does: pay, decline, authenticate.
  addMethod({ customer, external_customer_id: external, type = 'card', brand = 'visa', last4 = '4242', does = 'pay', is_default: asDefault = true, wallet = null }) {
    const { id, default_payment_method_id: old } = external === undefined ? this.store.get('customers', customer) : this.byExternalId(external);
    const method = this.store.create('payment_methods', {
      processor: 'stripe', customer_id: id, type, ...(type === 'card' && { method_metadata: { brand, last4, exp_month: 12, exp_year: 2030, wallet } }), [HIDDEN]: { does },
    });
    if (asDefault || old === null) this.store.set('customers', id, { default_payment_method_id: method.id });
    this.store.emit('customer.updated', this.store.find('customers', id));
    return this.store.show(method);
  }

  removeMethod({ payment_method: id }) {
    const method = this.store.get('payment_methods', id);
    this.store.change('payment_methods', id, { deleted: true });
    const { default_payment_method_id: current } = this.store.find('customers', method.customer_id);
    if (current === id) this.store.set('customers', method.customer_id, { default_payment_method_id: null });
    return method;
  }

  #listMethods(customer, { query }) {
    return page(this.store.newest('payment_methods').filter((m) => m.customer_id === customer.id), query);
  }

  // ---- sessions ----

  createSession({ body }) {
    const customer = body.customer_id !== undefined ? this.store.named('customers', body.customer_id, 'customer_id') : this.#sessionByExternalId(body.external_customer_id);
    const token = `polar_cst_${randomText(43)}`;
    const session = this.store.create('customer_sessions', {
      token, expires_at: iso(this.store.clock.now() + HOUR), return_url: body.return_url ?? null, customer_id: customer.id,
      customer_portal_url: `https://sandbox.polar.sh/simulator/portal?customer_session_token=${token}`,
    });
    return new Answer(201, { ...session, customer });
  }

  #sessionByExternalId(id) {
    try {
      return this.byExternalId(id);
    } catch {
      throw invalidBody('external_customer_id', 'Customer does not exist.');
    }
  }
}
