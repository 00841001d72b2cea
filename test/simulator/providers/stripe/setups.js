// Setup intents: a payment method is made ready for later, and attached when it is.

import { TEST_METHODS } from './cards.js';
import { list } from './query.js';
import { HIDDEN, StripeError, bool, invalid, mergeMetadata, missing, newId, randomText } from './store.js';

const CONFIRM_ONLY = ['return_url', 'mandate_data'];

export class Setups {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  create(params) {
    if (params.customer) this.stripe.customers.live(params.customer, 'customer');
    const confirmed = bool(params.confirm, false);
    for (const name of CONFIRM_ONLY) {
      if (!confirmed && params[name] !== undefined) throw invalid(`The parameter ${name} can only be used when confirm=true.`, name);
    }
    const method = params.payment_method && this.stripe.payments.methodFor(params.payment_method, params.customer ?? null);
    if (confirmed) this.#checkAttempt(method, params);
    const id = newId('seti');
    const automatic = params.allowed_payment_method_types ? null : {
      allow_redirects: params.automatic_payment_methods?.allow_redirects ?? 'always', enabled: true,
    };
    this.store.add('setup_intents', {
      id,
      object: 'setup_intent',
      allowed_payment_method_types: params.allowed_payment_method_types ?? null,
      application: null,
      automatic_payment_methods: automatic,
      cancellation_reason: null,
      client_secret: `${id}_secret_${randomText(24)}`,
      created: this.store.clock.now(),
      customer: params.customer ?? null,
      customer_account: null,
      description: params.description ?? null,
      excluded_payment_method_types: null,
      flow_directions: null,
      last_setup_error: null,
      latest_attempt: null,
      livemode: false,
      mandate: null,
      metadata: mergeMetadata({}, params.metadata),
      next_action: null,
      on_behalf_of: null,
      payment_method: method?.id ?? null,
      payment_method_configuration_details: null,
      payment_method_options: { card: { mandate_options: null, network: null, request_three_d_secure: 'automatic' } },
      payment_method_types: params.allowed_payment_method_types ?? ['card'],
      single_use_mandate: null,
      status: method ? 'requires_confirmation' : 'requires_payment_method',
      usage: params.usage ?? 'off_session',
    }, 'setup_intent.created');
    return confirmed ? this.#attempt(id, method, params) : this.store.find('setup_intents', id);
  }

  get(params, id) {
    const intent = this.store.find('setup_intents', id);
    if (!intent) throw missing('setupintent', id);
    return intent;
  }

  list(params) {
    return list(
      this.store, 'setup_intents', params, '/v1/setup_intents',
      (s) => (params.customer === undefined || s.customer === params.customer) && (params.payment_method === undefined || s.payment_method === params.payment_method),
    );
  }

  #unexpected(intent, verb) {
    return new StripeError(400, 'invalid_request_error', `You cannot ${verb} this SetupIntent because it has a status of ${intent.status}.`, {
      code: 'setup_intent_unexpected_state', setup_intent: intent,
    });
  }

  // Also what the customer does in the browser with the client secret.
  confirm(params, id) {
    const intent = this.get({}, id);
    if (intent.status === 'succeeded' || intent.status === 'canceled') throw this.#unexpected(intent, 'confirm');
    const token = params.payment_method ?? intent.payment_method;
    const method = token && this.stripe.payments.methodFor(token, intent.customer);
    this.#checkAttempt(method, params);
    return this.#attempt(id, method, params);
  }

  #checkAttempt(method, params) {
    if (!method) throw invalid('You cannot confirm this SetupIntent because it is missing a payment method.', 'payment_method');
    if (method.type !== 'card' && !params.mandate_data) throw invalid(`A mandate is required to set up ${method.type}: pass mandate_data.`, 'mandate_data');
  }

  #attempt(id, method, params) {
    const test = TEST_METHODS[method[HIDDEN].token];
    this.store.change('setup_intents', id, { last_setup_error: null, payment_method: method.id });
    if (test.attach) return this.#refuse(id, method, test.attach);
    if (test.setup === 'authenticate' || test.charge === 'authenticate') {
      const url = `https://hooks.stripe.com/3d_secure_2/hosted?setup_intent=${id}`;
      return this.store.change('setup_intents', id, {
        next_action: params.return_url ? { redirect_to_url: { return_url: params.return_url, url }, type: 'redirect_to_url' } : { type: 'use_stripe_sdk', use_stripe_sdk: {} },
        status: 'requires_action',
      }, 'setup_intent.requires_action');
    }
    method[HIDDEN].mandate = method.type !== 'card';
    return this.#succeed(id, method);
  }

  #succeed(id, method) {
    const { customer } = this.store.find('setup_intents', id);
    if (customer && !method.customer) this.stripe.customers.attach(method, customer);
    return this.store.change('setup_intents', id, { next_action: null, payment_method: method.id, status: 'succeeded' }, 'setup_intent.succeeded');
  }

  #refuse(id, method, decline) {
    const { code, decline_code: declineCode, message } = decline;
    const failed = this.store.change('setup_intents', id, {
      last_setup_error: { code, decline_code: declineCode, message, payment_method: method, type: 'card_error' }, payment_method: null, status: 'requires_payment_method',
    }, 'setup_intent.setup_failed');
    throw new StripeError(402, 'card_error', message, { code, decline_code: declineCode, setup_intent: failed });
  }

  // By the control API: the buyer comes back from 3-D Secure.
  authenticate({ setup_intent: id, success = true }) {
    const intent = this.get({}, id);
    if (intent.status !== 'requires_action') throw this.#unexpected(intent, 'authenticate');
    const method = this.store.find('payment_methods', intent.payment_method);
    if (success) return this.#succeed(id, method);
    return this.store.change('setup_intents', id, {
      last_setup_error: { code: 'setup_intent_authentication_failure', message: 'The latest attempt to set up the payment method has failed because authentication failed.', type: 'invalid_request_error' },
      next_action: null, payment_method: null, status: 'requires_payment_method',
    }, 'setup_intent.setup_failed');
  }

  cancel(params, id) {
    const intent = this.get({}, id);
    if (intent.status === 'succeeded' || intent.status === 'canceled') throw this.#unexpected(intent, 'cancel');
    return this.store.change('setup_intents', id, { status: 'canceled', cancellation_reason: params.cancellation_reason ?? null, next_action: null }, 'setup_intent.canceled');
  }
}
