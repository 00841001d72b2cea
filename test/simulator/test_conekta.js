// The simulator's Conekta, tested by Conekta's own client; openssl judges the signatures of its webhooks, and
// the OpenAPI document every answer.
//
//   node --test test_conekta.js

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import {
  ChargesApi, Configuration, CustomersApi, EventsApi, OrdersApi, PaymentLinkApi, PaymentMethodsApi, PlansApi, SubscriptionsApi, SubscriptionsCustomerPortalApi, WebhookKeysApi,
  WebhooksApi,
} from 'conekta';
import { Driver, inOrder, run, validated } from './driver.js';

const DAY = 86400;
const MEDIA_TYPE = 'application/vnd.conekta-v2.3.0+json';

let sim;
let api;

before(async () => {
  sim = await new Driver().start('conekta');
  const configuration = new Configuration({ accessToken: 'key_simulator', basePath: sim.base });
  const of = (Api) => new Api(configuration);
  api = {
    customers: of(CustomersApi), sources: of(PaymentMethodsApi), orders: of(OrdersApi), charges: of(ChargesApi), checkouts: of(PaymentLinkApi), plans: of(PlansApi),
    subscriptions: of(SubscriptionsApi), portal: of(SubscriptionsCustomerPortalApi), webhooks: of(WebhooksApi), keys: of(WebhookKeysApi), events: of(EventsApi),
  };
});

after(() => sim.stop());
beforeEach(() => sim.reset());
afterEach(() => assert.deepEqual(sim.wrong, []));

const data = async (promise) => (await promise).data;

// The client throws axios errors; this is the answer's status and the first code.
async function refused(promise, status, code) {
  const error = await promise.then(() => assert.fail('the call went through'), (e) => e);
  assert.equal(error.response?.status, status, error.stack);
  const [detail] = error.response.data.details;
  if (code) assert.ok(detail.code.endsWith(code), detail.code);
  return error.response.data;
}

let tokens = 0;
const token = (name = 'tok_test_visa_4242') => `${name}_${++tokens}`;

const aCustomer = (more = {}) => data(api.customers.createCustomer({ name: 'Ana', email: 'ana@example.com', phone: '+5215512345678', ...more }));

async function aPayer(name) {
  const customer = await aCustomer();
  const source = await data(api.sources.createCustomerPaymentMethods(customer.id, { type: 'card', token_id: token(name) }));
  return { customer, source };
}

const request = (customer, payment, more = {}) => ({
  currency: 'MXN', customer_info: { customer_id: customer.id }, line_items: [{ name: 'Thing', unit_price: 10000, quantity: 2 }],
  ...(payment && { charges: [{ payment_method: payment }] }), ...more,
});

const anOrder = (customer, payment, more) => data(api.orders.createOrder(request(customer, payment, more)));

const aPlan = (more = {}) => data(api.plans.createPlan({ id: 'pro', name: 'Pro', amount: 29900, currency: 'MXN', interval: 'month', frequency: 1, ...more }));

describe('customers and payment sources', () => {
  test('a customer is created, changed, found by our reference, listed and deleted', async () => {
    const made = await aCustomer({ metadata: { janua_ref: 'ref-1', gone: 'x' }, custom_reference: 'ours' });
    assert.match(made.id, /^cus_/);
    assert.equal(made.livemode, false);
    const changed = await data(api.customers.updateCustomer(made.id, { name: 'Ana M', metadata: { more: 'y' } }));
    assert.deepEqual(changed.metadata, { janua_ref: 'ref-1', gone: 'x', more: 'y' });
    for (const search of ['ref-1', 'ours', made.id, 'ANA@example']) assert.deepEqual((await data(api.customers.getCustomers(undefined, undefined, 2, search))).data.map((c) => c.id), [made.id], search);
    assert.equal((await data(api.customers.getCustomers(undefined, undefined, 2, 'ref-2'))).data.length, 0);
    await api.customers.deleteCustomerById(made.id);
    await refused(api.customers.getCustomerById(made.id), 404, 'resource_not_found.entity');
    assert.deepEqual(await sim.types(), ['customer.created', 'customer.updated', 'customer.deleted']);
    await sim.clean();
  });

  test('a repeated POST makes a second one', async () => {
    await aCustomer();
    await aCustomer();
    assert.equal((await sim.objects('customers')).length, 2);
  });

  test('name, email and phone are required', validated, async () => {
    await refused(api.customers.createCustomer({ name: 'Ana', email: 'ana@example.com' }), 422);
    assert.equal((await sim.violations())[0].param, 'phone');
  });

  test('a card token is taken once, and the first card is the default', async () => {
    const { customer, source } = await aPayer();
    assert.deepEqual([source.brand, source.last4, source.default], ['visa', '4242', true]);
    const once = token();
    const second = await data(api.sources.createCustomerPaymentMethods(customer.id, { type: 'card', token_id: once }));
    assert.equal(second.default, false);
    await refused(api.sources.createCustomerPaymentMethods(customer.id, { type: 'card', token_id: once }), 402, 'tokenization.used');
    await refused(api.sources.createCustomerPaymentMethods(customer.id, { type: 'card', token_id: 'tok_unknown' }), 422, 'nonexistent_token');
    await api.customers.updateCustomer(customer.id, { default_payment_source_id: second.id });
    await api.sources.deleteCustomerPaymentMethods(customer.id, second.id);
    assert.equal((await data(api.customers.getCustomerById(customer.id))).default_payment_source_id, source.id);
    await sim.settings({ reusable_tokens: true });
    await api.sources.createCustomerPaymentMethods(customer.id, { type: 'card', token_id: once });
    assert.equal((await data(api.sources.getCustomerPaymentMethods(customer.id))).data.length, 2);
    await sim.clean();
  });

  test('reusable references: a CLABE with a valid control digit, and fourteen digits for cash', async () => {
    const customer = await aCustomer();
    const spei = await data(api.sources.createCustomerPaymentMethods(customer.id, { type: 'spei_recurrent' }));
    const cash = await data(api.sources.createCustomerPaymentMethods(customer.id, { type: 'cash_recurrent', expires_at: 1893456000 }));
    assert.match(cash.reference, /^\d{14}$/);
    const sum = [...spei.reference.slice(0, 17)].reduce((s, d, i) => s + ((Number(d) * [3, 7, 1][i % 3]) % 10), 0);
    assert.equal(Number(spei.reference[17]), (10 - (sum % 10)) % 10);
    const order = await sim.act('pay_reference', { reference: spei.reference, amount: 12345 });
    assert.deepEqual([order.payment_status, order.amount, order.customer_info.customer_id], ['paid', 12345, customer.id]);
    assert.equal(order.charges.data[0].payment_method.clabe, spei.reference);
    inOrder(await sim.types(), ['order.created', 'charge.paid', 'order.paid']);
    await sim.clean();
  });

  test('fiscal entities', async () => {
    const customer = await aCustomer();
    const address = { street1: 'Calle 1', postal_code: '06100', city: 'CDMX', country: 'MX', external_number: '1' };
    const entity = await data(api.customers.createCustomerFiscalEntities(customer.id, { tax_id: 'ABC010101AB1', address }));
    const changed = await data(api.customers.updateCustomerFiscalEntities(customer.id, entity.id, { tax_id: 'XAXX010101000' }));
    assert.deepEqual([changed.tax_id, changed.address.city], ['XAXX010101000', 'CDMX']);
    const shown = await data(api.customers.getCustomerById(customer.id));
    assert.equal(shown.default_fiscal_entity_id, entity.id);
    assert.equal(shown.fiscal_entities.data[0].tax_id, 'XAXX010101000');
    await sim.clean();
  });
});

describe('orders', () => {
  test('a card pays at once, with tax lines and our references', async () => {
    const { customer, source } = await aPayer();
    const order = await anOrder(customer, { type: 'card', payment_source_id: source.id }, {
      tax_lines: [{ description: 'IVA', amount: 3200 }], metadata: { janua_ref: 'ref-1' },
    });
    assert.deepEqual([order.amount, order.payment_status, order.is_refundable], [23200, 'paid', true]);
    const [charge] = order.charges.data;
    assert.deepEqual([charge.status, charge.amount, charge.payment_method.last4], ['paid', 23200, '4242']);
    assert.ok(charge.paid_at);
    assert.deepEqual((await data(api.orders.getOrders(undefined, undefined, 2, 'ref-1'))).data.map((o) => o.id), [order.id]);
    inOrder(await sim.types(), ['order.created', 'charge.created', 'charge.paid', 'order.paid']);
    await sim.clean();
  });

  test('a declined card is a 402, and leaves its order behind or not', async () => {
    const { customer, source } = await aPayer('tok_test_insufficient_funds');
    await refused(api.orders.createOrder(request(customer, { type: 'card', payment_source_id: source.id }, { metadata: { janua_ref: 'ref-1' } })), 402, 'bank.insufficient_funds');
    const [left] = (await data(api.orders.getOrders(undefined, undefined, 2, 'ref-1'))).data;
    assert.deepEqual([left.payment_status, left.charges.data[0].failure_code], ['declined', 'insufficient_funds']);
    const paid = await data(api.charges.ordersCreateCharge(left.id, { payment_method: { type: 'card', token_id: token() } }));
    assert.equal(paid.status, 'paid');
    assert.equal((await data(api.orders.getOrderById(left.id))).payment_status, 'paid');
    await refused(api.charges.ordersCreateCharge(left.id, { payment_method: { type: 'card', token_id: token() } }), 428, 'already_paid');
    await sim.reset();
    await sim.settings({ declined_leaves_order: false });
    const again = await aPayer('tok_test_card_declined');
    await refused(api.orders.createOrder(request(again.customer, { type: 'card', payment_source_id: again.source.id })), 402, 'bank.declined');
    assert.equal((await sim.objects('orders')).length, 0);
    await sim.clean();
  });

  test('cash and transfers wait for the buyer, who pays or does not', async () => {
    const customer = await aCustomer();
    const cash = await anOrder(customer, { type: 'cash', expires_at: 1893456000 });
    const [{ payment_method: voucher, status }] = cash.charges.data;
    assert.deepEqual([cash.payment_status, status, voucher.object, voucher.expires_at], ['pending_payment', 'pending_payment', 'cash_payment', 1893456000]);
    assert.match(voucher.barcode_url, new RegExp(voucher.reference));
    const paid = await sim.act('pay_reference', { reference: voucher.reference });
    assert.equal(paid.payment_status, 'paid');
    const spei = await anOrder(customer, { type: 'spei' });
    assert.match(spei.charges.data[0].payment_method.clabe, /^\d{18}$/);
    await sim.control('POST', 'clock', { advance: 31 * DAY });
    assert.equal((await data(api.orders.getOrderById(spei.id))).payment_status, 'expired');
    inOrder(await sim.types(), ['order.pending_payment', 'charge.paid', 'order.paid', 'order.pending_payment', 'charge.expired', 'order.expired']);
    await refused(api.orders.createOrder(request(customer, { type: 'cash', expires_at: 1600000000 })), 422, 'expires_at.past');
    await sim.clean();
  });

  test('instalments: terms, smallest amounts, cards only', async () => {
    const customer = await aCustomer();
    const of = (unit_price, payment) => request(customer, payment, { line_items: [{ name: 'Thing', unit_price, quantity: 1 }] });
    const made = await data(api.orders.createOrder(of(60000, { type: 'card', token_id: token(), monthly_installments: 6 })));
    assert.equal(made.charges.data[0].monthly_installments, 6);
    await refused(api.orders.createOrder(of(59999, { type: 'card', token_id: token(), monthly_installments: 6 })), 422, 'monthly_installments.amount');
    await refused(api.orders.createOrder(of(60000, { type: 'card', token_id: token(), monthly_installments: 5 })), 422, 'monthly_installments.invalid');
    await refused(api.orders.createOrder(of(60000, { type: 'cash', monthly_installments: 6 })), 422, 'monthly_installments.type');
    await refused(api.orders.createOrder(of(60000, { type: 'card', token_id: token('tok_test_msi_error'), monthly_installments: 6 })), 402, 'msi_not_available');
    assert.equal((await data(api.orders.createOrder(of(60000, { type: 'card', token_id: token('tok_test_msi_error') })))).payment_status, 'paid');
  });

  test('a pre-authorised order is captured, in part too, or given up', async () => {
    const { customer, source } = await aPayer();
    const card = { type: 'card', payment_source_id: source.id };
    const held = await anOrder(customer, card, { pre_authorize: true });
    assert.deepEqual([held.payment_status, held.charges.data[0].status], ['pre_authorized', 'pre_authorized']);
    await refused(api.orders.ordersCreateCapture(held.id, undefined, undefined, { amount: 20001 }), 428);
    const captured = await data(api.orders.ordersCreateCapture(held.id, undefined, undefined, { amount: 15000 }));
    assert.deepEqual([captured.payment_status, captured.amount, captured.charges.data[0].amount], ['paid', 15000, 15000]);
    await refused(api.orders.ordersCreateCapture(held.id, undefined, undefined, { amount: 1 }), 428, 'not_preauthorized');
    const given = await anOrder(customer, card, { pre_authorize: true });
    assert.equal((await data(api.orders.cancelOrder(given.id))).payment_status, 'voided');
    inOrder(await sim.types(), ['charge.preauthorized', 'order.pre_authorized', 'charge.paid', 'order.paid', 'charge.voided', 'order.voided']);
  });

  test('3-D Secure sends the buyer away; he comes back with or without success', async () => {
    const { customer, source } = await aPayer('tok_test_3ds');
    const of = (mode) => anOrder(customer, { type: 'card', payment_source_id: source.id }, { three_ds_mode: mode, return_url: 'https://example.com/back' });
    const order = await of('smart');
    assert.equal(order.payment_status, 'pending_payment');
    assert.deepEqual([order.charges.data[0].status, order.next_action.type], ['pending_confirmation', 'redirect_to_url']);
    assert.equal(order.next_action.redirect_to_url.return_url, 'https://example.com/back');
    const done = await sim.act('authenticate', { order: order.id });
    assert.deepEqual([done.payment_status, done.next_action], ['paid', undefined]);
    const failed = await sim.act('authenticate', { order: (await of('strict')).id, success: false });
    assert.deepEqual([failed.payment_status, failed.charges.data[0].failure_code], ['declined', 'three_ds_failed']);
    await sim.clean();
  });

  test('an unpaid order can be canceled, a paid one cannot', async () => {
    const { customer, source } = await aPayer();
    const pending = await anOrder(customer, { type: 'spei' });
    assert.equal((await data(api.orders.cancelOrder(pending.id))).payment_status, 'canceled');
    await refused(api.orders.cancelOrder(pending.id), 428);
    const empty = await anOrder(customer);
    assert.equal((await data(api.orders.cancelOrder(empty.id))).payment_status, 'canceled');
    const paid = await anOrder(customer, { type: 'card', payment_source_id: source.id });
    await refused(api.orders.cancelOrder(paid.id), 428, 'cannot_be_canceled');
    await sim.clean();
  });

  test('the charges have to make up the amount', async () => {
    const customer = await aCustomer();
    await refused(api.orders.createOrder(request(customer, null, { charges: [{ amount: 1, payment_method: { type: 'spei' } }] })), 422, 'charges.sum');
    await refused(api.orders.createOrder(request(customer, { type: 'spei' }, { currency: 'EUR' })), 422, 'currency.unsupported');
    await refused(api.orders.createOrder(request({ id: 'cus_none' }, { type: 'spei' })), 404);
    assert.equal((await sim.objects('orders')).length, 0);
  });

  test('refunds are negative, count in the order, and never exceed what was paid', async () => {
    const { customer, source } = await aPayer();
    const { id } = await anOrder(customer, { type: 'card', payment_source_id: source.id });
    const part = await data(api.orders.orderRefund(id, { amount: 5000, reason: 'requested_by_client' }));
    assert.deepEqual([part.payment_status, part.amount_refunded, part.charges.data[0].refunds.data[0].amount], ['partially_refunded', 5000, -5000]);
    await refused(api.orders.orderRefund(id, { amount: 15001, reason: 'other' }), 422, 'exceeds_refundable');
    await refused(api.orders.orderRefund(id, { amount: 1, reason: 'because' }), 422, 'reason.invalid');
    const whole = await data(api.orders.orderRefund(id, { amount: 15000, reason: 'other' }));
    assert.deepEqual([whole.payment_status, whole.amount_refunded, whole.is_refundable], ['refunded', 20000, false]);
    await refused(api.orders.orderRefund(id, { amount: 1, reason: 'other' }), 422, 'not_refundable');
    inOrder(await sim.types(), ['order.paid', 'order.partially_refunded', 'charge.refunded', 'order.refunded']);
    await sim.clean();
  });

  test('a pending refund can be taken back, one that is done cannot', async () => {
    const customer = await aCustomer();
    const order = await anOrder(customer, { type: 'cash' });
    await sim.act('pay_reference', { reference: order.charges.data[0].payment_method.reference });
    const refunded = await data(api.orders.orderRefund(order.id, { amount: 20000, reason: 'other' }));
    const [refund] = refunded.charges.data[0].refunds.data;
    assert.equal(refund.status, 'pending');
    const back = await data(api.orders.orderCancelRefund(order.id, refund.id));
    assert.deepEqual([back.payment_status, back.amount_refunded], ['paid', 0]);
    const again = await data(api.orders.orderRefund(order.id, { amount: 100, reason: 'other' }));
    await sim.act('finish_refund', { refund: again.charges.data[0].refunds.data[0].id });
    await refused(api.orders.orderCancelRefund(order.id, again.charges.data[0].refunds.data[0].id), 428, 'not_pending');
    await sim.clean();
  });

  test('a chargeback is opened, reviewed and decided', async () => {
    const { customer, source } = await aPayer();
    const { id, charges } = await anOrder(customer, { type: 'card', payment_source_id: source.id });
    const charge = charges.data[0].id;
    assert.match((await sim.act('chargeback', { order: id })).chargeback.id, /^chbk_/);
    assert.equal((await data(api.orders.getOrderById(id))).payment_status, 'charged_back');
    for (const status of ['under_review', 'won']) await sim.act('chargeback', { charge, status });
    const after = await data(api.orders.getOrderById(id));
    assert.deepEqual([after.payment_status, after.charges.data[0].chargeback.status], ['paid', 'won']);
    inOrder(await sim.types(), ['charge.chargeback.created', 'order.charged_back', 'charge.chargeback.under_review', 'charge.chargeback.won']);
    await sim.clean();
  });

  test('lists have cursors to both sides', async () => {
    const customer = await aCustomer();
    const ids = [];
    for (let i = 0; i < 5; i++) ids.unshift((await anOrder(customer)).id);
    const first = await data(api.orders.getOrders(undefined, undefined, 2));
    assert.deepEqual([first.data.map((o) => o.id), first.has_more, first.previous_page_url], [ids.slice(0, 2), true, null]);
    const next = new URL(first.next_page_url);
    assert.equal(`${next.origin}${next.pathname}`, `${sim.base}/orders`);
    const second = await data(api.orders.getOrders(undefined, undefined, 2, undefined, next.searchParams.get('next')));
    assert.deepEqual(second.data.map((o) => o.id), ids.slice(2, 4));
    const back = new URL(second.previous_page_url).searchParams.get('previous');
    assert.deepEqual((await data(api.orders.getOrders(undefined, undefined, 2, undefined, undefined, back))).data.map((o) => o.id), ids.slice(0, 2));
    const last = await data(api.orders.getOrders(undefined, undefined, 2, undefined, second.data[1].id));
    assert.deepEqual([last.data.map((o) => o.id), last.has_more, last.next_page_url], [ids.slice(4), false, null]);
    await sim.clean();
  });
});

describe('checkouts', () => {
  const checkout = { type: 'HostedPayment', allowed_payment_methods: ['card', 'cash', 'bank_transfer'], success_url: 'https://example.com/ok', failure_url: 'https://example.com/no' };

  test('a hosted checkout is paid by card, or by a reference later', async () => {
    const customer = await aCustomer();
    const order = await anOrder(customer, null, { checkout, metadata: { janua_ref: 'ref-1' } });
    assert.deepEqual([order.checkout.status, order.payment_status, order.charges], ['Issued', undefined, undefined]);
    assert.match(order.checkout.url, /^https:/);
    const paid = await sim.act('complete_checkout', { id: order.id });
    assert.deepEqual([paid.payment_status, paid.checkout.status], ['paid', 'Finalized']);
    const other = await anOrder(customer, null, { checkout });
    const waiting = await sim.act('complete_checkout', { id: other.checkout.id, method: 'cash' });
    assert.equal(waiting.payment_status, 'pending_payment');
    await sim.act('pay_reference', { reference: waiting.charges.data[0].payment_method.reference });
    assert.equal((await data(api.orders.getOrderById(other.id))).checkout.status, 'Finalized');
    await sim.clean();
  });

  test('a checkout that nobody pays expires with its order, and can be canceled', async () => {
    const customer = await aCustomer();
    const order = await anOrder(customer, null, { checkout });
    const other = await anOrder(customer, null, { checkout });
    assert.equal((await data(api.orders.cancelOrder(other.id))).checkout.status, 'Cancelled');
    await sim.control('POST', 'clock', { advance: 4 * DAY });
    const after = await data(api.orders.getOrderById(order.id));
    assert.deepEqual([after.payment_status, after.checkout.status], ['expired', 'Expired']);
  });

  test('a payment link makes an order for each payment until its limit', async () => {
    const link = await data(api.checkouts.createCheckout({
      name: 'Link', type: 'PaymentLink', recurrent: true, payments_limit_count: 2, expires_at: Math.floor(Date.now() / 1000) + DAY, allowed_payment_methods: ['card', 'cash'],
      order_template: { currency: 'MXN', line_items: [{ name: 'Thing', unit_price: 10000, quantity: 1 }], metadata: { janua_ref: 'ref-1' } },
    }));
    const order = await sim.act('complete_checkout', { id: link.id });
    assert.deepEqual([order.payment_status, order.metadata.janua_ref, order.channel.checkout_request_id], ['paid', 'ref-1', link.id]);
    assert.equal((await data(api.checkouts.getCheckout(link.id))).status, 'Issued');
    await sim.act('complete_checkout', { id: link.id });
    assert.deepEqual([(await data(api.checkouts.getCheckout(link.id))).status, (await sim.objects('orders')).length], ['Finalized', 2]);
    await refused(api.checkouts.cancelCheckout(link.id), 428);
    await sim.clean();
  });

  test('a link with plans makes a customer and a subscription', async () => {
    await aPlan();
    const customer = await aCustomer();
    const order = await anOrder(customer, null, { checkout: { ...checkout, allowed_payment_methods: ['card'], plan_ids: ['pro'] } });
    const subscription = await sim.act('complete_checkout', { id: order.id });
    assert.deepEqual([subscription.status, subscription.customer_id], ['active', customer.id]);
  });

  test('a link can be canceled', async () => {
    const link = await data(api.checkouts.createCheckout({
      name: 'Link', type: 'PaymentLink', recurrent: false, expires_at: Math.floor(Date.now() / 1000) + DAY,
      order_template: { currency: 'MXN', line_items: [{ name: 'Thing', unit_price: 10000, quantity: 1 }] },
    }));
    assert.equal((await data(api.checkouts.cancelCheckout(link.id))).status, 'Cancelled');
  });
});

describe('subscriptions', () => {
  const subscribed = async ({ name, plan = {}, ...more } = {}) => {
    const payer = await aPayer(name);
    await aPlan(plan);
    return { ...payer, subscription: await data(api.subscriptions.subscriptionCreate(payer.customer.id, { plan_id: 'pro', ...more })) };
  };

  test('a plan has our id, once', async () => {
    await aPlan();
    await refused(api.plans.createPlan({ id: 'pro', name: 'Pro', amount: 1, interval: 'month', frequency: 1 }), 422, 'id.taken');
    assert.equal((await data(api.plans.updatePlan('pro', { name: 'Pro 2' }))).name, 'Pro 2');
    assert.equal((await data(api.plans.getPlans())).data.length, 1);
    await api.plans.deletePlan('pro');
    await refused(api.plans.getPlan('pro'), 404);
    await sim.clean();
  });

  test('it is charged at once, and again at each end of a cycle', async () => {
    const { customer, subscription, source } = await subscribed();
    assert.deepEqual([subscription.status, subscription.card_id, subscription.plan_id], ['active', source.id, 'pro']);
    const order = await data(api.orders.getOrderById(subscription.last_billing_cycle_order_id));
    assert.deepEqual([order.payment_status, order.amount], ['paid', 29900]);
    await sim.control('POST', 'clock', { set: subscription.billing_cycle_end });
    const next = await data(api.subscriptions.subscriptionsGet(customer.id, subscription.id));
    assert.equal(next.billing_cycle_start, subscription.billing_cycle_end);
    assert.notEqual(next.last_billing_cycle_order_id, subscription.last_billing_cycle_order_id);
    assert.equal((await data(api.subscriptions.subscriptionEvents(customer.id, subscription.id))).data[0].type, 'subscription.paid');
    await sim.clean();
  });

  test('a trial is not charged until it ends', async () => {
    const { subscription } = await subscribed({ plan: { trial_period_days: 14 } });
    assert.deepEqual([subscription.status, (await sim.objects('orders')).length], ['in_trial', 0]);
    await sim.control('POST', 'clock', { set: subscription.trial_end });
    assert.deepEqual([(await sim.objects('subscriptions'))[0].status, (await sim.objects('orders')).length], ['active', 1]);
  });

  test('a failed charge is tried again by the plan, by the retry call, or ends it', async () => {
    const { customer, source, subscription } = await subscribed();
    await sim.settings({ card_outcomes: { [source.id]: 'no_funds' } });
    await sim.act('bill', { subscription: subscription.id });
    const read = () => data(api.subscriptions.subscriptionsGet(customer.id, subscription.id));
    assert.equal((await read()).status, 'past_due');
    await refused(api.subscriptions.subscriptionsRetry(customer.id, subscription.id), 402);
    await sim.settings({ card_outcomes: {} });
    assert.equal((await data(api.subscriptions.subscriptionsRetry(customer.id, subscription.id))).status, 'active');
    await refused(api.subscriptions.subscriptionsRetry(customer.id, subscription.id), 428, 'not_past_due');
    await sim.act('bill', { subscription: subscription.id, outcome: 'declined' });
    await sim.settings({ card_outcomes: { [source.id]: 'decline' } });
    await sim.control('POST', 'clock', { advance: 10 * DAY });
    assert.deepEqual([(await read()).status, (await read()).canceled_reason], ['canceled', 'max_retries_reached']);
    inOrder(await sim.types(), ['subscription.paid', 'subscription.payment_failed', 'subscription.paid', 'subscription.payment_failed', 'subscription.canceled']);
  });

  test('plan and card are changed; pause, resume and cancel', async () => {
    const { customer, subscription: { id } } = await subscribed();
    await aPlan({ id: 'team', name: 'Team' });
    const changed = await data(api.subscriptions.subscriptionUpdate(customer.id, id, { plan_id: 'team' }));
    assert.equal(changed.plan_id, 'team');
    assert.equal((await data(api.subscriptions.subscriptionPause(customer.id, id))).status, 'paused');
    await refused(api.subscriptions.subscriptionPause(customer.id, id), 428);
    assert.equal((await data(api.subscriptions.subscriptionResume(customer.id, id))).status, 'active');
    const ended = await data(api.subscriptions.subscriptionCancel(customer.id, id));
    assert.deepEqual([ended.status, ended.canceled_reason], ['canceled', 'user_cancelation']);
    await refused(api.subscriptions.subscriptionResume(customer.id, id), 428, 'subscription.ended');
    inOrder(await sim.types(), ['subscription.created', 'subscription.paid', 'subscription.updated', 'subscription.paused', 'subscription.resumed', 'subscription.canceled']);
    await sim.clean();
  });

  test('it expires when its cycles are used up', async () => {
    const { subscription } = await subscribed({ plan: { expiry_count: 1 } });
    await sim.control('POST', 'clock', { set: subscription.billing_cycle_end });
    assert.equal((await sim.objects('subscriptions'))[0].status, 'expired');
    assert.equal((await sim.types()).at(-1), 'subscription.expired');
  });

  test('a customer may have several, and a portal for each', async () => {
    const { customer, subscription } = await subscribed();
    await data(api.subscriptions.subscriptionCreate(customer.id, { plan_id: 'pro' }));
    assert.equal((await data(api.subscriptions.subscriptionList(customer.id))).data.length, 2);
    const made = await api.portal.createCustomerPortal(subscription.id);
    assert.equal(made.status, 201);
    assert.match(made.data.portal_url, /^https:/);
    assert.equal((await data(api.portal.getCustomerPortal(subscription.id))).slug, made.data.slug);
    await sim.clean();
  });
});

describe('webhooks', () => {
  const folder = mkdtempSync(join(tmpdir(), 'simulator-'));
  after(() => rmSync(folder, { recursive: true }));

  // What openssl says of a body, a Digest and a public key.
  function verifies(body, digest, publicKey) {
    const [key, signature] = ['key.pem', 'signature'].map((name) => join(folder, name));
    writeFileSync(key, publicKey);
    writeFileSync(signature, Buffer.from(digest, 'base64'));
    return spawnSync('openssl', ['dgst', '-sha256', '-verify', key, '-signature', signature], { input: body }).status === 0;
  }

  test('openssl accepts the Digest with the published key, and no other body or key', async () => {
    await aCustomer({ name: 'Niño ✓' });
    const [{ public_key: publicKey }] = (await data(api.keys.getWebhookKeys())).data;
    const [{ body, headers }] = await sim.events();
    assert.equal(verifies(body, headers.Digest, publicKey), true);
    assert.equal(verifies(`${body} `, headers.Digest, publicKey), false);
    const [own] = await sim.control('GET', 'signing_keys?provider=conekta');
    assert.equal(own.public_key, publicKey);
    const digest = run('sign.js', ['conekta', own.private_key, '0'], body).trim();
    assert.equal(digest, headers.Digest);
  });

  test('the newest active key signs; without any the header is missing', async () => {
    await aCustomer();
    const [old] = (await data(api.keys.getWebhookKeys())).data;
    const made = await data(api.keys.createWebhookKey(undefined, { active: true }));
    let [{ body, headers }] = await sim.events();
    assert.deepEqual([verifies(body, headers.Digest, made.public_key), verifies(body, headers.Digest, old.public_key)], [true, false]);
    await api.keys.updateWebhookKey(made.id, undefined, { active: false });
    [{ body, headers }] = await sim.events();
    assert.equal(verifies(body, headers.Digest, old.public_key), true);
    assert.equal((await data(api.keys.deleteWebhookKey(old.id))).deleted, true);
    [{ headers }] = await sim.events();
    assert.equal(headers.Digest, undefined);
    await sim.clean();
  });

  test('an event has Conekta’s envelope and can be read, listed and sent again', async () => {
    const customer = await aCustomer();
    await api.customers.updateCustomer(customer.id, { name: 'Other' });
    const event = JSON.parse((await sim.events()).at(-1).body);
    assert.deepEqual([event.object, event.type, event.livemode, event.data.object.id, event.data.previous_attributes], ['event', 'customer.updated', false, customer.id, { name: 'Ana' }]);
    assert.equal((await data(api.events.getEvent(event.id))).id, event.id);
    assert.equal((await data(api.events.getEvents())).data.length, 2);
    await api.events.resendEvent(event.id, { webhooks_ids: ['1'] });
    assert.deepEqual((await sim.events()).map((e) => e.id).slice(1), [event.id, event.id]);
  });

  test('endpoints are created, changed, tested and deleted', async () => {
    const made = await data(api.webhooks.createWebhook({ url: 'https://example.com/hook', subscribed_events: ['order.paid'] }));
    assert.deepEqual(made.subscribed_events, ['order.paid']);
    assert.equal((await data(api.webhooks.updateWebhook(made.id, { url: 'https://example.com/2', active: false }))).active, false);
    await api.webhooks.testWebhook(made.id);
    assert.deepEqual(JSON.parse((await sim.events()).at(-1).body).data, { action: 'ping', livemode: false });
    assert.equal((await data(api.webhooks.getWebhooks())).data.length, 1);
    await api.webhooks.deleteWebhook(made.id);
    assert.equal((await data(api.webhooks.getWebhooks())).data.length, 0);
    await sim.clean();
    for (const url of ['https://localhost/hook', 'http://example.com/hook']) await refused(api.webhooks.createWebhook({ url }), 422);
  });
});

describe('the protocol', () => {
  const raw = (method, path, body, headers = {}) =>
    fetch(sim.base + path, {
      method, body, redirect: 'manual',
      headers: { authorization: 'Bearer key_x', accept: MEDIA_TYPE, 'accept-language': 'es', 'user-agent': 'test', ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    });

  test('a wrong key, version or method is refused and recorded', async () => {
    const answer = await raw('GET', '/customers', undefined, { authorization: 'Bearer sk_test_x' });
    assert.equal(answer.status, 401);
    assert.equal((await answer.json()).type, 'authentication_error');
    assert.equal((await raw('GET', '/customers', undefined, { accept: 'application/json' })).status, 406);
    assert.deepEqual((await sim.violations()).map((v) => v.kind), ['header', 'header']);
    await sim.settings({ refused_keys: ['key_x'], media_types: ['application/vnd.app-v2.1.0+json'] });
    assert.equal((await raw('GET', '/customers', undefined, { accept: 'application/vnd.app-v2.1.0+json' })).status, 401);
  });

  test('what the document does not have, and what is not imitated', validated, async () => {
    assert.equal((await raw('GET', '/refunds')).status, 404);
    assert.equal((await raw('POST', '/tokens', '{"card":{"cvc":"1","exp_month":"1","exp_year":"1","name":"a","number":"1"}}')).status, 501);
    assert.equal((await raw('GET', '/customers?colour=red')).status, 422);
    await raw('POST', '/customers', '{"name":"Ana","email":"a@example.com","phone":"+5215512345678","colour":"red","metadata":{"any":"thing"}}');
    assert.deepEqual((await sim.violations()).map((v) => [v.kind, v.param]), [['path', undefined], ['not_imitated', undefined], ['parameters', 'colour'], ['parameters', 'colour']]);
  });

  test('a dropped answer leaves exactly the one object that was made', async () => {
    await sim.fault('drop_after', { match: { method: 'POST', path: '^/customers$' } });
    await assert.rejects(aCustomer({ metadata: { janua_ref: 'ref-1' } }));
    assert.equal((await data(api.customers.getCustomers(undefined, undefined, 2, 'ref-1'))).data.length, 1);
    await sim.fault('drop_before', { match: { method: 'POST' } });
    await assert.rejects(aCustomer());
    assert.equal((await sim.objects('customers')).length, 1);
  });

  test('faults answer in Conekta’s form', async () => {
    await sim.fault('status', { status: 429, retry_after: 7 });
    const answer = await raw('GET', '/customers');
    assert.deepEqual([answer.status, answer.headers.get('retry-after'), (await answer.json()).object], [429, '7', 'error']);
    for (const [action, given] of [['malformed_body', {}], ['huge_body', { size: 100000 }], ['redirect', {}]]) {
      await sim.fault(action, given);
      const spoiled = await raw('GET', '/customers');
      assert.equal(spoiled.status, action === 'redirect' ? 302 : 200);
      const text = await spoiled.text();
      if (action === 'malformed_body') assert.throws(() => JSON.parse(text));
      if (action === 'huge_body') assert.equal(text.length, 100000);
    }
  });

  test('sdk_bytes_conekta.js: every call of the client is one that the simulator takes', validated, async () => {
    const lines = run('sdk_bytes_conekta.js', []).trim().split('\n').map((line) => JSON.parse(line));
    assert.ok(lines.length >= 40);
    for (const { method, path, headers, body } of lines) {
      const { 'content-length': length, ...rest } = headers;
      await raw(method, path, body === '' ? undefined : body, { ...rest, authorization: 'Bearer key_x' });
    }
    assert.deepEqual(await sim.violations(), []);
    const given = JSON.stringify([{ name: 'a', call: 'orders.cancelOrder', arguments: ['ord_1'] }]);
    assert.equal(JSON.parse(run('sdk_bytes_conekta.js', ['--calls'], given)).path, '/orders/ord_1/cancel');
  });
});
