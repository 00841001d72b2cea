// Conekta: orders and the charges that pay them. What goes back to the buyer is in refunds.js, what the
// buyer and the bank do is in buyer.js.
//
// The order's payment_status follows from its charges, and every change of it is told by an event of the
// order beside the event of the charge.

import { HIDDEN, invalid, list, mergeMetadata, newClabe, newId, newReference, objectId, page, pick, precondition, unprocessed } from './store.js';

const DAY = 86400;

// Months -> smallest amount in centavos.
const INSTALLMENTS = { 3: 30000, 6: 60000, 9: 80000, 12: 120000, 18: 180000 };

const MAX_CASH = 1000000;

const DECLINES = {
  decline: ['card_declined', 'bank.declined', 'La tarjeta fue declinada por el banco.'],
  no_funds: ['insufficient_funds', 'bank.insufficient_funds', 'La tarjeta no tiene fondos suficientes.'],
  no_msi: ['msi_not_available', 'bank.msi_not_available', 'La tarjeta no acepta meses sin intereses.'],
};

const LINES = { line_items: 'line_item', tax_lines: 'tax_line', shipping_lines: 'shipping_line', discount_lines: 'discount_line' };

// The words of a charge's state that the events spell in their own way.
const CHARGE_EVENT = { pre_authorized: 'preauthorized', pending_payment: null };

export class Orders {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
    this.store.views.order = (o) => this.#view(o);
    this.store.views.charge = (c) => this.#chargeView(c);
  }

  #chargeView(charge) {
    const refunds = charge[HIDDEN].refunds.map((id) => this.store.find('refunds', id)).filter((r) => !r.deleted);
    return { ...charge, ...(refunds.length > 0 && { refunds: list(refunds) }) };
  }

  #view(order) {
    const charges = this.chargesOf(order).map((c) => this.#chargeView(c));
    const checkout = order[HIDDEN].checkout && this.store.find('checkouts', order[HIDDEN].checkout);
    return { ...order, ...(checkout && { checkout }), ...(charges.length > 0 && { charges: list(charges) }) };
  }

  chargesOf(order) {
    return order[HIDDEN].charges.map((id) => this.store.find('charges', id));
  }

  get(id) {
    return this.store.get('orders', id, 'Order');
  }

  // ---- creation ----

  create({ body }) {
    const customer = this.#customerInfo(body.customer_info);
    const amount = this.#total(body);
    this.#checkCharges(body, customer, amount);
    if (body.checkout && body.charges?.length) throw invalid('An order has either charges or a checkout.', 'checkout', 'order.checkout');
    const decline = this.#firstDecline(body, customer);
    if (decline && !this.provider.settings.declined_leaves_order) {
      this.#spendTokens(body.charges);
      throw this.#refused(decline);
    }
    const order = this.insert(body, customer, amount);
    if (body.checkout) this.provider.checkouts.forOrder(order, body.checkout);
    this.store.emit('order.created', this.get(order.id));
    this.#chargeAll(order, body);
    return this.store.show(this.get(order.id));
  }

  // An order without charges, from a request's parts that were checked.
  insert(body, customer, amount, more = {}) {
    const now = this.store.clock.now();
    const id = newId('ord');
    const order = {
      id, object: 'order', amount, amount_refunded: 0, created_at: now, currency: body.currency, customer_info: customer, is_refundable: false, livemode: false,
      metadata: { ...body.metadata }, updated_at: now, ...pick(body, ['processing_mode', 'shipping_contact']),
      ...(body.fiscal_entity && { fiscal_entity: { id: newId('fis_ent'), object: 'fiscal_entity', created_at: now, ...body.fiscal_entity } }),
      ...more, [HIDDEN]: { charges: [], checkout: null, preAuthorize: body.pre_authorize === true, threeDs: body.three_ds_mode, returnUrl: body.return_url },
    };
    for (const [name, object] of Object.entries(LINES)) {
      if (body[name]?.length) order[name] = list(body[name].map((line) => ({ ...line, id: newId(object), object, parent_id: id })));
    }
    return this.store.insert('orders', order);
  }

  #customerInfo(info) {
    if (info.customer_id === undefined) return { object: 'customer_info', corporate: false, customer_custom_reference: null, ...info };
    const customer = this.provider.customers.get(info.customer_id);
    return {
      object: 'customer_info', customer_id: customer.id, name: customer.name, email: customer.email, phone: customer.phone, corporate: customer.corporate,
      customer_custom_reference: customer.custom_reference || null,
    };
  }

  #total({ currency, line_items: items, tax_lines: taxes = [], shipping_lines: shipping = [], discount_lines: discounts = [] }) {
    if (!this.provider.settings.currencies.includes(currency)) throw invalid(`The currency "${currency}" is not supported.`, 'currency', 'order.currency.unsupported');
    if (items.length === 0) throw invalid('An order needs at least one line item.', 'line_items', 'order.line_items.empty');
    const sum = (lines, of) => lines.reduce((total, line) => total + of(line), 0);
    const plus = (line) => line.amount;
    const total = sum(items, (i) => i.unit_price * i.quantity) + sum(taxes, plus) + sum(shipping, plus) - sum(discounts, plus);
    if (total < 1) throw invalid('The amount of the order is not positive.', 'line_items', 'order.amount');
    return total;
  }

  #checkCharges({ charges = [] }, customer, amount) {
    let sum = 0;
    const tokens = new Set();
    for (const charge of charges) {
      const of = charge.amount ?? amount;
      sum += of;
      this.checkMethod(charge.payment_method, of, customer.customer_id);
      const token = charge.payment_method.token_id;
      if (token && tokens.has(token)) throw unprocessed('tokenization.used', 'The token has already been used.');
      tokens.add(token);
    }
    if (charges.length > 0 && sum !== amount) throw invalid(`The charges (${sum}) are not the amount of the order (${amount}).`, 'charges', 'order.charges.sum');
  }

  // Everything that can be wrong with a payment_method before anything is done.
  checkMethod(method, amount, customerId) {
    const { type, expires_at: expires, monthly_installments: months } = method;
    if (method.number !== undefined) throw invalid('Card numbers are not taken by the simulator.', 'payment_method.number', 'payment_method.number');
    if (expires !== undefined && expires <= this.store.clock.now()) throw invalid('expires_at has to be in the future.', 'payment_method.expires_at', 'payment_method.expires_at.past');
    if (months !== undefined) {
      if (type !== 'card') throw invalid('Only cards are paid in instalments.', 'payment_method.monthly_installments', 'monthly_installments.type');
      if (!INSTALLMENTS[months]) throw invalid(`${months} instalments are not offered.`, 'payment_method.monthly_installments', 'monthly_installments.invalid');
      if (amount < INSTALLMENTS[months]) throw invalid(`The smallest amount for ${months} instalments is ${INSTALLMENTS[months]}.`, 'payment_method.monthly_installments', 'monthly_installments.amount');
    }
    if (type === 'card') {
      if ((method.token_id === undefined) === (method.payment_source_id === undefined)) throw invalid('Either token_id or payment_source_id is needed.', 'payment_method.token_id', 'payment_method.token_id.missing');
      if (method.token_id) this.provider.customers.cardOf(method.token_id, { spend: false });
      else if (!customerId) throw invalid('A payment source needs customer_info.customer_id.', 'payment_method.payment_source_id', 'payment_source.customer');
      else this.provider.customers.source(customerId, method.payment_source_id);
    } else if (type === 'cash') {
      if (amount > MAX_CASH) throw invalid(`A cash payment is at most ${MAX_CASH}.`, 'amount', 'cash.amount');
    } else if (type !== 'spei' && type !== 'default') this.provider.notImitated(`payment methods of type ${type}`);
  }

  #spendTokens(charges = []) {
    for (const { payment_method: { token_id: token } } of charges) if (token) this.provider.customers.cardOf(token);
  }

  #behaviour(method, customerId) {
    if (method.token_id) return this.provider.customers.cardOf(method.token_id, { spend: false });
    const source = this.provider.customers.source(customerId, method.payment_source_id);
    return { ...source, does: this.provider.settings.card_outcomes[source.id] ?? source[HIDDEN].does };
  }

  #declineOf(method, customerId) {
    if (method.type !== 'card') return null;
    const { does } = this.#behaviour(method, customerId);
    if (does === 'no_msi' && method.monthly_installments === undefined) return null;
    return DECLINES[does] ?? null;
  }

  #firstDecline({ charges = [] }, customer) {
    return charges.map((c) => this.#declineOf(c.payment_method, customer.customer_id)).find(Boolean);
  }

  #refused([, code, message]) {
    return unprocessed(code, message);
  }

  // ---- charging ----

  #chargeAll(order, { charges = [] }) {
    let refusal = null;
    for (const request of charges) {
      const { decline } = this.charge(order.id, request);
      refusal ??= decline;
    }
    if (refusal) throw this.#refused(refusal);
  }

  // One charge of an order: inserted, tried, told of. -> {charge, decline}
  charge(orderId, { amount, payment_method: method, reference_id: reference }) {
    const order = this.get(orderId);
    const { customer_id: customerId } = order.customer_info;
    const decline = this.#declineOf(method, customerId);
    const charge = {
      id: objectId(), object: 'charge', amount: amount ?? order.amount, created_at: this.store.clock.now(), currency: order.currency, customer_id: customerId ?? '',
      description: 'Payment from order', fee: this.#feeOf(amount ?? order.amount), livemode: false, order_id: order.id, paid_at: null, reference_id: reference ?? null, status: 'pending_payment',
      ...(method.monthly_installments && { monthly_installments: method.monthly_installments }), payment_method: this.#methodOf(method, customerId, order), [HIDDEN]: { refunds: [] },
    };
    this.store.insert('charges', charge);
    order[HIDDEN].charges.push(charge.id);
    this.store.emit('charge.created', charge);
    if (decline) this.settle(charge.id, 'declined', { failure_code: decline[0], failure_message: decline[2] });
    else if (method.type !== 'card') this.settle(charge.id, 'pending_payment');
    else if (charge.payment_method.object === 'card_payment' && this.#mustAuthenticate(order, method, customerId)) this.#askForAuthentication(charge.id, order);
    else this.settle(charge.id, order[HIDDEN].preAuthorize ? 'pre_authorized' : 'paid');
    if (method.token_id) this.provider.customers.cardOf(method.token_id);
    return { charge: this.store.find('charges', charge.id), decline };
  }

  // Named when the charge is made, whatever becomes of it; with the tax on it.
  #feeOf(amount) {
    const { fee_percent: percent, fee_fixed: fixed } = this.provider.settings;
    return Math.round((fixed + (amount * percent) / 100) * 1.16);
  }

  #methodOf(method, customerId, order) {
    const now = this.store.clock.now();
    if (method.type === 'card') {
      const card = this.#behaviour(method, customerId);
      return {
        object: 'card_payment', type: card.card_type, name: order.customer_info.name, exp_month: '12', exp_year: '30', auth_code: '867372', last4: card.last4, brand: card.brand,
        issuer: card.issuer, account_type: 'Credit', country: 'MX', fraud_indicators: [],
      };
    }
    const expires = method.expires_at ?? now + 30 * DAY;
    if (method.type === 'spei') {
      const clabe = newClabe();
      return {
        object: 'bank_transfer_payment', type: 'spei', bank: 'STP', clabe, expires_at: expires, payment_attempts: [], receiving_account_bank: 'STP',
        receiving_account_number: clabe, reference_number: null, tracking_code: null,
      };
    }
    const reference = newReference();
    return {
      object: 'cash_payment', type: 'cash', service_name: 'Cash', product_type: 'cash_in', reference, barcode_url: `https://barcodes.conekta.com/cash/cashin/${reference}.png`,
      store_names: ['OXXO', '7 Eleven', 'Farmacias del Ahorro'], expires_at: expires,
    };
  }

  #mustAuthenticate(order, method, customerId) {
    const { threeDs } = order[HIDDEN];
    if (threeDs === 'strict') return true;
    return threeDs !== undefined && this.#behaviour(method, customerId).does === 'authenticate';
  }

  #askForAuthentication(chargeId, order) {
    this.store.change('orders', order.id, {
      next_action: { type: 'redirect_to_url', redirect_to_url: { url: `https://pay.conekta.com/3ds/${chargeId}`, return_url: order[HIDDEN].returnUrl ?? '' } },
    });
    this.settle(chargeId, 'pending_confirmation');
  }

  // A charge enters a state, and its order follows.
  settle(chargeId, status, more = {}) {
    const paid = status === 'paid' ? { paid_at: this.store.clock.now() } : {};
    const charge = this.store.change('charges', chargeId, { status, ...paid, ...more });
    const event = CHARGE_EVENT[status] === undefined ? status : CHARGE_EVENT[status];
    if (event) this.store.emit(`charge.${event}`, charge);
    this.follow(charge.order_id);
    return charge;
  }

  // payment_status, amount_refunded and is_refundable after a change of a charge.
  follow(orderId) {
    const order = this.get(orderId);
    const charges = this.chargesOf(order);
    const status = this.#statusOf(order, charges);
    const refunded = charges.reduce((sum, c) => sum + this.refundedOf(c), 0);
    const changes = { payment_status: status, amount_refunded: refunded, is_refundable: ['paid', 'partially_refunded'].includes(status), updated_at: this.store.clock.now() };
    const after = this.store.change('orders', orderId, changes);
    if (!charges.some((c) => c.status === 'pending_confirmation')) delete after.next_action;
    if (status !== order.payment_status || (status === 'partially_refunded' && refunded !== order.amount_refunded)) this.store.emit(`order.${status}`, after);
    return after;
  }

  refundedOf(charge) {
    return charge[HIDDEN].refunds.map((id) => this.store.find('refunds', id)).reduce((sum, r) => (r.deleted ? sum : sum - r.amount), 0);
  }

  #statusOf(order, charges) {
    const is = (...words) => charges.filter((c) => words.includes(c.status));
    if (is('charged_back').length > 0) return 'charged_back';
    const received = is('paid', 'partially_refunded', 'refunded');
    if (received.length > 0 && received.every((c) => c.status === 'refunded')) return 'refunded';
    if (received.some((c) => this.refundedOf(c) > 0)) return 'partially_refunded';
    if (received.reduce((sum, c) => sum + c.amount, 0) >= order.amount) return 'paid';
    if (is('pre_authorized').length > 0) return 'pre_authorized';
    if (is('pending_payment', 'pending_confirmation').length > 0 || received.length > 0) return 'pending_payment';
    return charges.at(-1)?.status;
  }

  // ---- the calls ----

  list({ query, base }) {
    let orders = this.store.newest('orders', query.search === undefined ? 0 : this.provider.settings.search_lag_ms);
    if (query.payment_status !== undefined) orders = orders.filter((o) => o.payment_status === query.payment_status);
    if (query['created_at.gte'] !== undefined) orders = orders.filter((o) => o.created_at >= query['created_at.gte']);
    if (query['created_at.lte'] !== undefined) orders = orders.filter((o) => o.created_at <= query['created_at.lte']);
    for (const name of ['last_payment_info.status', 'created_at', 'updated_at.gte', 'updated_at.lte']) {
      if (query[name] !== undefined) this.provider.notImitated(`the filter ${name} of orders`);
    }
    return page(orders, query, { base, path: '/orders' });
  }

  listCharges({ query, base }) {
    return page(this.store.newest('charges'), query, { base, path: '/charges' });
  }

  read({ ids: [id] }) {
    return this.store.show(this.get(id));
  }

  update({ ids: [id], body }) {
    const order = this.get(id);
    for (const name of ['charges', 'checkout', 'currency', 'customer_info', 'discount_lines', 'line_items', 'pre_authorize', 'shipping_lines', 'tax_lines']) {
      if (body[name] !== undefined) this.provider.notImitated(`${name} in an update of an order`);
    }
    const changes = { ...pick(body, ['fiscal_entity', 'shipping_contact']), ...(body.metadata && { metadata: mergeMetadata(order.metadata, body.metadata) }) };
    return this.store.show(this.store.change('orders', id, { ...changes, updated_at: this.store.clock.now() }, 'order.updated'));
  }

  addCharge({ ids: [id], body }) {
    const order = this.get(id);
    const amount = body.amount ?? order.amount;
    const live = this.chargesOf(order).filter((c) => !['declined', 'expired', 'canceled', 'voided'].includes(c.status));
    if (live.some((c) => c.status.startsWith('pending'))) throw precondition('The order cannot be modified because it has already a charge which is pending payment.', 'combo.order.cannot_be_updated_because_has_charge');
    if (live.reduce((sum, c) => sum + c.amount, 0) + amount > order.amount) throw precondition('The order has been paid already.', 'order.already_paid');
    if (order.payment_status === 'canceled') throw precondition('The order was canceled.', 'order.canceled');
    this.checkMethod(body.payment_method, amount, order.customer_info.customer_id);
    const decline = this.#declineOf(body.payment_method, order.customer_info.customer_id);
    const { charge } = this.charge(id, body);
    if (decline) throw this.#refused(decline);
    return { ...charge, refunds: [] };
  }

  updateCharge({ ids: [id], body }) {
    this.store.get('charges', id, 'Charge');
    return this.store.show(this.store.change('charges', id, pick(body, ['reference_id'])));
  }

  // What is captured is what the order costs from then on.
  capture({ ids: [id], body }) {
    const order = this.get(id);
    const held = this.chargesOf(order).find((c) => c.status === 'pre_authorized');
    if (!held) throw precondition('The order is not pre-authorized.', 'order.not_preauthorized');
    if (body.amount < 1 || body.amount > held.amount) throw precondition(`The amount has to be between 1 and ${held.amount}.`, 'order.capture.amount');
    this.store.change('orders', id, { amount: body.amount });
    this.settle(held.id, 'paid', { amount: body.amount });
    return this.store.show(this.get(id));
  }

  cancel({ ids: [id] }) {
    const order = this.get(id);
    const over = ['paid', 'refunded', 'partially_refunded', 'charged_back', 'canceled', 'voided', 'expired'];
    if (over.includes(order.payment_status)) throw precondition(`The order cannot be canceled, it is ${order.payment_status}.`, 'order.cannot_be_canceled');
    const charges = this.chargesOf(order);
    const held = charges.find((c) => c.status === 'pre_authorized');
    const pending = charges.find((c) => c.status.startsWith('pending'));
    if (order[HIDDEN].checkout) this.provider.checkouts.close(order[HIDDEN].checkout, 'Cancelled');
    if (held) this.settle(held.id, 'voided');
    else if (pending) this.settle(pending.id, 'canceled');
    else this.#cancelEmpty(id);
    return this.store.show(this.get(id));
  }

  #cancelEmpty(id) {
    const after = this.store.change('orders', id, { payment_status: 'canceled', updated_at: this.store.clock.now() });
    this.store.emit('order.canceled', after);
  }

  // ---- time ----

  *dueWork() {
    for (const charge of this.store.newestFirst('charges')) {
      const at = charge.payment_method.expires_at;
      if (charge.status === 'pending_payment' && at) yield { at, run: () => this.settle(charge.id, 'expired') };
    }
  }
}
