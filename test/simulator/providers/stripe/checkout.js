// Stripe's pages: checkout sessions, payment links, portal sessions. What the buyer does on them comes by the
// control API: complete() and payLink().

import { amountOf } from './catalog.js';
import { list } from './query.js';
import { HIDDEN, bool, int, invalid, mergeMetadata, missing, newId, randomText } from './store.js';

const MINUTE = 60;
const DAY = 86400;

export class Checkout {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // ---- lines ----

  #lines(given, mode) {
    if (!given?.length) throw invalid('Missing required param: line_items.', 'line_items', 'parameter_missing');
    return given.map((line, i) => {
      if (!line.price === !line.price_data) throw invalid('Each line item needs exactly one of price and price_data.', `line_items[${i}]`);
      const price = line.price ? this.stripe.catalog.price(line.price, `line_items[${i}][price]`) : this.stripe.catalog.createPrice(line.price_data);
      if (mode === 'payment' && price.type === 'recurring') {
        throw invalid('You must provide one of `subscription` mode when using recurring prices.', `line_items[${i}][price]`);
      }
      return { price, quantity: int(line.quantity, 1) };
    });
  }

  #total(lines) {
    const currencies = new Set(lines.map((l) => l.price.currency));
    if (currencies.size > 1) throw invalid('All line items must have the same currency.', 'line_items');
    return { currency: [...currencies][0], amount: lines.reduce((sum, l) => sum + amountOf(l.price, l.quantity), 0) };
  }

  // ---- checkout sessions ----

  create(params) {
    const mode = params.mode ?? 'payment';
    const now = this.store.clock.now();
    if (params.customer) this.stripe.customers.live(params.customer, 'customer');
    if (!params.success_url) throw invalid('Missing required param: success_url.', 'success_url', 'parameter_missing');
    const expires = int(params.expires_at, now + DAY);
    if (expires < now + 30 * MINUTE - 5 || expires > now + DAY + 5) {
      throw invalid('The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.', 'expires_at');
    }
    this.#checkModes(params, mode);
    const lines = mode === 'setup' ? [] : this.#lines(params.line_items, mode);
    if (mode === 'subscription' && !lines.some((l) => l.price.type === 'recurring')) {
      throw invalid('You must provide at least one recurring price in `subscription` mode.', 'line_items');
    }
    return this.#insert(params, { mode, lines, expires, link: null });
  }

  #checkModes(params, mode) {
    for (const [name, only] of [['payment_intent_data', 'payment'], ['subscription_data', 'subscription'], ['setup_intent_data', 'setup']]) {
      if (params[name] !== undefined && mode !== only) throw invalid(`You can not pass \`${name}\` in \`${mode}\` mode.`, name);
    }
    if (params.discounts && bool(params.allow_promotion_codes, false)) {
      throw invalid('You may only specify one of these parameters: allow_promotion_codes, discounts.', 'discounts');
    }
    if (params.customer && bool(params.tax_id_collection?.enabled, false) && params.customer_update?.name !== 'auto') {
      throw invalid('Tax ID collection requires updating business name on the customer. Please set `customer_update[name]` to `auto`.', 'tax_id_collection');
    }
    for (const discount of params.discounts ?? []) this.stripe.coupons.find(discount.coupon, 'discounts[0][coupon]');
  }

  #insert(params, { mode, lines, expires, link }) {
    const id = `cs_test_${randomText(58)}`;
    const { currency, amount } = lines.length > 0 ? this.#total(lines) : { currency: params.currency ?? null, amount: null };
    const off = amount === null ? 0 : this.stripe.coupons.discountOf(params.discounts, amount, currency);
    const total = amount === null ? null : amount - off;
    const session = {
      id,
      object: 'checkout.session',
      adaptive_pricing: null,
      after_expiration: null,
      allow_promotion_codes: params.allow_promotion_codes === undefined ? null : bool(params.allow_promotion_codes),
      allowed_payment_method_types: params.allowed_payment_method_types ?? null,
      amount_subtotal: amount,
      amount_total: total,
      automatic_tax: { enabled: bool(params.automatic_tax?.enabled, false), liability: null, provider: null, status: null },
      billing_address_collection: null,
      cancel_url: params.cancel_url ?? null,
      client_reference_id: params.client_reference_id ?? null,
      client_secret: null,
      collected_information: null,
      consent: null,
      consent_collection: null,
      created: this.store.clock.now(),
      currency,
      currency_conversion: null,
      custom_fields: [],
      custom_text: { after_submit: null, shipping_address: null, submit: null, terms_of_service_acceptance: null },
      customer: params.customer ?? null,
      customer_account: null,
      customer_creation: params.customer ? null : 'if_required',
      customer_details: null,
      customer_email: params.customer_email ?? null,
      discounts: (params.discounts ?? []).map(({ coupon }) => ({ coupon, promotion_code: null })),
      expires_at: expires,
      integration_identifier: null,
      invoice: null,
      invoice_creation: mode === 'payment' ? { enabled: false, invoice_data: { account_tax_ids: null, custom_fields: null, description: null, footer: null, issuer: null, metadata: {}, rendering_options: null } } : null,
      livemode: false,
      locale: params.locale ?? null,
      managed_payments: null,
      metadata: mergeMetadata({}, params.metadata),
      mode,
      origin_context: null,
      payment_intent: null,
      payment_link: link,
      payment_method_collection: mode === 'payment' ? 'if_required' : 'always',
      payment_method_configuration_details: null,
      payment_method_options: {},
      payment_method_types: params.allowed_payment_method_types ?? ['card'],
      payment_status: total === null ? 'no_payment_required' : 'unpaid',
      permissions: null,
      phone_number_collection: { enabled: false },
      recovered_from: null,
      saved_payment_method_options: null,
      setup_intent: null,
      shipping_address_collection: null,
      shipping_cost: null,
      shipping_options: [],
      status: 'open',
      submit_type: null,
      subscription: null,
      success_url: params.success_url ?? null,
      total_details: amount === null ? null : { amount_discount: off, amount_shipping: 0, amount_tax: 0 },
      ui_mode: 'hosted_page',
      url: `https://checkout.stripe.com/c/pay/${id}`,
      wallet_options: null,
      [HIDDEN]: { lines, given: params },
    };
    this.store.insert('checkout_sessions', session);
    this.store.later(expires - this.store.clock.now(), () => this.#expireIfOpen(id));
    return session;
  }

  get(params, id) {
    const session = this.store.find('checkout_sessions', id);
    if (!session) throw missing('checkout.session', id, 'session');
    return session;
  }

  list(params) {
    return list(
      this.store, 'checkout_sessions', params, '/v1/checkout/sessions',
      (s) => ['customer', 'payment_intent', 'payment_link', 'status', 'subscription'].every((name) => params[name] === undefined || s[name] === params[name]),
    );
  }

  lineItems(params, id) {
    const { lines } = this.get({}, id)[HIDDEN];
    const data = lines.map(({ price, quantity }) => ({
      id: newId('li'), object: 'item', amount_discount: 0, amount_subtotal: amountOf(price, quantity), amount_tax: 0, amount_total: amountOf(price, quantity),
      currency: price.currency, description: this.store.find('products', price.product)?.name ?? null, price, quantity,
    }));
    return { object: 'list', data, has_more: false, url: `/v1/checkout/sessions/${id}/line_items` };
  }

  expire(params, id) {
    const session = this.get({}, id);
    if (session.status !== 'open') throw invalid(`Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of ${session.status}.`, 'session');
    return this.#expireIfOpen(id);
  }

  #expireIfOpen(id) {
    const session = this.get({}, id);
    if (session.status !== 'open') return session;
    return this.store.change('checkout_sessions', id, { status: 'expired', url: null }, 'checkout.session.expired');
  }

  // ---- the buyer ----

  // Pays with a test token; a decline leaves the session open, as the page does.
  complete({ checkout_session: id, payment_method: token = 'pm_card_visa', billing_details: billing }) {
    const session = this.get({}, id);
    if (session.status !== 'open') throw invalid(`This Checkout Session is ${session.status}.`, 'session');
    const customer = session.customer ?? this.stripe.customers.create({ email: 'buyer@example.com' }).id;
    const made = { payment: () => this.#pay(session, customer, token, billing), subscription: () => this.#subscribe(session, customer, token), setup: () => this.#setUp(session, customer, token) }[session.mode]();
    const done = this.store.change('checkout_sessions', id, {
      ...made, customer, customer_details: { address: null, business_name: null, email: 'buyer@example.com', individual_name: null, name: null, phone: null, tax_exempt: 'none', tax_ids: [] },
      status: 'complete', url: null,
    });
    this.store.emit('checkout.session.completed', done);
    return this.store.find('checkout_sessions', id);
  }

  #pay(session, customer, token, billing) {
    const { payment_intent_data: data = {}, payment_method_options: options } = session[HIDDEN].given;
    if (session.amount_total === 0) return { payment_status: 'no_payment_required' };
    const type = { oxxo: 'oxxo', spei: 'customer_balance' }[token];
    const intent = this.stripe.payments.create({
      ...data, amount: session.amount_total, currency: session.currency, customer, confirm: true, payment_method_options: options,
      mandate_data: { customer_acceptance: { type: 'online' } },
      ...(type ? { payment_method_data: { type, billing_details: billing ?? { email: 'buyer@example.com', name: 'Buyer' } } } : { payment_method: token }),
    });
    intent[HIDDEN].session = session.id;
    return { payment_intent: intent.id, payment_status: intent.status === 'succeeded' ? 'paid' : 'unpaid' };
  }

  #subscribe(session, customer, token) {
    const { subscription_data: data = {}, discounts, automatic_tax } = session[HIDDEN].given;
    const method = this.stripe.customers.methodFor(customer, token, 'payment_method');
    const subscription = this.stripe.subscriptions.create({
      customer, default_payment_method: method.id, payment_behavior: 'error_if_incomplete', discounts, automatic_tax,
      items: session[HIDDEN].lines.map(({ price, quantity }) => ({ price: price.id, quantity })),
      metadata: data.metadata, ...(data.trial_period_days !== undefined && { trial_period_days: data.trial_period_days }),
    });
    return { subscription: subscription.id, invoice: subscription.latest_invoice, payment_status: subscription.status === 'trialing' ? 'no_payment_required' : 'paid' };
  }

  #setUp(session, customer, token) {
    const { setup_intent_data: data = {} } = session[HIDDEN].given;
    const setup = this.stripe.setups.create({ ...data, customer, payment_method: token, confirm: true, mandate_data: { customer_acceptance: { type: 'online' } } });
    return { setup_intent: setup.id };
  }

  // A payment that was on its way when the session was completed.
  paymentSettled(intent) {
    const id = intent[HIDDEN].session;
    const session = id && this.store.find('checkout_sessions', id);
    if (!session || session.status !== 'complete' || session.payment_status === 'paid') return;
    if (intent.status === 'succeeded') this.store.change('checkout_sessions', id, { payment_status: 'paid' }, 'checkout.session.async_payment_succeeded');
    else this.store.emit('checkout.session.async_payment_failed', session);
  }

  // ---- payment links ----

  createLink(params) {
    const lines = this.#lines(params.line_items, null);
    const id = newId('plink');
    const subscription = lines.some((l) => l.price.type === 'recurring');
    for (const [name, wrong] of [['payment_intent_data', subscription], ['subscription_data', !subscription]]) {
      if (params[name] !== undefined && wrong) throw invalid(`You can not pass \`${name}\` with these prices.`, name);
    }
    return this.store.add('payment_links', {
      id,
      object: 'payment_link',
      active: true,
      after_completion: params.after_completion ?? { hosted_confirmation: { custom_message: null }, type: 'hosted_confirmation' },
      allow_promotion_codes: false,
      application: null,
      application_fee_amount: null,
      application_fee_percent: null,
      automatic_tax: { enabled: false, liability: null },
      billing_address_collection: 'auto',
      consent_collection: null,
      currency: this.#total(lines).currency,
      custom_fields: [],
      custom_text: { after_submit: null, shipping_address: null, submit: null, terms_of_service_acceptance: null },
      customer_creation: 'if_required',
      inactive_message: null,
      invoice_creation: null,
      livemode: false,
      managed_payments: null,
      metadata: mergeMetadata({}, params.metadata),
      on_behalf_of: null,
      payment_intent_data: null,
      payment_method_collection: 'always',
      payment_method_options: null,
      payment_method_types: params.payment_method_types ?? null,
      phone_number_collection: { enabled: false },
      restrictions: params.restrictions ? { completed_sessions: { count: 0, limit: int(params.restrictions.completed_sessions.limit) } } : null,
      shipping_address_collection: null,
      shipping_options: [],
      submit_type: 'auto',
      subscription_data: null,
      tax_id_collection: { enabled: false, required: 'never' },
      transfer_data: null,
      url: `https://buy.stripe.com/test_${randomText(16)}`,
      [HIDDEN]: { lines, given: params, subscription },
    }, 'payment_link.created');
  }

  getLink(params, id) {
    const link = this.store.find('payment_links', id);
    if (!link) throw missing('payment_link', id, 'payment_link');
    return link;
  }

  listLinks(params) {
    const active = params.active === undefined ? undefined : bool(params.active);
    return list(this.store, 'payment_links', params, '/v1/payment_links', (l) => active === undefined || l.active === active);
  }

  updateLink(params, id) {
    const link = this.getLink({}, id);
    const changes = {};
    if (params.active !== undefined) changes.active = bool(params.active);
    if (params.metadata !== undefined) changes.metadata = mergeMetadata(link.metadata, params.metadata);
    return this.store.change('payment_links', id, changes, 'payment_link.updated');
  }

  // Somebody opens the link and pays: a session with the link's metadata.
  payLink({ payment_link: id, ...given }) {
    const link = this.getLink({}, id);
    const limit = link.restrictions?.completed_sessions;
    if (!link.active || (limit && limit.count >= limit.limit)) throw invalid('This payment link is no longer active.', 'payment_link');
    const { lines, given: params, subscription } = link[HIDDEN];
    const session = this.#insert(
      { metadata: link.metadata, payment_intent_data: params.payment_intent_data, subscription_data: params.subscription_data },
      { mode: subscription ? 'subscription' : 'payment', lines, expires: this.store.clock.now() + DAY, link: id },
    );
    const done = this.complete({ checkout_session: session.id, ...given });
    if (limit) this.store.change('payment_links', id, { restrictions: { completed_sessions: { ...limit, count: limit.count + 1 } } }, 'payment_link.updated');
    return done;
  }

  // ---- the portal ----

  createPortalSession(params) {
    const customer = this.stripe.customers.live(params.customer, 'customer');
    const id = newId('bps');
    return this.store.insert('portal_sessions', {
      id, object: 'billing_portal.session', configuration: 'bpc_1simulator', created: this.store.clock.now(), customer: customer.id, customer_account: null, flow: null,
      livemode: false, locale: params.locale ?? null, on_behalf_of: null, return_url: params.return_url ?? null, url: `https://billing.stripe.com/p/session/test_${randomText(40)}`,
    });
  }
}
