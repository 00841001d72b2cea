// The simulator's Polar, tested by Polar's own client, whose validateEvent judges the signatures of its
// webhooks; the OpenAPI document judges every answer and every event.
//
//   node --test test_polar.js

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { createPolar, webhooks } from '@polar-sh/sdk/2026-10';
import { Driver, inOrder, run, validated } from './driver.js';

const DAY = 86400;

let sim;
let polar;

before(async () => {
  sim = await new Driver().start('polar');
  polar = createPolar({ accessToken: 'polar_oat_simulator', baseUrl: sim.base });
});

after(() => sim.stop());
beforeEach(() => sim.reset());

// Whatever a test did, all that was answered and all events have the promised shape.
afterEach(async () => {
  assert.deepEqual(sim.wrong, []);
  if (!sim.answers) return;
  for (const { type, body } of await sim.events()) {
    const name = `Webhook${type.split(/[._]/).map((word) => word[0].toUpperCase() + word.slice(1)).join('')}Payload`;
    judges[name] ??= sim.answers.componentJudge(name);
    assert.ok(judges[name](JSON.parse(body)), `${type}: ${JSON.stringify(judges[name].errors?.slice(0, 3))}`);
  }
});

const judges = {};

// The client throws errors with the status and the body; this is the body.
async function refused(promise, status, error) {
  const thrown = await promise.then(() => assert.fail('the call went through'), (e) => e);
  assert.equal(thrown.statusCode, status, thrown.stack);
  if (error) assert.equal(thrown.error.error, error);
  return thrown.error;
}

const where = (body) => body.detail[0].loc.join('.');

let customers = 0;
const aCustomer = (more = {}) => polar.customers.create({ email: `c${++customers}@example.com`, external_id: `org_${customers}`, ...more });

const aProduct = (more = {}) => polar.products.create({ name: 'Pro', recurring_interval: 'month', prices: [{ amount_type: 'fixed', price_amount: 1000, price_currency: 'usd' }], ...more });
const aService = () => polar.products.create({ name: 'Services', prices: [{ amount_type: 'custom', price_currency: 'usd' }] });

async function aPayer(given = {}) {
  const customer = await aCustomer();
  const method = await sim.act('add_payment_method', { customer: customer.id, ...given });
  return { customer, method };
}

// A paid subscription, by way of a checkout.
async function subscribed({ product, card, ...more } = {}) {
  const customer = await aCustomer();
  const sold = product ?? (await aProduct());
  const checkout = await polar.checkouts.create({ products: [sold.id], customer_id: customer.id, ...more });
  const { subscription, order } = await sim.act('complete_checkout', { checkout: checkout.id, card });
  return { customer, product: sold, checkout, subscription, order };
}

async function paidOrder(amount = 10000) {
  const { customer } = await aPayer();
  const { id } = await polar.orders.create({ customer_id: customer.id, product_id: (await aService()).id, amount });
  return polar.orders.finalize(id, {});
}

const seconds = (text) => Math.floor(Date.parse(text) / 1000);
const read = (subscription) => polar.subscriptions.get(subscription.id);

describe('customers', () => {
  test('a customer is created, changed, found by both ids, listed and deleted', async () => {
    const made = await aCustomer({ email: 'a@example.com', external_id: 'org/1 ñ', name: 'Ana', metadata: { a: 'b', n: 1 } });
    const changed = await polar.customers.update(made.id, { name: null, metadata: { c: true } });
    assert.deepEqual([changed.name, changed.metadata], [null, { c: true }]);
    assert.equal((await polar.customers.getExternal('org/1 ñ')).id, made.id);
    await polar.customers.updateExternal('org/1 ñ', { name: 'X' });
    assert.deepEqual((await polar.customers.list({ email: 'a@example.com', metadata: { c: 'true' } })).items.map((c) => c.id), [made.id]);
    assert.equal((await polar.customers.list({ metadata: { c: 'false' } })).items.length, 0);
    await polar.customers.delete(made.id, { anonymize: true });
    await refused(polar.customers.get(made.id), 404, 'ResourceNotFound');
    await aCustomer({ email: 'a@example.com', external_id: 'org/1 ñ' });
    assert.deepEqual(await sim.types(), ['customer.created', 'customer.updated', 'customer.updated', 'customer.deleted', 'customer.created']);
    await sim.clean();
  });

  test('email and external_id are taken once', async () => {
    await aCustomer({ email: 'a@example.com', external_id: 'org_a' });
    assert.equal(where(await refused(aCustomer({ email: 'A@example.com' }), 422, 'RequestValidationError')), 'body.email');
    assert.equal(where(await refused(aCustomer({ external_id: 'org_a' }), 422)), 'body.external_id');
    assert.equal((await sim.objects('customers')).length, 1);
  });

  test('tax ids are told apart by country, and refused', async () => {
    const made = await aCustomer({ tax_id: 'DE123456789', billing_address: { country: 'DE' } });
    assert.deepEqual(made.tax_id, ['DE123456789', 'eu_vat']);
    assert.equal(where(await refused(aCustomer({ tax_id: 'INVALID', billing_address: { country: 'DE' } }), 422)), 'body.tax_id');
  });

  test('payment methods are made by the customer alone', async () => {
    const { customer, method } = await aPayer({ brand: 'mastercard', last4: '4444' });
    const second = await sim.act('add_payment_method', { external_customer_id: customer.external_id, is_default: false });
    const { items } = await polar.customers.listPaymentMethods(customer.id);
    assert.deepEqual(items.map((m) => [m.id, m.is_default]), [[second.id, false], [method.id, true]]);
    assert.equal((await polar.customers.get(customer.id)).default_payment_method_id, method.id);
    await sim.clean();
  });

  test('sessions and state', async () => {
    const { customer, subscription } = await subscribed();
    const session = await polar.customerSessions.create({ customer_id: customer.id, return_url: 'https://example.com/' });
    assert.match(session.customer_portal_url, new RegExp(session.token));
    assert.equal((await polar.customerSessions.create({ external_customer_id: customer.external_id })).customer_id, customer.id);
    assert.equal((await polar.customers.getState(customer.id)).active_subscriptions[0].id, subscription.id);
    await polar.customers.delete(customer.id);
    assert.equal((await sim.objects('subscriptions'))[0].status, 'canceled');
    await sim.clean();
  });
});

describe('products', () => {
  test('fixed, custom and seat prices; renamed, repriced and archived', async () => {
    const made = await aProduct({ metadata: { janua_ref: 'ref-1' } });
    assert.deepEqual([made.is_recurring, made.recurring_interval, made.prices[0].price_amount], [true, 'month', 1000]);
    await aProduct({ name: 'Team', prices: [{ amount_type: 'seat_based', seat_tiers: { tiers: [{ min_seats: 1, price_per_seat: 900 }] } }] });
    await aService();
    const changed = await polar.products.update(made.id, { name: 'Pro 2', prices: [{ amount_type: 'fixed', price_amount: 2000 }] });
    assert.notEqual(changed.prices[0].id, made.prices[0].id);
    assert.equal((await polar.products.update(made.id, { is_archived: true })).is_archived, true);
    assert.deepEqual((await polar.products.list({ metadata: { janua_ref: 'ref-1' } })).items.map((p) => p.id), [made.id]);
    assert.equal((await polar.products.list({ is_archived: false })).items.length, 2);
    assert.equal(where(await refused(polar.checkouts.create({ products: [made.id] }), 422)), 'body.products');
    await refused(polar.products.update(made.id, { recurring_interval: 'year' }), 422);
    await sim.clean();
  });
});

describe('checkouts', () => {
  test('the buyer completes it: customer, order and subscription carry its metadata', async () => {
    const product = await aProduct();
    const checkout = await polar.checkouts.create({ products: [product.id], external_customer_id: 'org_new', success_url: 'https://example.com/{CHECKOUT_ID}', metadata: { janua_ref: 'ref-1' }, customer_metadata: { who: 'me' } });
    assert.deepEqual([checkout.status, checkout.success_url, checkout.total_amount], ['open', `https://example.com/${checkout.id}`, 1000]);
    const done = await sim.act('complete_checkout', { checkout: checkout.id, customer_email: 'new@example.com', customer_name: 'New' });
    assert.deepEqual([done.customer.external_id, done.customer.metadata], ['org_new', { who: 'me' }]);
    assert.deepEqual([done.order.status, done.order.billing_reason, done.order.metadata, done.order.checkout_id], ['paid', 'subscription_create', { janua_ref: 'ref-1' }, checkout.id]);
    assert.deepEqual([done.subscription.status, done.subscription.metadata, done.subscription.checkout_id], ['active', { janua_ref: 'ref-1' }, checkout.id]);
    const after = await polar.checkouts.get(checkout.id);
    assert.deepEqual([after.status, after.customer_id, after.subscription_id], ['succeeded', done.customer.id, done.subscription.id]);
    assert.equal((await polar.payments.list({ order_id: done.order.id })).items[0].status, 'succeeded');
    inOrder(await sim.types(), ['checkout.created', 'checkout.updated', 'customer.created', 'subscription.created', 'subscription.active', 'order.created', 'order.paid', 'checkout.updated']);
    await refused(polar.checkouts.update(checkout.id, { customer_name: 'X' }), 403, 'NotOpenCheckout');
    await sim.clean();
  });

  test('confirmed, failed and expired', async () => {
    const product = await aProduct();
    const open = () => polar.checkouts.create({ products: [product.id] });
    const first = await open();
    assert.equal((await sim.act('confirm_checkout', { checkout: first.id })).status, 'confirmed');
    assert.equal((await sim.act('complete_checkout', { checkout: first.id, success: false })).status, 'failed');
    const second = await open();
    await sim.control('POST', 'clock', { advance: 3601 });
    assert.equal((await polar.checkouts.get(second.id)).status, 'expired');
    assert.equal((await sim.types()).at(-1), 'checkout.expired');
    assert.deepEqual((await polar.checkouts.list({ status: 'failed' })).items.map((c) => c.id), [first.id]);
    await sim.clean();
  });

  test('an open one is changed', async () => {
    const product = await aProduct();
    const checkout = await polar.checkouts.create({ products: [product.id] });
    const changed = await polar.checkouts.update(checkout.id, { customer_email: 'a@example.com', metadata: { a: 'b' } });
    assert.deepEqual([changed.customer_email, changed.metadata, changed.total_amount], ['a@example.com', { a: 'b' }, 1000]);
    await sim.clean();
  });

  test('a trial costs nothing until it ends', async () => {
    const { subscription, order } = await subscribed({ trial_interval: 'day', trial_interval_count: 14 });
    assert.deepEqual([subscription.status, order.total_amount], ['trialing', 0]);
    await sim.control('POST', 'clock', { set: seconds(subscription.trial_end) });
    assert.equal((await read(subscription)).status, 'active');
    assert.equal((await polar.orders.list({ subscription_id: subscription.id })).items[0].total_amount, 1000);
    inOrder(await sim.types(), ['subscription.cycled', 'subscription.updated', 'order.created', 'order.paid']);
  });

  test('a free subscription is upgraded', async () => {
    const customer = await aCustomer();
    const free = await aProduct({ name: 'Free', prices: [{ amount_type: 'fixed', price_amount: 0 }] });
    const old = await polar.subscriptions.create({ product_id: free.id, customer_id: customer.id });
    const checkout = await polar.checkouts.create({ products: [(await aProduct()).id], subscription_id: old.id, customer_id: customer.id });
    const { subscription } = await sim.act('complete_checkout', { checkout: checkout.id });
    assert.deepEqual([(await read(old)).status, subscription.status], ['canceled', 'active']);
    await sim.clean();
  });

  test('discounts: once for the first order, for good for every one', async () => {
    const once = await polar.discounts.create({ name: 'Once', type: 'fixed', duration: 'once', amount: 300, currency: 'usd' });
    const forever = await polar.discounts.create({ name: 'Half', type: 'percentage', duration: 'forever', basis_points: 5000 });
    const first = await subscribed({ discount_id: once.id });
    assert.deepEqual([first.checkout.discount_amount, first.order.subtotal_amount, first.order.discount_amount, first.order.total_amount], [300, 1000, 300, 700]);
    const second = await subscribed({ discount_id: forever.id });
    assert.deepEqual([second.order.total_amount, second.subscription.discount.id], [500, forever.id]);
    const renewed = async ({ subscription: { id } }) => {
      await sim.act('cycle', { subscription: id });
      return (await polar.orders.list({ subscription_id: id })).items[0].total_amount;
    };
    assert.deepEqual([await renewed(first), await renewed(second)], [1000, 500]);
    await polar.subscriptions.update(second.subscription.id, { discount_id: null });
    assert.equal(await renewed(second), 1000);
    await refused(polar.checkouts.create({ products: [first.product.id], discount_id: first.product.id }), 422);
    await polar.discounts.delete(once.id);
    assert.deepEqual((await polar.discounts.list()).items.map((d) => [d.id, d.redemptions_count]), [[forever.id, 1]]);
    await sim.clean();
  });

  test('links open checkouts', async () => {
    const product = await aProduct();
    const link = await polar.checkoutLinks.create({ payment_processor: 'stripe', products: [product.id], label: 'L', metadata: { janua_ref: 'ref-1' } });
    const checkout = await sim.act('follow_checkout_link', { checkout_link: link.id });
    assert.deepEqual([checkout.status, checkout.metadata], ['open', { janua_ref: 'ref-1' }]);
    await polar.checkoutLinks.update(link.id, { label: 'M' });
    assert.equal((await polar.checkoutLinks.list()).items[0].label, 'M');
    await polar.checkoutLinks.delete(link.id);
    assert.equal((await polar.checkoutLinks.list()).items.length, 0);
    await sim.clean();
  });
});

describe('orders', () => {
  test('a draft is charged to the saved method', async () => {
    const { customer, method } = await aPayer();
    const draft = await polar.orders.create({ customer_id: customer.id, product_id: (await aService()).id, amount: 4200, currency: 'usd', description: 'Three hours', metadata: { janua_ref: 'ref-1' } });
    assert.deepEqual([draft.status, draft.paid, draft.due_amount, draft.invoice_number], ['draft', false, 4200, null]);
    const paid = await polar.orders.finalize(draft.id, { payment_method_id: method.id });
    assert.deepEqual([paid.status, paid.paid, paid.due_amount], ['paid', true, 0]);
    assert.ok(paid.invoice_number);
    await refused(polar.orders.finalize(draft.id, {}), 412, 'OrderNotDraft');
    assert.deepEqual((await polar.orders.list({ metadata: { janua_ref: 'ref-1' }, limit: 2 })).items.map((o) => o.id), [draft.id]);
    assert.equal((await polar.orders.list({ metadata: { janua_ref: 'ref-2' } })).items.length, 0);
    assert.deepEqual(await sim.types(), ['customer.created', 'customer.updated', 'product.created', 'order.created', 'order.updated', 'order.paid']);
    await sim.clean();
  });

  test('declined, to be authenticated, not allowed, without a method: the draft stays', async () => {
    const service = await aService();
    for (const [does, error] of [['decline', 'PaymentFailed'], ['authenticate', 'PaymentActionRequired']]) {
      const { customer } = await aPayer({ does });
      const draft = await polar.orders.create({ customer_id: customer.id, product_id: service.id, amount: 4200 });
      await refused(polar.orders.finalize(draft.id, {}), 402, error);
      assert.equal((await polar.orders.get(draft.id)).status, 'draft');
      assert.equal((await polar.payments.list({ order_id: draft.id, status: 'failed' })).items.length, 1);
    }
    const { id } = await polar.orders.create({ customer_id: (await aCustomer()).id, product_id: service.id, amount: 4200 });
    await refused(polar.orders.finalize(id, {}), 422);
    await sim.settings({ off_session_charges: false });
    await refused(polar.orders.finalize(id, {}), 403, 'OffSessionChargesNotEnabled');
  });

  test('tax comes on top, and an invoice needs an address', async () => {
    await sim.settings({ tax_rate: 0.19 });
    const order = await paidOrder(10000);
    assert.deepEqual([order.net_amount, order.tax_amount, order.total_amount], [10000, 1900, 11900]);
    await refused(polar.orders.generateInvoice(order.id), 422, 'MissingInvoiceBillingDetails');
    await polar.orders.update(order.id, { billing_name: 'ACME', billing_address: { country: 'DE' } });
    await refused(polar.orders.invoice(order.id), 404);
    await polar.orders.generateInvoice(order.id);
    assert.match((await polar.orders.invoice(order.id)).url, /^https:/);
    assert.equal((await polar.orders.get(order.id)).is_invoice_generated, true);
    await sim.settings({ invoice_lag_ms: 60000 });
    const other = await paidOrder();
    await polar.orders.update(other.id, { billing_name: 'ACME', billing_address: { country: 'DE' } });
    await polar.orders.generateInvoice(other.id);
    assert.equal((await polar.orders.get(other.id)).is_invoice_generated, false);
    const draft = await polar.orders.create({ customer_id: order.customer_id, product_id: order.product_id, amount: 100 });
    await refused(polar.orders.generateInvoice(draft.id), 409, 'OrderNotEligibleForInvoice');
    await sim.clean();
  });
});

describe('refunds and disputes', () => {
  test('amounts are without tax, which follows in proportion', async () => {
    await sim.settings({ tax_rate: 0.19 });
    const { id } = await paidOrder(10000);
    const part = await polar.refunds.create({ order_id: id, amount: 3333, reason: 'customer_request', metadata: { janua_ref: 'ref-1' } });
    assert.deepEqual([part.status, part.amount, part.tax_amount], ['succeeded', 3333, 633]);
    let order = await polar.orders.get(id);
    assert.deepEqual([order.status, order.refunded_amount, order.refunded_tax_amount, order.refundable_amount], ['partially_refunded', 3333, 633, 6667]);
    assert.equal(where(await refused(polar.refunds.create({ order_id: id, amount: 6668, reason: 'other' }), 422)), 'body.amount');
    await polar.refunds.create({ order_id: id, amount: 6667, reason: 'other' });
    order = await polar.orders.get(id);
    assert.deepEqual([order.status, order.refunded_amount, order.refunded_tax_amount], ['refunded', 10000, 1900]);
    await refused(polar.refunds.create({ order_id: id, amount: 1, reason: 'other' }), 403, 'RefundedAlready');
    assert.equal((await polar.refunds.list({ order_id: id })).items.length, 2);
    inOrder(await sim.types(), ['refund.created', 'order.updated', 'order.refunded', 'refund.created']);
    await sim.clean();
  });

  test('a pending refund reserves, and succeeds or fails later', async () => {
    await sim.settings({ refund_status: 'pending' });
    const { id } = await paidOrder(10000);
    const refund = await polar.refunds.create({ order_id: id, amount: 8000, reason: 'duplicate' });
    assert.deepEqual([refund.status, (await polar.orders.get(id)).refundable_amount, (await polar.orders.get(id)).refunded_amount], ['pending', 2000, 0]);
    await sim.act('finish_refund', { refund: refund.id, status: 'failed' });
    assert.equal((await polar.orders.get(id)).refundable_amount, 10000);
    const again = await polar.refunds.create({ order_id: id, amount: 10000, reason: 'duplicate' });
    await sim.act('finish_refund', { refund: again.id });
    assert.equal((await polar.orders.get(id)).status, 'refunded');
    inOrder(await sim.types(), ['refund.created', 'refund.updated', 'refund.created', 'refund.updated', 'order.refunded']);
  });

  test('disputes are read and accepted; an early warning becomes a refund', async () => {
    const order = await paidOrder();
    const dispute = await sim.act('dispute', { order: order.id });
    assert.equal((await polar.disputes.list({ order_id: order.id })).items[0].id, dispute.id);
    assert.equal((await polar.disputes.accept(dispute.id)).status, 'lost');
    await refused(polar.disputes.accept(dispute.id), 409, 'DisputeNotOpenError');
    const other = await paidOrder();
    const warning = await sim.act('dispute', { order: other.id, status: 'early_warning' });
    assert.equal((await polar.disputes.accept(warning.id)).status, 'prevented');
    const [refund] = (await polar.refunds.list({ order_id: other.id })).items;
    assert.deepEqual([refund.reason, refund.dispute.id], ['dispute_prevention', warning.id]);
    const third = await sim.act('dispute', { order: (await paidOrder()).id });
    assert.equal((await sim.act('move_dispute', { dispute: third.id, status: 'won' })).closed, true);
    await sim.clean();
  });
});

describe('subscriptions', () => {
  test('free ones are made by the API, paid ones are not', async () => {
    const customer = await aCustomer();
    const free = await aProduct({ prices: [{ amount_type: 'fixed', price_amount: 0 }] });
    const made = await polar.subscriptions.create({ product_id: free.id, external_customer_id: customer.external_id, metadata: { janua_ref: 'ref-1' } });
    assert.deepEqual([made.status, made.amount], ['active', 0]);
    assert.equal(where(await refused(polar.subscriptions.create({ product_id: (await aProduct()).id, customer_id: customer.id }), 422)), 'body.product_id');
    assert.deepEqual((await polar.subscriptions.list({ customer_id: customer.id, active: true })).items.map((s) => s.id), [made.id]);
    await sim.clean();
  });

  test('a PATCH is exactly one of its shapes', validated, async () => {
    const { subscription, product } = await subscribed();
    await refused(polar.subscriptions.update(subscription.id, { cancel_at_period_end: true, product_id: product.id }), 422, 'RequestValidationError');
    assert.equal((await sim.violations())[0].kind, 'parameters');
    assert.equal((await read(subscription)).cancel_at_period_end, false);
  });

  test('cancel at the period’s end is not the end, and can be taken back', async () => {
    const { subscription } = await subscribed();
    const { length } = await sim.types();
    const canceled = await polar.subscriptions.update(subscription.id, { cancel_at_period_end: true, customer_cancellation_reason: 'unused' });
    assert.deepEqual([canceled.status, canceled.ends_at, canceled.customer_cancellation_reason], ['active', subscription.current_period_end, 'unused']);
    await refused(polar.subscriptions.update(subscription.id, { cancel_at_period_end: true }), 403, 'AlreadyCanceledSubscription');
    assert.equal((await polar.subscriptions.update(subscription.id, { cancel_at_period_end: false })).ends_at, null);
    await polar.subscriptions.update(subscription.id, { cancel_at_period_end: true });
    await sim.control('POST', 'clock', { set: seconds(subscription.current_period_end) });
    const ended = await read(subscription);
    assert.deepEqual([ended.status, seconds(ended.ended_at)], ['canceled', seconds(subscription.current_period_end)]);
    const types = (await sim.types()).slice(length).filter((t) => t.startsWith('subscription.'));
    assert.deepEqual(types, ['updated', 'canceled', 'updated', 'uncanceled', 'updated', 'canceled', 'updated', 'revoked'].map((t) => `subscription.${t}`));
    await refused(polar.subscriptions.update(subscription.id, { cancel_at_period_end: false }), 403, 'AlreadyCanceledSubscription');
  });

  test('revoked at once: updated, canceled, revoked', async () => {
    const { subscription } = await subscribed();
    const { length } = await sim.types();
    assert.equal((await polar.subscriptions.revoke(subscription.id)).status, 'canceled');
    assert.deepEqual((await sim.types()).slice(length), ['subscription.updated', 'subscription.canceled', 'subscription.revoked', 'customer.state_changed']);
    await refused(polar.subscriptions.revoke(subscription.id), 403, 'AlreadyCanceledSubscription');
  });

  test('a renewal: cycled, updated, order.created, order.updated, order.paid', async () => {
    const { subscription } = await subscribed({ metadata: { janua_ref: 'ref-1' } });
    const { length } = await sim.types();
    await sim.control('POST', 'clock', { set: seconds(subscription.current_period_end) });
    assert.deepEqual((await sim.types()).slice(length), ['subscription.cycled', 'subscription.updated', 'customer.state_changed', 'order.created', 'order.updated', 'order.paid']);
    const after = await read(subscription);
    assert.equal(seconds(after.current_period_start), seconds(subscription.current_period_end));
    const [order] = (await polar.orders.list({ subscription_id: subscription.id })).items;
    assert.deepEqual([order.billing_reason, order.metadata], ['subscription_cycle', { janua_ref: 'ref-1' }]);
    await sim.clean();
  });

  test('a renewal that cannot be paid: past due, tried again, recovered or revoked', async () => {
    const { customer, subscription } = await subscribed();
    const [method] = (await polar.customers.listPaymentMethods(customer.id)).items;
    const outcome = (does) => sim.settings({ card_outcomes: { [method.id]: does } });
    await outcome('decline');
    await sim.act('cycle', { subscription: subscription.id });
    const [order] = (await polar.orders.list({ subscription_id: subscription.id, status: 'pending' })).items;
    assert.ok(order.next_payment_attempt_at);
    assert.equal((await read(subscription)).status, 'past_due');
    await outcome('pay');
    assert.equal((await sim.act('retry', { subscription: subscription.id })).status, 'active');
    await outcome('decline');
    await sim.control('POST', 'clock', { advance: 70 * DAY });
    assert.equal((await read(subscription)).status, 'canceled');
    inOrder(await sim.types(), ['subscription.past_due', 'order.paid', 'subscription.active', 'subscription.past_due', 'subscription.revoked']);
  });

  test('pause at the period’s end, and resume with a new period', async () => {
    const { subscription } = await subscribed();
    const asked = await polar.subscriptions.update(subscription.id, { pause_at_period_end: true });
    assert.deepEqual([asked.status, asked.pause_at_period_end], ['active', true]);
    await sim.control('POST', 'clock', { set: seconds(subscription.current_period_end) });
    assert.equal((await read(subscription)).status, 'paused');
    const { length } = await sim.types();
    assert.equal((await polar.subscriptions.update(subscription.id, { resume: true })).status, 'active');
    inOrder((await sim.types()).slice(length), ['subscription.updated', 'subscription.resumed', 'order.created', 'order.paid']);
    const until = await subscribed();
    const resumes = seconds(until.subscription.current_period_end) + 5 * DAY;
    await polar.subscriptions.update(until.subscription.id, { pause_at_period_end: true, resumes_at: new Date(resumes * 1000).toISOString() });
    await sim.control('POST', 'clock', { set: resumes });
    assert.equal((await read(until.subscription)).status, 'active');
    await sim.clean();
  });

  test('another product, by each way of prorating', async () => {
    const team = await aProduct({ name: 'Team', prices: [{ amount_type: 'fixed', price_amount: 3000 }] });
    const change = ({ id }, proration_behavior) => polar.subscriptions.update(id, { product_id: team.id, proration_behavior });
    const orders = async ({ id }) => (await polar.orders.list({ subscription_id: id })).items;
    const invoiced = (await subscribed()).subscription;
    assert.deepEqual([(await change(invoiced, 'invoice')).amount, (await orders(invoiced))[0].billing_reason], [3000, 'subscription_update']);
    assert.ok((await orders(invoiced))[0].items.every((i) => i.proration));
    const prorated = (await subscribed()).subscription;
    assert.deepEqual([(await change(prorated, 'prorate')).product_id, (await orders(prorated)).length], [team.id, 1]);
    await sim.act('cycle', { subscription: prorated.id });
    assert.equal((await orders(prorated))[0].items.length, 3);
    const later = (await subscribed()).subscription;
    const pending = await change(later, 'next_period');
    assert.deepEqual([pending.amount, pending.pending_update.product_id], [1000, team.id]);
    assert.equal((await polar.subscriptions.update(later.id, { pending_update: null })).pending_update, null);
    await change(later, 'next_period');
    await sim.act('cycle', { subscription: later.id });
    assert.deepEqual([(await read(later)).product_id, (await orders(later))[0].net_amount], [team.id, 3000]);
    await refused(change(later, 'invoice'), 422);
    await sim.clean();
  });

  test('a change that has to be paid is not made when the card is declined', async () => {
    const team = await aProduct({ name: 'Team', prices: [{ amount_type: 'fixed', price_amount: 3000 }] });
    const { customer, subscription } = await subscribed();
    const [method] = (await polar.customers.listPaymentMethods(customer.id)).items;
    await sim.settings({ card_outcomes: { [method.id]: 'decline' } });
    await refused(polar.subscriptions.update(subscription.id, { product_id: team.id, proration_behavior: 'invoice' }), 402, 'PaymentFailed');
    assert.equal((await read(subscription)).amount, 1000);
  });

  test('seats are a request of their own', async () => {
    const product = await aProduct({ prices: [{ amount_type: 'seat_based', seat_tiers: { tiers: [{ min_seats: 1, price_per_seat: 900 }] } }] });
    const { subscription } = await subscribed({ product, seats: 2 });
    assert.deepEqual([subscription.seats, subscription.amount], [2, 1800]);
    const more = await polar.subscriptions.update(subscription.id, { seats: 5, proration_behavior: 'invoice' });
    assert.deepEqual([more.seats, more.amount], [5, 4500]);
    await refused(polar.subscriptions.update((await subscribed()).subscription.id, { seats: 5 }), 422);
    await sim.clean();
  });
});

describe('webhooks', () => {
  const verify = async (event, secret) => webhooks.validateEvent(event.body, event.headers, secret);

  test('Polar’s own verifier accepts both keys, and nothing that was changed', async () => {
    await aCustomer({ name: 'Niño ✓' });
    const secret = 'whsec_ovyN6cPrTv56AApvzCaJno08SSmGJmgbWilb33N2JuK=';
    const [event] = await sim.control('GET', `events?provider=polar&secret=${encodeURIComponent(secret)}`);
    assert.equal((await verify(event, secret)).type, 'customer.created');
    assert.match(event.headers['webhook-id'], /^[0-9a-f-]{36}$/);
    await assert.rejects(verify({ ...event, body: `${event.body} ` }, secret));
    await assert.rejects(verify(event, `${secret}x`));
    await sim.settings({ webhook_key: 'b' });
    const [other] = await sim.control('GET', `events?provider=polar&secret=${encodeURIComponent(secret)}`);
    assert.notEqual(other.headers['webhook-signature'], event.headers['webhook-signature']);
    assert.equal((await verify(other, secret)).type, 'customer.created');
  });

  test('an endpoint’s own secret signs, until it is rotated', async () => {
    const endpoint = await polar.webhooks.createWebhookEndpoint({ url: 'https://example.com/hook', format: 'raw', events: ['customer.created'] });
    assert.match(endpoint.secret, /^whsec_\w{43}$/);
    await aCustomer();
    const [event] = await sim.events();
    await verify(event, endpoint.secret);
    const rotated = await polar.webhooks.resetWebhookEndpointSecret(endpoint.id);
    const [later] = await sim.events();
    await assert.rejects(verify(later, endpoint.secret));
    await verify(later, rotated.secret);
    assert.equal((await polar.webhooks.updateWebhookEndpoint(endpoint.id, { enabled: false })).enabled, false);
    await polar.webhooks.redeliverWebhookEvent(event.id);
    assert.equal((await sim.events()).at(-1).id, event.id);
    await polar.webhooks.deleteWebhookEndpoint(endpoint.id);
    assert.equal((await polar.webhooks.listWebhookEndpoints()).items.length, 0);
    await refused(polar.webhooks.createWebhookEndpoint({ url: 'https://localhost/hook', format: 'raw', events: [] }), 422);
    await sim.clean();
  });

  test('sign.js prints the known vectors', () => {
    const body = '{"type":"order.paid","timestamp":"2023-11-14T22:13:20Z","data":{"id":"a1"}}';
    const id = 'msg_p5jXN8AQM9LWM0D4loKWxJek';
    assert.equal(run('sign.js', ['polar', 'polar_whs_ExampleSecret0123456789ABCDEFabcdef', '1700000000', id], body), 'v1,2i5zDOmoZBWfA/RFC4Oucj5DF0NsfDNDEUXYDiGmQHw=\n');
    assert.equal(run('sign.js', ['polar-b', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', '1614265330', id], '{"test": 2432232314}'), 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\n');
  });

  test('no two events have the same time', async () => {
    await sim.control('POST', 'clock', { freeze: true });
    await subscribed();
    const times = (await sim.events()).map((e) => JSON.parse(e.body).timestamp);
    assert.deepEqual([...new Set(times)].sort(), times);
  });
});

describe('the protocol', () => {
  const raw = (method, path, body, headers = {}) =>
    fetch(sim.base + path, {
      method, body, redirect: 'manual',
      headers: { authorization: 'Bearer polar_oat_x', 'polar-version': '2026-10', 'user-agent': 'test', ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    });

  test('a path without its slash is redirected, a wrong version is not found', validated, async () => {
    const answer = await raw('POST', '/v1/customers?a=1', '{}');
    assert.deepEqual([answer.status, answer.headers.get('location'), await answer.text()], [307, `${sim.base}/v1/customers/?a=1`, '']);
    const other = await raw('GET', '/v1/customers/', undefined, { 'polar-version': '2026-11' });
    assert.deepEqual([other.status, await other.json()], [404, { detail: 'Not Found' }]);
    assert.equal((await raw('GET', '/v1/customers/', undefined, { authorization: 'Bearer x' })).status, 401);
    assert.equal((await raw('GET', '/v1/nothing')).status, 404);
    assert.deepEqual((await sim.violations()).map((v) => v.kind), ['path', 'header', 'header', 'path']);
  });

  test('what is not imitated says so', validated, async () => {
    assert.equal((await raw('GET', '/v1/benefits/')).status, 501);
    assert.equal((await raw('GET', '/v1/orders/?product_billing_type=recurring')).status, 501);
    assert.deepEqual((await sim.violations()).map((v) => v.kind), ['not_imitated', 'not_imitated']);
  });

  test('an event counts once by its external_id, and one that is wrong refuses all', validated, async () => {
    const { id } = await aCustomer();
    const event = (external_id, customer_id = id) => ({ name: 'calls', customer_id, external_id, metadata: { value: -2.5 } });
    assert.deepEqual(await polar.events.ingest({ events: [event('a'), event('b')] }), { inserted: 2, duplicates: 0 });
    assert.deepEqual(await polar.events.ingest({ events: [event('b'), event('c')] }), { inserted: 1, duplicates: 1 });
    const refused = await raw('POST', '/v1/events/ingest', JSON.stringify({ events: [event('d'), event('e', '00000000-0000-4000-8000-000000000000')] }));
    assert.deepEqual([refused.status, (await sim.objects('events')).length], [422, 3]);
  });

  test('changes, calls and events by hand', async () => {
    const { id } = await aCustomer();
    await sim.control('POST', 'edit', { provider: 'polar', kind: 'customers', id, fields: { metadata: { by: 'hand' } } });
    const called = await sim.control('POST', 'call', { provider: 'polar', method: 'PATCH', path: `/v1/customers/${id}`, params: { name: 'X' } });
    assert.deepEqual([called.status, called.body.metadata], [200, { by: 'hand' }]);
    await sim.control('POST', 'emit', { provider: 'polar', type: 'customer.updated', object: called.body });
    assert.deepEqual(await sim.types(), ['customer.created', 'customer.updated', 'customer.updated', 'customer.updated']);
    assert.equal((await sim.objects('customers', '&metadata.by=hand')).length, 1);
    assert.equal((await sim.control('GET', 'objects?provider=polar')).customers, 1);
    const answer = await fetch(`${sim.root}/_control/act`, { method: 'POST', body: JSON.stringify({ provider: 'polar', action: 'cycle', subscription: id }) });
    assert.deepEqual([answer.status, (await answer.json()).answer.error], [404, 'ResourceNotFound']);
  });

  test('pages', async () => {
    for (let i = 0; i < 5; i++) await aCustomer();
    const { items, pagination } = await polar.customers.list({ page: 2, limit: 2 });
    assert.deepEqual([items.length, pagination], [2, { total_count: 5, max_page: 3 }]);
    assert.equal((await polar.customers.list({ limit: 100, sorting: ['created_at'] })).items.at(-1).external_id, `org_${customers}`);
    assert.equal((await raw('GET', '/v1/customers/?limit=101')).status, 422);
  });

  test('a dropped answer leaves exactly the one object that was made', async () => {
    await sim.fault('drop_after', { match: { method: 'POST', path: '^/v1/orders/$' } });
    const customer = await aCustomer();
    const service = await aService();
    await assert.rejects(raw('POST', '/v1/orders/', JSON.stringify({ customer_id: customer.id, product_id: service.id, amount: 100, metadata: { janua_ref: 'ref-1' } })));
    assert.equal((await polar.orders.list({ metadata: { janua_ref: 'ref-1' } })).items.length, 1);
  });

  test('faults answer in Polar’s form', async () => {
    await sim.fault('status', { status: 429 });
    const limited = await raw('GET', '/v1/customers/');
    assert.deepEqual([limited.status, limited.headers.get('retry-after'), (await limited.json()).error], [429, '1', 'RateLimitExceeded']);
    await sim.fault('status', { status: 409 });
    assert.equal((await (await raw('GET', '/v1/customers/')).json()).error, 'SubscriptionLocked');
    await sim.fault('truncate');
    await assert.rejects(async () => (await raw('GET', '/v1/customers/')).text());
    await sim.fault('not_utf8');
    const bytes = new Uint8Array(await (await raw('GET', '/v1/customers/')).arrayBuffer());
    assert.throws(() => new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  });

  test('sdk_bytes_polar.js: every call of the client is one that the simulator takes', validated, async () => {
    const lines = run('sdk_bytes_polar.js', []).trim().split('\n').map((line) => JSON.parse(line));
    assert.ok(lines.length >= 40);
    for (const { method, path, headers, body } of lines) {
      const { 'content-length': length, ...rest } = headers;
      await raw(method, path, body === '' ? undefined : body, { ...rest, authorization: 'Bearer polar_oat_x' });
    }
    assert.deepEqual(await sim.violations(), []);
    const given = JSON.stringify([{ name: 'a', call: 'orders.finalize', arguments: ['x', {}] }]);
    assert.equal(JSON.parse(run('sdk_bytes_polar.js', ['--calls'], given)).path, '/v1/orders/x/finalize');
  });
});
