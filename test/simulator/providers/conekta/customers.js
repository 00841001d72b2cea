// Conekta: customers, their payment sources, fiscal entities and shipping contacts, and the cards behind
// the test tokens.

import { HIDDEN, invalid, list, mergeMetadata, missing, newClabe, newId, newReference, page, pick, precondition, unprocessed } from './store.js';

const visa = { brand: 'visa', last4: '4242', bin: '42424242', issuer: 'bancomer', card_type: 'credit' };

// Published test tokens and what their card does. A token may go on after its name (tok_test_visa_4242_b),
// which makes as many different ones of a kind as a test needs, because each is taken once.
const TOKENS = {
  tok_test_visa_4242: { ...visa, does: 'pay' },
  tok_test_mastercard_4444: { ...visa, brand: 'mastercard', last4: '4444', bin: '55555555', does: 'pay' },
  tok_test_amex_0005: { ...visa, brand: 'american_express', last4: '0005', bin: '37828224', does: 'pay' },
  tok_test_card_declined: { ...visa, last4: '0002', does: 'decline' },
  tok_test_insufficient_funds: { ...visa, last4: '9995', does: 'no_funds' },
  tok_test_msi_error: { ...visa, last4: '0341', does: 'no_msi' },
  tok_test_3ds: { ...visa, last4: '3155', does: 'authenticate' },
};

const RECURRENT = new Set(['cash_recurrent', 'oxxo_recurrent', 'cash', 'spei_recurrent', 'spei']);

const CUSTOMER_FIELDS = [
  'name', 'email', 'phone', 'corporate', 'custom_reference', 'date_of_birth', 'national_id', 'default_payment_source_id', 'default_shipping_contact_id', 'antifraud_info',
];

export class Customers {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.usedTokens = new Set();
    this.store.views.customer = (c) => this.#view(c);
    this.store.views.payment_source = (s) => (s.type === 'card' ? { ...s, default: this.store.find('customers', s.parent_id)?.default_payment_source_id === s.id } : s);
  }

  #view(customer) {
    const { sources, entities, contacts, subscriptions } = customer[HIDDEN];
    const shown = (kind, ids) => ids.map((id) => this.store.show(this.store.find(kind, id))).filter((o) => o && !o.deleted);
    const live = subscriptions.map((id) => this.store.find('subscriptions', id)).find((s) => s && !['canceled', 'expired'].includes(s.status));
    return {
      ...customer,
      payment_sources: list(shown('payment_sources', sources)), fiscal_entities: list(shown('fiscal_entities', entities)),
      shipping_contacts: list(shown('shipping_contacts', contacts)), ...(live && { subscription: live }),
    };
  }

  get(id) {
    return this.store.get('customers', id, 'Customer');
  }

  // ---- customers ----

  create({ body }) {
    this.#checkSources(body.payment_sources);
    const { store } = this;
    const customer = {
      id: newId('cus'), object: 'customer', livemode: false, created_at: store.clock.now(), corporate: false, custom_reference: '', default_payment_source_id: null,
      default_fiscal_entity_id: null, metadata: { ...body.metadata }, ...pick(body, CUSTOMER_FIELDS),
      [HIDDEN]: { sources: [], entities: [], contacts: [], subscriptions: [], portal: null },
    };
    const plan = body.subscription ?? (body.plan_id && { plan_id: body.plan_id });
    if (plan) this.provider.subscriptions.plan(plan.plan_id);
    store.insert('customers', customer);
    for (const source of body.payment_sources ?? []) this.#addSource(customer.id, source);
    for (const entity of body.fiscal_entities ?? []) this.#addEntity(customer.id, entity);
    for (const contact of body.shipping_contacts ?? []) this.#addContact(customer.id, contact);
    store.emit('customer.created', this.get(customer.id));
    if (plan) this.provider.subscriptions.create({ ids: [customer.id], body: plan });
    return store.show(this.get(customer.id));
  }

  list({ query, base }) {
    return page(this.store.newest('customers', query.search === undefined ? 0 : this.provider.settings.search_lag_ms), query, { base, path: '/customers' });
  }

  read({ ids: [id] }) {
    return this.store.show(this.get(id));
  }

  update({ ids: [id], body }) {
    const customer = this.get(id);
    for (const name of ['payment_sources', 'fiscal_entities', 'shipping_contacts', 'plan_id', 'subscription']) {
      if (body[name] !== undefined) this.provider.notImitated(`${name} in an update of a customer`);
    }
    const source = body.default_payment_source_id;
    if (source !== undefined && !customer[HIDDEN].sources.includes(source)) throw invalid(`The payment source "${source}" is not of this customer.`, 'default_payment_source_id', 'customer.default_payment_source_id');
    const changes = pick(body, CUSTOMER_FIELDS);
    if (body.metadata !== undefined) changes.metadata = mergeMetadata(customer.metadata, body.metadata);
    return this.store.show(this.store.change('customers', id, changes, 'customer.updated'));
  }

  delete({ ids: [id] }) {
    const customer = this.get(id);
    const shown = this.store.show(customer);
    for (const subscription of customer[HIDDEN].subscriptions) this.provider.subscriptions.end(subscription, 'customer_deleted');
    for (const source of customer[HIDDEN].sources) this.store.change('payment_sources', source, { deleted: true });
    this.store.change('customers', id, { deleted: true });
    this.store.emit('customer.deleted', shown);
    return { ...shown, deleted: true };
  }

  // ---- payment sources ----

  // The card of a token, which is spent by this; `spend: false` only looks.
  cardOf(token, { spend = true } = {}) {
    const name = Object.keys(TOKENS).filter((known) => token === known || token.startsWith(`${known}_`)).sort((a, b) => b.length - a.length)[0];
    if (!name) throw invalid('The token does not exist.', 'payment_method.token_id', 'payment_method.token_id.nonexistent_token');
    if (this.usedTokens.has(token) && !this.provider.settings.reusable_tokens) throw unprocessed('tokenization.used', 'The token has already been used.');
    if (spend) this.usedTokens.add(token);
    return TOKENS[name];
  }

  #checkSources(sources = []) {
    const tokens = new Set();
    for (const source of sources) {
      if (source.type === 'card') {
        if (typeof source.token_id !== 'string') throw invalid('token_id is missing.', 'payment_sources.token_id', 'payment_source.token_id.missing');
        if (tokens.has(source.token_id)) throw unprocessed('tokenization.used', 'The token has already been used.');
        tokens.add(source.token_id);
        this.cardOf(source.token_id, { spend: false });
      } else if (!RECURRENT.has(source.type)) throw invalid(`The type "${source.type}" is not valid.`, 'type', 'payment_source.type.invalid');
    }
  }

  #addSource(customerId, { type, token_id: token, expires_at: expires }) {
    const now = this.store.clock.now();
    const common = { object: 'payment_source', created_at: now, parent_id: customerId };
    const customer = this.get(customerId);
    let source;
    if (type === 'card') {
      const { does, ...card } = this.cardOf(token);
      source = {
        id: newId('src'), ...common, type: 'card', ...card, exp_month: '12', exp_year: '30', name: customer.name, default: false, visible_on_checkout: true,
        payment_source_status: 'active', [HIDDEN]: { does },
      };
    } else if (type.startsWith('spei')) {
      source = { id: newId('off_ref'), ...common, type: 'spei_recurrent', bank: 'STP', reference: newClabe(), expires_at: String(expires ?? 0) };
    } else {
      const reference = newReference();
      source = {
        id: newId('off_ref'), ...common, type: 'cash_recurrent', provider: 'Cash', reference, barcode: reference,
        barcode_url: `https://barcodes.conekta.com/cash/cashin/${reference}.png`, expires_at: expires ?? 0, agreements: [{ provider: 'bbva_cash_in', agreement: '2409526' }],
      };
    }
    this.store.insert('payment_sources', source);
    customer[HIDDEN].sources.push(source.id);
    if (type === 'card' && customer.default_payment_source_id === null) this.store.change('customers', customerId, { default_payment_source_id: source.id });
    return source;
  }

  createSource({ ids: [id], body }) {
    this.get(id);
    this.#checkSources([body]);
    const source = this.#addSource(id, body);
    this.store.emit('customer.updated', this.get(id));
    return this.store.show(source);
  }

  listSources({ ids: [id], query, base }) {
    this.get(id);
    return page(this.store.newest('payment_sources').filter((s) => s.parent_id === id), query, { base, path: `/customers/${id}/payment_sources` });
  }

  source(customerId, id) {
    const source = this.store.get('payment_sources', id, 'PaymentSource');
    if (source.parent_id !== customerId) throw missing('PaymentSource', id);
    return source;
  }

  updateSource({ ids: [customerId, id], body }) {
    this.get(customerId);
    this.source(customerId, id);
    return this.store.show(this.store.change('payment_sources', id, pick(body, ['name', 'expires_at']), 'customer.updated'));
  }

  deleteSource({ ids: [customerId, id] }) {
    const customer = this.get(customerId);
    const source = this.source(customerId, id);
    const billed = customer[HIDDEN].subscriptions.map((s) => this.store.find('subscriptions', s)).some((s) => s.card_id === id && !['canceled', 'expired'].includes(s.status));
    if (billed) throw precondition('The payment source is used by a subscription.', 'payment_source.in_use');
    this.store.change('payment_sources', id, { deleted: true });
    if (customer.default_payment_source_id === id) {
      const next = customer[HIDDEN].sources.map((s) => this.store.find('payment_sources', s)).find((s) => !s.deleted && s.type === 'card');
      this.store.change('customers', customerId, { default_payment_source_id: next?.id ?? null });
    }
    this.store.emit('customer.updated', this.get(customerId));
    return this.store.show(source);
  }

  // ---- fiscal entities and shipping contacts ----

  #addEntity(customerId, body) {
    const customer = this.get(customerId);
    const first = customer.default_fiscal_entity_id === null;
    const entity = { id: newId('fis_ent'), object: 'fiscal_entity', created_at: this.store.clock.now(), parent_id: customerId, default: first, ...body };
    this.store.insert('fiscal_entities', entity);
    customer[HIDDEN].entities.push(entity.id);
    if (first) this.store.change('customers', customerId, { default_fiscal_entity_id: entity.id });
    return entity;
  }

  createEntity({ ids: [id], body }) {
    this.get(id);
    const entity = this.#addEntity(id, body);
    this.store.emit('customer.updated', this.get(id));
    return entity;
  }

  updateEntity({ ids: [customerId, id], body }) {
    this.get(customerId);
    const entity = this.store.get('fiscal_entities', id, 'FiscalEntity');
    if (entity.parent_id !== customerId) throw missing('FiscalEntity', id);
    const changed = this.store.change('fiscal_entities', id, { ...body, ...(body.address && { address: { ...entity.address, ...body.address } }) });
    this.store.emit('customer.updated', this.get(customerId));
    return changed;
  }

  #addContact(customerId, body) {
    const contact = { id: newId('ship_cont'), object: 'shipping_contact', created_at: this.store.clock.now(), parent_id: customerId, ...body };
    this.store.insert('shipping_contacts', contact);
    this.get(customerId)[HIDDEN].contacts.push(contact.id);
    return contact;
  }
}
