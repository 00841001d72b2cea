// node sdk_bytes.js           the calls below
// node sdk_bytes.js --calls   those on standard input, a JSON list of {name, call, arguments}, such as
//                             {"name": "a", "call": "customers.update", "arguments": ["cus_1", {"email": "a@example.com"}]}
// The bytes that Stripe's own client puts on the wire for the calls that we make, one JSON object a line:
//   {name, method, path, headers, body}
// The tests of the C side build the same calls and compare byte for byte.

import { createServer } from 'node:http';
import Stripe from 'stripe';

const HEADERS = ['authorization', 'stripe-version', 'content-type', 'content-length', 'idempotency-key', 'accept', 'expect'];

// name -> [the call, given client and options]. The idempotency key of a POST is "key-" and the name.
const CALLS = {
  customer_create_empty: (s, o) => s.customers.create({}, o),
  customer_create_minimal: (s, o) => s.customers.create({ email: 'a@example.com' }, o),
  customer_create_full: (s, o) =>
    s.customers.create({
      email: 'niño+tag@example.com',
      name: "A B+C&=é~!*()' ✓ 日本 😀",
      phone: '+52 55 1234 5678',
      description: 'line one\nline two "quoted" <tag> 100% a/b?c#d;e,f [x] {y} \\ ^ ` |',
      address: { line1: '1 Main St', line2: 'Apt #2', city: 'México', state: 'CDMX', postal_code: '01000', country: 'MX' },
      tax_exempt: 'reverse',
      preferred_locales: ['es-MX', 'en'],
      metadata: { organization_id: 'org_1', 'k 1': 'v/1', janua_ref: '0197f0c0-0000-7000-8000-000000000001' },
    }, o),
  customer_update_clear: (s, o) => s.customers.update('cus_1', { name: '', phone: null, metadata: { gone: '', kept: 'x' } }, o),
  customer_update_clear_metadata: (s, o) => s.customers.update('cus_1', { metadata: '' }, o),
  customer_update_default_method: (s, o) => s.customers.update('cus_1', { invoice_settings: { default_payment_method: 'pm_1' } }, o),
  customer_delete: (s) => s.customers.del('cus_1'),
  customer_retrieve: (s) => s.customers.retrieve('cus_1'),
  customer_search: (s) => s.customers.search({ query: "metadata['janua_ref']:'0197f0c0'", limit: 2 }),
  payment_method_attach: (s, o) => s.paymentMethods.attach('pm_card_visa', { customer: 'cus_1' }, o),
  payment_method_detach: (s, o) => s.paymentMethods.detach('pm_1', undefined, o),
  payment_method_list: (s) => s.customers.listPaymentMethods('cus_1', { type: 'card', limit: 100 }),
  product_create: (s, o) => s.products.create({ name: 'Pro', active: true, description: 'The pro plan', metadata: { plan: 'pro' } }, o),
  product_archive: (s, o) => s.products.update('prod_1', { active: false }, o),
  price_create: (s, o) =>
    s.prices.create({
      currency: 'usd', unit_amount: 1999, product: 'prod_1', recurring: { interval: 'month', interval_count: 1 }, lookup_key: 'pro_monthly', metadata: { price: 'p1' },
    }, o),
  price_create_decimal: (s, o) => s.prices.create({ currency: 'usd', unit_amount_decimal: '0.125', product: 'prod_1', recurring: { interval: 'month' } }, o),
  price_archive: (s, o) => s.prices.update('price_1', { active: false }, o),
  subscription_create_minimal: (s, o) => s.subscriptions.create({ customer: 'cus_1', items: [{ price: 'price_1' }] }, o),
  subscription_create_trial: (s, o) => s.subscriptions.create({ customer: 'cus_1', items: [{ price: 'price_1' }], trial_period_days: 14 }, o),
  subscription_create_quantity: (s, o) =>
    s.subscriptions.create({ customer: 'cus_1', items: [{ price: 'price_1', quantity: 5 }], default_payment_method: 'pm_1', metadata: { organization_id: 'org_1' } }, o),
  subscription_create_default_incomplete: (s, o) =>
    s.subscriptions.create({
      customer: 'cus_1', items: [{ price: 'price_1' }], payment_behavior: 'default_incomplete', off_session: false, expand: ['latest_invoice.confirmation_secret'],
    }, o),
  subscription_create_trial_settings: (s, o) =>
    s.subscriptions.create({
      customer: 'cus_1', items: [{ price: 'price_1' }], trial_end: 1800000000, trial_settings: { end_behavior: { missing_payment_method: 'pause' } },
    }, o),
  subscription_update_price: (s, o) =>
    s.subscriptions.update('sub_1', { items: [{ id: 'si_1', price: 'price_2', quantity: 3 }], proration_behavior: 'create_prorations' }, o),
  subscription_update_invoice: (s, o) => s.subscriptions.update('sub_1', { items: [{ id: 'si_1', quantity: 4 }], proration_behavior: 'always_invoice' }, o),
  subscription_cancel_at_period_end: (s, o) => s.subscriptions.update('sub_1', { cancel_at_period_end: true }, o),
  subscription_cancel_withdrawn: (s, o) => s.subscriptions.update('sub_1', { cancel_at_period_end: false }, o),
  subscription_cancel_now: (s) => s.subscriptions.cancel('sub_1'),
  subscription_cancel_invoice: (s) => s.subscriptions.cancel('sub_1', { invoice_now: true, prorate: false }),
  subscription_pause_collection: (s, o) => s.subscriptions.update('sub_1', { pause_collection: { behavior: 'void', resumes_at: 1800000000 } }, o),
  subscription_unpause_collection: (s, o) => s.subscriptions.update('sub_1', { pause_collection: '' }, o),
  subscription_pause: (s, o) => s.subscriptions.pause('sub_1', { type: 'subscription' }, o),
  subscription_resume: (s, o) => s.subscriptions.resume('sub_1', { billing_cycle_anchor: { type: 'now' } }, o),
  subscription_list: (s) => s.subscriptions.list({ customer: 'cus_1', status: 'all', limit: 100 }),
  invoice_pay: (s, o) => s.invoices.pay('in_1', undefined, o),
  invoice_pay_with_method: (s, o) => s.invoices.pay('in_1', { payment_method: 'pm_1', off_session: true }, o),
  invoice_list: (s) => s.invoices.list({ subscription: 'sub_1', created: { gte: 1700000000 }, limit: 3 }),
  invoice_finalize: (s, o) => s.invoices.finalizeInvoice('in_1', { expand: ['payments'] }, o),
  invoice_void: (s, o) => s.invoices.voidInvoice('in_1', { expand: ['payments'] }, o),
  invoice_send: (s, o) => s.invoices.sendInvoice('in_1', { expand: ['payments'] }, o),
  invoice_mark_uncollectible: (s, o) => s.invoices.markUncollectible('in_1', { expand: ['payments'] }, o),
  invoice_retrieve: (s) => s.invoices.retrieve('in_1', { expand: ['payments'] }),
  payment_intent_create: (s, o) =>
    s.paymentIntents.create({
      amount: 2000, currency: 'usd', customer: 'cus_1', automatic_payment_methods: { enabled: true, allow_redirects: 'never' }, confirm: true,
      payment_method: 'pm_1', off_session: true, description: 'Hat & scarf', metadata: { janua_ref: 'r' }, expand: ['latest_charge.balance_transaction'],
    }, o),
  payment_intent_create_debit: (s, o) =>
    s.paymentIntents.create({
      amount: 2000, currency: 'eur', customer: 'cus_1', allowed_payment_method_types: ['sepa_debit'], confirm: true, payment_method: 'pm_1',
      mandate_data: { customer_acceptance: { type: 'online', online: { ip_address: '192.0.2.1', user_agent: 'Mozilla/5.0 (X11)' } } },
    }, o),
  payment_intent_create_oxxo: (s, o) =>
    s.paymentIntents.create({
      amount: 20000, currency: 'mxn', customer: 'cus_1', allowed_payment_method_types: ['oxxo'], confirm: true,
      payment_method_data: { type: 'oxxo', billing_details: { email: 'niño@example.com', name: 'Niño' } }, payment_method_options: { oxxo: { expires_after_days: 3 } },
    }, o),
  payment_intent_create_installments: (s, o) =>
    s.paymentIntents.create({
      amount: 20000, currency: 'mxn', customer: 'cus_1', allowed_payment_method_types: ['card'], confirm: true, payment_method: 'pm_1',
      payment_method_options: { card: { installments: { enabled: true, plan: { count: 6, interval: 'month', type: 'fixed_count' } } } },
    }, o),
  payment_intent_create_lines: (s, o) =>
    s.paymentIntents.create({
      amount: 1500, currency: 'usd', customer: 'cus_1',
      amount_details: { line_items: [{ product_name: 'Hat', quantity: 2, unit_cost: 700 }], tax: { total_tax_amount: 100 } },
    }, o),
  payment_intent_confirm: (s, o) => s.paymentIntents.confirm('pi_1', { payment_method: 'pm_1', return_url: 'https://example.com/back?a=b', expand: ['latest_charge.balance_transaction'] }, o),
  payment_intent_capture: (s, o) => s.paymentIntents.capture('pi_1', { amount_to_capture: 1500, expand: ['latest_charge.balance_transaction'] }, o),
  payment_intent_cancel: (s, o) => s.paymentIntents.cancel('pi_1', { cancellation_reason: 'duplicate' }, o),
  payment_intent_verify: (s, o) => s.paymentIntents.verifyMicrodeposits('pi_1', { amounts: [32, 45] }, o),
  payment_intent_list: (s) => s.paymentIntents.list({ customer: 'cus_1', expand: ['data.latest_charge.balance_transaction'], limit: 100 }),
  refund_create: (s, o) => s.refunds.create({ payment_intent: 'pi_1', amount: 500, reason: 'duplicate', metadata: { janua_ref: 'r' }, expand: ['balance_transaction'] }, o),
  refund_cancel: (s, o) => s.refunds.cancel('re_1', undefined, o),
  refund_list: (s) => s.refunds.list({ payment_intent: 'pi_1', expand: ['data.balance_transaction'], limit: 100 }),
  dispute_update: (s, o) => s.disputes.update('du_1', { evidence: { uncategorized_text: 'sent on 2026-11-01' }, submit: true }, o),
  dispute_close: (s, o) => s.disputes.close('du_1', undefined, o),
  dispute_list: (s) => s.disputes.list({ created: { gte: 1700000000 }, limit: 100 }),
  checkout_session_create: (s, o) =>
    s.checkout.sessions.create({
      mode: 'payment', customer: 'cus_1', line_items: [{ price_data: { currency: 'usd', product_data: { name: 'Hat' }, unit_amount: 700 }, quantity: 2 }],
      success_url: 'https://example.com/ok?id={CHECKOUT_SESSION_ID}', cancel_url: 'https://example.com/no', allowed_payment_method_types: ['card'],
      automatic_tax: { enabled: true }, customer_update: { address: 'auto' }, locale: 'es', payment_intent_data: { metadata: { janua_ref: 'p' } },
    }, o),
  checkout_session_expire: (s, o) => s.checkout.sessions.expire('cs_1', undefined, o),
  checkout_session_retrieve: (s) => s.checkout.sessions.retrieve('cs_1', { expand: ['payment_intent'] }),
  payment_link_create: (s, o) =>
    s.paymentLinks.create({
      line_items: [{ price: 'price_1', quantity: 1 }], after_completion: { type: 'redirect', redirect: { url: 'https://example.com' } },
      restrictions: { completed_sessions: { limit: 5 } },
    }, o),
  portal_session_create: (s, o) => s.billingPortal.sessions.create({ customer: 'cus_1', return_url: 'https://example.com/account' }, o),
  setup_intent_create: (s, o) => s.setupIntents.create({ customer: 'cus_1', usage: 'off_session' }, o),
  webhook_endpoint_create: (s, o) =>
    s.webhookEndpoints.create({ url: 'https://example.com/hook', enabled_events: ['*'], api_version: '2026-10-28.endive' }, o),
  webhook_endpoint_update: (s, o) => s.webhookEndpoints.update('we_1', { disabled: true }, o),
  webhook_endpoint_delete: (s) => s.webhookEndpoints.del('we_1'),
  webhook_endpoint_list: (s) => s.webhookEndpoints.list({ limit: 100 }),
};

// The order of the parameters is the order in the JSON text.
async function givenCalls() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks)).map(({ name, call, arguments: given }) => {
    const steps = call.split('.');
    const method = steps.pop();
    return [name, (s) => steps.reduce((resource, step) => resource[step], s)[method](...given)];
  });
}

let seen;
const recorder = createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const headers = Object.fromEntries(HEADERS.filter((name) => req.headers[name] !== undefined).map((name) => [name, req.headers[name]]));
    seen = { method: req.method, path: req.url, headers, body: Buffer.concat(chunks).toString() };
    res.writeHead(200, { 'Content-Type': 'application/json' });
    res.end('{"id":"recorded","object":"recorded","data":[]}');
  });
});

await new Promise((ready) => recorder.listen(0, '127.0.0.1', ready));
const stripe = new Stripe('sk_test_bytes', { host: '127.0.0.1', port: recorder.address().port, protocol: 'http', maxNetworkRetries: 0, telemetry: false });

for (const [name, call] of process.argv[2] === '--calls' ? await givenCalls() : Object.entries(CALLS)) {
  seen = null;
  await call(stripe, { idempotencyKey: `key-${name}` });
  process.stdout.write(JSON.stringify({ name, ...seen }) + '\n');
}
recorder.closeAllConnections();
recorder.close();
