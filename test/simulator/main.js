// node main.js [--port N] [--openapi DIR] [--tls-cert F --tls-key F] [--log off] [--exit-with-stdin]
// Starts the simulator on 127.0.0.1 and prints "listening on URL" when it is ready. README.md says the rest.

import { parseArgs } from 'node:util';
import { openapiFolder } from './core/openapi.js';
import { Simulator } from './core/simulator.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    openapi: { type: 'string' },
    'tls-cert': { type: 'string' },
    'tls-key': { type: 'string' },
    log: { type: 'string', default: 'on' },
    'exit-with-stdin': { type: 'boolean', default: false },
  },
});

const folder = openapiFolder(values.openapi);
const simulator = new Simulator({ openapi: folder });
if (simulator.validating.length === 0) process.stdout.write('no OpenAPI documents found: requests are not validated\n');
if (values.log === 'off') simulator.log.enabled = false;

const tls = values['tls-cert'] ? { cert: values['tls-cert'], key: values['tls-key'] } : undefined;
const port = await simulator.listen({ port: Number(values.port), tls });
process.stdout.write(`listening on ${tls ? 'https' : 'http'}://127.0.0.1:${port}\n`);

const leave = () => process.exit(0);
process.on('SIGTERM', leave);
process.on('SIGINT', leave);

// A test that dies closes our standard input, and so never leaves a simulator behind.
if (values['exit-with-stdin']) {
  process.stdin.on('end', leave);
  process.stdin.on('close', leave);
  process.stdin.on('error', leave);
  process.stdin.resume();
}
