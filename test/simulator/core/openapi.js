// A provider's OpenAPI document as a judge of requests (and, in our own tests, of the answers).
//
// Validators are compiled when an operation is first used and kept: compiling all of a document takes
// seconds, compiling one operation milliseconds, and a validated request costs microseconds after that.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Ajv2020 from 'ajv/dist/2020.js';
import { PathTree } from './paths.js';
import { coerce } from './form.js';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

// OpenAPI 3.0 has exclusive limits as a boolean beside the limit; JSON schema has them as the limit itself.
function rewriteExclusive(node, exclusive, limit) {
  if (typeof node[exclusive] !== 'boolean') return;
  if (node[exclusive] && node[limit] !== undefined) {
    node[exclusive] = node[limit];
    delete node[limit];
  } else delete node[exclusive];
}

// OpenAPI 3.0 writes "nullable"; JSON schema knows only the type null.
function rewriteOldWords(node) {
  if (Array.isArray(node)) return node.forEach(rewriteOldWords);
  if (node === null || typeof node !== 'object') return;
  for (const name in node) if (name !== 'example' && name !== 'examples') rewriteOldWords(node[name]);
  rewriteExclusive(node, 'exclusiveMinimum', 'minimum');
  rewriteExclusive(node, 'exclusiveMaximum', 'maximum');
  if (node.nullable !== true) return;
  delete node.nullable;
  if (node.anyOf) node.anyOf.push({ type: 'null' });
  else if (typeof node.type === 'string') {
    node.type = [node.type, 'null'];
    if (node.enum && !node.enum.includes(null)) node.enum.push(null);
  }
}

function pointer(...steps) {
  return steps.map((s) => '/' + encodeURIComponent(s.replaceAll('~', '~0').replaceAll('/', '~1'))).join('');
}

class Operation {
  constructor(document, pattern, method, definition) {
    this.document = document;
    this.pattern = pattern;
    this.method = method.toUpperCase();
    this.id = definition.operationId;
    this.definition = definition;
    const content = definition.requestBody?.content ?? {};
    this.contentType = Object.keys(content)[0];
    this.bodySchema = content[this.contentType]?.schema;
    this.bodyRequired = definition.requestBody?.required === true;
  }

  get bodyJudge() {
    this.compiledBody ??= this.document.compile(
      this.bodySchema
        ? { $ref: this.document.name + '#' + pointer('paths', this.pattern, this.method.toLowerCase(), 'requestBody', 'content', this.contentType, 'schema') }
        : { type: 'object', additionalProperties: false },
    );
    return this.compiledBody;
  }

  // Query parameters become one closed object; that is how an unknown one is found.
  get querySchema() {
    if (!this.builtQuerySchema) {
      const query = (this.definition.parameters ?? []).filter((p) => p.in === 'query');
      this.builtQuerySchema = {
        type: 'object',
        properties: Object.fromEntries(query.map((p) => [p.name, p.schema])),
        required: query.filter((p) => p.required).map((p) => p.name),
        additionalProperties: false,
      };
    }
    return this.builtQuerySchema;
  }

  get queryJudge() {
    return (this.compiledQuery ??= this.document.compile(this.querySchema));
  }

  get answerJudge() {
    return this.answerJudgeFor(200);
  }

  // null where the document says nothing about the body of this status.
  answerJudgeFor(status) {
    const content = this.definition.responses?.[status]?.content ?? {};
    const type = Object.keys(content)[0];
    if (!content[type]?.schema) return null;
    this.compiledAnswers ??= {};
    return (this.compiledAnswers[status] ??= this.document.compile({
      $ref: this.document.name + '#' + pointer('paths', this.pattern, this.method.toLowerCase(), 'responses', String(status), 'content', type, 'schema'),
    }));
  }

  // Strings of a form or query -> the schema's types.
  coerceBody(value) {
    return this.bodySchema ? coerce(this.bodySchema, value, this.document.resolve) : value;
  }

  coerceQuery(value) {
    return coerce(this.querySchema, value, this.document.resolve);
  }
}

export class OpenApiDocument {
  constructor(name, json) {
    this.name = name;
    this.json = json;
    this.tree = new PathTree();
    rewriteOldWords(json.components?.schemas);
    rewriteOldWords(json.paths);
    this.ajv = new Ajv2020({ strict: false, validateFormats: false, validateSchema: false, logger: false, discriminator: false, inlineRefs: false });
    this.ajv.addSchema(json, name);
    this.resolve = (schema) => (schema?.$ref ? this.resolve(this.#lookUp(schema.$ref)) : schema);
    for (const [pattern, methods] of Object.entries(json.paths)) {
      for (const method of METHODS) {
        if (methods[method]) this.tree.add(method, pattern, new Operation(this, pattern, method, methods[method]));
      }
    }
  }

  #lookUp(ref) {
    return ref.slice(2).split('/').reduce((node, step) => node?.[step.replaceAll('~1', '/').replaceAll('~0', '~')], this.json);
  }

  // References inside a schema mean this document, also when the schema is handed over on its own.
  compile(schema) {
    const absolute = JSON.parse(JSON.stringify(schema).replaceAll('"$ref":"#/', `"$ref":"${this.name}#/`));
    return this.ajv.compile(absolute);
  }

  componentJudge(schemaName) {
    return this.compile({ $ref: `${this.name}#/components/schemas/${schemaName}` });
  }

  find(method, path) {
    const found = this.tree.find(method, path);
    return found && { operation: found.value, params: found.params };
  }
}

// What a schema that is not closed knows all the same: the members of it and of its alternatives.
function membersOf(schemaOrRef, resolve, found = { properties: new Map(), open: false, items: [] }) {
  const schema = resolve(schemaOrRef);
  const branches = [...(schema.allOf ?? []), ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  for (const branch of branches) membersOf(branch, resolve, found);
  for (const [name, inner] of Object.entries(schema.properties ?? {})) found.properties.set(name, [...(found.properties.get(name) ?? []), inner]);
  if (schema.items) found.items.push(schema.items);
  const shapeless = !schema.properties && branches.length === 0 && (schema.type === undefined || schema.type === 'object');
  if (schema.additionalProperties || (shapeless && schema.additionalProperties !== false)) found.open = true;
  return found;
}

// The names in a valid value that the document does not mention, where a schema lists names but does not
// forbid others: a misspelt optional member would be taken for granted by validation alone.
export function unknownMembers(schema, value, resolve, path = '') {
  if (value === null || typeof value !== 'object') return [];
  const { properties, open, items } = membersOf(schema, resolve);
  if (Array.isArray(value)) return value.flatMap((item, i) => (items.length === 0 ? [] : unknownMembers({ anyOf: items }, item, resolve, `${path}[${i}]`)));
  return Object.entries(value).flatMap(([name, inner]) => {
    const at = path ? `${path}[${name}]` : name;
    if (properties.has(name)) return unknownMembers({ anyOf: properties.get(name) }, inner, resolve, at);
    return open ? [] : [at];
  });
}

// -> one sentence and the parameter in Stripe's spelling, from the first error that says most.
export function explain(errors) {
  const telling = errors.find((e) => e.keyword === 'additionalProperties' || e.keyword === 'required') ?? errors[0];
  const steps = telling.instancePath.split('/').slice(1).map((s) => s.replaceAll('~1', '/').replaceAll('~0', '~'));
  if (telling.keyword === 'additionalProperties') steps.push(telling.params.additionalProperty);
  if (telling.keyword === 'required') steps.push(telling.params.missingProperty);
  const param = steps.map((s, i) => (i === 0 ? s : `[${s}]`)).join('');
  switch (telling.keyword) {
    case 'additionalProperties':
      return { code: 'parameter_unknown', param, message: `Received unknown parameter: ${param}` };
    case 'required':
      return { code: 'parameter_missing', param, message: `Missing required param: ${param}.` };
    case 'enum':
      return { code: undefined, param, message: `Invalid ${param}: must be one of ${telling.params.allowedValues.slice(0, 12).join(', ')}` };
    default:
      return { code: undefined, param, message: `Invalid ${param}: ${telling.message}` };
  }
}

// The folder named, else the environment's, else the one that lies beside the repository; null if absent.
export function openapiFolder(named) {
  const folder = named ?? process.env.PROVIDER_OPENAPI ?? fileURLToPath(new URL('../../../../shared/openapi', import.meta.url));
  return existsSync(folder) ? folder : null;
}

export function loadDocument(folder, file, name) {
  if (!folder) return null;
  const path = join(folder, file);
  return existsSync(path) ? new OpenApiDocument(name, JSON.parse(readFileSync(path, 'utf8'))) : null;
}
