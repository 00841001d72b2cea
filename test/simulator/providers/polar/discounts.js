// Polar: discounts, and what they take off an amount. A subscription's discount holds for its first order
// (once), for the months told (repeating), or for good (forever).

import { addIntervals } from '../../core/clock.js';
import { Answer } from '../../core/json_provider.js';
import { ORGANIZATION, checkMetadata, invalidBody, page, pick, seconds } from './store.js';

const FIELDS = ['name', 'code', 'starts_at', 'ends_at', 'max_redemptions', 'max_redemptions_per_customer', 'duration', 'duration_in_months', 'type', 'amount', 'currency', 'basis_points'];

export class Discounts {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  create({ body }) {
    const metadata = checkMetadata(body.metadata);
    if (body.products?.length || body.amounts) this.provider.notImitated('discounts for some products or of several currencies');
    if (body.duration === 'repeating' && !body.duration_in_months) throw invalidBody('duration_in_months', 'Field required');
    const type = body.type ?? (body.basis_points === undefined ? 'fixed' : 'percentage');
    const discount = this.store.create('discounts', {
      code: null, starts_at: null, ends_at: null, max_redemptions: null, max_redemptions_per_customer: null, redemptions_count: 0, organization_id: ORGANIZATION, products: [],
      ...(type === 'fixed' && { currency: 'usd' }), ...pick(body, FIELDS), type, metadata,
    });
    const amounts = type === 'fixed' ? { amounts: { [discount.currency]: discount.amount } } : {};
    const whole = this.store.change('discounts', discount.id, amounts);
    this.store.emit('discount.created', whole);
    return new Answer(201, whole);
  }

  list({ query }) {
    return page(this.store.newest('discounts').filter((d) => !query.query || d.name.toLowerCase().includes(String(query.query).toLowerCase())), query);
  }

  read({ ids: [id] }) {
    return this.store.get('discounts', id);
  }

  update({ ids: [id], body }) {
    this.store.get('discounts', id);
    const after = this.store.set('discounts', id, { ...pick(body, ['name', 'code', 'starts_at', 'ends_at', 'max_redemptions']), ...(body.metadata && { metadata: checkMetadata(body.metadata) }) });
    this.store.emit('discount.updated', after);
    return after;
  }

  delete({ ids: [id] }) {
    const discount = this.store.get('discounts', id);
    this.store.change('discounts', id, { deleted: true });
    this.store.emit('discount.deleted', discount);
    return new Answer(204);
  }

  // The discount that a body names, null where it names none.
  named(id) {
    return id ? this.store.named('discounts', id, 'discount_id') : null;
  }

  shown(id) {
    return id ? this.store.find('discounts', id) : null;
  }

  off(id, amount) {
    const discount = this.shown(id);
    if (!discount) return 0;
    return discount.type === 'fixed' ? Math.min(discount.amount, amount) : Math.round((amount * discount.basis_points) / 10000);
  }

  redeem(id) {
    if (id) this.store.change('discounts', id, { redemptions_count: this.shown(id).redemptions_count + 1 });
  }

  // The discount of a subscription's next order, null where it has run out.
  ofRenewal({ discount_id: id, started_at: started }) {
    const discount = this.shown(id);
    if (!discount || discount.duration === 'once') return null;
    const last = addIntervals(seconds(started), 'month', discount.duration_in_months ?? 0, 1);
    return discount.duration === 'forever' || this.store.clock.now() < last ? id : null;
  }
}
