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
  setup_intent_create: (s, o) => s.setupIntents.create({ customer: 'cus_1', usage: 'off_session' }, o),
  webhook_endpoint_create: (s, o) =>
    s.webhookEndpoints.create({ url: 'https://example.com/hook', enabled_events: ['*'], api_version: '2026-10-28.endive' }, o),
};

// The order of the parameters is the order in the JSON text.
async function givenCalls() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks)).map(({ name, call, arguments: given }) => {
    const [resource, method] = call.split('.');
    return [name, (s) => s[resource][method](...given)];
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
