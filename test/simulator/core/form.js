// Stripe's bracket form (application/x-www-form-urlencoded with a[b][0]=c), read strictly.
//
// The parser refuses what a sloppy client would send and a lenient server would quietly accept: broken
// percent escapes, bytes that are not UTF-8, raw control characters or spaces, a name given twice, a name
// that is both a value and a container. A test must see those, not have them repaired.
//
// parseForm() gives nested objects whose leaves are strings; coerce() then turns the leaves into the types
// of a JSON schema, because only the schema knows that quantity=2 is a number and metadata[size]=2 is not.

export class FormError extends Error {
  constructor(message, param) {
    super(message);
    this.param = param;
  }
}

const NOT_ALLOWED_RAW = /[\u0000-\u0020\u007f-\uffff"<>\\^`{|}]/;

function decode(text) {
  if (NOT_ALLOWED_RAW.test(text)) throw new FormError(`unescaped character in ${JSON.stringify(text)}`);
  if (text.indexOf('%') < 0 && text.indexOf('+') < 0) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw new FormError(`percent escapes that are not UTF-8 in ${JSON.stringify(text)}`);
  }
}

// "items[0][price]" -> ["items", "0", "price"]
function splitName(name) {
  const open = name.indexOf('[');
  if (open < 0) return [name];
  if (open === 0) throw new FormError(`name without a beginning: ${name}`, name);
  const path = [name.slice(0, open)];
  let at = open;
  while (at < name.length) {
    const close = name.indexOf(']', at);
    if (name[at] !== '[' || close < 0) throw new FormError(`brackets do not match in ${name}`, name);
    path.push(name.slice(at + 1, close));
    at = close + 1;
  }
  return path;
}

function put(root, name, value) {
  const path = splitName(name);
  if (path.length > 12) throw new FormError(`nested too deep: ${name}`, name);
  let at = root;
  for (let i = 0; i < path.length - 1; i++) {
    const step = path[i] === '' ? String(Object.keys(at).length) : path[i];
    if (at[step] === undefined) at[step] = Object.create(null);
    else if (typeof at[step] === 'string') throw new FormError(`${name} is given both as a value and as a hash`, name);
    at = at[step];
  }
  const last = path.at(-1) === '' ? String(Object.keys(at).length) : path.at(-1);
  if (at[last] !== undefined) throw new FormError(`${name} is given twice`, name);
  at[last] = value;
}

export function parseForm(text) {
  const root = Object.create(null);
  if (text === '') return root;
  for (const part of text.split('&')) {
    const eq = part.indexOf('=');
    if (eq <= 0) throw new FormError(`parameter without name or "=": ${JSON.stringify(part)}`);
    put(root, decode(part.slice(0, eq)), decode(part.slice(eq + 1)));
  }
  return root;
}

function coerceString(schema, text) {
  switch (schema.type) {
    case 'integer': {
      const number = Number(text);
      return /^-?\d+$/.test(text) && Number.isSafeInteger(number) ? number : text;
    }
    case 'number':
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    default:
      return text;
  }
}

// A hash whose names are 0, 1, 2, ... is an array; gaps stay a hash and so fail the schema.
function asArray(hash) {
  const names = Object.keys(hash);
  return names.every((name, i) => name === String(i)) ? names.map((name) => hash[name]) : null;
}

function coerceAnyOf(branches, value, resolve) {
  const schemas = branches.map(resolve);
  if (typeof value === 'string') {
    if (schemas.some((s) => s.enum?.includes(value))) return value;
    for (const s of schemas) {
      const coerced = coerceString(s, value);
      if (typeof coerced !== 'string') return coerced;
    }
    return value;
  }
  const names = Object.keys(value);
  const containers = schemas.filter((s) => s.type === 'object' || s.type === 'array');
  const fits = containers.find((s) => s.type === 'object' && s.properties && names.every((n) => n in s.properties));
  const chosen = fits ?? containers.find((s) => s.type === 'array' && asArray(value)) ?? containers[0];
  return chosen ? coerce(chosen, value, resolve) : value;
}

// What does not fit its schema is left as it is, so that the validator names it.
export function coerce(schemaOrRef, value, resolve = (s) => s) {
  const schema = resolve(schemaOrRef);
  if (schema === undefined || schema === true) return value;
  if (schema.anyOf) return coerceAnyOf(schema.anyOf, value, resolve);
  if (typeof value === 'string') return coerceString(schema, value);
  if (schema.type === 'array') {
    return asArray(value)?.map((item) => coerce(schema.items, item, resolve)) ?? value;
  }
  const others = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
  for (const name in value) {
    const property = schema.properties?.[name] ?? others;
    if (property) value[name] = coerce(property, value[name], resolve);
  }
  return value;
}

// Without an OpenAPI document: arrays by their names, everything else stays a string.
export function coerceWithoutSchema(value) {
  if (typeof value === 'string') return value;
  for (const name in value) value[name] = coerceWithoutSchema(value[name]);
  return Object.keys(value).length > 0 ? asArray(value) ?? value : value;
}
