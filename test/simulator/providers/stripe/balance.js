// What a payment, a refund or a dispute does to the merchant's balance, and what Stripe keeps of it.
//
// A movement is in the currency of the balance (settings.balance_currency, else that of the money); there is
// no rate of exchange here: an amount stays the same number. Objects name it by its id, answers that were
// asked for it (expand) contain it.

import { newId } from './store.js';

export class Balance {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  #movement({ amount, currency, fee, description, source, type, category }) {
    const now = this.store.clock.now();
    const own = this.stripe.settings.balance_currency ?? currency;
    return this.store.insert('balance_transactions', {
      id: newId('txn'), object: 'balance_transaction', amount, available_on: now, balance_type: 'payments', created: now, currency: own, description,
      exchange_rate: own === currency ? null : 1, fee,
      fee_details: fee === 0 ? [] : [{ amount: fee, application: null, currency: own, description: 'Stripe processing fees', type: 'stripe_fee' }],
      net: amount - fee, reporting_category: category, source, status: 'available', type,
    });
  }

  // A charge that took so much, which may be less than was authorised. -> id
  ofCharge(charge, amount) {
    const { fee_percent: percent, fee_fixed: fixed } = this.stripe.settings;
    const fee = fixed + Math.round((amount * percent) / 100);
    return this.#movement({ amount, currency: charge.currency, fee, description: charge.description, source: charge.id, type: 'charge', category: 'charge' }).id;
  }

  // -> id
  ofRefund(refund) {
    const { refund_fee: fee } = this.stripe.settings;
    return this.#movement({ amount: -refund.amount, currency: refund.currency, fee, description: 'REFUND FOR CHARGE', source: refund.id, type: 'refund', category: 'refund' }).id;
  }

  // A dispute lists its movements as they are. -> the whole of it
  ofDispute(dispute, amount) {
    const withdrawn = amount < 0;
    return this.#movement({
      amount, currency: dispute.currency, fee: withdrawn ? this.stripe.settings.dispute_fee : 0, description: `Chargeback ${withdrawn ? 'withdrawal' : 'reversal'} for ${dispute.charge}`,
      source: dispute.id, type: 'adjustment', category: withdrawn ? 'dispute' : 'dispute_reversal',
    });
  }
}
