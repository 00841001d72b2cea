// Writes an answer to the wire, whole or spoiled by a fault.

const sleepers = new Set();

// Timers of answers that are held back; a reset forgets them.
export function later(ms, action) {
  const timer = setTimeout(() => {
    sleepers.delete(timer);
    action();
  }, ms);
  sleepers.add(timer);
}

export function forgetHeldAnswers() {
  for (const timer of sleepers) clearTimeout(timer);
  sleepers.clear();
}

export function send(response, { status, headers, body }, extra) {
  if (response.destroyed || response.writableEnded) return;
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body), ...extra });
  response.end(body); // a string leaves in one write together with the headers, a buffer would take two
}

function drop(response, fault) {
  if (fault.reset) response.socket?.resetAndDestroy();
  else response.socket?.destroy();
}

// The bytes of a whole answer, for the faults that meddle with them below the level of HTTP.
function rawBytes(response, { status, headers, body }) {
  const bytes = Buffer.from(body);
  const lines = Object.entries({ ...headers, 'Content-Length': bytes.length }).map(([n, v]) => `${n}: ${v}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} OK\r\nDate: ${new Date().toUTCString()}\r\n${lines.join('')}\r\n`), bytes]);
}

function huge(response, answer, fault) {
  const size = fault.size ?? 64 * 1024 * 1024;
  response.writeHead(fault.status ?? answer.status, { ...answer.headers, ...(fault.content_length && { 'Content-Length': size }) });
  const block = Buffer.alloc(65536, 'x');
  const start = Buffer.from('{"id":"huge","filler":"');
  const end = Buffer.from('"}');
  let left = size - start.length - end.length;
  response.write(start);
  const more = () => {
    while (left > 0 && !response.destroyed) {
      const part = left >= block.length ? block : block.subarray(0, left);
      left -= part.length;
      if (!response.write(part)) return response.once('drain', more);
    }
    response.end(end);
  };
  more();
}

function drip(response, answer, fault) {
  const bytes = rawBytes(response, answer);
  let at = 0;
  const step = () => {
    if (!response.socket || response.socket.destroyed) return;
    response.socket.write(bytes.subarray(at, at + 1));
    if (++at < bytes.length) later(fault.ms ?? 100, step);
  };
  step();
}

const spoilers = {
  delay: (response, answer) => send(response, answer),
  drop_before: (response, answer, fault) => drop(response, fault),
  drop_after: (response, answer, fault) => drop(response, fault),
  hang: (response, answer, fault) => {
    if (fault.after_headers) response.writeHead(200, { ...answer.headers, 'Content-Length': 1000 }).flushHeaders();
  },
  status: (response, answer) => send(response, answer),
  redirect: (response, answer, fault) =>
    send(response, { status: fault.status ?? 302, headers: { Location: fault.location ?? '/elsewhere' }, body: '' }, fault.headers),
  malformed_body: (response, answer, fault) => send(response, { ...answer, status: fault.status ?? answer.status, body: fault.body ?? answer.body.slice(0, Math.max(1, answer.body.length >> 1)) }),
  not_utf8: (response, answer, fault) =>
    send(response, { ...answer, status: fault.status ?? answer.status, body: Buffer.concat([Buffer.from('{"id":"'), Buffer.from([0xff, 0xfe, 0xc3, 0x28]), Buffer.from('"}')]) }),
  malformed_status: (response, answer, fault) => response.socket?.end(fault.body ?? 'HTTP/9.9 TWO HUNDRED\r\nno colon here\r\n\r\n{}'),
  huge_body: huge,
  slow_loris: drip,
  truncate: (response, answer) => {
    const bytes = rawBytes(response, answer);
    response.socket?.end(bytes.subarray(0, bytes.length - Math.max(1, answer.body.length >> 1)));
  },
};

// The status that goes into the log: 0 where the client gets none.
export function statusOnWire(fault, answer) {
  if (!fault || fault.action === 'delay' || fault.action === 'status') return answer.status;
  if (['drop_before', 'drop_after', 'hang', 'malformed_status'].includes(fault.action)) return 0;
  return fault.status ?? (fault.action === 'redirect' ? 302 : answer.status);
}

export function spoil(response, answer, fault) {
  spoilers[fault.action](response, answer, fault);
}
