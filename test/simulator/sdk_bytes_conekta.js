// node sdk_bytes_conekta.js [--calls]
// The bytes that Conekta's own client puts on the wire for the calls that we make; sdk_recorder.js says how
// they are printed. A call is "orders.createOrder" and the like, after the names below.

import {
  ChargesApi, Configuration, CustomersApi, EventsApi, OrdersApi, PaymentLinkApi, PaymentMethodsApi, PlansApi, SubscriptionsApi, SubscriptionsCustomerPortalApi, WebhookKeysApi,
  WebhooksApi,
} from 'conekta';
import { printCalls } from './sdk_recorder.js';

const HEADERS = ['authorization', 'accept', 'accept-language', 'content-type', 'content-length', 'expect'];

const RESOURCES = {
  customers: CustomersApi, paymentMethods: PaymentMethodsApi, orders: OrdersApi, charges: ChargesApi, checkouts: PaymentLinkApi, plans: PlansApi, subscriptions: SubscriptionsApi,
  portal: SubscriptionsCustomerPortalApi, webhooks: WebhooksApi, webhookKeys: WebhookKeysApi, events: EventsApi,
};

function makeClient(basePath) {
  const configuration = new Configuration({ accessToken: 'key_bytes', basePath });
  return Object.fromEntries(Object.entries(RESOURCES).map(([name, Api]) => [name, new Api(configuration)]));
}

const line = { name: 'Plan Pro – 1 mes', unit_price: 29900, quantity: 1 };
const order = { currency: 'MXN', customer_info: { customer_id: 'cus_1' }, line_items: [line], metadata: { janua_ref: '0197f0c0-0000-7000-8000-000000000001' } };
const charged = (payment) => ({ ...order, charges: [{ payment_method: payment, reference_id: '0197f0c0-0000-7000-8000-000000000001' }] });
const address = { street1: 'Av. Siempre Viva 742', postal_code: '06100', city: 'Ciudad de México', state: 'CDMX', country: 'MX', external_number: '742' };

const calls = {
  customer_create_minimal: (c) => c.customers.createCustomer({ name: 'Ana', email: 'ana@example.com', phone: '+5215512345678' }),
  customer_create_full: (c) =>
    c.customers.createCustomer({
      name: 'Niño & Cía "SA" ✓ 日本 😀', email: 'niño+tag@example.com', phone: '+5215512345678', custom_reference: '0197f0c0-0000-7000-8000-000000000001',
      metadata: { organization_id: 'org/1 ñ', 'k 1': 'v/1', janua_ref: '0197f0c0-0000-7000-8000-000000000001' }, fiscal_entities: [{ tax_id: 'ABC010101AB1', company_name: 'Cía', address }],
    }),
  customer_update: (c) => c.customers.updateCustomer('cus_1', { name: 'Ana María', metadata: { a: 'b' } }),
  customer_update_default_source: (c) => c.customers.updateCustomer('cus_1', { default_payment_source_id: 'src_1' }),
  customer_delete: (c) => c.customers.deleteCustomerById('cus_1'),
  customer_read: (c) => c.customers.getCustomerById('cus_1'),
  customer_search: (c) => c.customers.getCustomers(undefined, undefined, 2, '0197f0c0-0000-7000-8000-000000000001'),
  fiscal_entity_create: (c) => c.customers.createCustomerFiscalEntities('cus_1', { tax_id: 'ABC010101AB1', company_name: 'Cía', address }),
  fiscal_entity_update: (c) => c.customers.updateCustomerFiscalEntities('cus_1', 'fis_ent_1', { tax_id: 'XAXX010101000' }),
  source_create_card: (c) => c.paymentMethods.createCustomerPaymentMethods('cus_1', { type: 'card', token_id: 'tok_test_visa_4242' }),
  source_create_cash: (c) => c.paymentMethods.createCustomerPaymentMethods('cus_1', { type: 'cash_recurrent', expires_at: 1893456000 }),
  source_create_spei: (c) => c.paymentMethods.createCustomerPaymentMethods('cus_1', { type: 'spei_recurrent' }),
  source_list: (c) => c.paymentMethods.getCustomerPaymentMethods('cus_1', undefined, undefined, 250),
  source_delete: (c) => c.paymentMethods.deleteCustomerPaymentMethods('cus_1', 'src_1'),
  order_create_card: (c) => c.orders.createOrder(charged({ type: 'card', payment_source_id: 'src_1' })),
  order_create_token_msi: (c) => c.orders.createOrder(charged({ type: 'card', token_id: 'tok_1', monthly_installments: 6 })),
  order_create_cash: (c) => c.orders.createOrder(charged({ type: 'cash', expires_at: 1893456000 })),
  order_create_spei: (c) => c.orders.createOrder(charged({ type: 'spei' })),
  order_create_full: (c) =>
    c.orders.createOrder({
      ...charged({ type: 'card', token_id: 'tok_1' }), tax_lines: [{ description: 'IVA', amount: 4784 }], pre_authorize: true, three_ds_mode: 'strict',
      return_url: 'https://example.com/back?a=1&b=ñ',
    }),
  order_create_checkout: (c) =>
    c.orders.createOrder({
      ...order,
      checkout: {
        type: 'HostedPayment', allowed_payment_methods: ['card', 'cash', 'bank_transfer'], success_url: 'https://example.com/ok', failure_url: 'https://example.com/no', expires_at: 1893456000,
        monthly_installments_enabled: true, monthly_installments_options: [3, 6],
      },
    }),
  order_charge: (c) => c.charges.ordersCreateCharge('ord_1', { payment_method: { type: 'card', payment_source_id: 'src_1' }, amount: 29900 }),
  order_capture: (c) => c.orders.ordersCreateCapture('ord_1', undefined, undefined, { amount: 10000 }),
  order_cancel: (c) => c.orders.cancelOrder('ord_1'),
  order_refund: (c) => c.orders.orderRefund('ord_1', { amount: 500, reason: 'requested_by_client' }),
  order_refund_cancel: (c) => c.orders.orderCancelRefund('ord_1', '6407b5bee1329a000175ba11'),
  order_read: (c) => c.orders.getOrderById('ord_1'),
  order_search: (c) => c.orders.getOrders(undefined, undefined, 20, '0197f0c0-0000-7000-8000-000000000001'),
  checkout_create: (c) =>
    c.checkouts.createCheckout({
      name: 'Pago de servicio', type: 'PaymentLink', recurrent: false, expires_at: 1893456000, allowed_payment_methods: ['card', 'cash'], needs_shipping_contact: false,
      order_template: { currency: 'MXN', line_items: [line], metadata: { janua_ref: '0197f0c0-0000-7000-8000-000000000001' } },
    }),
  checkout_cancel: (c) => c.checkouts.cancelCheckout('1263626c-53ae-4829-b092-2e7393f2d1b7'),
  plan_create: (c) => c.plans.createPlan({ id: '0197f0c0-0000-7000-8000-000000000002', name: 'Pro', amount: 29900, currency: 'MXN', interval: 'month', frequency: 1, trial_period_days: 14 }),
  plan_update: (c) => c.plans.updatePlan('0197f0c0-0000-7000-8000-000000000002', { name: 'Pro 2' }),
  plan_delete: (c) => c.plans.deletePlan('0197f0c0-0000-7000-8000-000000000002'),
  subscription_create: (c) => c.subscriptions.subscriptionCreate('cus_1', { plan_id: 'pro', card_id: 'src_1' }),
  subscription_update: (c) => c.subscriptions.subscriptionUpdate('cus_1', 'sub_1', { plan_id: 'team' }),
  subscription_cancel: (c) => c.subscriptions.subscriptionCancel('cus_1', 'sub_1'),
  subscription_pause: (c) => c.subscriptions.subscriptionPause('cus_1', 'sub_1'),
  subscription_resume: (c) => c.subscriptions.subscriptionResume('cus_1', 'sub_1'),
  subscription_retry: (c) => c.subscriptions.subscriptionsRetry('cus_1', 'sub_1'),
  subscription_list: (c) => c.subscriptions.subscriptionList('cus_1', undefined, undefined, 250),
  portal_create: (c) => c.portal.createCustomerPortal('sub_1'),
  webhook_create: (c) => c.webhooks.createWebhook({ url: 'https://example.com/hook', subscribed_events: ['order.paid', 'subscription.canceled'] }),
  webhook_update: (c) => c.webhooks.updateWebhook('1', { url: 'https://example.com/hook2', active: false }),
  webhook_delete: (c) => c.webhooks.deleteWebhook('1'),
  webhook_key_create: (c) => c.webhookKeys.createWebhookKey(undefined, { active: true }),
  webhook_key_update: (c) => c.webhookKeys.updateWebhookKey('1', undefined, { active: false }),
  webhook_key_delete: (c) => c.webhookKeys.deleteWebhookKey('1'),
  webhook_key_list: (c) => c.webhookKeys.getWebhookKeys(),
};

await printCalls({ makeClient, calls, headers: HEADERS });
