// Invoices, the payments made for them, and the events of both in the order in which Stripe sends them.
//
// An invoice is made as a draft, finalised (number, amount due, payment intent) and then attempted. What an
// attempt means for the subscription is the business of subscriptions.js, which is told by two calls:
// invoicePaid() and invoiceFailed().

import { amountOf } from './catalog.js';
import { list } from './query.js';
import { HIDDEN, applyFields, bool, invalid, missing, newId, randomText } from './store.js';

const DAY = 86400;

export class Invoices {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // ---- making one ----

  // A line for one subscription item and period.
  itemLine(subscription, item, period, amount = amountOf(item.price, item.quantity)) {
    return this.#line(item.price, item.quantity ?? null, amount, period, {
      invoice_item_details: null,
      subscription_item_details: {
        invoice_item: null,
        proration: false,
        proration_details: { credited_items: null },
        subscription: subscription.id,
        subscription_item: item.id,
      },
      type: 'subscription_item_details',
    });
  }

  // A line for the change of an item in the middle of a period; credits are negative.
  prorationLine(subscription, item, amount, period, description) {
    const line = this.#line(item.price, item.quantity ?? null, amount, period, {
      invoice_item_details: {
        invoice_item: newId('ii'),
        proration: true,
        proration_details: { credited_items: null },
        subscription: subscription.id,
      },
      subscription_item_details: null,
      type: 'invoice_item_details',
    });
    return { ...line, description };
  }

  #line(price, quantity, amount, period, parent) {
    const product = this.store.find('products', price.product);
    return {
      id: newId('il'),
      object: 'line_item',
      amount,
      currency: price.currency,
      description: `${quantity ?? 1} × ${product?.name ?? price.product}`,
      discount_amounts: [],
      discountable: true,
      discounts: [],
      invoice: null,
      livemode: false,
      metadata: {},
      parent,
      period,
      pretax_credit_amounts: [],
      pricing: { price_details: { price: price.id, product: price.product }, type: 'price_details', unit_amount_decimal: price.unit_amount_decimal },
      quantity,
      quantity_decimal: quantity === null ? null : String(quantity),
      subscription: parent.subscription_item_details?.subscription ?? parent.invoice_item_details?.subscription ?? null,
      subtotal: amount,
      taxes: [],
    };
  }

  // A draft for a subscription. period is the invoice's own: for a renewal the one that has just ended.
  make(subscription, reason, lines, period) {
    const now = this.store.clock.now();
    const id = newId('in');
    const customer = this.store.find('customers', subscription.customer);
    const subtotal = lines.reduce((sum, l) => sum + l.amount, 0);
    const discounts = this.stripe.coupons.take(subscription[HIDDEN].coupons, Math.max(0, subtotal), subscription.currency);
    const total = subtotal - discounts.reduce((sum, d) => sum + d.amount, 0);
    const invoice = {
      id,
      object: 'invoice',
      account_country: 'US',
      account_name: 'Simulator',
      account_tax_ids: null,
      amount_due: Math.max(0, total),
      amount_overpaid: 0,
      amount_paid: 0,
      amount_remaining: Math.max(0, total),
      amount_shipping: 0,
      application: null,
      attempt_count: 0,
      attempted: false,
      auto_advance: true,
      automatic_tax: { disabled_reason: null, enabled: false, liability: null, provider: null, status: null },
      automatically_finalizes_at: null,
      billing_reason: reason,
      collection_method: subscription.collection_method,
      created: now,
      currency: subscription.currency,
      custom_fields: null,
      customer: subscription.customer,
      customer_account: null,
      customer_address: customer?.address ?? null,
      customer_email: customer?.email ?? null,
      customer_name: customer?.name ?? null,
      customer_phone: customer?.phone ?? null,
      customer_shipping: customer?.shipping ?? null,
      customer_tax_exempt: customer?.tax_exempt ?? 'none',
      customer_tax_ids: [],
      default_payment_method: null,
      default_source: null,
      default_tax_rates: [],
      description: null,
      discounts: discounts.map((d) => d.id),
      due_date: subscription.collection_method === 'send_invoice' ? now + (subscription.days_until_due ?? 30) * DAY : null,
      effective_at: null,
      ending_balance: null,
      footer: null,
      from_invoice: null,
      hosted_invoice_url: null,
      invoice_pdf: null,
      issuer: { type: 'self' },
      last_finalization_error: null,
      latest_revision: null,
      lines: {
        object: 'list',
        data: lines.map((l) => ({ ...l, invoice: id })),
        has_more: false,
        url: `/v1/invoices/${id}/lines`,
      },
      livemode: false,
      metadata: {},
      next_payment_attempt: null,
      number: null,
      on_behalf_of: null,
      parent: subscription.id === null ? null : {
        quote_details: null,
        subscription_details: { metadata: subscription.metadata, subscription: subscription.id },
        type: 'subscription_details',
      },
      payment_settings: { default_mandate: null, payment_method_options: null, payment_method_types: null },
      period_end: period.end,
      period_start: period.start,
      post_payment_credit_notes_amount: 0,
      pre_payment_credit_notes_amount: 0,
      receipt_number: null,
      rendering: null,
      shipping_cost: null,
      shipping_details: null,
      starting_balance: customer?.balance ?? 0,
      statement_descriptor: null,
      status: 'draft',
      status_transitions: { finalized_at: null, marked_uncollectible_at: null, paid_at: null, voided_at: null },
      subtotal,
      subtotal_excluding_tax: subtotal,
      test_clock: null,
      total,
      total_discount_amounts: discounts.map((d) => ({ amount: d.amount, discount: d.id })),
      total_excluding_tax: total,
      total_pretax_credit_amounts: [],
      total_taxes: [],
      webhooks_delivered_at: now,
      [HIDDEN]: { payment: null, intent: null },
    };
    return this.store.add('invoices', invoice, 'invoice.created');
  }

  // By the control API: a draft that somebody writes in the dashboard, for one thing and no subscription.
  draft({ customer, amount = 1000, currency = 'usd', days_until_due: days = 30 }) {
    this.stripe.customers.live(customer, 'customer');
    const price = this.stripe.catalog.createPrice({ currency, unit_amount: amount, product_data: { name: 'By hand' } });
    const now = this.store.clock.now();
    const nobody = { id: null, customer, currency, collection_method: 'send_invoice', days_until_due: days, metadata: {}, [HIDDEN]: { coupons: [] } };
    const line = this.#line(price, 1, amount, { start: now, end: now }, {
      invoice_item_details: { invoice_item: newId('ii'), proration: false, proration_details: null, subscription: null },
      subscription_item_details: null,
      type: 'invoice_item_details',
    });
    return this.make(nobody, 'manual', [line], { start: now, end: now });
  }

  #transition(invoice, name) {
    return { ...invoice.status_transitions, [name]: this.store.clock.now() };
  }

  // Draft -> open: the number, the customer's balance, and the intent that will collect the rest.
  finalize(id) {
    const draft = this.store.find('invoices', id);
    const customer = this.store.find('customers', draft.customer);
    const owed = draft.total + draft.starting_balance;
    const due = Math.max(0, owed);
    const ending = Math.min(0, owed);
    if (customer && !customer.deleted) {
      const changes = { balance: ending, next_invoice_sequence: customer.next_invoice_sequence + 1 };
      if (customer.currency === null) changes.currency = draft.currency;
      const visible = customer.balance !== ending || customer.currency === null;
      this.store.change('customers', customer.id, changes, visible ? 'customer.updated' : undefined);
    }
    const token = randomText(40);
    const open = this.store.change('invoices', id, {
      amount_due: due,
      amount_remaining: due,
      ending_balance: ending,
      effective_at: this.store.clock.now(),
      hosted_invoice_url: `https://invoice.stripe.com/i/acct_simulator/test_${token}`,
      invoice_pdf: `https://pay.stripe.com/invoice/acct_simulator/test_${token}/pdf`,
      number: `${customer?.invoice_prefix ?? 'SIMULATE'}-${String(customer?.next_invoice_sequence ?? 1).padStart(4, '0')}`,
      status: 'open',
      status_transitions: this.#transition(draft, 'finalized_at'),
    });
    this.store.emit('invoice.finalized', open);
    if (due === 0) return this.#settle(open, { attempted: true });
    this.#openPayment(open);
    return open;
  }

  // The payment intent and the invoice_payment that ties it to the invoice.
  #openPayment(invoice) {
    const { id } = this.stripe.payments.open({
      amount: invoice.amount_due,
      currency: invoice.currency,
      customer: invoice.customer,
      description: invoice.billing_reason === 'subscription_create' ? 'Subscription creation' : 'Subscription update',
    });
    const payment = {
      id: newId('inpay'),
      object: 'invoice_payment',
      amount_paid: null,
      amount_requested: invoice.amount_due,
      created: this.store.clock.now(),
      currency: invoice.currency,
      invoice: invoice.id,
      is_default: true,
      livemode: false,
      payment: { payment_intent: id, type: 'payment_intent' },
      status: 'open',
      status_transitions: { canceled_at: null, paid_at: null },
    };
    this.store.insert('invoice_payments', payment);
    invoice[HIDDEN].payment = payment.id;
    invoice[HIDDEN].intent = id;
  }

  // ---- paying ----

  // Who pays: named in the call, else the invoice's, the subscription's, the customer's default.
  methodOf(invoice) {
    const subscription = this.store.find('subscriptions', invoice.parent?.subscription_details?.subscription);
    const customer = this.store.find('customers', invoice.customer);
    const id = invoice.default_payment_method ?? subscription?.default_payment_method ?? customer?.invoice_settings?.default_payment_method;
    return id ? this.store.find('payment_methods', id) : null;
  }

  // One attempt at an open invoice -> {invoice} when paid, {invoice, decline} otherwise.
  attempt(id, method, { offSession = true } = {}) {
    const invoice = this.store.find('invoices', id);
    const outcome = method ? this.stripe.customers.chargeOutcome(method, offSession) : { code: 'resource_missing', message: 'There is no payment method to charge.' };
    if (outcome === null) return { invoice: this.#collect(invoice, method) };
    if (outcome === 'authenticate') return { invoice: this.#askCustomer(invoice, method), action: true };
    return { invoice: this.#refuse(invoice, method, outcome), decline: outcome };
  }

  #charge(invoice, method, status, failure) {
    const intent = this.store.find('payment_intents', invoice[HIDDEN].intent);
    return this.stripe.payments.charge(intent, method, { amount: invoice.amount_remaining, failure, status });
  }

  #collect(invoice, method) {
    const { intent, payment } = invoice[HIDDEN];
    const charge = this.#charge(invoice, method, 'succeeded');
    this.store.change('payment_intents', intent, {
      amount_received: invoice.amount_remaining, latest_charge: charge.id, last_payment_error: null, next_action: null, payment_method: method.id, status: 'succeeded',
    }, 'payment_intent.succeeded');
    this.store.change('invoice_payments', payment, {
      amount_paid: invoice.amount_remaining, status: 'paid', status_transitions: { canceled_at: null, paid_at: this.store.clock.now() },
    }, 'invoice_payment.paid');
    return this.#settle(invoice, { attempt_count: invoice.attempt_count + 1, attempted: true, amount_paid: invoice.amount_remaining });
  }

  // Open -> paid. invoice.payment_succeeded is not sent for an invoice paid outside of Stripe.
  #settle(invoice, changes, outOfBand = false) {
    const paid = this.store.change('invoices', invoice.id, {
      ...changes,
      amount_remaining: 0,
      next_payment_attempt: null,
      status: 'paid',
      status_transitions: this.#transition(invoice, 'paid_at'),
    }, invoice.attempted ? 'invoice.updated' : undefined);
    this.store.emit('invoice.paid', paid);
    if (!outOfBand) this.store.emit('invoice.payment_succeeded', paid);
    const customer = this.store.find('customers', paid.customer);
    if (customer?.delinquent) this.store.change('customers', customer.id, { delinquent: false }, 'customer.updated');
    this.stripe.subscriptions.invoicePaid(paid);
    return paid;
  }

  #askCustomer(invoice, method) {
    this.store.change('payment_intents', invoice[HIDDEN].intent, {
      next_action: { type: 'use_stripe_sdk', use_stripe_sdk: {} }, payment_method: method.id, status: 'requires_action',
    }, 'payment_intent.requires_action');
    const tried = this.store.change('invoices', invoice.id, { attempt_count: invoice.attempt_count + 1, attempted: true });
    this.store.emit('invoice.payment_action_required', tried);
    this.store.emit('invoice.payment_failed', tried);
    this.stripe.subscriptions.invoiceFailed(tried);
    return this.store.find('invoices', invoice.id);
  }

  #refuse(invoice, method, decline) {
    const error = { type: 'card_error', code: decline.code, ...(decline.decline_code && { decline_code: decline.decline_code }), message: decline.message };
    if (method) {
      const charge = this.#charge(invoice, method, 'failed', decline);
      this.store.change('payment_intents', invoice[HIDDEN].intent, {
        last_payment_error: { ...error, charge: charge.id }, latest_charge: charge.id, payment_method: null, next_action: null, status: 'requires_payment_method',
      }, 'payment_intent.payment_failed');
    }
    const attempts = invoice.attempt_count + 1;
    const tried = this.store.change('invoices', invoice.id, {
      attempt_count: attempts, attempted: true, next_payment_attempt: this.stripe.subscriptions.nextAttempt(invoice, attempts),
    }, 'invoice.updated');
    this.store.emit('invoice.payment_failed', tried);
    const customer = this.store.find('customers', invoice.customer);
    if (customer && !customer.deleted && invoice.billing_reason !== 'subscription_create' && !customer.delinquent) {
      this.store.change('customers', customer.id, { delinquent: true }, 'customer.updated');
    }
    this.stripe.subscriptions.invoiceFailed(tried);
    return this.store.find('invoices', invoice.id);
  }

  // ---- the API ----

  get(params, id) {
    const invoice = this.store.find('invoices', id);
    if (!invoice || invoice.deleted) throw missing('invoice', id, 'invoice');
    return invoice;
  }

  list(params) {
    return list(
      this.store, 'invoices', params, '/v1/invoices',
      (i) =>
        (params.customer === undefined || i.customer === params.customer) &&
        (params.subscription === undefined || i.parent?.subscription_details?.subscription === params.subscription) &&
        (params.status === undefined || i.status === params.status) &&
        (params.collection_method === undefined || i.collection_method === params.collection_method),
    );
  }

  update(params, id) {
    const invoice = this.get({}, id);
    const changes = applyFields(invoice, params, ['description', 'footer', 'default_payment_method']);
    if (params.auto_advance !== undefined) changes.auto_advance = bool(params.auto_advance);
    return this.store.change('invoices', id, changes, 'invoice.updated');
  }

  pay(params, id) {
    let invoice = this.get({}, id);
    if (invoice.status === 'paid') throw invalid('Invoice is already paid', undefined, 'invoice_already_paid');
    if (invoice.status === 'void' || invoice.status === 'uncollectible') {
      throw invalid(`This invoice can't be paid: its status is ${invoice.status}.`, undefined, 'invoice_not_editable');
    }
    const named = params.payment_method && this.stripe.customers.methodFor(invoice.customer, params.payment_method, 'payment_method');
    if (invoice.status === 'draft') invoice = this.finalize(id);
    if (invoice.status === 'paid') return invoice;
    if (bool(params.paid_out_of_band, false)) return this.#settle(invoice, { amount_paid: invoice.amount_due, attempted: true }, true);
    const method = named ?? this.methodOf(invoice);
    if (!method) throw invalid('Cannot charge a customer that has no active card', undefined, 'missing');
    const result = this.attempt(id, method, { offSession: bool(params.off_session, true) });
    if (result.decline) throw this.cardError(result.decline, result.invoice);
    if (result.action) throw this.cardError({ code: 'invoice_payment_intent_requires_action', message: 'Payment for this invoice requires additional user action before it can be completed successfully.' }, result.invoice, 'invalid_request_error', 400);
    return result.invoice;
  }

  cardError(decline, invoice, type, status) {
    return this.stripe.payments.cardError(decline, invoice && this.store.find('payment_intents', invoice[HIDDEN].intent), type, status);
  }

  finalizeInvoice(params, id) {
    if (this.get({}, id).status !== 'draft') throw invalid('This invoice is already finalized, you can\'t re-finalize a non-draft invoice.', undefined, 'invoice_not_editable');
    return this.finalize(id);
  }

  send(params, id) {
    const invoice = this.get({}, id);
    const open = invoice.status === 'draft' ? this.finalize(id) : invoice;
    this.store.emit('invoice.sent', open);
    return open;
  }

  void(params, id) {
    const invoice = this.get({}, id);
    if (invoice.status !== 'open' && invoice.status !== 'uncollectible') throw invalid(`You can only void open invoices; this one is ${invoice.status}.`);
    this.#cancelIntent(invoice, 'void_invoice');
    return this.store.change('invoices', id, { next_payment_attempt: null, status: 'void', status_transitions: this.#transition(invoice, 'voided_at') }, 'invoice.voided');
  }

  markUncollectible(params, id) {
    const invoice = this.get({}, id);
    if (invoice.status !== 'open' && invoice.status !== 'draft') throw invalid(`This invoice cannot be marked uncollectible: it is ${invoice.status}.`);
    return this.store.change('invoices', id, {
      next_payment_attempt: null, status: 'uncollectible', status_transitions: this.#transition(invoice, 'marked_uncollectible_at'),
    }, 'invoice.marked_uncollectible');
  }

  #cancelIntent(invoice, reason) {
    const { intent, payment } = invoice[HIDDEN];
    if (!intent) return;
    this.store.change('payment_intents', intent, { canceled_at: this.store.clock.now(), cancellation_reason: reason, status: 'canceled' }, 'payment_intent.canceled');
    this.store.change('invoice_payments', payment, { status: 'canceled', status_transitions: { canceled_at: this.store.clock.now(), paid_at: null } });
  }

  listPayments(params) {
    return list(
      this.store, 'invoice_payments', params, '/v1/invoice_payments',
      (p) => (params.invoice === undefined || p.invoice === params.invoice) && (params.status === undefined || p.status === params.status),
    );
  }

  // The fields that Stripe sends only when they are asked for by expand[].
  includable(invoice, name) {
    if (name === 'payments') {
      const data = this.store.all('invoice_payments').filter((p) => p.invoice === invoice.id);
      return { object: 'list', data, has_more: false, url: `/v1/invoice_payments?invoice=${invoice.id}` };
    }
    if (name === 'confirmation_secret') {
      const intent = this.store.find('payment_intents', invoice[HIDDEN]?.intent);
      return intent ? { client_secret: intent.client_secret, type: 'payment_intent' } : null;
    }
    return undefined;
  }
}
