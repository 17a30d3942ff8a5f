"""Clients of a server, in a process of their own: each asks again as soon as it has its answer.

    python -m benchmarks.serving.clients PORT REQUESTS CLIENTS

They send the example photos in turn over connections that stay open, and print JSON: the latency of
each request, how many requests got no answer or a wrong one, and the seconds that all of it took.
"""

import asyncio
import collections
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.recording import ROOT

PHOTOS = tuple(sorted((ROOT / "examples").glob("*.jpg")))
# A request that takes longer is lost.
TIMEOUT_SECONDS = 30.0


class Load(NamedTuple):
    """What clients saw.

    Args:
      seconds: from the first request to the last answer.
      latencies: seconds of each request that was answered rightly.
      lost: how many others there were, by what happened to them.
      labels: the likeliest class of each photo.
    """

    seconds: float
    latencies: list[float]
    lost: dict[str, int]
    labels: dict[str, str]


class _Client:
    """One connection, which is opened again when it fails."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, Any]:
        """Sends a request; → the status and the JSON of its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        if b"\r\nconnection: close\r\n" in head:
            await self.close()
        return int(head[9:12]), answer

    async def close(self) -> None:
        """Closes the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def make_request(photo: bytes) -> bytes:
    """A request of HTTP that has the photo classified."""
    head = (
        "POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(photo)}\r\n\r\n"
    )
    return head.encode() + photo


async def load(port: int, requests: int, clients: int, photos: Sequence[Path] = PHOTOS) -> Load:
    """Sends so many requests from so many clients at a time.

    The first answer to each photo, which is not timed, is the right one.
    """
    sent = {photo.stem: make_request(photo.read_bytes()) for photo in photos}
    first = _Client(port)
    labels = {name: _find_label(await first.ask(request)) for name, request in sent.items()}
    await first.close()
    names = _repeat(list(sent), requests)
    latencies: list[float] = []
    lost: collections.Counter[str] = collections.Counter()

    async def run_client() -> None:
        client = _Client(port)
        for name in names:
            start = time.perf_counter()
            try:
                answer = await asyncio.wait_for(client.ask(sent[name]), TIMEOUT_SECONDS)
                label = _find_label(answer)
                if label != labels[name]:
                    raise ValueError(f"expected {labels[name]}, got {label}")
            except Exception as error:
                lost[f"{type(error).__name__}: {error}"] += 1
                await client.close()
            else:
                latencies.append(time.perf_counter() - start)
        await client.close()

    start = time.perf_counter()
    await asyncio.gather(*(run_client() for _ in range(clients)))
    return Load(time.perf_counter() - start, latencies, dict(lost), labels)


def _repeat(names: Sequence[str], count: int) -> Iterator[str]:
    """So many names, one after the other and over again; all clients draw from it."""
    return (names[number % len(names)] for number in range(count))


def _find_label(answer: tuple[int, Mapping[str, Any]]) -> str:
    status, content = answer
    if status != 200:
        raise ValueError(f"status {status}: {content.get('error')}")
    return str(content["predictions"][0][0]["label"])


if __name__ == "__main__":
    chosen_port, total, at_a_time = map(int, sys.argv[1:])
    print(json.dumps(asyncio.run(load(chosen_port, total, at_a_time))._asdict()))
