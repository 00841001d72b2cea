// Coupons, and what they take off an amount.

import { list } from './query.js';
import { int, invalid, mergeMetadata, missing, newId, randomText } from './store.js';

export class Coupons {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  create(params) {
    if (!params.percent_off === !params.amount_off) throw invalid('You must pass exactly one of `percent_off` and `amount_off`.', 'percent_off');
    if (params.amount_off && !params.currency) throw invalid('Missing required param: currency.', 'currency', 'parameter_missing');
    return this.store.add('coupons', {
      id: params.id ?? randomText(8), object: 'coupon', amount_off: params.amount_off ? int(params.amount_off) : null, created: this.store.clock.now(),
      currency: params.currency ?? null, duration: params.duration ?? 'once', duration_in_months: params.duration_in_months ? int(params.duration_in_months) : null,
      livemode: false, max_redemptions: null, metadata: mergeMetadata({}, params.metadata), name: params.name ?? null,
      percent_off: params.percent_off ? Number(params.percent_off) : null, redeem_by: null, times_redeemed: 0, valid: true,
    }, 'coupon.created');
  }

  get(params, id) {
    return this.find(id);
  }

  list(params) {
    return list(this.store, 'coupons', params, '/v1/coupons');
  }

  find(id, param = 'id') {
    const coupon = this.store.find('coupons', id);
    if (!coupon || coupon.deleted) throw missing('coupon', id, param);
    return coupon;
  }

  #off(coupon, amount, currency) {
    if (coupon.percent_off !== null) return Math.round((amount * coupon.percent_off) / 100);
    return coupon.currency === currency ? Math.min(amount, coupon.amount_off) : 0;
  }

  // Of discounts as a request has them: [{coupon}].
  discountOf(discounts, amount, currency) {
    return Math.min(amount, (discounts ?? []).reduce((sum, { coupon }) => sum + this.#off(this.find(coupon), amount, currency), 0));
  }

  // What a subscription remembers of its discounts: [{id, coupon}], those for one invoice only until that is made.
  given(discounts, param = 'discounts[0][coupon]') {
    return (discounts ?? []).map(({ coupon, promotion_code: code }) => {
      if (code !== undefined) this.stripe.notImitated('promotion codes');
      return { id: newId('di'), coupon: this.find(coupon, param).id };
    });
  }

  // -> [{id, amount}] for one invoice; a coupon for one invoice is used up by it.
  take(remembered, amount, currency) {
    const taken = [];
    for (const { id, coupon } of remembered.slice()) {
      const found = this.find(coupon);
      taken.push({ id, amount: this.#off(found, amount, currency) });
      if (amount > 0 && found.duration === 'once') remembered.splice(remembered.findIndex((d) => d.id === id), 1);
    }
    return taken.filter((d) => d.amount > 0);
  }
}
