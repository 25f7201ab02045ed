"""Asks a server for predictions, in its own container: `load.py CLIENTS SECONDS`, the body on standard input.

Prints JSON: how many were answered, how many of them not with 200, and the median and the 99th hundredth of their ms.
With SECONDS 0 it asks until the first answer with 200, and prints nothing.
"""

import asyncio
import json
import re
import sys
import time

PORT, PAUSE = 8080, 0.01  # in the container; seconds until a server that does not answer yet is asked again
HEAD = "POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Client:
    """A connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> bool:
        """Return whether the answer is one with 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        await self._reader.readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))
        return head.split(maxsplit=2)[1] == b"200"


async def connect() -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", PORT))


async def first(request: bytes) -> None:
    while True:
        try:
            if await (await connect()).ask(request):
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(PAUSE)


async def client(request: bytes, end: float, times: list[float], failed: list[float]) -> None:
    connection = await connect()
    while (began := time.perf_counter()) < end:
        well = await connection.ask(request)
        (times if well else failed).append(time.perf_counter() - began)


async def load(request: bytes, clients: int, seconds: float) -> None:
    times: list[float] = []
    failed: list[float] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client(request, end, times, failed) for _ in range(clients)))
    times.sort()
    at = {f"p{share}": round(1000 * times[len(times) * share // 100], 2) for share in (50, 99) if times}
    print(json.dumps({"answered": len(times) + len(failed), "failed": len(failed), **at}))


if __name__ == "__main__":
    body = sys.stdin.read()
    request = (HEAD % len(body) + body).encode()
    count, how_long = int(sys.argv[1]), float(sys.argv[2])
    asyncio.run(load(request, count, how_long) if how_long else first(request))
