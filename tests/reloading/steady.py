"""A steady stream of predictions over a few connections, written by hand: a client that costs little of the machine."""

import asyncio
import json
import math
import time
from dataclasses import dataclass, field


@dataclass
class Stream:
    """What came back: (status, body, seconds from when it was due) of each request; requests are due every 1/rate s."""

    answers: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self):
        """Answers a second."""
        return len(self.answers) / self.seconds

    def late(self, share):
        """The latency that so large a share of the requests did not exceed, in seconds."""
        ordered = sorted(seconds for _, _, seconds in self.answers)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


async def send(port, paths_and_bodies, *, rate, until, connections=16):
    """Post the requests in turns, `rate` a second whether or not earlier ones are answered, until `until` is set."""
    stream, due = Stream(), asyncio.Queue()
    messages = [_message(path, body) for path, body in paths_and_bodies]

    async def connection():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (item := await due.get()) is not None:
            moment, message = item
            try:
                writer.write(message)
                status, body = await asyncio.wait_for(_answer(reader), 20)
                stream.answers.append((status, body, time.perf_counter() - moment))
            except (OSError, EOFError, TimeoutError) as error:
                stream.errors.append(repr(error))
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    workers = [asyncio.create_task(connection()) for _ in range(connections)]
    start, sent = time.perf_counter(), 0
    while not until.is_set():
        now = time.perf_counter()
        while start + sent / rate <= now:
            due.put_nowait((start + sent / rate, messages[sent % len(messages)]))
            sent += 1
        await asyncio.sleep(0.002)
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)
    stream.seconds = time.perf_counter() - start
    return stream


def _message(path, body):
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


async def _answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)
