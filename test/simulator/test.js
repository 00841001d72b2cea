// The simulator's own tests: Stripe's real client talks to it, Stripe's real verifier judges its webhooks,
// and, where the OpenAPI document is there, every answer is judged by the document's response schemas.
//
//   node --test test.js

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Stripe from 'stripe';
import { addIntervals, periodAt } from './core/clock.js';
import { parseForm } from './core/form.js';
import { openapiFolder } from './core/openapi.js';
import { Simulator } from './core/simulator.js';
import { amountOf } from './providers/stripe/catalog.js';
import { parseSearch } from './providers/stripe/query.js';

const DAY = 86400;
const folder = openapiFolder();
const validated = { skip: folder ? false : 'no OpenAPI documents' };

let simulator;
let base;
let stripe;
let port;

before(async () => {
  simulator = new Simulator({ openapi: folder });
  port = await simulator.listen();
  base = `http://127.0.0.1:${port}`;
  stripe = new Stripe('sk_test_simulator', { host: '127.0.0.1', port, protocol: 'http', maxNetworkRetries: 0, telemetry: false });
});

after(() => simulator.close());
beforeEach(() => control('POST', 'reset'));

async function control(method, name, body) {
  const answer = await fetch(`${base}/_control/${name}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
  const value = await answer.json();
  assert.ok(answer.ok, `control ${name}: ${JSON.stringify(value)}`);
  return value;
}

let keys = 0;
const key = () => ({ idempotencyKey: `key-${++keys}` });

// A request as our own worker would send it, with anything in it changed.
function raw(method, path, body, headers = {}) {
  return fetch(base + path, {
    method,
    body,
    redirect: 'manual',
    headers: {
      authorization: 'Bearer sk_test_x', 'stripe-version': '2026-10-28.endive', 'idempotency-key': `raw-${++keys}`, 'user-agent': 'test',
      ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }), ...headers,
    },
  });
}

const eventTypes = async (afterSeq = 0) => (await control('GET', `events?after=${afterSeq}`)).map((e) => e.type);
const violations = async () => (await control('GET', 'violations')).violations;

// The names in `wanted` occur in `types` in this order.
function inOrder(types, wanted) {
  let at = -1;
  for (const type of wanted) {
    const next = types.indexOf(type, at + 1);
    assert.ok(next > at, `${type} is missing or out of order in ${types.join(' ')}`);
    at = next;
  }
}

async function rejects(promise, expected) {
  const error = await promise.then(() => assert.fail('the call went through'), (e) => e);
  for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, `${name} of: ${error.message}`);
  return error;
}

async function aPrice(amount = 1000, interval = 'month', more = {}) {
  const product = await stripe.products.create({ name: 'Pro' }, key());
  return stripe.prices.create({ currency: 'usd', unit_amount: amount, product: product.id, recurring: { interval }, ...more }, key());
}

async function aPayer(token = 'pm_card_visa') {
  const customer = await stripe.customers.create({ email: 'a@example.com' }, key());
  const method = await stripe.paymentMethods.attach(token, { customer: customer.id }, key());
  await stripe.customers.update(customer.id, { invoice_settings: { default_payment_method: method.id } }, key());
  return { customer, method };
}

async function subscribed({ token, amount, interval, ...params } = {}) {
  const { customer, method } = await aPayer(token);
  const price = await aPrice(amount, interval);
  const subscription = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }], ...params }, key());
  return { customer, method, price, subscription };
}

describe('customers and payment methods', () => {
  test('a customer is created, changed, found, listed and deleted', async () => {
    const name = "A B+C&=é~!*()' ✓ [x]";
    const made = await stripe.customers.create({ email: 'a@example.com', name, metadata: { org: '1', gone: 'x' }, address: { line1: 'S', country: 'MX' } }, key());
    assert.equal(made.name, name);
    assert.equal(made.address.country, 'MX');
    const changed = await stripe.customers.update(made.id, { name: '', metadata: { gone: '', more: '2' } }, key());
    assert.equal(changed.name, null);
    assert.deepEqual(changed.metadata, { org: '1', more: '2' });
    const found = await stripe.customers.search({ query: "metadata['org']:'1'" });
    assert.deepEqual(found.data.map((c) => c.id), [made.id]);
    assert.equal((await stripe.customers.list({ email: 'a@example.com' })).data.length, 1);
    assert.deepEqual({ ...(await stripe.customers.del(made.id)) }, { id: made.id, object: 'customer', deleted: true });
    assert.equal((await stripe.customers.retrieve(made.id)).deleted, true);
    await rejects(stripe.customers.update(made.id, { name: 'x' }, key()), { code: 'resource_missing', statusCode: 404 });
    assert.deepEqual(await eventTypes(), ['customer.created', 'customer.updated', 'customer.deleted']);
    assert.deepEqual(await violations(), []);
  });

  test('an update tells what it replaced, down to a metadata key, and nothing when nothing changed', async () => {
    const made = await stripe.customers.create({ name: 'old', metadata: { a: '1' } }, key());
    await stripe.customers.update(made.id, { name: 'new', metadata: { a: '2', b: '3' } }, key());
    await stripe.customers.update(made.id, { name: 'new' }, key());
    const events = await control('GET', 'events');
    assert.equal(events.length, 2);
    assert.deepEqual(JSON.parse(events[1].body).data.previous_attributes, { name: 'old', metadata: { a: '1', b: null } });
  });

  test('a test token becomes a payment method of its own; a detached one cannot come back', async () => {
    const { customer, method } = await aPayer();
    assert.match(method.id, /^pm_1\w{23}$/);
    assert.equal(method.card.last4, '4242');
    assert.equal((await stripe.customers.listPaymentMethods(customer.id, { type: 'card' })).data.length, 1);
    assert.equal((await stripe.paymentMethods.detach(method.id, {}, key())).customer, null);
    assert.equal((await stripe.customers.retrieve(customer.id)).invoice_settings.default_payment_method, null);
    await rejects(stripe.paymentMethods.attach(method.id, { customer: customer.id }, key()), { statusCode: 400 });
    await rejects(stripe.paymentMethods.attach('pm_card_chargeDeclined', { customer: customer.id }, key()), {
      statusCode: 402, code: 'card_declined', decline_code: 'generic_decline',
    });
    await rejects(stripe.paymentMethods.attach('pm_nothing', { customer: customer.id }, key()), { code: 'resource_missing' });
  });

  test('a setup intent is made, read and confirmed', async () => {
    const { customer } = await aPayer();
    const intent = await stripe.setupIntents.create({ customer: customer.id, usage: 'off_session' }, key());
    assert.equal(intent.status, 'requires_payment_method');
    await control('POST', 'call', { path: `/v1/setup_intents/${intent.id}/confirm`, params: { payment_method: 'pm_card_mastercard' } });
    assert.equal((await stripe.setupIntents.retrieve(intent.id)).status, 'succeeded');
  });

  test('pages follow each other without gap or repetition', async () => {
    for (let i = 0; i < 7; i++) await stripe.customers.create({ name: `c${i}` }, key());
    const names = [];
    for await (const c of stripe.customers.list({ limit: 3 })) names.push(c.name);
    assert.deepEqual(names, ['c6', 'c5', 'c4', 'c3', 'c2', 'c1', 'c0']);
    const first = await stripe.customers.list({ limit: 3 });
    const second = await stripe.customers.list({ limit: 3, starting_after: first.data[2].id });
    const back = await stripe.customers.list({ limit: 3, ending_before: second.data[0].id });
    assert.deepEqual(back.data.map((c) => c.name), ['c6', 'c5', 'c4']);
    await rejects(stripe.customers.list({ limit: 101 }), { statusCode: 400 });
  });
});

describe('catalogue', () => {
  test('products and prices are created, changed, found and archived', async () => {
    const product = await stripe.products.create({ id: 'pro', name: 'Pro', metadata: { plan: 'pro' } }, key());
    await rejects(stripe.products.create({ id: 'pro', name: 'Pro' }, key()), { code: 'resource_already_exists' });
    const price = await stripe.prices.create({ currency: 'usd', unit_amount: 1999, product: product.id, recurring: { interval: 'month' }, lookup_key: 'k' }, key());
    assert.equal(String(price.unit_amount_decimal), '1999');
    assert.equal((await stripe.prices.update(price.id, { active: false, metadata: { a: 'b' } }, key())).active, false);
    assert.equal((await stripe.prices.search({ query: "metadata['a']:'b'" })).data[0].id, price.id);
    assert.equal((await stripe.prices.list({ lookup_keys: ['k'] })).data.length, 1);
    assert.equal((await stripe.products.search({ query: "active:'true' AND metadata['plan']:'pro'" })).data.length, 1);
    await rejects(stripe.prices.create({ currency: 'usd', unit_amount: 1, product: product.id, lookup_key: 'k' }, key()), { param: 'lookup_key' });
    assert.equal((await stripe.products.update(product.id, { active: false }, key())).active, false);
    assert.equal((await stripe.prices.create({ currency: 'usd', unit_amount_decimal: '0.125', product: product.id }, key())).unit_amount, null);
  });

  test('amounts are exact: decimals, tiers, packages', () => {
    const per = (decimal, more) => ({ billing_scheme: 'per_unit', unit_amount_decimal: decimal, recurring: null, ...more });
    assert.equal(amountOf(per('0.125'), 4), 1);
    assert.equal(amountOf(per('0.5'), 1), 1);
    assert.equal(amountOf(per('900719925474'), 3), 2702159776422);
    assert.equal(amountOf(per('100', { transform_quantity: { divide_by: 10, round: 'up' } }), 11), 200);
    const tiers = [{ up_to: 10, unit_amount_decimal: '100', flat_amount_decimal: null }, { up_to: null, unit_amount_decimal: '50', flat_amount_decimal: '7' }];
    assert.equal(amountOf({ billing_scheme: 'tiered', tiers, tiers_mode: 'graduated' }, 12), 1107);
    assert.equal(amountOf({ billing_scheme: 'tiered', tiers, tiers_mode: 'volume' }, 12), 607);
  });
});

describe('subscriptions', () => {
  test('one that can be paid is active at once, with a paid invoice', async () => {
    const { subscription, customer } = await subscribed({ metadata: { org: '9' }, expand: ['latest_invoice.payments'] });
    assert.equal(subscription.status, 'active');
    const [item] = subscription.items.data;
    assert.equal(item.current_period_end, addIntervals(item.current_period_start, 'month', 1, 1));
    const invoice = subscription.latest_invoice;
    assert.equal(invoice.status, 'paid');
    assert.equal(invoice.amount_paid, 1000);
    assert.equal(invoice.parent.subscription_details.subscription, subscription.id);
    assert.match(invoice.payments.data[0].payment.payment_intent, /^pi_/);
    assert.equal((await stripe.invoices.list({ subscription: subscription.id })).data.length, 1);
    assert.equal((await stripe.subscriptions.search({ query: "metadata['org']:'9'" })).data[0].id, subscription.id);
    assert.equal((await stripe.subscriptions.list({ customer: customer.id })).data.length, 1);
    inOrder(await eventTypes(), ['invoice.created', 'invoice.finalized', 'payment_intent.succeeded', 'invoice.paid', 'customer.subscription.created']);
  });

  test('without a payment method nothing is made, with default_incomplete it waits for one', async () => {
    const customer = await stripe.customers.create({}, key());
    const price = await aPrice();
    const terms = { customer: customer.id, items: [{ price: price.id }] };
    await rejects(stripe.subscriptions.create(terms, key()), { code: 'resource_missing', statusCode: 400 });
    assert.deepEqual(await control('GET', 'objects/subscriptions'), []);
    const waiting = await stripe.subscriptions.create({ ...terms, payment_behavior: 'default_incomplete', expand: ['latest_invoice.confirmation_secret'] }, key());
    assert.equal(waiting.status, 'incomplete');
    assert.match(waiting.latest_invoice.confirmation_secret.client_secret, /^pi_\w+_secret_/);
    await stripe.invoices.pay(waiting.latest_invoice.id, { payment_method: 'pm_card_visa' }, key());
    assert.equal((await stripe.subscriptions.retrieve(waiting.id)).status, 'active');
    await rejects(stripe.invoices.pay(waiting.latest_invoice.id, {}, key()), { code: 'invoice_already_paid' });
  });

  test('a declined first payment leaves it incomplete, or nothing at all with error_if_incomplete', async () => {
    const { customer, price, subscription } = await subscribed({ token: 'pm_card_chargeCustomerFail' });
    assert.equal(subscription.status, 'incomplete');
    inOrder(await eventTypes(), ['charge.failed', 'payment_intent.payment_failed', 'invoice.payment_failed', 'customer.subscription.created']);
    await rejects(stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }], payment_behavior: 'error_if_incomplete' }, key()), { statusCode: 402 });
    assert.equal((await control('GET', 'objects/subscriptions?count=1')).count, 1);
    await control('POST', 'clock', { advance: DAY });
    assert.equal((await stripe.subscriptions.retrieve(subscription.id)).status, 'incomplete_expired');
  });

  test('a card that asks for its owner leaves the payment in requires_action', async () => {
    const { subscription } = await subscribed({ token: 'pm_card_authenticationRequired', expand: ['latest_invoice'] });
    assert.equal(subscription.status, 'incomplete');
    assert.ok((await eventTypes()).includes('invoice.payment_action_required'));
    await stripe.invoices.pay(subscription.latest_invoice.id, { payment_method: 'pm_card_visa' }, key());
    assert.equal((await stripe.subscriptions.retrieve(subscription.id)).status, 'active');
  });

  test('price and quantity change the item that is named, with prorations as asked', async () => {
    const { subscription, price } = await subscribed();
    const bigger = await stripe.prices.create({ currency: 'usd', unit_amount: 3000, product: price.product, recurring: { interval: 'month' } }, key());
    const [item] = subscription.items.data;
    const changed = await stripe.subscriptions.update(subscription.id, { items: [{ id: item.id, price: bigger.id, quantity: 2 }], proration_behavior: 'always_invoice', expand: ['latest_invoice'] }, key());
    assert.equal(changed.items.data.length, 1);
    assert.equal(changed.items.data[0].quantity, 2);
    assert.equal(changed.latest_invoice.billing_reason, 'subscription_update');
    assert.equal(changed.latest_invoice.amount_paid, 5000);
    const event = (await control('GET', 'events?type=customer.subscription.updated')).map((e) => JSON.parse(e.body))[0];
    assert.equal(event.data.previous_attributes.items.data[0].price.id, price.id);
    const second = await stripe.subscriptions.update(subscription.id, { items: [{ price: price.id }], proration_behavior: 'none' }, key());
    assert.equal(second.items.data.length, 2);
    await rejects(stripe.subscriptions.update(subscription.id, { items: [{ id: 'si_none', quantity: 1 }] }, key()), { param: 'items[0][id]' });
  });

  test('pending prorations are billed with the renewal', async () => {
    const { subscription } = await subscribed();
    const { current_period_start: start, current_period_end: end, id } = subscription.items.data[0];
    await control('POST', 'clock', { set: Math.floor((start + end) / 2) });
    await control('POST', 'clock', { freeze: true });
    await stripe.subscriptions.update(subscription.id, { items: [{ id, quantity: 3 }] }, key());
    await control('POST', 'clock', { set: end });
    const [invoice] = (await stripe.invoices.list({ subscription: subscription.id })).data;
    assert.equal(invoice.total, 3000 - 500 + 1500);
    assert.equal(invoice.lines.data.length, 3);
  });

  test('cancel at period end, taken back, and come due', async () => {
    const { subscription } = await subscribed();
    const { current_period_end: end } = subscription.items.data[0];
    const wished = await stripe.subscriptions.update(subscription.id, { cancel_at_period_end: true }, key());
    assert.equal(wished.cancel_at, end);
    assert.equal(wished.cancellation_details.reason, 'cancellation_requested');
    const kept = await stripe.subscriptions.update(subscription.id, { cancel_at_period_end: false }, key());
    assert.deepEqual([kept.cancel_at, kept.canceled_at, kept.cancel_at_period_end], [null, null, false]);
    await stripe.subscriptions.update(subscription.id, { cancel_at_period_end: true }, key());
    await control('POST', 'clock', { set: end + 1 });
    const ended = await stripe.subscriptions.retrieve(subscription.id);
    assert.deepEqual([ended.status, ended.ended_at], ['canceled', end]);
    assert.equal((await stripe.invoices.list({ subscription: subscription.id })).data.length, 1);
    assert.equal((await eventTypes()).at(-1), 'customer.subscription.deleted');
  });

  test('cancel now; a second time it is not there any more', async () => {
    const { subscription } = await subscribed();
    const ended = await stripe.subscriptions.cancel(subscription.id, { invoice_now: true, prorate: false });
    assert.equal(ended.status, 'canceled');
    await rejects(stripe.subscriptions.cancel(subscription.id), { statusCode: 404 });
    await rejects(stripe.subscriptions.update(subscription.id, { cancel_at_period_end: true }, key()), { statusCode: 400 });
    assert.equal((await stripe.subscriptions.update(subscription.id, { metadata: { a: 'b' } }, key())).metadata.a, 'b');
  });

  test('deleting the customer ends the subscription first', async () => {
    const { subscription, customer } = await subscribed();
    await stripe.customers.del(customer.id);
    assert.equal((await stripe.subscriptions.retrieve(subscription.id)).status, 'canceled');
    inOrder(await eventTypes(), ['customer.subscription.deleted', 'customer.deleted']);
  });

  test('pause and resume; resuming what is not paused is refused', async () => {
    const { subscription } = await subscribed();
    await rejects(stripe.subscriptions.resume(subscription.id, {}, key()), { statusCode: 400 });
    assert.equal((await stripe.subscriptions.pause(subscription.id, { type: 'subscription' }, key())).status, 'paused');
    await control('POST', 'clock', { advance: 90 * DAY });
    assert.equal((await stripe.invoices.list({ subscription: subscription.id })).data.length, 1);
    const resumed = await stripe.subscriptions.resume(subscription.id, { billing_cycle_anchor: { type: 'now' } }, key());
    assert.equal(resumed.status, 'active');
    inOrder(await eventTypes(), ['customer.subscription.paused', 'customer.subscription.resumed', 'invoice.paid']);
  });

  test('pause_collection voids renewals and stops by itself', async () => {
    const { subscription } = await subscribed();
    const { current_period_end: end } = subscription.items.data[0];
    await stripe.subscriptions.update(subscription.id, { pause_collection: { behavior: 'void', resumes_at: end + 10 * DAY } }, key());
    await control('POST', 'clock', { set: end + 11 * DAY });
    const [invoice] = (await stripe.invoices.list({ subscription: subscription.id })).data;
    assert.equal(invoice.status, 'void');
    assert.equal((await stripe.subscriptions.retrieve(subscription.id)).pause_collection, null);
  });
});

describe('the clock', () => {
  test('a year of months renews twelve times, from the anchor', async () => {
    await control('POST', 'clock', { freeze: true });
    await control('POST', 'clock', { jump: Date.UTC(2027, 0, 31, 12) / 1000 });
    const { subscription } = await subscribed();
    const start = subscription.items.data[0].current_period_start;
    await control('POST', 'clock', { set: addIntervals(start, 'month', 1, 12) });
    const now = await stripe.subscriptions.retrieve(subscription.id);
    assert.equal(now.items.data[0].current_period_start, addIntervals(start, 'month', 1, 12));
    const invoices = await stripe.invoices.list({ subscription: subscription.id, limit: 100 });
    assert.equal(invoices.data.length, 13);
    assert.ok(invoices.data.every((i) => i.status === 'paid'));
    assert.equal(new Date(invoices.data[11].created * 1000).toISOString(), '2027-02-28T12:00:00.000Z');
    assert.equal(new Date(invoices.data[10].created * 1000).toISOString(), '2027-03-31T12:00:00.000Z');
  });

  test('a trial announces its end, ends, and is billed', async () => {
    const { subscription } = await subscribed({ trial_period_days: 14 });
    assert.equal(subscription.status, 'trialing');
    assert.equal(subscription.items.data[0].current_period_end, subscription.trial_end);
    const seq = (await control('GET', 'events')).length;
    await control('POST', 'clock', { set: subscription.trial_end + 1 });
    inOrder(await eventTypes(seq), ['customer.subscription.trial_will_end', 'customer.subscription.updated', 'invoice.created', 'invoice.paid']);
    const now = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] });
    assert.equal(now.status, 'active');
    assert.equal(now.latest_invoice.amount_paid, 1000);
    assert.equal(now.items.data[0].current_period_start, subscription.trial_end);
  });

  for (const [behavior, status] of [['cancel', 'canceled'], ['pause', 'paused'], ['create_invoice', 'past_due']]) {
    test(`a trial without payment method: ${behavior}`, async () => {
      const customer = await stripe.customers.create({}, key());
      const price = await aPrice();
      const made = await stripe.subscriptions.create({
        customer: customer.id, items: [{ price: price.id }], trial_period_days: 2, trial_settings: { end_behavior: { missing_payment_method: behavior } },
      }, key());
      assert.ok((await eventTypes()).includes('customer.subscription.trial_will_end'));
      await control('POST', 'clock', { set: made.trial_end + 1 });
      assert.equal((await stripe.subscriptions.retrieve(made.id)).status, status);
    });
  }

  test('a renewal that is declined goes past due, is tried again, and ends', async () => {
    const { subscription, customer } = await subscribed({ token: 'pm_card_chargeCustomerFail', trial_period_days: 1 });
    await control('POST', 'clock', { set: subscription.trial_end + 1 });
    assert.equal((await stripe.subscriptions.retrieve(subscription.id)).status, 'past_due');
    assert.equal((await stripe.customers.retrieve(customer.id)).delinquent, true);
    await control('POST', 'clock', { advance: 8 * DAY });
    const ended = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] });
    assert.equal(ended.status, 'canceled');
    assert.equal(ended.cancellation_details.reason, 'payment_failed');
    assert.equal(ended.latest_invoice.attempt_count, 4);
  });

  test('a past due one that is paid is active again', async () => {
    const { subscription } = await subscribed({ token: 'pm_card_chargeCustomerFail', trial_period_days: 1 });
    await control('POST', 'clock', { set: subscription.trial_end + 1 });
    const { latest_invoice: invoice } = await stripe.subscriptions.retrieve(subscription.id);
    await rejects(stripe.invoices.pay(invoice, {}, key()), { statusCode: 402, code: 'card_declined' });
    await stripe.invoices.pay(invoice, { payment_method: 'pm_card_visa' }, key());
    assert.equal((await stripe.subscriptions.retrieve(subscription.id)).status, 'active');
  });

  test('dates count from the anchor and periods are half-open', () => {
    const anchor = Date.UTC(2024, 0, 31) / 1000;
    assert.equal(addIntervals(anchor, 'month', 1, 1), Date.UTC(2024, 1, 29) / 1000);
    assert.equal(addIntervals(anchor, 'month', 1, 2), Date.UTC(2024, 2, 31) / 1000);
    assert.equal(addIntervals(Date.UTC(2024, 1, 29) / 1000, 'year', 1, 1), Date.UTC(2025, 1, 28) / 1000);
    const end = addIntervals(anchor, 'month', 1, 1);
    assert.equal(periodAt(anchor, 'month', 1, end - 1).end, end);
    assert.equal(periodAt(anchor, 'month', 1, end).start, end);
    assert.equal(periodAt(anchor, 'month', 1, anchor).start, anchor);
  });
});

describe('requests that are wrong', () => {
  test('an unknown, a missing and a mistyped parameter are refused and recorded', validated, async () => {
    const price = await aPrice();
    await rejects(stripe.customers.create({ colour: 'red' }, key()), { statusCode: 400, type: 'StripeInvalidRequestError', code: 'parameter_unknown', param: 'colour' });
    await rejects(stripe.products.create({}, key()), { statusCode: 400, code: 'parameter_missing', param: 'name' });
    await rejects(stripe.subscriptions.create({ customer: 'cus_1', items: [{ price: price.id, quantity: 'two' }] }, key()), { statusCode: 400, param: 'items[0][quantity]' });
    await rejects(stripe.subscriptions.create({ customer: 'cus_1', items: [{ prize: 'x' }] }, key()), { param: 'items[0][prize]' });
    await rejects(stripe.invoices.list({ status: 'sleeping' }), { param: 'status' });
    assert.equal((await raw('GET', '/v1/cutsomers')).status, 404);
    assert.deepEqual((await violations()).map((v) => v.kind), ['parameters', 'parameters', 'parameters', 'parameters', 'parameters', 'path']);
    assert.equal((await control('GET', 'objects/customers')).length, 0);
  });

  test('headers that are wrong are recorded', async () => {
    await raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': '' });
    await raw('POST', '/v1/customers', 'name=a', { 'stripe-version': '2023-10-16' });
    assert.equal((await raw('POST', '/v1/customers', 'name=a', { authorization: 'Bearer key_x' })).status, 401);
    await raw('POST', '/v1/customers', '{"name":"a"}', { 'content-type': 'application/json' });
    const found = (await violations()).filter((v) => v.kind === 'header').map((v) => v.message.split(' ')[0]);
    assert.deepEqual(found, ['Idempotency-Key', 'Stripe-Version', 'Authorization', 'Content-Type']);
  });

  test('Expect and a missing User-Agent are recorded', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.write('POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\nStripe-Version: 2026-10-28.endive\r\nIdempotency-Key: e\r\n' +
      'Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\nname=a');
    await new Promise((done) => socket.on('data', (bytes) => bytes.includes('200 OK') && done()));
    socket.destroy();
    assert.deepEqual((await violations()).map((v) => v.message.split(' ')[0]), ['User-Agent', 'Expect']);
  });

  test('a form that only a lenient server would read is refused', async () => {
    for (const bad of ['name=%zz', 'name=%ff', 'name=a b', 'name=ñ', 'name', '=a', 'name=a&name=b', 'a[b=1', 'a=1&a[b]=2', '[a]=1']) {
      assert.throws(() => parseForm(bad), { name: 'Error' }, bad);
    }
    assert.equal((await raw('POST', '/v1/customers', 'name=%zz')).status, 400);
    assert.equal(parseForm('a%5Bb%5D=1&c=x+y').a.b, '1');
    assert.equal(parseForm('c=x+y').c, 'x y');
  });

  test('what is not imitated is refused, not made up', async () => {
    const answer = await raw('GET', '/v1/promotion_codes');
    assert.equal(answer.status, 501);
    const { customer } = await aPayer();
    const price = await aPrice();
    await rejects(stripe.subscriptions.create({ customer: customer.id, items: [{ price: price.id }], discounts: [{ promotion_code: 'c' }] }, key()), { statusCode: 501 });
    assert.deepEqual((await violations()).map((v) => v.kind), ['not_imitated', 'not_imitated']);
  });

  test('searches are parsed as Stripe documents them', () => {
    assert.deepEqual(parseSearch("-email~'x' AND created>5").clauses.map((c) => [c.not, c.field, c.op, c.value]), [[true, 'email', '~', 'x'], [false, 'created', '>', '5']]);
    assert.equal(parseSearch('metadata["a b"]:"it\\"s"').clauses[0].value, 'it"s');
    assert.throws(() => parseSearch("a:'1' AND b:'2' OR c:'3'"));
    assert.throws(() => parseSearch("metadata['a']:'b' and then"));
  });
});

describe('idempotency keys', () => {
  const replayed = (answer) => answer.headers.get('idempotent-replayed');

  test('the same request is carried out once and answered twice', async () => {
    const first = await raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': 'k' });
    const second = await raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': 'k' });
    assert.equal(await first.text(), await second.text());
    assert.deepEqual([replayed(first), replayed(second)], [null, 'true']);
    assert.equal((await control('GET', 'objects')).customers, 1);
    const changed = await raw('POST', '/v1/customers', 'name=b', { 'idempotency-key': 'k' });
    assert.equal((await changed.json()).error.type, 'idempotency_error');
    assert.equal(changed.status, 400);
  });

  test('a decline is kept, a failed validation is not', async () => {
    const customer = await stripe.customers.create({}, key());
    const declined = () => raw('POST', '/v1/payment_methods/pm_card_chargeDeclined/attach', `customer=${customer.id}`, { 'idempotency-key': 'd' });
    assert.equal((await declined()).status, 402);
    assert.equal(replayed(await declined()), 'true');
    assert.equal((await raw('POST', '/v1/customers', 'name=%zz', { 'idempotency-key': 'v' })).status, 400);
    assert.equal((await raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': 'v' })).status, 200);
  });

  test('a key in flight is a 409 and works afterwards', async () => {
    await control('POST', 'faults', { match: { path: '^/v1/customers$' }, action: 'delay', ms: 150 });
    const slow = raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': 'f' });
    await new Promise((done) => setTimeout(done, 50));
    const meanwhile = await raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': 'f' });
    assert.deepEqual([meanwhile.status, (await meanwhile.json()).error.code], [409, 'idempotency_key_in_use']);
    assert.equal((await slow).status, 200);
    assert.equal(replayed(await raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': 'f' })), 'true');
  });

  test('a stored 500 is replayed, another 500 is not, and 429 never', async () => {
    const post = (k) => raw('POST', '/v1/customers', 'name=a', { 'idempotency-key': k });
    await control('POST', 'faults', { action: 'status', status: 500, stored: true });
    assert.equal((await post('s')).status, 500);
    const again = await post('s');
    assert.deepEqual([again.status, replayed(again)], [500, 'true']);
    await control('POST', 'faults', [{ action: 'status', status: 500 }, { action: 'status', status: 429, retry_after: 7 }]);
    assert.equal((await post('u')).status, 500);
    const limited = await post('u');
    assert.deepEqual([limited.status, limited.headers.get('retry-after')], [429, '7']);
    assert.equal((await post('u')).status, 200);
    assert.equal((await control('GET', 'objects')).customers, 1);
  });
});

describe('faults', () => {
  const post = (k) => raw('POST', '/v1/customers', 'name=a', k && { 'idempotency-key': k });
  const fault = (action, more) => control('POST', 'faults', { match: { method: 'POST', path: '/v1/customers' }, action, ...more });

  test('dropped before the call: nothing happened; after it: it did, and the key tells', async () => {
    await fault('drop_before');
    await assert.rejects(post('b'));
    assert.equal((await control('GET', 'objects')).customers ?? 0, 0);
    await fault('drop_after', { reset: true });
    await assert.rejects(post('b'));
    assert.equal((await control('GET', 'objects')).customers, 1);
    assert.equal((await post('b')).headers.get('idempotent-replayed'), 'true');
    const log = await control('GET', 'requests?path=customers');
    assert.deepEqual(log.map((e) => [e.status, e.fault, e.replayed]), [[0, 'drop_before', false], [0, 'drop_after', false], [200, null, true]]);
  });

  test('spoiled answers', async () => {
    await fault('malformed_body');
    await assert.rejects((await post()).json());
    await fault('malformed_status');
    await assert.rejects(post());
    await fault('truncate');
    await assert.rejects(async () => (await post()).text());
    await fault('redirect', { status: 307 });
    assert.equal((await post()).status, 307);
    await fault('not_utf8');
    assert.throws(() => new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([0xff, 0xfe])));
    await assert.rejects(async () => new TextDecoder('utf-8', { fatal: true }).decode(await (await post()).arrayBuffer()));
    await fault('huge_body', { size: 3000000 });
    assert.equal((await (await post()).arrayBuffer()).byteLength, 3000000);
  });

  test('hanging and dripping answers end with the client’s patience', async () => {
    await fault('hang');
    await assert.rejects(fetch(`${base}/v1/customers`, { method: 'POST', signal: AbortSignal.timeout(100) }), { name: 'TimeoutError' });
    await fault('slow_loris', { ms: 20 });
    await assert.rejects(fetch(`${base}/v1/customers`, { method: 'POST', signal: AbortSignal.timeout(100) }), { name: 'TimeoutError' });
  });

  test('counted, delayed in the queue, and repeatable by seed', async () => {
    await fault('status', { status: 503, times: 2, after: 1 });
    const seen = [];
    for (let i = 0; i < 4; i++) seen.push((await post()).status);
    assert.deepEqual(seen, [200, 503, 503, 200]);
    const run = async () => {
      await control('POST', 'reset', { seed: 42 });
      await fault('status', { status: 500, times: 0, probability: 0.5 });
      const row = [];
      for (let i = 0; i < 12; i++) row.push((await post()).status);
      return row.join();
    };
    const row = await run();
    assert.ok(row.includes('200') && row.includes('500'));
    assert.equal(await run(), row);
  });

  test('latency holds every answer back, and the log knows when it came and went', async () => {
    await control('POST', 'latency', { ms: 40 });
    await post();
    const [entry] = await control('GET', 'requests');
    assert.ok(entry.answered_at - entry.received_at >= 39);
    assert.ok(Math.abs(entry.received_at - Date.now()) < 5000);
    assert.equal(entry.body, 'name=a');
  });
});

describe('webhooks', () => {
  const secret = 'whsec_test_secret';

  test('bodies from the control API pass Stripe’s own verifier', async () => {
    await control('POST', 'webhooks', { secrets: { stripe: [secret, 'whsec_old'] } });
    await stripe.customers.create({ name: 'Niño ✓' }, key());
    const [{ body, headers }] = await control('GET', 'events');
    for (const s of [secret, 'whsec_old']) {
      const event = stripe.webhooks.constructEvent(body, headers['Stripe-Signature'], s);
      assert.deepEqual([event.type, event.api_version, event.data.object.name], ['customer.created', '2026-10-28.endive', 'Niño ✓']);
      assert.match(event.request.idempotency_key, /^key-/);
    }
    assert.throws(() => stripe.webhooks.constructEvent(body + ' ', headers['Stripe-Signature'], secret));
    const [old] = await control('GET', `events?secret=${secret}&timestamp=1700000000`);
    assert.match(old.headers['Stripe-Signature'], /^t=1700000000,v1=[0-9a-f]{64}$/);
    assert.throws(() => stripe.webhooks.constructEvent(old.body, old.headers['Stripe-Signature'], secret), /Timestamp/);
  });

  test('twice and in reverse by asking', async () => {
    for (const name of ['a', 'b']) await stripe.customers.create({ name }, key());
    assert.deepEqual((await control('GET', 'events?times=2&order=reverse')).map((e) => e.seq), [2, 2, 1, 1]);
    assert.deepEqual((await control('GET', 'events?after=1')).map((e) => e.seq), [2]);
  });

  test('pushed: signed, twice, out of order', async () => {
    const got = [];
    const receiver = createServer((req, res) => {
      const chunks = [];
      req.on('data', (c) => chunks.push(c));
      req.on('end', () => {
        const event = stripe.webhooks.constructEvent(Buffer.concat(chunks), req.headers['stripe-signature'], secret);
        got.push(event.data.object.name);
        res.writeHead(got.length === 1 ? 500 : 200).end();
      });
    });
    await new Promise((ready) => receiver.listen(0, '127.0.0.1', ready));
    const url = `http://127.0.0.1:${receiver.address().port}/hook`;
    await control('POST', 'webhooks', { mode: 'push', url, order: 'reverse', times: 2, delay_ms: 60000, retries: 1, retry_ms: 1, secrets: { stripe: secret } });
    for (const name of ['a', 'b']) await stripe.customers.create({ name }, key());
    await control('POST', 'flush');
    receiver.closeAllConnections();
    receiver.close();
    assert.deepEqual(got, ['b', 'b', 'b', 'a', 'a']);
    assert.equal((await control('GET', 'deliveries')).deliveries[0].status, 500);
  });

  test('changes and events by hand', async () => {
    const { subscription } = await subscribed();
    await control('POST', 'edit', { kind: 'subscriptions', id: subscription.id, fields: { metadata: { by: 'hand' } } });
    await control('POST', 'call', { method: 'DELETE', path: `/v1/subscriptions/${subscription.id}` });
    await control('POST', 'emit', { type: 'invoice.upcoming', object: { object: 'invoice' }, created: 1700000000 });
    await control('POST', 'emit', { raw: { id: 'evt_thin', object: 'v2.core.event', type: 'v1.x' } });
    const last = (await control('GET', 'events')).slice(-4);
    assert.deepEqual(last.map((e) => e.type), ['customer.subscription.updated', 'customer.subscription.deleted', 'invoice.upcoming', 'v1.x']);
    assert.deepEqual(JSON.parse(last[0].body).data.previous_attributes, { metadata: { by: null } });
    assert.equal(JSON.parse(last[3].body).object, 'v2.core.event');
    assert.equal((await stripe.events.list({ type: 'invoice.*' })).data[0].type, 'invoice.upcoming');
    assert.equal((await stripe.events.retrieve(last[1].id)).data.object.status, 'canceled');
  });

  test('an endpoint shows its secret once', async () => {
    const made = await stripe.webhookEndpoints.create({ url: 'https://example.com/h', enabled_events: ['*'] }, key());
    assert.match(made.secret, /^whsec_/);
    assert.equal((await stripe.webhookEndpoints.list()).data[0].secret, undefined);
    assert.equal((await stripe.webhookEndpoints.update(made.id, { disabled: true }, key())).status, 'disabled');
    assert.equal((await stripe.webhookEndpoints.del(made.id)).deleted, true);
  });
});

describe('the answers', () => {
  test('all objects have the shape that the document promises', validated, async () => {
    const { subscription, customer } = await subscribed({ trial_period_days: 1, collection_method: 'charge_automatically' });
    await control('POST', 'clock', { set: subscription.trial_end + 1 });
    await stripe.subscriptions.cancel(subscription.id);
    await subscribed({ token: 'pm_card_chargeCustomerFail' });
    await stripe.setupIntents.create({ customer: customer.id }, key());
    const made = await stripe.webhookEndpoints.create({ url: 'https://example.com/h', enabled_events: ['*'] }, key());
    assert.ok(made.secret);
    const { document } = simulator.providers.get('stripe');
    const kinds = ['customers', 'payment_methods', 'products', 'prices', 'subscriptions', 'invoices', 'payment_intents', 'charges', 'invoice_payments', 'setup_intents', 'webhook_endpoints'];
    for (const kind of kinds) {
      const judge = document.componentJudge(kind.replace(/s$/, ''));
      const objects = await control('GET', `objects/${kind}`);
      assert.ok(objects.length > 0, kind);
      for (const object of objects) assert.ok(judge(object), `${kind}: ${JSON.stringify(judge.errors?.slice(0, 3))}`);
    }
    const judge = document.componentJudge('event');
    for (const { body } of await control('GET', 'events')) assert.ok(judge(JSON.parse(body)), JSON.stringify(judge.errors?.slice(0, 3)));
  });

  test('errors carry the headers and fields that we read', async () => {
    const answer = await raw('GET', '/v1/customers/cus_none');
    assert.equal(answer.status, 404);
    assert.match(answer.headers.get('request-id'), /^req_/);
    assert.ok(answer.headers.get('date'));
    const { error } = await answer.json();
    assert.deepEqual([error.type, error.code, error.param], ['invalid_request_error', 'resource_missing', 'id']);
    assert.match(error.request_log_url, /req_/);
  });

  test('the provider’s prefix leads to the same place as the root', async () => {
    await raw('POST', '/stripe/v1/customers', 'name=a');
    assert.equal((await (await raw('GET', '/v1/customers')).json()).data.length, 1);
  });

  test('the log is bounded and can be switched off; totals are kept', async () => {
    await control('POST', 'log', { limit: 10 });
    for (let i = 0; i < 30; i++) await raw('GET', '/v1/customers');
    assert.ok((await control('GET', 'requests')).length <= 13);
    await control('POST', 'log', { log: 'off' });
    const { length } = await control('GET', 'requests');
    await raw('GET', '/v1/customers');
    assert.equal((await control('GET', 'requests')).length, length);
    const totals = await control('GET', 'totals');
    assert.equal(totals.requests, 31);
    assert.equal(totals.by_operation['GET /v1/customers'], 31);
  });
});

describe('the program', () => {
  test('says where it listens and leaves with its standard input', async () => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('main.js', import.meta.url)), '--exit-with-stdin'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const line = await new Promise((done, failed) => {
      let text = '';
      child.once('exit', (code) => failed(new Error(`it ended with ${code}`)));
      child.stdout.on('data', (chunk) => /listening on (\S+)\n/.test((text += chunk)) && done(text));
    });
    const url = /listening on (http:\/\/127\.0\.0\.1:\d+)/.exec(line)[1];
    assert.equal((await (await fetch(`${url}/_control/health`)).json()).ok, true);
    child.stdin.end();
    assert.equal(await new Promise((done) => child.on('exit', done)), 0);
  });

  test('sign.js prints the published vector', async () => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('sign.js', import.meta.url)), 'stripe', 'whsec_test_secret', '1700000000'], { stdio: ['pipe', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk) => (text += chunk));
    child.stdin.end('{"id":"evt_1","object":"event","type":"invoice.paid"}');
    await new Promise((done) => child.on('exit', done));
    assert.equal(text, 't=1700000000,v1=dfb4777aaaec4ea29ff455dd4df7fe6b2ef71096ad3a93a158db7e100109ea91\n');
  });
});
