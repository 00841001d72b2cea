// Products and prices, and what a price comes to for a quantity.

import { list, search } from './query.js';
import { applyFields, bool, int, invalid, mergeMetadata, missing, newId } from './store.js';

const SCALE = 10n ** 12n;

// "12.5" -> 12.5 * 10^12, exactly; Stripe allows 12 decimals of a minor unit.
function scaled(text) {
  const m = /^(-?)(\d+)(?:\.(\d{1,12}))?$/.exec(String(text));
  if (!m) throw invalid(`Invalid decimal: ${text}`, 'unit_amount_decimal');
  const value = BigInt(m[2]) * SCALE + BigInt((m[3] ?? '').padEnd(12, '0'));
  return m[1] ? -value : value;
}

// Half away from zero, as Stripe rounds an invoice line.
function toMinorUnits(value) {
  const half = SCALE / 2n;
  return Number(value >= 0n ? (value + half) / SCALE : -((-value + half) / SCALE));
}

function tieredAmount(price, quantity) {
  let total = 0n;
  let below = 0;
  for (const tier of price.tiers) {
    const upTo = tier.up_to ?? Infinity;
    const inTier = price.tiers_mode === 'volume' ? (quantity <= upTo ? quantity : 0) : Math.max(0, Math.min(quantity, upTo) - below);
    if (inTier > 0) {
      total += scaled(tier.unit_amount_decimal ?? '0') * BigInt(inTier) + scaled(tier.flat_amount_decimal ?? '0');
      if (price.tiers_mode === 'volume') break;
    }
    below = upTo;
  }
  return total;
}

// Minor units for a whole period; metered prices are billed from usage, which this simulator has none of.
export function amountOf(price, quantity) {
  if (price.recurring?.usage_type === 'metered') return 0;
  let units = quantity ?? 1;
  if (price.transform_quantity) {
    const { divide_by: by, round } = price.transform_quantity;
    units = round === 'up' ? Math.ceil(units / by) : Math.floor(units / by);
  }
  return toMinorUnits(price.billing_scheme === 'tiered' ? tieredAmount(price, units) : scaled(price.unit_amount_decimal ?? '0') * BigInt(units));
}

const PRODUCT_FIELDS = ['name', 'description', 'unit_label', 'url', 'statement_descriptor', 'tax_code', 'images', 'package_dimensions'];
const PRICE_FIELDS = ['nickname', 'tax_behavior'];

export class Catalog {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  // ---- products ----

  createProduct(params) {
    if (params.id !== undefined && this.store.find('products', params.id)) {
      throw invalid(`Product already exists: ${params.id}`, 'id', 'resource_already_exists');
    }
    const now = this.store.clock.now();
    const shell = {
      id: params.id ?? newId('prod'),
      object: 'product',
      active: bool(params.active, true),
      created: now,
      default_price: null,
      description: null,
      images: [],
      livemode: false,
      marketing_features: params.marketing_features ?? [],
      metadata: {},
      name: params.name,
      package_dimensions: null,
      shippable: params.shippable === undefined ? null : bool(params.shippable),
      statement_descriptor: null,
      tax_code: null,
      tax_details: null,
      type: params.type ?? 'service',
      unit_label: null,
      updated: now,
      url: null,
    };
    const product = this.store.add('products', { ...shell, ...applyFields(shell, params, PRODUCT_FIELDS) }, 'product.created');
    if (!params.default_price_data) return product;
    const price = this.createPrice({ ...params.default_price_data, product: product.id });
    return this.store.change('products', product.id, { default_price: price.id }, 'product.updated');
  }

  product(id, param = 'id') {
    const product = this.store.find('products', id);
    if (!product || product.deleted) throw missing('product', id, param);
    return product;
  }

  getProduct(params, id) {
    const product = this.store.find('products', id);
    if (!product) throw missing('product', id);
    return product;
  }

  updateProduct(params, id) {
    const product = this.product(id);
    const changes = applyFields(product, params, PRODUCT_FIELDS);
    if (params.images === '') changes.images = [];
    if (params.active !== undefined) changes.active = bool(params.active);
    if (params.default_price !== undefined) {
      const price = this.price(params.default_price, 'default_price');
      if (price.product !== id) throw invalid('The default price must belong to the product.', 'default_price');
      changes.default_price = price.id;
    }
    changes.updated = this.store.clock.now();
    return this.store.change('products', id, changes, 'product.updated');
  }

  deleteProduct(params, id) {
    const product = this.product(id);
    if (this.store.all('prices').some((p) => p.product === id)) {
      throw invalid('This product cannot be deleted because it has one or more user-created prices.', 'id');
    }
    this.store.emit('product.deleted', product);
    return this.store.replace('products', { id, object: 'product', deleted: true });
  }

  listProducts(params) {
    const active = params.active === undefined ? undefined : bool(params.active);
    return list(
      this.store, 'products', params, '/v1/products',
      (p) => (active === undefined || p.active === active) && (!params.ids || params.ids.includes(p.id)),
    );
  }

  searchProducts(params) {
    return search(this.store, 'products', params, '/v1/products/search', this.stripe.settings.search_lag_ms);
  }

  // ---- prices ----

  createPrice(params) {
    const product = params.product === undefined ? this.#inlineProduct(params) : this.product(params.product, 'product').id;
    if (params.lookup_key !== undefined) this.#claimLookupKey(params);
    const price = {
      id: newId('price'),
      object: 'price',
      active: bool(params.active, true),
      billing_scheme: params.billing_scheme ?? 'per_unit',
      created: this.store.clock.now(),
      currency: params.currency,
      custom_unit_amount: params.custom_unit_amount ? { maximum: null, minimum: null, preset: null } : null,
      livemode: false,
      lookup_key: params.lookup_key ?? null,
      metadata: mergeMetadata({}, params.metadata),
      nickname: params.nickname ?? null,
      product,
      recurring: this.#recurring(params.recurring),
      tax_behavior: params.tax_behavior ?? 'unspecified',
      tiers_mode: params.tiers_mode ?? null,
      transform_quantity: params.transform_quantity
        ? { divide_by: int(params.transform_quantity.divide_by), round: params.transform_quantity.round }
        : null,
      type: params.recurring ? 'recurring' : 'one_time',
      ...this.#amounts(params),
    };
    this.store.add('prices', price, 'price.created');
    return price;
  }

  #inlineProduct(params) {
    if (!params.product_data) throw invalid('Missing required param: product.', 'product', 'parameter_missing');
    return this.createProduct({ ...params.product_data }).id;
  }

  #recurring(given) {
    if (!given) return null;
    return {
      interval: given.interval,
      interval_count: int(given.interval_count, 1),
      meter: given.meter ?? null,
      trial_period_days: given.trial_period_days === undefined ? null : int(given.trial_period_days),
      usage_type: given.usage_type ?? 'licensed',
    };
  }

  #amounts(params) {
    if (params.billing_scheme === 'tiered') {
      if (!params.tiers?.length || !params.tiers_mode) throw invalid('Tiered prices need tiers and tiers_mode.', 'tiers', 'parameter_missing');
      return { unit_amount: null, unit_amount_decimal: null, tiers: params.tiers.map((t) => this.#tier(t)) };
    }
    if (params.custom_unit_amount) return { unit_amount: null, unit_amount_decimal: null };
    if (params.unit_amount !== undefined && params.unit_amount_decimal !== undefined) {
      throw invalid('You may only specify one of these parameters: unit_amount, unit_amount_decimal.', 'unit_amount');
    }
    const decimal = params.unit_amount ?? params.unit_amount_decimal;
    if (decimal === undefined) throw invalid('Missing required param: unit_amount.', 'unit_amount', 'parameter_missing');
    return this.#amountPair('unit_amount', decimal);
  }

  #amountPair(name, decimal) {
    const value = scaled(decimal);
    if (value < 0n) throw invalid(`Invalid non-negative integer`, name);
    const text = String(decimal);
    return { [name]: value % SCALE === 0n ? Number(value / SCALE) : null, [`${name}_decimal`]: text.includes('.') ? text.replace(/\.?0+$/, '') : text };
  }

  #tier(given) {
    const part = (name) => {
      const decimal = given[name] ?? given[`${name}_decimal`];
      return decimal === undefined ? { [name]: null, [`${name}_decimal`]: null } : this.#amountPair(name, decimal);
    };
    return { ...part('flat_amount'), ...part('unit_amount'), up_to: given.up_to === 'inf' ? null : int(given.up_to) };
  }

  // A lookup key names one price; transfer_lookup_key takes it from the one that has it.
  #claimLookupKey(params, exceptId) {
    const holder = this.store.all('prices').find((p) => p.lookup_key === params.lookup_key && p.id !== exceptId);
    if (!holder) return;
    if (!bool(params.transfer_lookup_key, false)) {
      throw invalid(`A price (\`${holder.id}\`) already uses that lookup key.`, 'lookup_key');
    }
    this.store.change('prices', holder.id, { lookup_key: null }, 'price.updated');
  }

  price(id, param = 'id') {
    const price = this.store.find('prices', id);
    if (!price) throw missing('price', id, param);
    return price;
  }

  updatePrice(params, id) {
    const price = this.price(id);
    const changes = applyFields(price, params, PRICE_FIELDS);
    if (params.lookup_key !== undefined) {
      this.#claimLookupKey(params, id);
      changes.lookup_key = params.lookup_key === '' ? null : params.lookup_key;
    }
    if (params.active !== undefined) {
      changes.active = bool(params.active);
      if (!changes.active && this.store.find('products', price.product)?.default_price === id) {
        throw invalid('This price cannot be archived because it is the default price of its product.', 'active');
      }
    }
    return this.store.change('prices', id, changes, 'price.updated');
  }

  listPrices(params) {
    const active = params.active === undefined ? undefined : bool(params.active);
    return list(
      this.store, 'prices', params, '/v1/prices',
      (p) =>
        (active === undefined || p.active === active) &&
        (params.product === undefined || p.product === params.product) &&
        (params.currency === undefined || p.currency === params.currency) &&
        (params.type === undefined || p.type === params.type) &&
        (!params.lookup_keys || params.lookup_keys.includes(p.lookup_key)),
    );
  }

  searchPrices(params) {
    return search(this.store, 'prices', params, '/v1/prices/search', this.stripe.settings.search_lag_ms);
  }
}
