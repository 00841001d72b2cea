// The simulator: one clock, one log, one list of events, one queue of faults, and the providers.
//
// The way of a request: read it whole, log its arrival, find the provider by the path's prefix, let the
// provider inspect it (always, so that violations show whatever else happens), apply a fault, perform it,
// answer. Everything between arrival and answer is synchronous, so no two requests are ever half done.

import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { forgetHeldAnswers, later, send, spoil, statusOnWire } from './answer.js';
import { Clock } from './clock.js';
import { Control } from './control.js';
import { Faults } from './faults.js';
import { RequestLog } from './log.js';
import { loadDocument } from './openapi.js';
import { Webhooks } from './webhooks.js';
import { ConektaProvider } from '../providers/conekta.js';
import { PolarProvider } from '../providers/polar.js';
import { StripeProvider } from '../providers/stripe.js';

// A new provider is added here; the first one also answers paths without a prefix.
const PROVIDERS = [StripeProvider, ConektaProvider, PolarProvider];

const MAX_BODY = 16 * 1024 * 1024;

export const epochMilliseconds = () => performance.timeOrigin + performance.now();

export class Simulator {
  constructor({ openapi } = {}) {
    this.clock = new Clock();
    this.log = new RequestLog();
    this.faults = new Faults();
    this.webhooks = new Webhooks(this.clock);
    this.latency = { min: 0, max: 0 };
    this.providers = new Map();
    this.validating = [];
    for (const Provider of PROVIDERS) this.#addProvider(Provider, openapi);
    this.control = new Control(this);
  }

  #addProvider(Provider, folder) {
    const { name, documentFile } = new Provider({});
    const document = loadDocument(folder, documentFile, name);
    if (document) this.validating.push(documentFile);
    const publish = (provider, event) => this.webhooks.publish(provider, event);
    this.providers.set(name, new Provider({ clock: this.clock, log: this.log, publish, document }));
    this.first ??= name;
  }

  reset(seed) {
    forgetHeldAnswers();
    this.clock.reset();
    this.log.reset();
    this.faults.reset(seed);
    this.webhooks.reset();
    this.latency = { min: 0, max: 0 };
    for (const provider of this.providers.values()) provider.reset();
  }

  listen({ port = 0, tls } = {}) {
    const handler = (req, res) => this.#receive(req, res);
    const options = { keepAliveTimeout: 120000, requestTimeout: 0, headersTimeout: 0, maxHeaderSize: 65536 };
    this.server = tls
      ? createHttpsServer({ ...options, cert: readFileSync(tls.cert), key: readFileSync(tls.key) }, handler)
      : createHttpServer(options, handler);
    this.connections = 0;
    this.server.on(tls ? 'secureConnection' : 'connection', () => this.connections++);
    return new Promise((ready, failed) => {
      this.server.once('error', failed);
      this.server.listen(port, '127.0.0.1', () => ready(this.server.address().port));
    });
  }

  close() {
    forgetHeldAnswers();
    this.webhooks.reset();
    this.server.closeAllConnections();
    return new Promise((done) => this.server.close(done));
  }

  #receive(req, res) {
    const receivedAt = epochMilliseconds();
    const chunks = [];
    let size = 0;
    req.on('data', (chunk) => {
      size += chunk.length;
      if (size > MAX_BODY) req.destroy();
      else chunks.push(chunk);
    });
    req.on('end', () => this.#dispatch(req, res, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), receivedAt));
  }

  #dispatch(req, res, bytes, receivedAt) {
    if (req.url.startsWith('/_control/')) return this.control.handle(req, res, bytes.toString());
    const { provider, url } = this.#providerOf(req.url);
    const mark = url.indexOf('?');
    const body = bytes.toString();
    const entry = this.log.arrived({
      seq: 0, provider: provider.name, method: req.method, path: url, headers: req.headers, raw_headers: req.rawHeaders,
      body, received_at: receivedAt, answered_at: null, status: null, idempotency_key: req.headers['idempotency-key'] ?? null,
      replayed: false, fault: null, violations: [],
    });
    if (Buffer.byteLength(body) !== bytes.length || body.includes('\ufffd')) this.#noteBytes(entry, bytes);
    const request = {
      provider: provider.name, method: req.method, headers: req.headers, body, entry,
      path: mark < 0 ? url : url.slice(0, mark), query: mark < 0 ? '' : url.slice(mark + 1),
    };
    try {
      this.#serve(provider, request, res);
    } catch (error) {
      process.stderr.write(`simulator: ${error.stack}\n`);
      this.log.violation(entry, 'simulator_bug', error.message);
      const answer = { status: 500, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ error: { type: 'api_error', message: `The simulator failed: ${error.message}` } }) };
      this.log.answered(entry, 500, epochMilliseconds());
      send(res, answer);
    }
  }

  #noteBytes(entry, bytes) {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      entry.body_base64 = bytes.toString('base64');
      this.log.violation(entry, 'encoding', 'the body is not UTF-8');
    }
  }

  #providerOf(url) {
    const prefix = /^\/([a-z]+)(?=\/)/.exec(url)?.[1];
    const provider = prefix && this.providers.get(prefix);
    return provider ? { provider, url: url.slice(prefix.length + 1) } : { provider: this.providers.get(this.first), url };
  }

  #serve(provider, request, res) {
    const inspected = provider.inspect(request);
    const fault = this.faults.take(request);
    const answer = this.#answer(provider, request, inspected, fault);
    const delay = this.#latencyNow() + (fault?.action === 'slow_loris' ? 0 : fault?.ms ?? 0);
    if (delay === 0) return this.#finish(provider, request, res, answer, fault);
    provider.hold(answer);
    later(delay, () => this.#finish(provider, request, res, answer, fault));
  }

  #answer(provider, request, inspected, fault) {
    if (!fault) return provider.perform(request, inspected);
    request.entry.fault = fault.action;
    const performed = fault.perform ? provider.perform(request, inspected) : null;
    if (fault.action !== 'status') return performed ?? provider.failureFor(500);
    const made = provider.failureFor(fault.status);
    const body = fault.body === undefined ? made.body : typeof fault.body === 'string' ? fault.body : JSON.stringify(fault.body);
    const retry = fault.retry_after === undefined ? {} : { 'Retry-After': String(fault.retry_after) };
    const answer = { status: fault.status, headers: { ...made.headers, ...retry, ...fault.headers }, body, key: performed?.key };
    if (fault.stored) provider.keep(request, answer);
    return answer;
  }

  #latencyNow() {
    const { min, max } = this.latency;
    return max > min ? min + this.faults.random() * (max - min) : min;
  }

  #finish(provider, request, res, answer, fault) {
    provider.release(answer);
    this.log.answered(request.entry, statusOnWire(fault, answer), epochMilliseconds());
    res.setHeader('Date', new Date(this.clock.now() * 1000).toUTCString());
    if (fault) spoil(res, answer, fault);
    else send(res, answer);
  }
}
