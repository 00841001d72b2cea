"""
A provider for the benchmark: answers every request after a while and tells
when it came.

    answering_server.py DELAY_MS

Listens on a free port of 127.0.0.1 and prints the port; then one line for each
request, the time at which its first byte was read, in seconds since 1970.
Every answer is a customer with an id of its own. Ends with its standard input.
"""

import asyncio
import itertools
import sys
import time

numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    def __init__(self, delay):
        self.delay = delay
        self.buffer = b""
        self.came_at = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.came_at is None:
            self.came_at = time.time()
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or len(self.buffer) < end + 4 + self.body_length(end):
            return
        print(f"{self.came_at:.6f}", flush=True)
        self.buffer = b""
        self.came_at = None
        if self.delay > 0:
            asyncio.get_running_loop().call_later(self.delay, self.answer)
        else:
            self.answer()

    def body_length(self, end):
        for line in self.buffer[:end].split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return int(line[15:])
        return 0

    def answer(self):
        body = b'{"id":"cus_%d","object":"customer","livemode":false}' % next(numbers)
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def main():
    delay = int(sys.argv[1]) / 1000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
