// Tests of the payments, refunds, disputes and checkouts of the Stripe stand-in: Stripe's real client talks to it,
// and every object and event is judged by the document's response schemas.
//
//   node --test test_stripe_payments.js

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import Stripe from 'stripe';
import { openapiFolder } from './core/openapi.js';
import { Simulator } from './core/simulator.js';

const DAY = 86400;
const folder = openapiFolder();
const KINDS = {
  payment_methods: 'payment_method', payment_intents: 'payment_intent', setup_intents: 'setup_intent', charges: 'charge', refunds: 'refund', disputes: 'dispute',
  checkout_sessions: 'checkout.session', payment_links: 'payment_link', portal_sessions: 'billing_portal.session', coupons: 'coupon',
  subscriptions: 'subscription', invoices: 'invoice',
};
const ONLINE = { customer_acceptance: { type: 'online', online: { ip_address: '192.0.2.1', user_agent: 'x' } } };

let simulator;
let base;
let stripe;
let keys = 0;
const key = () => ({ idempotencyKey: `key-${++keys}` });

before(async () => {
  simulator = new Simulator({ openapi: folder });
  const port = await simulator.listen();
  base = `http://127.0.0.1:${port}`;
  stripe = new Stripe('sk_test_simulator', { host: '127.0.0.1', port, protocol: 'http', maxNetworkRetries: 0, telemetry: false });
});

after(() => simulator.close());
beforeEach(() => control('POST', 'reset'));

// Whatever a test does, what it leaves is what the document promises, and no request was wrong.
afterEach(async () => {
  const { violations } = await control('GET', 'violations');
  assert.deepEqual(violations.filter((v) => v.kind !== 'parameters' && v.kind !== 'not_imitated'), []);
  const { document } = simulator.providers.get('stripe');
  if (!document) return;
  for (const [kind, name] of Object.entries(KINDS)) {
    const judge = document.componentJudge(name);
    for (const object of await control('GET', `objects/${kind}`)) {
      if (!object.deleted) assert.ok(judge(object), `${kind}: ${JSON.stringify(judge.errors?.slice(0, 3))}`);
    }
  }
  const judge = document.componentJudge('event');
  for (const { body } of await control('GET', 'events')) assert.ok(judge(JSON.parse(body)), `${JSON.parse(body).type}: ${JSON.stringify(judge.errors?.slice(0, 3))}`);
});

async function control(method, name, body) {
  const answer = await fetch(`${base}/_control/${name}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
  const value = await answer.json();
  assert.ok(answer.ok, `control ${name}: ${JSON.stringify(value)}`);
  return value;
}

const act = (action, given) => control('POST', 'act', { provider: 'stripe', action, ...given });
const eventTypes = async () => (await control('GET', 'events')).map((e) => e.type);
const passed = (days) => control('POST', 'clock', { advance: days * DAY });

async function rejects(promise, expected) {
  const error = await promise.then(() => assert.fail('the call went through'), (e) => e);
  for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, `${name} of: ${error.message}`);
  return error;
}

const aCustomer = () => stripe.customers.create({ email: 'a@example.com' }, key());

async function aPayment(token = 'pm_card_visa', more = {}) {
  const customer = await aCustomer();
  return stripe.paymentIntents.create({
    amount: 2000, currency: 'usd', customer: customer.id, payment_method: token ?? undefined, confirm: true,
    automatic_payment_methods: { enabled: true, allow_redirects: 'never' }, expand: ['latest_charge'], ...more,
  }, key());
}

describe('payment intents', () => {
  test('a card is charged at once, and the charge comes along when asked for', async () => {
    const intent = await aPayment('pm_card_visa', { metadata: { janua_ref: 'r' }, receipt_email: 'b@example.com' });
    assert.equal(intent.status, 'succeeded');
    assert.equal(intent.amount_received, 2000);
    assert.equal(intent.latest_charge.payment_method_details.card.last4, '4242');
    assert.deepEqual((await stripe.paymentIntents.list({ customer: intent.customer })).data.map((i) => i.metadata.janua_ref), ['r']);
    assert.equal((await stripe.paymentIntents.search({ query: "metadata['janua_ref']:'r'" })).data.length, 1);
    assert.deepEqual((await eventTypes()).slice(1), ['payment_intent.created', 'charge.succeeded', 'payment_intent.succeeded']);
  });

  test('a declined card brings the intent in the error, and another card may follow', async () => {
    const error = await rejects(aPayment('pm_card_visa_chargeDeclinedInsufficientFunds'), { statusCode: 402, code: 'card_declined', decline_code: 'insufficient_funds' });
    assert.equal(error.payment_intent.status, 'requires_payment_method');
    assert.equal(error.payment_intent.last_payment_error.decline_code, 'insufficient_funds');
    const again = await stripe.paymentIntents.confirm(error.payment_intent.id, { payment_method: 'pm_card_visa' }, key());
    assert.equal(again.status, 'succeeded');
    assert.equal(again.last_payment_error, null);
  });

  test('3-D Secure asks the buyer, by URL or by Stripe’s script, and is refused off session', async () => {
    const url = await aPayment('pm_card_authenticationRequired', { return_url: 'https://example.com/back', automatic_payment_methods: { enabled: true } });
    assert.equal(url.status, 'requires_action');
    assert.match(url.next_action.redirect_to_url.url, /^https/);
    await act('authenticate', { payment_intent: url.id });
    assert.equal((await stripe.paymentIntents.retrieve(url.id)).status, 'succeeded');
    const script = await aPayment('pm_card_authenticationRequired');
    assert.equal(script.next_action.type, 'use_stripe_sdk');
    await act('authenticate', { payment_intent: script.id, success: false });
    assert.equal((await stripe.paymentIntents.retrieve(script.id)).last_payment_error.code, 'payment_intent_authentication_failure');
    await rejects(aPayment('pm_card_authenticationRequired', { off_session: true }), { statusCode: 402, code: 'authentication_required' });
  });

  test('an authorised payment is captured in part, or cancelled', async () => {
    const intent = await aPayment('pm_card_visa', { capture_method: 'manual' });
    assert.deepEqual([intent.status, intent.amount_capturable], ['requires_capture', 2000]);
    await rejects(stripe.paymentIntents.capture(intent.id, { amount_to_capture: 2001 }, key()), { statusCode: 400 });
    const captured = await stripe.paymentIntents.capture(intent.id, { amount_to_capture: 1500 }, key());
    assert.deepEqual([captured.status, captured.amount_received], ['succeeded', 1500]);
    const refused = await rejects(stripe.paymentIntents.cancel(intent.id, {}, key()), { statusCode: 400, code: 'payment_intent_unexpected_state' });
    assert.equal(refused.payment_intent.status, 'succeeded');
    const other = await aPayment('pm_card_visa', { capture_method: 'manual' });
    assert.equal((await stripe.paymentIntents.cancel(other.id, { cancellation_reason: 'duplicate' }, key())).cancellation_reason, 'duplicate');
  });

  test('a bank debit needs a mandate and is known after days', async () => {
    await rejects(aPayment('pm_usBankAccount_success'), { statusCode: 400 });
    const good = await aPayment('pm_usBankAccount_success', { mandate_data: ONLINE, setup_future_usage: 'off_session' });
    const bad = await aPayment('pm_failed_de', { mandate_data: ONLINE, currency: 'eur' });
    const slow = await aPayment('pm_usBankAccount_processing', { mandate_data: ONLINE });
    assert.deepEqual([good.status, bad.status, good.latest_charge.status], ['processing', 'processing', 'pending']);
    assert.equal((await stripe.customers.listPaymentMethods(good.customer)).data[0].us_bank_account.last4, '6789');
    await passed(6);
    const read = async ({ id }) => stripe.paymentIntents.retrieve(id);
    assert.equal((await read(good)).status, 'succeeded');
    assert.equal((await read(bad)).last_payment_error.code, 'debit_not_authorized');
    assert.equal((await read(slow)).status, 'processing');
  });

  test('micro-deposits are verified by their amounts', async () => {
    const customer = await aCustomer();
    const open = await stripe.paymentIntents.create({ amount: 2000, currency: 'usd', customer: customer.id, allowed_payment_method_types: ['us_bank_account'] }, key());
    await control('POST', 'call', {
      path: `/v1/payment_intents/${open.id}/confirm`,
      params: { payment_method: 'pm_usBankAccount_success', mandate_data: ONLINE, payment_method_options: { us_bank_account: { verification_method: 'microdeposits' } } },
    });
    await rejects(stripe.paymentIntents.verifyMicrodeposits(open.id, { amounts: [1, 2] }, key()), { statusCode: 400 });
    assert.equal((await stripe.paymentIntents.verifyMicrodeposits(open.id, { amounts: [32, 45] }, key())).status, 'processing');
  });

  test('an OXXO voucher waits to be paid, or expires', async () => {
    const voucher = (more = {}) => aPayment(null, {
      currency: 'mxn', automatic_payment_methods: undefined, allowed_payment_method_types: ['oxxo'], payment_method_options: { oxxo: { expires_after_days: 2 } },
      payment_method_data: { type: 'oxxo', billing_details: { name: 'A', email: 'a@example.com' } }, ...more,
    });
    await rejects(voucher({ payment_method_data: { type: 'oxxo' } }), { statusCode: 400 });
    const paid = await voucher();
    assert.match(paid.next_action.oxxo_display_details.number, /^\d{14}$/);
    await act('pay_reference', { payment_intent: paid.id });
    assert.equal((await stripe.paymentIntents.retrieve(paid.id)).status, 'succeeded');
    const expired = await voucher();
    await passed(3);
    assert.equal((await stripe.paymentIntents.retrieve(expired.id)).last_payment_error.code, 'payment_intent_payment_attempt_expired');
  });

  test('a SPEI transfer goes to a CLABE', async () => {
    const transfer = await aPayment(null, {
      currency: 'mxn', automatic_payment_methods: undefined, allowed_payment_method_types: ['customer_balance'], payment_method_data: { type: 'customer_balance' },
      payment_method_options: { customer_balance: { funding_type: 'bank_transfer', bank_transfer: { type: 'mx_bank_transfer' } } },
    });
    assert.match(transfer.next_action.display_bank_transfer_instructions.financial_addresses[0].spei.clabe, /^\d{18}$/);
    await act('pay_reference', { payment_intent: transfer.id });
    assert.equal((await stripe.paymentIntents.retrieve(transfer.id)).amount_received, 2000);
  });

  test('instalments and lines are checked and kept', async () => {
    const intent = await aPayment('pm_card_mx', {
      currency: 'mxn', payment_method_options: { card: { installments: { enabled: true, plan: { count: 6, interval: 'month', type: 'fixed_count' } } } },
      amount_details: { line_items: [{ product_name: 'Hat', quantity: 2, unit_cost: 800 }], tax: { total_tax_amount: 400 } },
    });
    assert.equal(intent.latest_charge.payment_method_details.card.installments.plan.count, 6);
    await rejects(aPayment('pm_card_visa', { amount_details: { line_items: [{ product_name: 'Hat', quantity: 1, unit_cost: 800 }] } }), { statusCode: 400 });
    const customer = await aCustomer();
    await rejects(stripe.paymentIntents.create({ amount: 2000, currency: 'usd', customer: customer.id, return_url: 'https://example.com' }, key()), { statusCode: 400 });
  });
});

describe('setup intents', () => {
  test('a method is set up, asks for 3-D Secure, or is refused', async () => {
    const customer = await aCustomer();
    const setUp = (token, more = {}) => stripe.setupIntents.create({ customer: customer.id, payment_method: token, confirm: true, automatic_payment_methods: { enabled: true, allow_redirects: 'never' }, ...more }, key());
    const done = await setUp('pm_card_visa');
    assert.equal(done.status, 'succeeded');
    assert.equal((await stripe.paymentMethods.retrieve(done.payment_method)).customer, customer.id);
    const asked = await setUp('pm_card_authenticationRequiredOnSetup');
    assert.equal(asked.status, 'requires_action');
    assert.equal((await act('authenticate', { setup_intent: asked.id })).status, 'succeeded');
    const error = await rejects(setUp('pm_card_chargeDeclined'), { statusCode: 402 });
    assert.equal(error.setup_intent.last_setup_error.decline_code, 'generic_decline');
    await rejects(setUp('pm_success_de'), { statusCode: 400 });
    const debit = await setUp('pm_success_de', { mandate_data: ONLINE, expand: ['payment_method'] });
    assert.equal(debit.payment_method.sepa_debit.last4, '3201');
    assert.equal((await stripe.setupIntents.list({ customer: customer.id })).data.length, 4);
    const open = await stripe.setupIntents.create({ customer: customer.id }, key());
    assert.equal((await stripe.setupIntents.cancel(open.id, {}, key())).status, 'canceled');
  });
});

describe('refunds and disputes', () => {
  test('never more is refunded than was paid', async () => {
    const { id, latest_charge: charge } = await aPayment();
    const part = await stripe.refunds.create({ payment_intent: id, amount: 500, reason: 'duplicate', metadata: { janua_ref: 'r' } }, key());
    assert.deepEqual([part.status, part.amount], ['succeeded', 500]);
    await rejects(stripe.refunds.create({ payment_intent: id, amount: 1501 }, key()), { statusCode: 400 });
    assert.equal((await stripe.refunds.create({ charge: charge.id }, key())).amount, 1500);
    await rejects(stripe.refunds.create({ payment_intent: id }, key()), { code: 'charge_already_refunded' });
    assert.deepEqual((await stripe.refunds.list({ payment_intent: id })).data.map((r) => r.amount), [1500, 500]);
    const intent = await stripe.paymentIntents.retrieve(id, { expand: ['latest_charge'] });
    assert.deepEqual([intent.latest_charge.amount_refunded, intent.latest_charge.refunded], [2000, true]);
  });

  test('a refund may wait, fail late, or be cancelled', async () => {
    const waits = await stripe.refunds.create({ payment_intent: (await aPayment('pm_card_pendingRefund')).id }, key());
    const fails = await stripe.refunds.create({ payment_intent: (await aPayment('pm_card_refundFail')).id }, key());
    assert.deepEqual([waits.status, fails.status], ['pending', 'succeeded']);
    await passed(2);
    assert.equal((await stripe.refunds.retrieve(waits.id)).status, 'succeeded');
    assert.equal((await stripe.refunds.retrieve(fails.id)).failure_reason, 'lost_or_stolen_card');
    assert.ok((await eventTypes()).includes('refund.failed'));
    await rejects(stripe.refunds.cancel(waits.id, {}, key()), { statusCode: 400 });
  });

  test('a dispute takes the money, evidence may win it back', async () => {
    const { id } = await aPayment('pm_card_createDispute');
    const [dispute] = (await stripe.disputes.list({ payment_intent: id })).data;
    assert.equal(dispute.status, 'needs_response');
    assert.equal(dispute.balance_transactions[0].amount, -2000);
    const staged = await stripe.disputes.update(dispute.id, { evidence: { customer_name: 'A' }, submit: false }, key());
    assert.equal(staged.status, 'needs_response');
    const won = await stripe.disputes.update(dispute.id, { evidence: { uncategorized_text: 'winning_evidence' }, submit: true }, key());
    assert.deepEqual([won.status, won.balance_transactions.length], ['won', 2]);
    await rejects(stripe.disputes.close(dispute.id, {}, key()), { statusCode: 400 });
    const inquiry = await aPayment('pm_card_createDisputeInquiry');
    const [question] = (await stripe.disputes.list({ payment_intent: inquiry.id })).data;
    assert.deepEqual([question.status, question.balance_transactions.length], ['warning_needs_response', 0]);
    const other = await act('dispute', { payment_intent: (await aPayment()).id, amount: 700 });
    assert.equal((await stripe.disputes.close(other.id, {}, key())).status, 'lost');
  });
});

describe('checkout', () => {
  const line = (more = {}) => ({ price_data: { currency: 'usd', unit_amount: 700, product_data: { name: 'Hat' }, ...more }, quantity: 2 });
  const session = async (more = {}) => stripe.checkout.sessions.create({
    mode: 'payment', customer: (await aCustomer()).id, line_items: [line()], success_url: 'https://example.com/ok', metadata: { janua_ref: 's' }, ...more,
  }, key());

  test('a payment is made on the page, and the references go along', async () => {
    const open = await session({ payment_intent_data: { metadata: { janua_ref: 'p' } } });
    assert.deepEqual([open.status, open.payment_status, open.amount_total], ['open', 'unpaid', 1400]);
    await act('complete_checkout', { checkout_session: open.id });
    const done = await stripe.checkout.sessions.retrieve(open.id, { expand: ['payment_intent'] });
    assert.deepEqual([done.status, done.payment_status, done.payment_intent.metadata.janua_ref], ['complete', 'paid', 'p']);
    assert.equal((await stripe.checkout.sessions.list({ customer: open.customer })).data[0].id, open.id);
    assert.equal((await stripe.checkout.sessions.listLineItems(open.id)).data[0].amount_total, 1400);
  });

  test('a slow method completes the page before the money is there', async () => {
    const good = await session();
    const bad = await session();
    await act('complete_checkout', { checkout_session: good.id, payment_method: 'pm_usBankAccount_success' });
    await act('complete_checkout', { checkout_session: bad.id, payment_method: 'pm_usBankAccount_accountClosed' });
    assert.equal((await stripe.checkout.sessions.retrieve(good.id)).payment_status, 'unpaid');
    await passed(5);
    assert.equal((await stripe.checkout.sessions.retrieve(good.id)).payment_status, 'paid');
    const types = await eventTypes();
    assert.ok(types.includes('checkout.session.async_payment_succeeded'));
    assert.ok(types.includes('checkout.session.async_payment_failed'));
  });

  test('a subscription and a setup are made on the page, too', async () => {
    const open = await session({
      mode: 'subscription', line_items: [line({ recurring: { interval: 'month' } })], subscription_data: { metadata: { janua_ref: 'u' }, trial_period_days: 7 },
    });
    await act('complete_checkout', { checkout_session: open.id });
    const done = await stripe.checkout.sessions.retrieve(open.id, { expand: ['subscription'] });
    assert.deepEqual([done.subscription.status, done.subscription.metadata.janua_ref, done.payment_status], ['trialing', 'u', 'no_payment_required']);
    const setup = await session({ mode: 'setup', currency: 'usd', line_items: undefined });
    await act('complete_checkout', { checkout_session: setup.id });
    assert.ok((await stripe.checkout.sessions.retrieve(setup.id)).setup_intent);
  });

  test('a session expires by itself or when told', async () => {
    const [told, alone] = [await session(), await session()];
    assert.equal((await stripe.checkout.sessions.expire(told.id, {}, key())).status, 'expired');
    await rejects(stripe.checkout.sessions.expire(told.id, {}, key()), { statusCode: 400 });
    await passed(2);
    assert.equal((await stripe.checkout.sessions.retrieve(alone.id)).status, 'expired');
  });

  test('a link is paid as often as it allows', async () => {
    const link = await stripe.paymentLinks.create({ line_items: [line()], restrictions: { completed_sessions: { limit: 1 } }, metadata: { janua_ref: 'l' } }, key());
    const paid = await act('pay_link', { payment_link: link.id });
    assert.deepEqual([paid.payment_link, paid.metadata.janua_ref, paid.payment_status], [link.id, 'l', 'paid']);
    const answer = await fetch(`${base}/_control/act`, { method: 'POST', body: JSON.stringify({ provider: 'stripe', action: 'pay_link', payment_link: link.id }) });
    assert.equal(answer.status, 400);
    assert.equal((await stripe.paymentLinks.update(link.id, { active: false }, key())).active, false);
    assert.equal((await stripe.paymentLinks.list({ active: true })).data.length, 0);
  });

  test('a coupon takes off its share, once', async () => {
    const coupon = await stripe.coupons.create({ percent_off: 25, duration: 'once' }, key());
    assert.equal((await session({ discounts: [{ coupon: coupon.id }] })).amount_total, 1050);
    await rejects(session({ discounts: [{ coupon: 'none' }] }), { statusCode: 404 });
    const open = await session({ mode: 'subscription', line_items: [line({ recurring: { interval: 'month' } })], discounts: [{ coupon: coupon.id }] });
    await act('complete_checkout', { checkout_session: open.id });
    await passed(32);
    assert.deepEqual((await stripe.invoices.list({})).data.map((i) => i.total), [1400, 1050]);
  });

  test('the portal has a page for the customer', async () => {
    const customer = await aCustomer();
    const page = await stripe.billingPortal.sessions.create({ customer: customer.id, return_url: 'https://example.com', locale: 'es' }, key());
    assert.match(page.url, /^https:\/\/billing\.stripe\.com\//);
  });

  test('of an hour the last event counts, and an identifier once', async () => {
    const customer = await aCustomer();
    const now = (await control('GET', 'clock')).now;
    const hour = now - (now % 3600) - 7200;
    const meter = await stripe.billing.meters.create({ display_name: 'Calls', event_name: 'calls', default_aggregation: { formula: 'sum' }, event_time_window: 'hour' }, key());
    const tell = (value, timestamp, identifier) =>
      stripe.billing.meterEvents.create({ event_name: 'calls', payload: { stripe_customer_id: customer.id, value }, identifier, timestamp }, key());
    await tell('5', hour, 'a');
    await tell('7.5', hour + 1800, 'b');
    await tell('1', hour + 3600, 'c');
    await rejects(tell('1', hour, 'a'), { statusCode: 400, code: 'duplicate_meter_event' });
    await rejects(tell('1', now - 36 * 86400, 'd'), { statusCode: 400, code: 'timestamp_too_far_in_past' });
    const { data } = await stripe.billing.meters.listEventSummaries(meter.id, { customer: customer.id, start_time: hour, end_time: hour + 7200 });
    assert.equal(data[0].aggregated_value, 8.5);
    await rejects(stripe.billing.meters.create({ display_name: 'x', event_name: 'calls', default_aggregation: { formula: 'sum' } }, key()), { statusCode: 400 });
  });
});
