// Billing meters and what they are told. Of a meter with an event_time_window the last event of a customer's
// hour (day) is what the hour comes to; of another one each event counts. Events are counted at once, where
// the real one takes its time, and what cannot be counted is told by a thin event about the meter.

import { list } from './query.js';
import { int, invalid, missing, newId } from './store.js';

const DAY = 86400;
const WINDOWS = { hour: 3600, day: DAY };
const OLDEST = 35 * DAY;
const AHEAD = 300;

export class Meters {
  constructor(stripe) {
    this.stripe = stripe;
    this.store = stripe.store;
  }

  create(params) {
    if (this.#active(params.event_name)) throw invalid(`An active meter already exists for event_name ${params.event_name}.`, 'event_name', 'resource_already_exists');
    const now = this.store.clock.now();
    return this.store.add('meters', {
      id: newId('mtr'), object: 'billing.meter', created: now, customer_mapping: params.customer_mapping ?? { event_payload_key: 'stripe_customer_id', type: 'by_id' },
      default_aggregation: params.default_aggregation, display_name: params.display_name, event_name: params.event_name, event_time_window: params.event_time_window ?? null,
      livemode: false, status: 'active', status_transitions: { deactivated_at: null }, updated: now,
      value_settings: params.value_settings ?? { event_payload_key: 'value' },
    }, 'billing.meter.created');
  }

  get(params, id) {
    const meter = this.store.find('meters', id);
    if (!meter) throw missing('billing meter', id);
    return meter;
  }

  list(params) {
    return list(this.store, 'meters', params, '/v1/billing/meters', (m) => params.status === undefined || m.status === params.status);
  }

  deactivate(params, id) {
    this.get(params, id);
    return this.store.change('meters', id, { status: 'inactive', status_transitions: { deactivated_at: this.store.clock.now() } }, 'billing.meter.deactivated');
  }

  #active(eventName) {
    return this.store.all('meters').find((m) => m.event_name === eventName && m.status === 'active');
  }

  // ---- events ----

  tell(params) {
    const now = this.store.clock.now();
    const meter = this.#active(params.event_name);
    const timestamp = int(params.timestamp, now);
    if (!meter) throw invalid(`No active meter found for the event name: ${params.event_name}.`, 'event_name', 'no_meter');
    if (timestamp < now - OLDEST) throw invalid('The timestamp is too far in the past.', 'timestamp', 'timestamp_too_far_in_past');
    if (timestamp > now + AHEAD) throw invalid('The timestamp is in the future.', 'timestamp', 'timestamp_in_future');
    const identifier = params.identifier ?? newId('mevt');
    const former = this.store.find('meter_events', identifier);
    if (former && former.created > now - DAY) throw invalid(`An event already exists with identifier ${identifier}.`, 'identifier', 'duplicate_meter_event');
    const event = { id: identifier, object: 'billing.meter_event', created: now, event_name: params.event_name, identifier, livemode: false, payload: params.payload, timestamp };
    former ? this.store.replace('meter_events', event) : this.store.insert('meter_events', event);
    this.#count(meter, event);
    const { id, ...shown } = event;
    return shown;
  }

  #count(meter, event) {
    const customer = event.payload[meter.customer_mapping.event_payload_key];
    const value = Number(event.payload[meter.value_settings.event_payload_key]);
    if (!this.store.find('customers', customer)) return this.report({ meter: meter.id, identifier: event.identifier });
    if (!Number.isFinite(value)) return this.report({ meter: meter.id, identifier: event.identifier, code: 'meter_event_invalid_value' });
    const window = WINDOWS[meter.event_time_window];
    const start = window ? event.timestamp - (event.timestamp % window) : event.timestamp;
    const id = [meter.id, customer, start, ...(window ? [] : [event.identifier])].join('/');
    const counted = { id, meter: meter.id, event_name: meter.event_name, customer, start, value, identifier: event.identifier };
    this.store.find('meter_values', id) ? this.store.replace('meter_values', counted) : this.store.insert('meter_values', counted);
  }

  // What could not be counted is told by a thin event.
  report({ meter: id, identifier, code = 'meter_event_customer_not_found' }) {
    const meter = this.get({}, id);
    this.store.publish({
      id: newId('evt'), type: 'v1.billing.meter.error_report_triggered', created: this.store.clock.now(),
      raw: {
        id: newId('evt'), object: 'v2.core.event', type: 'v1.billing.meter.error_report_triggered', livemode: false, created: new Date(this.store.clock.now() * 1000).toISOString(),
        related_object: { id: meter.id, type: 'billing.meter', url: `/v1/billing/meters/${meter.id}` },
        data: { reason: { error_count: 1, error_types: [{ code, error_count: 1, sample_errors: [{ error_message: 'An event could not be counted.', request: { identifier: identifier ?? null } }] }] } },
      },
    });
    return meter;
  }

  // ---- what it comes to ----

  summaries(params, id) {
    const meter = this.get(params, id);
    const start = int(params.start_time);
    const end = int(params.end_time);
    if (start % 60 || end % 60) throw invalid('start_time and end_time must be aligned with minute boundaries.', 'start_time');
    const values = this.store.all('meter_values').filter((v) => v.meter === id && v.customer === params.customer && v.start >= start && v.start < end);
    const width = WINDOWS[params.value_grouping_window] ?? end - start;
    const data = [];
    for (let from = start; from < end; from += width) {
      const within = values.filter((v) => v.start >= from && v.start < from + width).sort((a, b) => a.start - b.start);
      if (width !== end - start && within.length === 0) continue;
      data.unshift({
        id: newId('mtrusg'), object: 'billing.meter_event_summary', aggregated_value: this.#aggregate(meter.default_aggregation.formula, within),
        end_time: Math.min(from + width, end), livemode: false, meter: id, start_time: from,
      });
    }
    return { object: 'list', data, has_more: false, url: `/v1/billing/meters/${id}/event_summaries` };
  }

  #aggregate(formula, values) {
    if (formula === 'count') return values.length;
    if (formula === 'last') return values.at(-1)?.value ?? 0;
    return values.reduce((sum, v) => sum + v.value, 0);
  }
}
