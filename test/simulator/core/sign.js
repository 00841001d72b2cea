// Signatures of webhooks, made by the providers' own packages, so that our verifier is never tested
// against our own idea of a signature.

import Stripe from 'stripe';

const stripe = new Stripe('sk_test_simulator');

// One v1 per secret, as Stripe sends while an old secret is still valid after a roll.
export function signStripe(body, secrets, timestamp) {
  const signatures = secrets.map((secret) => stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp }).split(',')[1]);
  return [`t=${timestamp}`, ...signatures].join(',');
}

// scheme -> (body, secret, timestamp) -> the value or values that the command line prints.
export const SCHEMES = {
  stripe: (body, secret, timestamp) => signStripe(body, [secret], timestamp),
};
