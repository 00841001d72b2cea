// node sdk_bytes_polar.js [--calls]
// The bytes that Polar's own client puts on the wire for the calls that we make; sdk_recorder.js says how
// they are printed. A call is "customers.create" and the like, by the client's own names.

import { createPolar } from '@polar-sh/sdk/2026-10';
import { printCalls } from './sdk_recorder.js';

const HEADERS = ['authorization', 'polar-version', 'accept', 'content-type', 'content-length', 'expect'];

const id = (n) => `0197f0c0-0000-4000-8000-00000000000${n}`;
const metadata = { organization_id: 'org/1 ñ', janua_ref: id(9) };

const calls = {
  customer_create_minimal: (p) => p.customers.create({ email: 'a@example.com', external_id: id(1) }),
  customer_create_full: (p) =>
    p.customers.create({
      email: 'niño+tag@example.com', external_id: id(1), name: 'Niño & Cía "SA" ✓ 日本 😀', billing_address: { line1: 'Unter den Linden 1', city: 'Berlin', postal_code: '10117', country: 'DE' },
      tax_id: 'DE123456789', locale: 'de-DE', metadata,
    }),
  customer_update: (p) => p.customers.update(id(1), { name: null, email: 'b@example.com', metadata: { a: 'b', n: 1, yes: true } }),
  customer_update_tax_id: (p) => p.customers.update(id(1), { tax_id: 'FR12345678901' }),
  customer_update_external: (p) => p.customers.updateExternal('org/1 ñ', { name: 'X' }),
  customer_delete: (p) => p.customers.delete(id(1), { anonymize: true }),
  customer_read: (p) => p.customers.get(id(1)),
  customer_read_external: (p) => p.customers.getExternal('org/1 ñ'),
  customer_state: (p) => p.customers.getState(id(1)),
  payment_method_list: (p) => p.customers.listPaymentMethods(id(1), { limit: 100 }),
  customer_session_create: (p) => p.customerSessions.create({ customer_id: id(1), return_url: 'https://example.com/back?a=1&b=2' }),
  product_create_recurring: (p) =>
    p.products.create({ name: 'Pro', description: 'The pro plan', recurring_interval: 'month', recurring_interval_count: 1, prices: [{ amount_type: 'fixed', price_amount: 1999, price_currency: 'usd' }], metadata }),
  product_create_custom: (p) => p.products.create({ name: 'Services', recurring_interval: null, visibility: 'private', prices: [{ amount_type: 'custom', price_currency: 'eur' }] }),
  product_create_seats: (p) =>
    p.products.create({ name: 'Team', recurring_interval: 'year', prices: [{ amount_type: 'seat_based', price_currency: 'usd', seat_tiers: { tiers: [{ min_seats: 1, price_per_seat: 900 }] } }] }),
  product_archive: (p) => p.products.update(id(2), { is_archived: true }),
  product_rename: (p) => p.products.update(id(2), { name: 'Pro 2', description: null }),
  checkout_create_minimal: (p) => p.checkouts.create({ products: [id(2)] }),
  checkout_create_full: (p) =>
    p.checkouts.create({
      products: [id(2)], customer_id: id(1), success_url: 'https://example.com/ok?s={CHECKOUT_ID}', return_url: 'https://example.com/back', allow_discount_codes: false, amount: 4200,
      currency: 'usd', seats: 5, trial_interval: 'day', trial_interval_count: 14, require_billing_address: true, metadata,
    }),
  checkout_upgrade: (p) => p.checkouts.create({ products: [id(2)], subscription_id: id(3) }),
  checkout_read: (p) => p.checkouts.get(id(4)),
  checkout_link_create: (p) => p.checkoutLinks.create({ payment_processor: 'stripe', products: [id(2)], label: 'Pago de servicio', success_url: 'https://example.com/ok', metadata }),
  checkout_link_delete: (p) => p.checkoutLinks.delete(id(5)),
  subscription_create_free: (p) => p.subscriptions.create({ product_id: id(2), customer_id: id(1), metadata }),
  subscription_change_product: (p) => p.subscriptions.update(id(3), { product_id: id(6), proration_behavior: 'prorate' }),
  subscription_change_seats: (p) => p.subscriptions.update(id(3), { seats: 7, proration_behavior: 'invoice' }),
  subscription_cancel_at_period_end: (p) =>
    p.subscriptions.update(id(3), { cancel_at_period_end: true, customer_cancellation_reason: 'too_expensive', customer_cancellation_comment: 'Adiós & thanks' }),
  subscription_uncancel: (p) => p.subscriptions.update(id(3), { cancel_at_period_end: false }),
  subscription_pause: (p) => p.subscriptions.update(id(3), { pause_at_period_end: true, resumes_at: '2030-01-01T00:00:00Z' }),
  subscription_resume: (p) => p.subscriptions.update(id(3), { resume: true }),
  subscription_revoke: (p) => p.subscriptions.revoke(id(3)),
  subscription_clear_pending: (p) => p.subscriptions.update(id(3), { pending_update: null }),
  subscription_list: (p) => p.subscriptions.list({ customer_id: id(1), limit: 100 }),
  order_create: (p) => p.orders.create({ customer_id: id(1), product_id: id(2), amount: 4200, currency: 'usd', description: 'Consulting – 3 h', metadata }),
  order_finalize: (p) => p.orders.finalize(id(7), { payment_method_id: id(8) }),
  order_update: (p) => p.orders.update(id(7), { billing_name: 'ACME', billing_address: { line1: 'S 1', city: 'Berlin', postal_code: '10117', country: 'DE' } }),
  order_search: (p) => p.orders.list({ metadata: { janua_ref: id(9) }, limit: 2 }),
  order_read: (p) => p.orders.get(id(7)),
  order_generate_invoice: (p) => p.orders.generateInvoice(id(7)),
  order_invoice: (p) => p.orders.invoice(id(7)),
  refund_create: (p) => p.refunds.create({ order_id: id(7), amount: 1000, reason: 'customer_request', comment: 'sorry', metadata }),
  refund_list: (p) => p.refunds.list({ order_id: id(7), limit: 100 }),
  dispute_list: (p) => p.disputes.list({ limit: 100 }),
  dispute_accept: (p) => p.disputes.accept(id(8)),
  payment_list: (p) => p.payments.list({ order_id: id(7) }),
  webhook_create: (p) => p.webhooks.createWebhookEndpoint({ url: 'https://example.com/hook', format: 'raw', events: ['order.paid', 'subscription.revoked'] }),
  webhook_update: (p) => p.webhooks.updateWebhookEndpoint(id(8), { url: 'https://example.com/hook2', enabled: false }),
  webhook_rotate: (p) => p.webhooks.resetWebhookEndpointSecret(id(8)),
  webhook_delete: (p) => p.webhooks.deleteWebhookEndpoint(id(8)),
  webhook_list: (p) => p.webhooks.listWebhookEndpoints({ limit: 100 }),
};

await printCalls({ makeClient: (baseUrl) => createPolar({ accessToken: 'polar_oat_bytes', baseUrl }), calls, headers: HEADERS });
