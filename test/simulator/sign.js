// node sign.js SCHEME SECRET TIMESTAMP [ID] < body
// Prints the signature header's value for the bytes on standard input, made by the provider's own package
// (Conekta has none: SECRET is there the private key in PEM, or the file that holds it). ID is Polar's
// webhook-id.

import { readFileSync } from 'node:fs';
import { SCHEMES } from './core/sign.js';

const [scheme, secret, timestamp, id] = process.argv.slice(2);

if (!SCHEMES[scheme] || !secret || !/^\d+$/.test(timestamp ?? '') || (scheme.startsWith('polar') && !id)) {
  process.stderr.write(`usage: node sign.js ${Object.keys(SCHEMES).join('|')} SECRET UNIX_TIMESTAMP [ID] < body\n`);
  process.exit(2);
}
process.stdout.write(SCHEMES[scheme](readFileSync(0, 'utf8'), secret, Number(timestamp), id) + '\n');
