// Polar: meters, and the events that they count. Each event counts once by its external_id, and a meter adds up a
// number in the metadata of all events of one name.

import { Answer } from '../../core/json_provider.js';
import { ORGANIZATION, checkMetadata, holdsMetadata, invalidBody, newId, page } from './store.js';

const OLDEST = 35 * 86400; // not Polar's: what is older is nothing that billing should send

export class Meters {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  create({ body }) {
    const metadata = checkMetadata(body.metadata);
    if (body.aggregation.func !== 'sum') this.provider.notImitated(`meters with ${body.aggregation.func}`);
    if (body.filter.clauses.length !== 1 || body.filter.clauses[0].property !== 'name' || body.filter.clauses[0].operator !== 'eq') {
      this.provider.notImitated('meters that filter by anything but one name');
    }
    const meter = this.store.create('meters', {
      name: body.name, unit: body.unit ?? 'scalar', custom_label: null, custom_multiplier: null, filter: body.filter, aggregation: body.aggregation,
      organization_id: ORGANIZATION, archived_at: null, metadata,
    });
    return new Answer(201, meter);
  }

  list({ query }) {
    return page(this.store.newest('meters').filter((m) => holdsMetadata(query.metadata, m.metadata) && (!query.query || m.name.includes(String(query.query)))), query);
  }

  read({ ids: [id] }) {
    return this.store.get('meters', id);
  }

  ingest({ body }) {
    body.events.forEach((event, i) => this.#check(event, `events.${i}`));
    let inserted = 0;
    for (const event of body.events) {
      if (event.external_id && this.store.find('events', event.external_id)) continue;
      this.store.insert('events', { ...event, id: event.external_id ?? newId(), timestamp: event.timestamp ?? this.store.stamp(), metadata: { ...event.metadata } });
      inserted++;
    }
    return { inserted, duplicates: body.events.length - inserted };
  }

  // One event that is wrong refuses all of them.
  #check(event, where) {
    checkMetadata(event.metadata);
    const customer = event.customer_id && this.store.find('customers', event.customer_id);
    if (!customer || customer.deleted) throw invalidBody(`${where}.customer_id`, 'Customer does not exist.');
    if (event.timestamp && Date.parse(event.timestamp) / 1000 < this.store.clock.now() - OLDEST) throw invalidBody(`${where}.timestamp`, 'The timestamp is too old.');
  }
}
