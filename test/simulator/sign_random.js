// node sign_random.js SEED COUNT TIME
// Random webhooks with signatures made by the providers' own packages, for a verifier to judge: prints one
// JSON object, the same for the same arguments but for the RSA keys, which OpenSSL makes.
// What is signed is signed at TIME, in seconds since 1970.
//
//   accounts  [{provider, account, secrets}]        two secrets: the second one was set after the first
//   cases     [{what, provider, account, clock, body (hexadecimal), text, headers, expected}]
//
// COUNT bodies for each provider: each is right in several ways, and then wrong by one byte of its body,
// time, id, signature or secret. text is false for bytes that PostgreSQL's type text cannot hold.

import { isUtf8 } from 'node:buffer';
import { newKeyPair, signConekta, signPolar, signStripe } from './core/sign.js';

const [seed, count, CLOCK] = process.argv.slice(2).map(Number);
if (!Number.isInteger(seed) || !Number.isInteger(count) || !Number.isInteger(CLOCK)) {
  process.stderr.write('usage: node sign_random.js SEED COUNT TIME\n');
  process.exit(2);
}

// ---- chance: the same numbers for the same seed ----

let state = seed >>> 0;
// mulberry32, in [0, 1)
function chance() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(chance() * n);
const between = (low, high) => low + below(high - low + 1);
const one = (list) => list[below(list.length)];
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const word = (length) => Array.from({ length }, () => one(LETTERS)).join('');

// One character of a text at a place in [from, to) becomes another one of the alphabet.
function otherCharacter(text, alphabet, from = 0, to = text.length) {
  const place = between(from, to - 1);
  return text.slice(0, place) + one([...alphabet].filter((c) => c !== text[place])) + text.slice(place + 1);
}

// ---- bodies ----

function character() {
  const point = one([() => between(0x20, 0x7e), () => between(0x80, 0x7ff), () => between(0x800, 0xd7ff), () => between(0xe000, 0xffff), () => between(0x10000, 0x10ffff), () => below(0x20)])();
  return String.fromCodePoint(point);
}
const string = (longest) => Array.from({ length: below(longest) }, character).join('');
const blank = () => one(['', '', '', ' ', '\n', '\t', ' \r\n ']);

// JSON as nobody would write it: blanks anywhere, some characters escaped, keys that occur twice.
function json(depth) {
  const kind = below(depth > 0 ? 6 : 4);
  const value = () => blank() + json(depth - 1) + blank();
  if (kind === 0) return one(['true', 'false', 'null', '-0', '1E400', '0.10', String(below(1e9))]);
  if (kind < 4) return JSON.stringify(string(12)).replace(/[a-z\u0080-\uffff]/g, (c) => (below(4) ? c : '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0')));
  if (kind === 4) return `[${Array.from({ length: below(5) }, value).join(',')}]`;
  return `{${Array.from({ length: below(6) }, () => `${blank()}"${one(['id', 'a', 'type'])}"${blank()}:${value()}`).join(',')}}`;
}

function body() {
  return one([() => blank() + json(5) + blank(), () => blank() + json(5) + blank(), () => string(3000), () => `{"pad":"${'x'.repeat(below(70000))}"}`, () => ''])();
}
const bytes = () => Buffer.from(Array.from({ length: between(1, 2000) }, () => below(256)));

function otherByte(buffer) {
  const copy = Buffer.from(buffer);
  copy[below(copy.length)] ^= between(1, 255);
  return copy;
}
function withoutByte(buffer) {
  const place = below(buffer.length);
  return Buffer.concat([buffer.subarray(0, place), buffer.subarray(place + 1)]);
}
function withByte(buffer) {
  const place = below(buffer.length + 1);
  return Buffer.concat([buffer.subarray(0, place), Buffer.from([below(256)]), buffer.subarray(place)]);
}

// ---- headers ----

const anyCase = (name) => [...name].map((c) => (below(2) ? c.toUpperCase() : c)).join('');

// Names in any case, values as strings or as arrays of one, among other headers.
function dress(headers) {
  const others = [['host', 'app.example'], ['x-array', ['a', 'b']], ['x-number', 5], ['x-null', null], ['signature', 'x']];
  const all = [...Object.entries(headers), ...others.filter(() => below(2))].sort(() => chance() - 0.5);
  return Object.fromEntries(all.map(([name, value]) => [anyCase(name), below(3) || typeof value !== 'string' ? value : [value]]));
}

// ---- schemes ----

const accounts = [];
const cases = [];
const HEX = '0123456789abcdef';
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function account(provider, ...secrets) {
  const name = `random_${accounts.length}`;
  accounts.push({ provider, account: name, secrets });
  return name;
}

function judge(what, provider, name, clock, content, headers, expected) {
  const buffer = Buffer.from(content);
  cases.push({ what, provider, account: name, clock, body: buffer.toString('hex'), text: isUtf8(buffer) && !buffer.includes(0), headers: dress(headers), expected });
}

// What is wrong with any body, whatever the scheme.
function bendBody(provider, name, clock, content, headers) {
  const buffer = Buffer.from(content);
  judge('one byte more', provider, name, clock, withByte(buffer), headers, false);
  if (buffer.length === 0) return;
  judge('another byte', provider, name, clock, otherByte(buffer), headers, false);
  judge('one byte less', provider, name, clock, withoutByte(buffer), headers, false);
}

// A time that passes, one that does not, and a clock that shows it.
const near = () => CLOCK + between(-300, 300);
const far = () => CLOCK + one([-1, 1]) * between(301, 1e8);

function stripeCases() {
  const [secret, old, next] = [0, 1, 2].map(() => 'whsec_' + word(32));
  const single = account('stripe', secret);
  const rotating = account('stripe', old, next);
  const bent = account('stripe', otherCharacter(secret, LETTERS));

  for (let i = 0; i < count; i++) {
    const content = body();
    const header = signStripe(content, [secret], CLOCK);
    const [t, v1] = header.split(',');
    const is = (what, name, value, expected, clock = near()) => judge(what, 'stripe', name, clock, content, { 'stripe-signature': value }, expected);

    is('as signed', single, header, true);
    is('two secrets, one of them ours', single, signStripe(content, [next, secret], CLOCK), true);
    is('while rotating, by the old secret', rotating, signStripe(content, [old], CLOCK), true);
    is('while rotating, by the new one', rotating, signStripe(content, [next], CLOCK), true);
    is('while rotating, by both', rotating, signStripe(content, [old, next], CLOCK), true);
    is('while rotating, by neither', rotating, header, false);
    is('parts in an array', single, header.split(','), true);
    is('v0 and what is unknown beside it', single, `${t},v0=${word(64)},v2=1,${v1}`, true);
    is('too old or too new', single, header, false, far());
    is('another time', single, `${otherCharacter(t, '0123456789', 2)},${v1}`, false);
    is('another second', single, `t=${CLOCK + one([-1, 1])},${v1}`, false);
    is('another character of the signature', single, `${t},${otherCharacter(v1, HEX, 3)}`, false);
    is('a character of the secret', bent, header, false);
    is('as v0', single, header.replace('v1', 'v0'), false);
    bendBody('stripe', single, near(), content, { 'stripe-signature': header });
  }
}

function polarCases() {
  for (const [key, prefix, length] of [['a', 'polar_whs_', 36], ['a', 'whsec_', 43], ['b', 'whsec_', 44], ['a', '', 32]]) {
    const [secret, old, next] = [0, 1, 2].map(() => prefix + word(length));
    const single = account('polar', secret);
    const rotating = account('polar', old, next);
    // not the last characters: of them base64 does not use every bit
    const bent = account('polar', otherCharacter(secret, LETTERS, prefix.length, secret.length - 4));

    for (let i = 0; i < Math.ceil(count / 4); i++) {
      const content = body();
      const id = one([() => 'msg_' + word(24), () => word(36)])();
      const sign = (secrets) => signPolar(content, secrets, id, CLOCK, key);
      const headers = (value, given = id, time = String(CLOCK)) => ({ 'webhook-id': given, 'webhook-timestamp': time, 'webhook-signature': value });
      const is = (what, name, given, expected, clock = near()) => judge(`${what} (key ${key}, ${prefix}...)`, 'polar', name, clock, content, given, expected);
      const signature = sign([secret]);

      is('as signed', single, headers(signature), true);
      is('several signatures', single, headers(`v1,AAAA v1a,${word(86)}== ${sign([next, secret])}`), true);
      is('while rotating, by the old secret', rotating, headers(sign([old])), true);
      is('while rotating, by the new one', rotating, headers(sign([next])), true);
      is('while rotating, by neither', rotating, headers(signature), false);
      is('too old or too new', single, headers(signature), false, far());
      is('another time', single, headers(signature, id, otherCharacter(String(CLOCK), '0123456789')), false);
      is('another second', single, headers(signature, id, String(CLOCK + one([-1, 1]))), false);
      is('another id', single, headers(signature, otherCharacter(id, LETTERS)), false);
      is('another character of the signature', single, headers(otherCharacter(signature, BASE64, 3, 46)), false);
      is('a character of the secret', bent, headers(signature), false);
      is('as v1a', single, headers(signature.replace('v1,', 'v1a,')), false);
      bendBody('polar', single, near(), content, headers(signature));
    }
  }
}

function conektaCases() {
  const [pair, old, next] = [0, 1, 2].map(newKeyPair);
  const single = account('conekta', pair.publicKey);
  const rotating = account('conekta', old.publicKey, next.publicKey);
  const oneLine = account('conekta', pair.publicKey.replaceAll('\n', '\\n'));
  // a character amid the modulus and amid a line: still a key, but another one
  const bent = account('conekta', otherCharacter(pair.publicKey, BASE64, 160, 190));

  for (let i = 0; i < count; i++) {
    const content = below(3) ? body() : bytes();
    const digest = signConekta(content, pair.privateKey);
    const is = (what, name, value, expected, clock = near()) => judge(what, 'conekta', name, clock, content, { digest: value }, expected);

    is('as signed', single, digest, true);
    is('years later', single, digest, true, far());
    is('with the name of the hash', single, one(['sha-256=', 'SHA-256=', 'sha256=']) + digest, true);
    is('by a key on one line', oneLine, digest, true);
    is('while rotating, by the old key', rotating, signConekta(content, old.privateKey), true);
    is('while rotating, by the new one', rotating, signConekta(content, next.privateKey), true);
    is('while rotating, by neither', rotating, digest, false);
    is('another character of the signature', single, otherCharacter(digest, BASE64, 0, 341), false);
    is('a character of the key', bent, digest, false);
    bendBody('conekta', single, CLOCK, content, { digest });
  }
}

stripeCases();
polarCases();
conektaCases();
process.stdout.write(JSON.stringify({ accounts, cases }) + '\n');
