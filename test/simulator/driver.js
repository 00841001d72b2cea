// What the tests of the providers with JSON bodies share: a running simulator, the control API, and the
// document as a judge of everything that is answered and sent.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OpenApiDocument, openapiFolder } from './core/openapi.js';
import { Simulator } from './core/simulator.js';

const folder = openapiFolder();
export const validated = { skip: folder ? false : 'no OpenAPI documents' };

// The document with every "one of" read as "any of": the alternatives of its answers overlap.
function lenient(file, name) {
  if (!folder) return null;
  return new OpenApiDocument(`${name}-answers`, JSON.parse(readFileSync(join(folder, file), 'utf8').replaceAll('"oneOf":', '"anyOf":')));
}

export class Driver {
  async start(name) {
    this.name = name;
    this.simulator = new Simulator({ openapi: folder });
    this.port = await this.simulator.listen();
    this.root = `http://127.0.0.1:${this.port}`;
    this.base = `${this.root}/${name}`;
    this.provider = this.simulator.providers.get(name);
    this.answers = lenient(this.provider.documentFile, name);
    this.wrong = [];
    this.#watch();
    return this;
  }

  stop() {
    return this.simulator.close();
  }

  // Every answer that a handler gives is held against the document.
  #watch() {
    const { perform } = this.provider;
    this.provider.perform = (request, inspected) => {
      const answer = perform.call(this.provider, request, inspected);
      const judge = this.answers?.find(request.method, request.path)?.operation.answerJudgeFor(answer.status);
      const value = answer.body === '' ? undefined : JSON.parse(answer.body);
      if (judge && answer.status < 300 && !judge(value)) this.wrong.push(`${request.method} ${request.path}: ${JSON.stringify(judge.errors.slice(0, 3))} in ${answer.body.slice(0, 600)}`);
      return answer;
    };
  }

  async control(method, path, body) {
    const answer = await fetch(`${this.root}/_control/${path}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
    const value = await answer.json();
    assert.ok(answer.ok, `control ${path}: ${JSON.stringify(value)}`);
    return value;
  }

  reset() {
    this.wrong = [];
    return this.control('POST', 'reset');
  }

  act(action, given) {
    return this.control('POST', 'act', { provider: this.name, action, ...given });
  }

  settings(given) {
    return this.control('POST', 'settings', { provider: this.name, ...given });
  }

  fault(action, given = {}) {
    return this.control('POST', 'faults', { action, ...given, match: { provider: this.name, ...given.match } });
  }

  async objects(kind, filter = '') {
    return this.control('GET', `objects/${kind}?provider=${this.name}${filter}`);
  }

  async events(after = 0) {
    return this.control('GET', `events?provider=${this.name}&after=${after}`);
  }

  async types(after = 0) {
    return (await this.events(after)).map((e) => e.type);
  }

  async violations() {
    return (await this.control('GET', 'violations')).violations;
  }

  // Nothing that the real client sent was against the document, and nothing that was answered either.
  async clean() {
    assert.deepEqual(await this.violations(), []);
    assert.deepEqual(this.wrong, []);
  }
}

// The names in `wanted` occur in `types` in this order.
export function inOrder(types, wanted) {
  let at = -1;
  for (const type of wanted) {
    const next = types.indexOf(type, at + 1);
    assert.ok(next > at, `${type} is missing or out of order in ${types.join(' ')}`);
    at = next;
  }
}

// A program of this folder: what it prints for this input.
export function run(program, args, input = '') {
  const result = spawnSync(process.execPath, [fileURLToPath(new URL(program, import.meta.url)), ...args], { input, encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}
