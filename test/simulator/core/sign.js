// Signatures of webhooks, made by the providers' own packages, so that our verifier is never tested
// against our own idea of a signature. Conekta's package has none: there it is plain RSA, made by OpenSSL
// under Node.

import { createSign, generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { Webhook } from 'standardwebhooks';
import Stripe from 'stripe';

const stripe = new Stripe('sk_test_simulator');

// One v1 per secret, as Stripe sends while an old secret is still valid after a roll.
export function signStripe(body, secrets, timestamp) {
  const signatures = secrets.map((secret) => stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp }).split(',')[1]);
  return [`t=${timestamp}`, ...signatures].join(',');
}

// The value of Digest: RSASSA-PKCS1-v1_5 over SHA-256 of the body, in base64.
export function signConekta(body, privateKey) {
  return createSign('sha256').update(body, 'utf8').sign(privateKey, 'base64');
}

export function newKeyPair() {
  return generateKeyPairSync('rsa', { modulusLength: 2048, publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } });
}

// The bytes that Polar takes from a secret. a: all of it as UTF-8; b: what is after whsec_, from base64,
// which is read as Polar's own verifier reads it, with or without padding.
const POLAR_KEYS = {
  a: (secret) => Buffer.from(secret, 'utf8'),
  b: (secret) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64'),
};

// The value of webhook-signature, one signature for each secret.
export function signPolar(body, secrets, id, timestamp, key = 'a') {
  const sign = (secret) => new Webhook(POLAR_KEYS[key](secret).toString('base64')).sign(id, new Date(timestamp * 1000), body);
  return secrets.map(sign).join(' ');
}

const pem = (given) => (existsSync(given) ? readFileSync(given, 'utf8') : given);

// scheme -> (body, secret, timestamp, id) -> the value or values that the command line prints.
export const SCHEMES = {
  stripe: (body, secret, timestamp) => signStripe(body, [secret], timestamp),
  conekta: (body, privateKey) => signConekta(body, pem(privateKey)),
  polar: (body, secret, timestamp, id) => signPolar(body, [secret], id, timestamp, 'a'),
  'polar-b': (body, secret, timestamp, id) => signPolar(body, [secret], id, timestamp, 'b'),
};
