"""Many callers at once, from one event loop: plain HTTP over kept connections, cheap enough for an open loop."""

import asyncio
import json
import re
import time

CONTENT_LENGTH = re.compile(rb"content-length: (\d+)")


class Callers:
    """Posts JSON to one replica. An answer is (status, content); None where the connection broke."""

    def __init__(self, port):
        self._port = port
        self._connections = []
        self._free = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for _, writer in self._connections:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._connections), return_exceptions=True)

    async def post(self, path, body):
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: plumbline\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        try:
            connection = self._free.pop() if self._free else await self._connect()
            reader, writer = connection
            writer.write(head.encode() + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(CONTENT_LENGTH.search(answer)[1]))
        except (ConnectionError, asyncio.IncompleteReadError):
            return None
        self._free.append(connection)
        return int(answer.split(b" ", 2)[1]), json.loads(body)

    async def predict(self, body, model="toy"):
        return await self.post(f"/v1/models/{model}:predict", body)

    async def outcomes(self, outcomes, model="toy"):
        return await self.post(f"/v1/models/{model}:outcomes", {"outcomes": outcomes})

    async def _connect(self):
        connection = await asyncio.open_connection("127.0.0.1", self._port)
        self._connections.append(connection)
        return connection


async def open_loop(call, *, rate, most, until):
    """Start `call(number)` `rate` times a second, whatever becomes of it, `most` times or until `until()` is true."""
    start, calls = time.monotonic(), []
    while len(calls) < most and not until():
        due = min(most, int((time.monotonic() - start) * rate) + 1)
        calls += [asyncio.create_task(call(number)) for number in range(len(calls), due)]
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*calls)
