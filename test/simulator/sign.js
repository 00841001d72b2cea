// node sign.js SCHEME SECRET TIMESTAMP < body
// Prints the signature header's value for the bytes on standard input, made by the provider's own package.

import { readFileSync } from 'node:fs';
import { SCHEMES } from './core/sign.js';

const [scheme, secret, timestamp] = process.argv.slice(2);

if (!SCHEMES[scheme] || !secret || !/^\d+$/.test(timestamp ?? '')) {
  process.stderr.write(`usage: node sign.js ${Object.keys(SCHEMES).join('|')} SECRET UNIX_TIMESTAMP < body\n`);
  process.exit(2);
}
process.stdout.write(SCHEMES[scheme](readFileSync(0, 'utf8'), secret, Number(timestamp)) + '\n');
