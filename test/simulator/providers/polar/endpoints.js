// Polar: webhook endpoints, their secrets, and the sending of an event once more.

import { Answer } from '../../core/json_provider.js';
import { ORGANIZATION, invalidBody, missing, page, pick, randomText } from './store.js';

export class Endpoints {
  constructor(provider) {
    this.provider = provider;
    this.store = provider.store;
  }

  #checkUrl(url) {
    if (!/^https:\/\//.test(url)) throw invalidBody('url', "URL scheme should be 'https'");
    if (/^https:\/\/(localhost|127\.|10\.|192\.168\.|\[)/.test(url)) throw invalidBody('url', 'URL must be public.');
  }

  #secret() {
    return `whsec_${randomText(43)}`;
  }

  create({ body }) {
    this.#checkUrl(body.url);
    const endpoint = this.store.create('webhook_endpoints', {
      url: body.url, name: body.name ?? null, format: body.format, secret: this.#secret(), organization_id: ORGANIZATION, events: body.events, enabled: true,
    });
    return new Answer(201, endpoint);
  }

  list({ query }) {
    return page(this.store.newest('webhook_endpoints'), query);
  }

  read({ ids: [id] }) {
    return this.store.get('webhook_endpoints', id);
  }

  update({ ids: [id], body }) {
    this.store.get('webhook_endpoints', id);
    if (body.url) this.#checkUrl(body.url);
    return this.store.set('webhook_endpoints', id, pick(body, ['url', 'name', 'format', 'events', 'enabled']));
  }

  // The old secret is worth nothing from this moment on.
  rotate({ ids: [id] }) {
    this.store.get('webhook_endpoints', id);
    return this.store.set('webhook_endpoints', id, { secret: this.#secret() });
  }

  delete({ ids: [id] }) {
    this.store.get('webhook_endpoints', id);
    this.store.change('webhook_endpoints', id, { deleted: true });
    return new Answer(204);
  }

  // The newest endpoint that is switched on signs with its own secret.
  secrets() {
    for (const endpoint of this.store.newestFirst('webhook_endpoints')) if (endpoint.enabled) return [endpoint.secret];
    return null;
  }

  redeliver({ ids: [id] }) {
    const event = this.provider.eventById.get(id);
    if (!event) throw missing();
    this.store.publish({ ...event });
    return new Answer(202, null);
  }
}
