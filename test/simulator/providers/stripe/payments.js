// Payment intents and the charges that they make: cards at once, bank debits after days, vouchers and transfers
// when somebody pays. Invoices have their payment intents from here, too.

import { TEST_METHODS } from './cards.js';
import { list, search } from './query.js';
import { HIDDEN, StripeError, address, applyFields, bool, int, invalid, mergeMetadata, missing, newId, randomText } from './store.js';

const DAY = 86400;
const DEBITS = new Set(['us_bank_account', 'sepa_debit']);
const CONFIRM_ONLY = ['off_session', 'return_url', 'mandate_data', 'mandate', 'payment_method_data'];
const CONFIRMABLE = new Set(['requires_payment_method', 'requires_confirmation', 'requires_action']);
const CANCELABLE = new Set([...CONFIRMABLE, 'requires_capture', 'processing']);
const MICRODEPOSITS = [32, 45];

// The card as a charge shows it: what it was, not where it is now.
function cardDetails({ brand, checks, country, exp_month, exp_year, fingerprint, funding, last4, regulated_status, wallet }, amount, plan) {
  return {
    amount_authorized: amount,
    authorization_code: null,
    brand,
    checks,
    country,
    electronic_commerce_indicator: null,
    exp_month,
    exp_year,
    fingerprint,
    funding,
    installments: plan ? { plan } : null,
    last4,
    mandate: null,
    network: brand,
    network_transaction_id: null,
    regulated_status,
    three_d_secure: null,
    transaction_link_id: null,
    wallet,
  };
}

function methodDetails(method, amount, plan) {
  const { type } = method;
  if (type === 'card') return { card: cardDetails(method.card, amount, plan), type };
  if (type === 'us_bank_account') {
    const { account_holder_type, account_type, bank_name, fingerprint, last4, routing_number } = method.us_bank_account;
    return { type, us_bank_account: { account_holder_type, account_type, bank_name, fingerprint, last4, payment_reference: null, routing_number } };
  }
  if (type === 'sepa_debit') {
    const { bank_code, branch_code, country, fingerprint, last4 } = method.sepa_debit;
    return { sepa_debit: { bank_code, branch_code, country, fingerprint, last4, mandate: null }, type };
  }
  return type === 'oxxo' ? { oxxo: { number: method[HIDDEN].number ?? null }, type } : { [type]: {}, type };
}

const unexpectedState = (intent, verb) =>
  invalidWith(intent, `You cannot ${verb} this PaymentIntent because it has a status of ${intent.status}.`, 'payment_intent_unexpected_state');

function invalidWith(intent, message, code, param) {
  return new StripeError(400, 'invalid_request_error', message, { code, ...(param && { param }), ...(intent && { payment_intent: intent }) });
}

export class Payments {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // ---- making one ----

  // Every intent begins like this, with the fields that the caller knows.
  open(fields) {
    const id = newId('pi');
    const intent = {
      id,
      object: 'payment_intent',
      allowed_payment_method_types: null,
      amount: 0,
      amount_capturable: 0,
      amount_received: 0,
      application: null,
      application_fee_amount: null,
      automatic_payment_methods: null,
      canceled_at: null,
      cancellation_reason: null,
      capture_method: 'automatic',
      client_secret: `${id}_secret_${randomText(25)}`,
      confirmation_method: 'automatic',
      created: this.store.clock.now(),
      currency: 'usd',
      customer: null,
      customer_account: null,
      description: null,
      excluded_payment_method_types: null,
      last_payment_error: null,
      latest_charge: null,
      livemode: false,
      managed_payments: null,
      metadata: {},
      next_action: null,
      on_behalf_of: null,
      payment_method: null,
      payment_method_configuration_details: null,
      payment_method_options: null,
      payment_method_types: fields.allowed_payment_method_types ?? ['card'],
      payment_record: null,
      processing: null,
      receipt_email: null,
      review: null,
      setup_future_usage: null,
      shipping: null,
      source: null,
      statement_descriptor: null,
      statement_descriptor_suffix: null,
      status: 'requires_payment_method',
      transfer_group: null,
      ...fields,
      // plan: the chosen instalments. session: the checkout that made it.
      [HIDDEN]: { plan: null, session: null },
    };
    return this.store.add('payment_intents', intent, 'payment_intent.created');
  }

  create(params) {
    this.#check(params);
    const customer = params.customer && this.stripe.customers.live(params.customer, 'customer');
    const confirmed = bool(params.confirm, false);
    const method = confirmed
      ? this.#methodOf(params, { customer: customer?.id ?? null, currency: params.currency, allowed_payment_method_types: params.allowed_payment_method_types, payment_method: null })
      : params.payment_method && this.methodFor(params.payment_method, customer?.id ?? null);
    const intent = this.open({
      ...applyFields({}, params, ['description', 'statement_descriptor_suffix', 'receipt_email', 'setup_future_usage', 'capture_method', 'allowed_payment_method_types']),
      amount: int(params.amount),
      automatic_payment_methods: this.#automatic(params),
      currency: params.currency,
      customer: customer?.id ?? null,
      metadata: mergeMetadata({}, params.metadata),
      payment_method: method?.id ?? null,
      payment_method_options: this.#options(params.payment_method_options),
      status: method ? 'requires_confirmation' : 'requires_payment_method',
    });
    return confirmed ? this.#attempt(intent.id, method, params) : intent;
  }

  #check(params) {
    const amount = int(params.amount, 0);
    if (amount < 1) throw invalid('This value must be greater than or equal to 1.', 'amount', 'parameter_invalid_integer');
    if (amount < 50 && params.currency === 'usd') throw invalid('Amount must be at least $0.50 usd', 'amount', 'amount_too_small');
    if (!bool(params.confirm, false)) {
      for (const name of CONFIRM_ONLY) {
        if (params[name] !== undefined) throw invalid(`The parameter ${name} can only be used when confirm=true.`, name);
      }
    }
    if (params.allowed_payment_method_types && params.automatic_payment_methods) {
      throw invalid('You may only specify one of these parameters: automatic_payment_methods, allowed_payment_method_types.', 'automatic_payment_methods');
    }
    this.#checkArithmetic(params, amount);
  }

  #checkArithmetic({ amount_details: details }, amount) {
    if (!details?.line_items || details.enforce_arithmetic_validation === false) return;
    const sum = details.line_items.reduce((total, line) => total + int(line.unit_cost) * int(line.quantity), int(details.tax?.total_tax_amount, 0));
    if (sum !== amount) throw invalid(`The sum of the line items and the tax is ${sum}, which does not equal the amount ${amount}.`, 'amount_details');
  }

  #automatic({ automatic_payment_methods: given, allowed_payment_method_types: allowed }) {
    if (given) return { allow_redirects: given.allow_redirects ?? 'always', enabled: bool(given.enabled) };
    return allowed ? null : { allow_redirects: 'always', enabled: true };
  }

  #options(given) {
    if (!given) return null;
    const options = {};
    if (given.card) {
      const installments = given.card.installments;
      options.card = {
        installments: installments ? { available_plans: null, enabled: bool(installments.enabled, false), plan: installments.plan || null } : null,
        mandate_options: null, network: null, request_three_d_secure: 'automatic',
      };
    }
    if (given.oxxo) options.oxxo = { expires_after_days: int(given.oxxo.expires_after_days, 3) };
    if (given.customer_balance) options.customer_balance = given.customer_balance;
    return Object.keys(options).length > 0 ? options : null;
  }

  // ---- the method ----

  // One that is attached to this customer, or a token that makes one of its own.
  methodFor(idOrToken, customerId) {
    const method = this.store.find('payment_methods', idOrToken) ?? this.store.insert('payment_methods', this.stripe.customers.fromToken(idOrToken));
    if (method[HIDDEN].detached) throw invalid('This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.', 'payment_method');
    if (method.customer && method.customer !== customerId) throw invalid(`The PaymentMethod ${method.id} does not belong to the Customer you supplied.`, 'payment_method');
    return method;
  }

  // The method of an attempt, after all that may be wrong with it: a refused request leaves nothing behind.
  #methodOf(params, intent) {
    const known = intent.id ? intent : undefined;
    const id = params.payment_method ?? (params.payment_method_data ? null : intent.payment_method);
    const method = id ? this.methodFor(id, intent.customer) : params.payment_method_data && this.#methodOfData(params.payment_method_data, known);
    if (!method) throw invalidWith(known, 'You cannot confirm this PaymentIntent because it\'s missing a payment method.', 'payment_intent_unexpected_state', 'payment_method');
    const { type } = method;
    const allowed = intent.allowed_payment_method_types;
    if (allowed && !allowed.includes(type)) throw invalidWith(known, `The PaymentMethod provided (${type}) is not allowed for this PaymentIntent.`, 'payment_intent_invalid_parameter', 'payment_method');
    if (DEBITS.has(type) && !params.mandate_data?.customer_acceptance && !method[HIDDEN].mandate) {
      throw invalidWith(known, `A mandate is required to confirm a PaymentIntent with ${type}: pass mandate_data.`, 'payment_intent_mandate_invalid', 'mandate_data');
    }
    if (type === 'oxxo' && intent.currency !== 'mxn') throw invalidWith(known, 'OXXO supports the currency mxn only.', 'payment_intent_incompatible_payment_method', 'currency');
    if (type === 'customer_balance' && !intent.customer) throw invalidWith(known, 'A customer is required for bank transfers.', 'parameter_missing', 'customer');
    return method;
  }

  // payment_method_data: a voucher or a transfer has nothing to be tokenized.
  #methodOfData({ type, billing_details: given = {} }, intent) {
    if (type === 'oxxo' && (!given.email || !given.name)) {
      throw invalidWith(intent, 'Missing required param: payment_method_data[billing_details]. OXXO needs the name and the e-mail of the buyer.', 'parameter_missing', 'payment_method_data[billing_details]');
    }
    if (type !== 'oxxo' && type !== 'customer_balance') this.stripe.notImitated(`payment_method_data of type ${type}`);
    return this.store.insert('payment_methods', {
      id: newId('pm'), object: 'payment_method', allow_redisplay: 'unspecified',
      billing_details: { address: address({}), email: given.email ?? null, name: given.name ?? null, phone: given.phone ?? null, tax_id: null },
      created: this.store.clock.now(), customer: null, customer_account: null, livemode: false, metadata: {}, type, [type]: {},
      [HIDDEN]: { token: null, detached: false },
    });
  }

  // ---- an attempt ----

  confirm(params, id) {
    const intent = this.get({}, id);
    if (!CONFIRMABLE.has(intent.status)) throw unexpectedState(intent, 'confirm');
    const method = this.#methodOf(params, intent);
    const options = this.#options(params.payment_method_options);
    if (options) this.store.change('payment_intents', id, { payment_method_options: { ...intent.payment_method_options, ...options } });
    return this.#attempt(id, method, params);
  }

  // What happens by type; a decline throws, everything else comes back as the intent.
  #attempt(id, method, params) {
    this.store.change('payment_intents', id, { last_payment_error: null, payment_method: method.id, next_action: null });
    switch (method.type) {
      case 'card':
        return this.#tryCard(id, method, params);
      case 'oxxo':
        return this.#giveVoucher(id, method);
      case 'customer_balance':
        return this.#giveAccount(id);
      default:
        return this.#tryDebit(id, method, params);
    }
  }

  #ask(id, nextAction) {
    return this.store.change('payment_intents', id, { next_action: nextAction, status: 'requires_action' }, 'payment_intent.requires_action');
  }

  #tryCard(id, method, params) {
    const intent = this.store.find('payment_intents', id);
    const plan = params.payment_method_options?.card?.installments?.plan;
    if (plan) intent[HIDDEN].plan = { count: int(plan.count), interval: plan.interval, type: plan.type };
    const outcome = this.stripe.customers.chargeOutcome(method, bool(params.off_session, false));
    if (outcome === 'authenticate') {
      const url = `https://hooks.stripe.com/3d_secure_2/hosted?merchant=acct_simulator&payment_intent=${id}`;
      return this.#ask(id, params.return_url
        ? { redirect_to_url: { return_url: params.return_url, url }, type: 'redirect_to_url' }
        : { type: 'use_stripe_sdk', use_stripe_sdk: {} });
    }
    if (outcome !== null) {
      this.fail(id, method, outcome);
      throw this.cardError(outcome, this.store.find('payment_intents', id));
    }
    return this.#authorized(id, method);
  }

  #authorized(id, method) {
    const intent = this.store.find('payment_intents', id);
    const manual = intent.capture_method === 'manual';
    const charge = this.charge(intent, method, { captured: !manual });
    if (intent.setup_future_usage && intent.customer && !method.customer) this.stripe.customers.attach(method, intent.customer);
    if (!manual) return this.succeed(id, charge);
    return this.store.change('payment_intents', id, {
      amount_capturable: intent.amount, latest_charge: charge.id, next_action: null, status: 'requires_capture',
    }, 'payment_intent.amount_capturable_updated');
  }

  // Debits are promised now and known in days; Stripe wants the mandate said once.
  #tryDebit(id, method, params) {
    const test = TEST_METHODS[method[HIDDEN].token];
    method[HIDDEN].mandate = true;
    if (params.payment_method_options?.us_bank_account?.verification_method === 'microdeposits') {
      return this.#ask(id, {
        type: 'verify_with_microdeposits',
        verify_with_microdeposits: { arrival_date: this.store.clock.now() + 2 * DAY, hosted_verification_url: `https://payments.stripe.com/microdeposit/${id}`, microdeposit_type: 'amounts' },
      });
    }
    return this.#process(id, method, test);
  }

  #process(id, method, test) {
    const intent = this.store.find('payment_intents', id);
    const charge = this.charge(intent, method, { status: 'pending' });
    if (intent.setup_future_usage && intent.customer && !method.customer) this.stripe.customers.attach(method, intent.customer);
    if (test.settle !== 'never') {
      this.store.later(test.days * DAY, () => this.settle(id, test.settle));
    }
    return this.store.change('payment_intents', id, { latest_charge: charge.id, next_action: null, status: 'processing' }, 'payment_intent.processing');
  }

  #giveVoucher(id, method) {
    const intent = this.store.find('payment_intents', id);
    const days = intent.payment_method_options?.oxxo?.expires_after_days ?? 3;
    if (days < 1 || days > 7) throw invalidWith(intent, 'expires_after_days must be between 1 and 7.', 'parameter_invalid_integer', 'payment_method_options[oxxo][expires_after_days]');
    const expires = this.store.clock.now() + days * DAY;
    const number = randomDigits(14);
    method[HIDDEN].number = number;
    this.store.later(days * DAY, () => this.expireVoucher(id, number));
    return this.#ask(id, {
      oxxo_display_details: { expires_after: expires, hosted_voucher_url: `https://payments.stripe.com/oxxo/voucher/test_${randomText(20)}`, number },
      type: 'oxxo_display_details',
    });
  }

  #giveAccount(id) {
    const intent = this.store.find('payment_intents', id);
    if (intent.payment_method_options?.customer_balance?.bank_transfer?.type !== 'mx_bank_transfer') this.stripe.notImitated('bank transfers outside of Mexico');
    const holder = { city: null, country: 'MX', line1: null, line2: null, postal_code: null, state: null };
    return this.#ask(id, {
      display_bank_transfer_instructions: {
        amount_remaining: intent.amount,
        currency: intent.currency,
        financial_addresses: [{
          spei: { account_holder_address: holder, account_holder_name: 'Simulator', bank_address: holder, bank_code: '002', bank_name: 'BANAMEX', clabe: clabe() },
          supported_networks: ['spei'], type: 'spei',
        }],
        hosted_instructions_url: `https://payments.stripe.com/bank_transfers/instructions/test_${randomText(20)}`,
        reference: randomText(12).toUpperCase(),
        type: 'mx_bank_transfer',
      },
      type: 'display_bank_transfer_instructions',
    });
  }

  // ---- what comes of it ----

  charge(intent, method, { status = 'succeeded', failure = null, captured = status === 'succeeded', amount = intent.amount }) {
    const paid = status !== 'failed';
    const id = newId('ch');
    const { currency, description } = intent;
    return this.store.add('charges', {
      id,
      object: 'charge',
      amount,
      amount_captured: captured ? amount : 0,
      amount_refunded: 0,
      application: null,
      application_fee: null,
      application_fee_amount: null,
      balance_transaction: captured ? this.stripe.balance.ofCharge({ id, currency, description }, amount) : null,
      billing_details: method.billing_details,
      calculated_statement_descriptor: 'SIMULATOR',
      captured,
      created: this.store.clock.now(),
      currency: intent.currency,
      customer: intent.customer,
      description: intent.description,
      disputed: false,
      failure_balance_transaction: null,
      failure_code: failure?.code ?? null,
      failure_message: failure?.message ?? null,
      fraud_details: {},
      livemode: false,
      metadata: intent.metadata,
      on_behalf_of: null,
      outcome: {
        advice_code: null,
        network_advice_code: null,
        network_decline_code: null,
        network_status: paid ? 'approved_by_network' : 'declined_by_network',
        reason: failure?.decline_code ?? null,
        risk_level: 'normal',
        seller_message: paid ? 'Payment complete.' : 'The bank did not return any further details with this decline.',
        type: paid ? 'authorized' : 'issuer_declined',
      },
      paid: status === 'succeeded',
      payment_intent: intent.id,
      payment_method: method.id,
      payment_method_details: methodDetails(method, amount, intent[HIDDEN].plan),
      receipt_email: intent.receipt_email,
      receipt_number: null,
      receipt_url: status === 'succeeded' ? `https://pay.stripe.com/receipts/payment/${randomText(24)}` : null,
      refunded: false,
      review: null,
      shipping: null,
      source: null,
      source_transfer: null,
      statement_descriptor: null,
      statement_descriptor_suffix: intent.statement_descriptor_suffix,
      status,
      transfer_data: null,
      transfer_group: null,
    }, `charge.${status}`);
  }

  succeed(id, charge, amount) {
    const intent = this.store.find('payment_intents', id);
    const done = this.store.change('payment_intents', id, {
      amount_capturable: 0, amount_received: amount ?? intent.amount, latest_charge: charge.id, last_payment_error: null, next_action: null,
      payment_method: charge.payment_method, status: 'succeeded',
    }, 'payment_intent.succeeded');
    this.stripe.checkout.paymentSettled(done);
    const dispute = TEST_METHODS[this.store.find('payment_methods', charge.payment_method)?.[HIDDEN].token]?.dispute;
    if (dispute) this.stripe.refunds.dispute({ payment_intent: id, ...dispute });
    return this.store.find('payment_intents', id);
  }

  fail(id, method, decline) {
    const intent = this.store.find('payment_intents', id);
    const charge = this.charge(intent, method, { status: 'failed', failure: decline });
    return this.#back(id, { ...this.#error(decline), charge: charge.id, payment_method: method }, { latest_charge: charge.id });
  }

  #error({ code, decline_code: declineCode, message }) {
    return { type: 'card_error', code, ...(declineCode && { decline_code: declineCode }), message };
  }

  // Back to the beginning, with the reason.
  #back(id, error, changes = {}) {
    const failed = this.store.change('payment_intents', id, {
      ...changes, last_payment_error: error, next_action: null, payment_method: null, status: 'requires_payment_method',
    }, 'payment_intent.payment_failed');
    this.stripe.checkout.paymentSettled(failed);
    return failed;
  }

  cardError(decline, intent, type = 'card_error', status = 402) {
    return new StripeError(status, type, decline.message, {
      code: decline.code,
      ...(decline.decline_code && { decline_code: decline.decline_code }),
      ...(intent?.latest_charge && { charge: intent.latest_charge }),
      ...(intent && { payment_intent: intent }),
    });
  }

  // ---- the buyer and the bank, by the control API ----

  // The buyer comes back from 3-D Secure.
  authenticate({ payment_intent: id, success = true }) {
    const intent = this.get({}, id);
    if (intent.status !== 'requires_action') throw unexpectedState(intent, 'authenticate');
    const method = this.store.find('payment_methods', intent.payment_method);
    if (success) return this.#authorized(id, method);
    return this.fail(id, method, { code: 'payment_intent_authentication_failure', message: 'The provided PaymentMethod has failed authentication.' });
  }

  // A debit of the days before: outcome succeeded, or the code of the bank's refusal.
  settle(id, outcome) {
    const intent = this.get({}, id);
    if (intent.status !== 'processing') return intent;
    const before = this.store.find('charges', intent.latest_charge);
    const paid = outcome === 'succeeded' || outcome === 'disputed';
    const charge = this.store.change('charges', before.id, paid
      ? { amount_captured: before.amount, balance_transaction: this.stripe.balance.ofCharge(before, before.amount), captured: true, paid: true, status: 'succeeded', receipt_url: `https://pay.stripe.com/receipts/payment/${randomText(24)}` }
      : { failure_code: outcome, failure_message: 'The bank refused the debit.', paid: false, status: 'failed' });
    this.store.emit(`charge.${charge.status}`, charge);
    if (!paid) return this.#back(id, { ...this.#error({ code: outcome, message: charge.failure_message }), charge: charge.id });
    const done = this.succeed(id, charge);
    if (outcome === 'disputed') this.stripe.refunds.dispute({ payment_intent: id, reason: 'insufficient_funds' });
    return done;
  }

  // Somebody pays the voucher at the till, or makes the transfer.
  payReference({ payment_intent: id }) {
    const intent = this.get({}, id);
    if (intent.status !== 'requires_action') throw unexpectedState(intent, 'pay');
    const method = this.store.find('payment_methods', intent.payment_method);
    return this.succeed(id, this.charge(intent, method, {}));
  }

  // number: of the voucher that was given then; another attempt has another one.
  expireVoucher(id, number) {
    const intent = this.get({}, id);
    const shown = intent.next_action?.oxxo_display_details?.number;
    if (intent.status !== 'requires_action' || !shown || (number && number !== shown)) return intent;
    return this.#back(id, { code: 'payment_intent_payment_attempt_expired', message: 'The voucher has expired.', type: 'invalid_request_error' });
  }

  // ---- the rest of the API ----

  get(params, id) {
    const intent = this.store.find('payment_intents', id);
    if (!intent) throw missing('payment_intent', id, 'intent');
    return intent;
  }

  list(params) {
    return list(this.store, 'payment_intents', params, '/v1/payment_intents', (i) => params.customer === undefined || i.customer === params.customer);
  }

  search(params) {
    return search(this.store, 'payment_intents', params, '/v1/payment_intents/search', this.stripe.settings.search_lag_ms);
  }

  update(params, id) {
    const changes = applyFields(this.get({}, id), params, ['description', 'receipt_email', 'statement_descriptor_suffix', 'setup_future_usage']);
    return this.store.change('payment_intents', id, changes);
  }

  capture(params, id) {
    const intent = this.get({}, id);
    if (intent.status !== 'requires_capture') throw unexpectedState(intent, 'capture');
    const amount = int(params.amount_to_capture, intent.amount_capturable);
    if (amount < 1 || amount > intent.amount_capturable) throw invalidWith(intent, 'The amount to capture is greater than the amount that can be captured.', 'amount_too_large', 'amount_to_capture');
    const held = this.store.find('charges', intent.latest_charge);
    const charge = this.store.change('charges', held.id, {
      amount_captured: amount, balance_transaction: this.stripe.balance.ofCharge(held, amount), captured: true,
    }, 'charge.captured');
    return this.succeed(id, charge, amount);
  }

  cancel(params, id) {
    const intent = this.get({}, id);
    if (!CANCELABLE.has(intent.status) || this.#isOfInvoice(id)) throw unexpectedState(intent, 'cancel');
    return this.store.change('payment_intents', id, {
      amount_capturable: 0, canceled_at: this.store.clock.now(), cancellation_reason: params.cancellation_reason ?? null, next_action: null, status: 'canceled',
    }, 'payment_intent.canceled');
  }

  #isOfInvoice(id) {
    return this.store.all('invoice_payments').some((p) => p.payment.payment_intent === id);
  }

  verifyMicrodeposits(params, id) {
    const intent = this.get({}, id);
    if (intent.next_action?.type !== 'verify_with_microdeposits') throw unexpectedState(intent, 'verify');
    const right = params.descriptor_code === 'SM11AA' || (params.amounts?.length === 2 && MICRODEPOSITS.every((a) => params.amounts.map(Number).includes(a)));
    if (!right) throw invalidWith(intent, 'The amounts provided do not match the amounts that were sent to the bank account.', 'payment_method_microdeposit_verification_amounts_mismatch');
    const method = this.store.find('payment_methods', intent.payment_method);
    return this.#process(id, method, TEST_METHODS[method[HIDDEN].token]);
  }
}

function randomDigits(count) {
  return Array.from({ length: count }, () => Math.floor(Math.random() * 10)).join('');
}

// 17 digits and the one that proves them, as every CLABE has it.
function clabe() {
  const digits = `002180${randomDigits(11)}`;
  const sum = [...digits].reduce((total, digit, i) => total + ((Number(digit) * [3, 7, 1][i % 3]) % 10), 0);
  return digits + ((10 - (sum % 10)) % 10);
}
