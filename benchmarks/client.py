"""What the HTTP client costs, and how busy it keeps a server: one JSON line a figure.

    python benchmarks/client.py [--requests=4000] [--threads=32] [--rounds=5] [--seconds=0.5]

`client_cpu` is CPU time of this process for a request of 2 kB and its answer, ours and that of bare `httpx2` from as
many threads, in turns, against a server in another process that answers at once; the ratio is of the two in a round.
`busy` is the share of its time that a server of that latency had as many requests as there are threads.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import httpx2

from stgrpo.serving.client import ClientSettings, HttpClient

BODY = {"prompt": "x" * 2000}
ROUND_TRIPS = 20  # of each thread, in the second figure
ANSWER = json.dumps({"text": "y" * 500}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


def serve(pipe: Connection, seconds: float) -> None:
    """A server that answers every request after so many seconds; sends its port through the pipe."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(seconds)
                writer.write(HEAD + ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def started(seconds: float) -> tuple[multiprocessing.Process, str]:
    """A server process and its address."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs, seconds), daemon=True)
    process.start()
    return process, f"http://127.0.0.1:{mine.recv()}"


def ours(address: str, requests: int, threads: int) -> None:
    """Requests through the project's client."""
    with HttpClient([address], ClientSettings(concurrency=threads)) as client:
        client.map(lambda _: client.post("/v1/x", BODY), range(requests))


def bare(address: str, requests: int, threads: int) -> None:
    """The same through `httpx2` alone."""
    limits = httpx2.Limits(max_connections=threads, max_keepalive_connections=threads)
    with httpx2.Client(limits=limits, trust_env=False) as client, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: client.post(f"{address}/v1/x", json=BODY).json(), range(requests)))


def cpu(call: Callable[[str, int, int], None], address: str, requests: int, threads: int) -> float:
    """CPU microseconds of this process for a request."""
    begin = time.process_time()
    call(address, requests, threads)
    return 1e6 * (time.process_time() - begin) / requests


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    _, address = started(0.0)
    pairs = [[cpu(call, address, args.requests, args.threads) for call in (ours, bare)] for _ in range(args.rounds)]
    mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(json.dumps({"figure": "client_cpu", "us": round(mine), "bare_us": round(theirs), "ratio": round(ratio, 3)}))
    _, address = started(args.seconds)
    begin = time.perf_counter()
    ours(address, ROUND_TRIPS * args.threads, args.threads)
    busy = ROUND_TRIPS * args.seconds / (time.perf_counter() - begin)
    print(json.dumps({"figure": "busy", "seconds": args.seconds, "threads": args.threads, "share": round(busy, 3)}))


if __name__ == "__main__":
    main()
