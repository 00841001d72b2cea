// Customers, their tax ids and their payment methods.

import { AUTHENTICATION_REQUIRED, TEST_METHODS } from './cards.js';
import { list, search } from './query.js';
import { HIDDEN, StripeError, address, applyFields, bool, int, invalid, mergeMetadata, missing, newId, randomText } from './store.js';

const PLAIN_FIELDS = ['name', 'email', 'phone', 'description', 'preferred_locales', 'tax_exempt', 'business_name', 'individual_name'];

function customerShell(id, now) {
  return {
    id,
    object: 'customer',
    address: null,
    balance: 0,
    created: now,
    currency: null,
    customer_account: null,
    default_source: null,
    delinquent: false,
    description: null,
    discount: null,
    email: null,
    invoice_prefix: id.slice(4, 12).toUpperCase(),
    invoice_settings: { custom_fields: null, default_payment_method: null, footer: null, rendering_options: null },
    livemode: false,
    metadata: {},
    name: null,
    next_invoice_sequence: 1,
    phone: null,
    preferred_locales: [],
    shipping: null,
    tax_exempt: 'none',
    test_clock: null,
  };
}

function customerChanges(customer, params) {
  const changes = applyFields(customer, params, PLAIN_FIELDS);
  if (params.tax_exempt === '') changes.tax_exempt = 'none';
  if (params.preferred_locales === '') changes.preferred_locales = [];
  if (params.balance !== undefined) changes.balance = int(params.balance);
  if (params.invoice_prefix !== undefined) changes.invoice_prefix = params.invoice_prefix;
  if (params.next_invoice_sequence !== undefined) changes.next_invoice_sequence = int(params.next_invoice_sequence);
  if (params.address !== undefined) changes.address = params.address === '' ? null : address(params.address);
  if (params.shipping !== undefined) {
    changes.shipping = params.shipping === '' ? null : { phone: null, ...params.shipping, address: address(params.shipping.address) };
  }
  if (params.invoice_settings !== undefined) changes.invoice_settings = invoiceSettings(customer, params.invoice_settings);
  return changes;
}

function invoiceSettings(customer, given) {
  const settings = { ...customer.invoice_settings };
  for (const name of ['custom_fields', 'default_payment_method', 'footer', 'rendering_options']) {
    if (given[name] !== undefined) settings[name] = given[name] === '' ? null : given[name];
  }
  return settings;
}

export class Customers {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // A deleted customer can still be read, nothing else.
  live(id, param = 'id') {
    const customer = this.store.find('customers', id);
    if (!customer || customer.deleted) throw missing('customer', id, param);
    return customer;
  }

  create(params) {
    this.#checkEmail(params);
    const shell = customerShell(newId('cus'), this.store.clock.now());
    const customer = { ...shell, ...customerChanges(shell, params) };
    const method = params.payment_method === undefined ? null : this.#usable(params.payment_method, customer.id);
    const wanted = customer.invoice_settings.default_payment_method;
    if (wanted && wanted !== params.payment_method) throw this.#notAttached(wanted);
    if (method && wanted) customer.invoice_settings = { ...customer.invoice_settings, default_payment_method: method.id };
    this.store.add('customers', customer, 'customer.created');
    if (method) this.attach(method, customer.id);
    for (const given of params.tax_id_data ?? []) this.createTaxId(given, customer.id);
    return customer;
  }

  update(params, id) {
    const customer = this.live(id);
    this.#checkEmail(params);
    const changes = customerChanges(customer, params);
    const wanted = params.invoice_settings?.default_payment_method;
    if (wanted) {
      const method = this.store.find('payment_methods', wanted);
      if (!method || method.customer !== id) throw this.#notAttached(wanted);
    }
    return this.store.change('customers', id, changes, 'customer.updated');
  }

  // Deleting ends the subscriptions at once, each with its own event, before the customer's.
  delete(params, id) {
    const customer = this.live(id);
    for (const subscription of this.store.all('subscriptions')) {
      if (subscription.customer === id && !this.stripe.subscriptions.ended(subscription)) {
        this.stripe.subscriptions.end(subscription.id, 'cancellation_requested');
      }
    }
    for (const method of this.store.all('payment_methods')) {
      if (method.customer === id) this.store.replace('payment_methods', { ...method, customer: null });
    }
    this.store.emit('customer.deleted', customer);
    return this.store.replace('customers', { id, object: 'customer', deleted: true });
  }

  get(params, id) {
    const customer = this.store.find('customers', id);
    if (!customer) throw missing('customer', id);
    return customer;
  }

  list(params) {
    return list(this.store, 'customers', params, '/v1/customers', (c) => params.email === undefined || c.email === params.email);
  }

  search(params) {
    return search(this.store, 'customers', params, '/v1/customers/search', this.stripe.settings.search_lag_ms);
  }

  createTaxId({ type, value }, customerId) {
    const customer = this.live(customerId);
    const taxId = {
      id: newId('txi'), object: 'tax_id', country: type.slice(0, 2).toUpperCase(), created: this.store.clock.now(), customer: customer.id,
      customer_account: null, livemode: false, owner: { type: 'customer', customer: customer.id }, type, value, verification: null,
    };
    return this.store.add('tax_ids', taxId, 'customer.tax_id.created');
  }

  listTaxIds(params, customerId) {
    this.live(customerId);
    return list(this.store, 'tax_ids', params, `/v1/customers/${customerId}/tax_ids`, (t) => t.customer === customerId);
  }

  getTaxId(params, id) {
    const taxId = this.store.find('tax_ids', id);
    if (!taxId || taxId.deleted) throw missing('tax_id', id);
    return taxId;
  }

  deleteTaxId(params, id) {
    this.store.emit('customer.tax_id.deleted', this.getTaxId(params, id));
    return this.store.replace('tax_ids', { id, object: 'tax_id', deleted: true });
  }

  #checkEmail(params) {
    if (params.email && !/^[^@\s]+@[^@\s]+$/.test(params.email)) {
      throw new StripeError(400, 'invalid_request_error', `Invalid email address: ${params.email}`, { code: 'email_invalid', param: 'email' });
    }
  }

  #notAttached(id) {
    return invalid(
      `The customer does not have a payment method with the ID ${id}. The payment method must be attached to the customer.`,
      'invoice_settings[default_payment_method]',
      'resource_missing',
    );
  }

  // ---- payment methods ----

  // A test token becomes a payment method of its own each time it is used, as with the real one.
  fromToken(token, param = 'payment_method') {
    const test = TEST_METHODS[token];
    if (!test) throw missing('PaymentMethod', token, param);
    return {
      id: newId('pm'),
      object: 'payment_method',
      allow_redisplay: 'unspecified',
      billing_details: { address: address({}), email: null, name: null, phone: null, tax_id: null },
      created: this.store.clock.now(),
      customer: null,
      customer_account: null,
      livemode: false,
      metadata: {},
      type: test.type,
      [test.type]: { card: () => this.#card(token, test), us_bank_account: () => usBankAccount(test), sepa_debit: () => sepaDebit(test) }[test.type](),
      // mandate: the owner has agreed to be debited.
      [HIDDEN]: { token, detached: false, mandate: false },
    };
  }

  #card(token, test) {
    return {
      brand: test.brand,
      checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: 'pass' },
      country: token === 'pm_card_mx' ? 'MX' : 'US',
      display_brand: test.brand,
      exp_month: 12,
      exp_year: new Date(this.store.clock.now() * 1000).getUTCFullYear() + 2,
      fingerprint: `fp${test.last4}simulator00`.slice(0, 16),
      funding: test.funding,
      generated_from: null,
      last4: test.last4,
      networks: { available: [test.brand], preferred: null },
      regulated_status: 'unregulated',
      three_d_secure_usage: { supported: true },
      wallet: null,
    };
  }

  #usable(idOrToken, customerId) {
    const known = this.store.find('payment_methods', idOrToken);
    const method = known ?? this.fromToken(idOrToken);
    if (known?.[HIDDEN].detached) {
      throw invalid(
        'This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.',
        'payment_method',
      );
    }
    if (known?.customer && known.customer !== customerId) {
      throw invalid('The payment method you provided has already been attached to a customer.', 'payment_method');
    }
    const refused = TEST_METHODS[method[HIDDEN].token]?.attach;
    if (refused) throw new StripeError(402, 'card_error', refused.message, { code: refused.code, decline_code: refused.decline_code, param: '' });
    return method;
  }

  attach(method, customerId) {
    if (method.customer === customerId) return method;
    const attached = { ...method, customer: customerId };
    if (this.store.find('payment_methods', method.id)) this.store.replace('payment_methods', attached);
    else this.store.insert('payment_methods', attached);
    this.store.emit('payment_method.attached', attached);
    return attached;
  }

  attachMethod(params, id) {
    this.live(params.customer, 'customer');
    return this.attach(this.#usable(id, params.customer), params.customer);
  }

  // For calls that take a payment method in passing (paying an invoice): ours already, or a token.
  methodFor(customerId, idOrToken, param) {
    const known = this.store.find('payment_methods', idOrToken);
    if (known) {
      if (known.customer !== customerId) throw invalid(`The payment method ${idOrToken} does not belong to the customer.`, param);
      return known;
    }
    return this.attach(this.#usable(idOrToken, customerId), customerId);
  }

  detachMethod(params, id) {
    const method = this.store.find('payment_methods', id);
    if (!method) throw missing('PaymentMethod', id);
    if (!method.customer) throw invalid('The payment method you provided is not attached to a customer so detachment is impossible.', 'id');
    const customer = this.store.find('customers', method.customer);
    method[HIDDEN].detached = true;
    const detached = this.store.change('payment_methods', id, { customer: null }, 'payment_method.detached');
    if (customer?.invoice_settings?.default_payment_method === id) {
      const settings = { ...customer.invoice_settings, default_payment_method: null };
      this.store.change('customers', customer.id, { invoice_settings: settings }, 'customer.updated');
    }
    return detached;
  }

  getMethod(params, id) {
    const method = this.store.find('payment_methods', id) ?? (TEST_METHODS[id] && this.store.insert('payment_methods', this.fromToken(id)));
    if (!method) throw missing('PaymentMethod', id);
    return method;
  }

  updateMethod(params, id) {
    const method = this.getMethod(params, id);
    const changes = applyFields(method, params, []);
    if (params.billing_details) changes.billing_details = { ...method.billing_details, ...params.billing_details, address: address(params.billing_details.address ?? method.billing_details.address) };
    if (params.card) changes.card = { ...method.card, ...params.card };
    return this.store.change('payment_methods', id, changes, 'payment_method.updated');
  }

  listMethods(params, id) {
    this.live(id, 'customer');
    return list(
      this.store, 'payment_methods', params, `/v1/customers/${id}/payment_methods`,
      (m) => m.customer === id && (params.type === undefined || m.type === params.type),
    );
  }

  // What a charge of this method would do: null (succeeds), 'authenticate', or a decline.
  chargeOutcome(method, offSession) {
    const outcome = TEST_METHODS[method[HIDDEN].token]?.charge ?? null;
    return outcome === 'authenticate' && offSession ? AUTHENTICATION_REQUIRED : outcome;
  }
}

const usBankAccount = ({ last4 }) => ({
  account_holder_type: 'individual', account_type: 'checking', bank_name: 'STRIPE TEST BANK', financial_connections_account: null, fingerprint: `fp${last4}simulator`,
  last4, networks: { preferred: 'ach', supported: ['ach'] }, routing_number: '110000000', status_details: {},
});

const sepaDebit = ({ last4 }) => ({
  bank_code: '37040044', branch_code: '', country: 'DE', fingerprint: `fp${last4}simulator`, generated_from: { charge: null, setup_attempt: null }, last4,
});
