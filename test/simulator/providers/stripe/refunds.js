// Refunds and disputes: money that goes back, because the merchant or the bank wants it.

import { TEST_METHODS } from './cards.js';
import { list } from './query.js';
import { HIDDEN, bool, int, invalid, mergeMetadata, missing, newId } from './store.js';

const DAY = 86400;
const EVIDENCE = [
  'access_activity_log', 'billing_address', 'cancellation_policy', 'cancellation_policy_disclosure', 'cancellation_rebuttal', 'customer_communication',
  'customer_email_address', 'customer_name', 'customer_purchase_ip', 'customer_signature', 'duplicate_charge_documentation', 'duplicate_charge_explanation',
  'duplicate_charge_id', 'product_description', 'receipt', 'refund_policy', 'refund_policy_disclosure', 'refund_refusal_explanation', 'service_date',
  'service_documentation', 'shipping_address', 'shipping_carrier', 'shipping_date', 'shipping_documentation', 'shipping_tracking_number',
  'uncategorized_file', 'uncategorized_text',
];
const OPEN = new Set(['needs_response', 'warning_needs_response', 'under_review', 'warning_under_review']);

export class Refunds {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // ---- refunds ----

  #chargeOf(params) {
    if (params.charge) {
      const charge = this.store.find('charges', params.charge);
      if (!charge) throw missing('charge', params.charge, 'charge');
      return charge;
    }
    if (!params.payment_intent) throw invalid('One of the following params should be provided for this request: payment_intent or charge.', 'payment_intent', 'parameter_missing');
    const intent = this.store.find('payment_intents', params.payment_intent);
    if (!intent) throw missing('payment_intent', params.payment_intent, 'payment_intent');
    const charge = intent.latest_charge && this.store.find('charges', intent.latest_charge);
    if (!charge || charge.status === 'failed') throw invalid(`This PaymentIntent (${intent.id}) does not have a successful charge to refund.`, 'payment_intent');
    return charge;
  }

  create(params) {
    const charge = this.#chargeOf(params);
    const left = charge.amount_captured - charge.amount_refunded;
    if (!charge.captured || charge.status !== 'succeeded') throw invalid(`Charge ${charge.id} has not been captured.`, 'charge');
    if (charge.disputed) throw invalid(`Charge ${charge.id} has been charged back; cannot issue a refund.`, 'charge', 'charge_disputed');
    if (left === 0) throw invalid(`Charge ${charge.id} has already been refunded.`, undefined, 'charge_already_refunded');
    const amount = int(params.amount, left);
    if (amount < 1) throw invalid('Invalid positive integer', 'amount', 'parameter_invalid_integer');
    if (amount > left) throw invalid(`Refund amount (${amount}) is greater than unrefunded amount on charge (${left})`, 'amount');
    const outcome = this.#outcome(charge);
    const id = newId('re');
    const moved = this.stripe.balance.ofRefund({ id, amount, currency: charge.currency });
    const refund = this.store.insert('refunds', {
      id, object: 'refund', amount, balance_transaction: moved, charge: charge.id, created: this.store.clock.now(), currency: charge.currency,
      customer: charge.customer, customer_account: null, metadata: mergeMetadata({}, params.metadata), payment_intent: charge.payment_intent,
      payment_method: charge.payment_method, reason: params.reason ?? null, receipt_number: null, source_transfer_reversal: null, status: outcome.status,
      transfer_reversal: null,
    });
    this.#count(charge.id, amount);
    this.store.emit('refund.created', refund);
    this.store.emit('charge.refunded', this.store.find('charges', charge.id));
    if (outcome.later) this.store.later(DAY, () => this.finish({ refund: refund.id, outcome: outcome.later }));
    return refund;
  }

  // Vouchers are paid back to an account that the buyer has to name first.
  #outcome(charge) {
    const test = TEST_METHODS[this.store.find('payment_methods', charge.payment_method)?.[HIDDEN].token];
    if (charge.payment_method_details.type === 'oxxo') return { status: 'requires_action' };
    if (charge.payment_method_details.type !== 'card') return { status: 'pending', later: 'succeeded' };
    return test?.refund ?? { status: 'succeeded' };
  }

  #count(chargeId, amount) {
    const charge = this.store.find('charges', chargeId);
    const refunded = charge.amount_refunded + amount;
    this.store.change('charges', chargeId, { amount_refunded: refunded, refunded: refunded === charge.amount_captured });
  }

  get(params, id) {
    const refund = this.store.find('refunds', id);
    if (!refund) throw missing('refund', id);
    return refund;
  }

  list(params) {
    return list(
      this.store, 'refunds', params, '/v1/refunds',
      (r) => (params.payment_intent === undefined || r.payment_intent === params.payment_intent) && (params.charge === undefined || r.charge === params.charge),
    );
  }

  update(params, id) {
    const refund = this.get({}, id);
    return this.store.change('refunds', id, { metadata: mergeMetadata(refund.metadata, params.metadata) }, 'refund.updated');
  }

  cancel(params, id) {
    const refund = this.get({}, id);
    if (refund.status !== 'requires_action') throw invalid(`This refund cannot be canceled because its status is ${refund.status}.`, 'id');
    this.#count(refund.charge, -refund.amount);
    return this.store.change('refunds', id, { status: 'canceled' }, 'refund.updated');
  }

  // By the control API: outcome succeeded or failed. A failure may follow success.
  finish({ refund: id, outcome = 'succeeded' }) {
    const refund = this.get({}, id);
    if (refund.status === 'failed' || refund.status === 'canceled') return refund;
    if (outcome === 'succeeded') return this.store.change('refunds', id, { status: 'succeeded' }, 'refund.updated');
    this.#count(refund.charge, -refund.amount);
    const failed = this.store.change('refunds', id, { failure_reason: 'lost_or_stolen_card', status: 'failed' }, 'refund.updated');
    this.store.emit('refund.failed', failed);
    return failed;
  }

  // ---- disputes ----

  // By the control API, or by a card that is made for it. An inquiry moves no money.
  dispute({ payment_intent: id, amount, reason = 'fraudulent', inquiry = false }) {
    const charge = this.#chargeOf({ payment_intent: id });
    const dispute = this.store.insert('disputes', {
      id: newId('du'), object: 'dispute', amount: amount ?? charge.amount - charge.amount_refunded, balance_transactions: [], charge: charge.id,
      created: this.store.clock.now(), currency: charge.currency, enhanced_eligibility_types: [],
      evidence: { ...Object.fromEntries(EVIDENCE.map((name) => [name, null])), enhanced_evidence: {} },
      evidence_details: {
        due_by: this.store.clock.now() + 9 * DAY, enhanced_eligibility: {}, has_evidence: false, past_due: false, submission_count: 0, submission_method: 'not_submitted',
      },
      intended_submission_method: 'manual', is_charge_refundable: inquiry, livemode: false, metadata: {}, payment_intent: charge.payment_intent, reason,
      status: inquiry ? 'warning_needs_response' : 'needs_response',
    });
    if (!inquiry) this.store.change('charges', charge.id, { disputed: true }, 'charge.updated');
    this.store.emit('charge.dispute.created', dispute);
    return inquiry ? dispute : this.#move(dispute.id, -dispute.amount, 'charge.dispute.funds_withdrawn');
  }

  #move(id, amount, event) {
    const dispute = this.store.find('disputes', id);
    const movement = this.stripe.balance.ofDispute(dispute, amount);
    return this.store.change('disputes', id, { balance_transactions: [...dispute.balance_transactions, movement] }, event);
  }

  getDispute(params, id) {
    const dispute = this.store.find('disputes', id);
    if (!dispute) throw missing('dispute', id, 'dispute');
    return dispute;
  }

  listDisputes(params) {
    return list(
      this.store, 'disputes', params, '/v1/disputes',
      (d) => (params.payment_intent === undefined || d.payment_intent === params.payment_intent) && (params.charge === undefined || d.charge === params.charge),
    );
  }

  // The texts winning_evidence and losing_evidence decide at once, as published for test mode.
  updateDispute(params, id) {
    const dispute = this.getDispute({}, id);
    if (!OPEN.has(dispute.status)) throw invalid('This dispute is already closed', undefined, 'dispute_closed');
    const submit = bool(params.submit, true);
    if (submit && dispute.evidence_details.submission_count > 0) throw invalid('You have already submitted evidence for this dispute.', 'submit');
    const evidence = { ...dispute.evidence, ...Object.fromEntries(Object.entries(params.evidence ?? {}).map(([name, text]) => [name, text === '' ? null : text])) };
    const details = { ...dispute.evidence_details, has_evidence: EVIDENCE.some((name) => evidence[name] !== null) };
    if (submit) Object.assign(details, { submission_count: 1, submission_method: 'manual' });
    const status = submit ? (dispute.status.startsWith('warning') ? 'warning_under_review' : 'under_review') : dispute.status;
    this.store.change('disputes', id, {
      evidence, evidence_details: details, metadata: params.metadata === undefined ? dispute.metadata : mergeMetadata(dispute.metadata, params.metadata), status,
    }, 'charge.dispute.updated');
    if (submit && evidence.uncategorized_text === 'winning_evidence') return this.resolve({ dispute: id, outcome: 'won' });
    if (submit && evidence.uncategorized_text === 'losing_evidence') return this.resolve({ dispute: id, outcome: 'lost' });
    return this.store.find('disputes', id);
  }

  close(params, id) {
    const dispute = this.getDispute({}, id);
    if (!OPEN.has(dispute.status)) throw invalid('This dispute is already closed', undefined, 'dispute_closed');
    return this.resolve({ dispute: id, outcome: 'lost' });
  }

  // By the control API: won gives the money back.
  resolve({ dispute: id, outcome = 'won' }) {
    const before = this.getDispute({}, id);
    const inquiry = before.status.startsWith('warning');
    this.store.change('disputes', id, { status: inquiry ? 'warning_closed' : outcome }, 'charge.dispute.closed');
    if (!inquiry && outcome === 'won') {
      this.store.change('charges', before.charge, { disputed: false });
      this.#move(id, before.amount, 'charge.dispute.funds_reinstated');
    }
    return this.store.find('disputes', id);
  }
}
