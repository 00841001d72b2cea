// What the programs that print a client's bytes have in common: a server that notes one request, and the
// calls, either the program's own or those that a test hands over.
//
//   node sdk_bytes_NAME.js           the program's own calls
//   node sdk_bytes_NAME.js --calls   those on standard input, a JSON list of {name, call, arguments}
//
// Each prints one JSON object a line: {name, method, path, headers, body}.

import { createServer } from 'node:http';

// The order of the parameters is the order in the JSON text.
async function givenCalls() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks)).map(({ name, call, arguments: given }) => {
    const [resource, method] = call.split('.');
    return [name, (client) => client[resource][method](...given)];
  });
}

// makeClient(baseUrl) -> the client; calls: name -> (client) => promise; headers: those that are printed.
export async function printCalls({ makeClient, calls, headers: wanted }) {
  let seen = null;
  const recorder = createServer((req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => {
      const headers = Object.fromEntries(wanted.filter((name) => req.headers[name] !== undefined).map((name) => [name, req.headers[name]]));
      seen = { method: req.method, path: req.url, headers, body: Buffer.concat(chunks).toString() };
      res.writeHead(200, { 'Content-Type': 'application/json' });
      res.end('{"id":"recorded","object":"recorded","data":[],"items":[]}');
    });
  });
  await new Promise((ready) => recorder.listen(0, '127.0.0.1', ready));
  const client = makeClient(`http://127.0.0.1:${recorder.address().port}`);
  for (const [name, call] of process.argv[2] === '--calls' ? await givenCalls() : Object.entries(calls)) {
    seen = null;
    await call(client);
    process.stdout.write(JSON.stringify({ name, ...seen }) + '\n');
  }
  recorder.closeAllConnections();
  recorder.close();
}
