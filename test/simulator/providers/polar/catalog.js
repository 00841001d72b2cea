// Polar: products with their prices, and the amounts that follow from them.

import { Answer } from '../../core/json_provider.js';
import { ORGANIZATION, checkMetadata, holds, holdsMetadata, invalidBody, newId, page, pick } from './store.js';

// Smallest price in minor units; 0 is free. Others are checked against the worth of USD 0.50 by the real one.
const MINIMUM = { usd: 50, eur: 50, gbp: 40, mxn: 900, jpy: 80, brl: 250, cad: 70, aud: 70, inr: 6000 };

const PRICE_FIELDS = {
  fixed: ['price_amount'], custom: ['minimum_amount', 'maximum_amount', 'preset_amount'], seat_based: ['seat_tiers'], metered_unit: ['meter_id', 'unit_amount', 'cap_amount'],
};

export class Catalog {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  create({ body }) {
    const metadata = checkMetadata(body.metadata);
    this.#checkPrices(body.prices, 'prices');
    const recurring = body.recurring_interval ?? null;
    const product = this.store.create('products', {
      trial_interval: null, trial_interval_count: null, name: body.name, description: null, visibility: 'public', recurring_interval: recurring,
      recurring_interval_count: recurring === null ? null : 1, meter_interval: null, meter_interval_count: null, is_recurring: recurring !== null, is_archived: false,
      organization_id: ORGANIZATION, prices: [], benefits: [], medias: [], attached_custom_fields: [],
      ...pick(body, ['description', 'visibility', 'recurring_interval_count', 'trial_interval', 'trial_interval_count']), metadata,
    });
    const whole = this.store.change('products', product.id, { prices: body.prices.map((price) => this.#price(price, product.id)) });
    this.store.emit('product.created', whole);
    return new Answer(201, whole);
  }

  #checkPrices(prices, where) {
    if (prices.length === 0) throw invalidBody(where, 'At least one price is required.');
    for (const price of prices) {
      const least = MINIMUM[price.price_currency ?? 'usd'] ?? 1;
      if (price.amount_type === 'fixed' && price.price_amount !== 0 && price.price_amount < least) throw invalidBody(where, `Amount must be at least ${least}.`);
      if (price.amount_type === 'metered_unit') this.provider.notImitated('metered prices');
    }
  }

  #price(given, productId) {
    const fields = pick(given, PRICE_FIELDS[given.amount_type]);
    if (given.amount_type === 'custom') Object.assign(fields, { minimum_amount: 0, maximum_amount: null, preset_amount: null, ...fields });
    if (given.amount_type === 'seat_based') {
      const { tiers } = given.seat_tiers;
      fields.seat_tiers = { seat_tier_type: 'volume', ...given.seat_tiers, minimum_seats: tiers[0].min_seats, maximum_seats: tiers.at(-1).max_seats ?? null };
    }
    return {
      id: newId(), created_at: this.store.stamp(), modified_at: null, source: given.source ?? 'catalog', amount_type: given.amount_type, price_currency: given.price_currency ?? 'usd',
      tax_behavior: given.tax_behavior ?? null, is_archived: false, product_id: productId, ...fields,
    };
  }

  adHocPrice(given, productId) {
    return this.#price({ ...given, source: 'ad_hoc' }, productId);
  }

  list({ query }) {
    const found = this.store.newest('products').filter((p) => holds(query.id, p.id) && holds(query.is_archived, p.is_archived) && holds(query.is_recurring, p.is_recurring)
      && holds(query.visibility, p.visibility) && holdsMetadata(query.metadata, p.metadata) && (!query.query || p.name.toLowerCase().includes(String(query.query).toLowerCase())));
    if (query.benefit_id !== undefined) this.provider.notImitated('the filter benefit_id of products');
    return page(found, query);
  }

  read({ ids: [id] }) {
    return this.store.get('products', id);
  }

  // A price that is given anew gets a new id; one that is named by its id stays; the others are gone.
  update({ ids: [id], body }) {
    const product = this.store.get('products', id);
    for (const name of ['recurring_interval', 'recurring_interval_count']) {
      if (body[name] !== undefined && body[name] !== null && body[name] !== product[name]) throw invalidBody(name, 'The recurring interval cannot be changed.');
    }
    if (body.medias !== undefined || body.attached_custom_fields !== undefined) this.provider.notImitated('medias and custom fields of products');
    const changes = pick(body, ['name', 'description', 'is_archived', 'visibility', 'trial_interval', 'trial_interval_count']);
    if (body.metadata !== undefined) changes.metadata = checkMetadata(body.metadata);
    if (body.prices) {
      this.#checkPrices(body.prices.filter((p) => p.amount_type), 'prices');
      changes.prices = body.prices.map((p) => (p.amount_type ? this.#price(p, id) : product.prices.find((old) => old.id === p.id)));
      if (changes.prices.includes(undefined)) throw invalidBody('prices', 'Price does not exist.');
    }
    const after = this.store.set('products', id, changes);
    this.store.emit('product.updated', after);
    return after;
  }

  // ---- amounts ----

  // A product that can be bought now.
  sellable(id, name = 'products') {
    const product = this.store.named('products', id, name);
    if (product.is_archived) throw invalidBody(name, 'Product is archived.');
    return product;
  }

  // The price of a product in a currency, the first one where none is named.
  priceOf(product, currency) {
    return product.prices.find((p) => currency === undefined || currency === null || p.price_currency === currency.toLowerCase()) ?? null;
  }

  // What a price costs: by its own amount, by the seats, or by what was chosen.
  amountOf(price, { seats = 1, amount } = {}) {
    if (price.amount_type === 'fixed') return price.price_amount;
    if (price.amount_type === 'custom') return amount ?? price.preset_amount ?? price.minimum_amount;
    const tier = price.seat_tiers.tiers.find((t) => seats >= t.min_seats && (t.max_seats === undefined || t.max_seats === null || seats <= t.max_seats));
    if (!tier) throw invalidBody('seats', 'No price for this number of seats.');
    return tier.price_per_seat * seats;
  }

  isFree(product) {
    return product.prices.every((p) => p.amount_type === 'fixed' && p.price_amount === 0);
  }

  // Tax comes on top of the net amount, unless the price contains it.
  withTax(amount, behavior = null) {
    const rate = this.provider.settings.tax_rate;
    const inclusive = behavior === 'inclusive';
    const tax = Math.round(inclusive ? (amount * rate) / (1 + rate) : amount * rate);
    const net = inclusive ? amount - tax : amount;
    return { net_amount: net, tax_amount: tax, total_amount: net + tax };
  }
}
