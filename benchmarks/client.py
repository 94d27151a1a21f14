"""Measure the time that a report adds to its caller, and the rate at which the client's sender delivers.

    python -m benchmarks.client [--quick] [--json FILE]

The server is a process of its own that answers as Tributary does, and can hang or be away. Every goal is printed with
its measured value, met or not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients" / "python" / "src"))

from tributary import Tributary
from tributary.backoff import Backoff

TEXT = ("The state of the union is peace. " * 16)[:500]
# figure -> (the worst that meets the goal, in words)
GOALS: dict[str, tuple[float, str]] = {
    "there_p99_us": (1_000, "the server answers: the 99th percentile of report(), in microseconds"),
    "threads_p99_us": (1_000, "eight threads of the caller at once"),
    "slow_p99_us": (1_000, "the server takes 300 ms for each answer"),
    "hanging_p99_us": (1_000, "the server takes connections and answers nothing"),
    "away_p99_us": (1_000, "nobody listens"),
    "full_p99_us": (1_000, "the buffer is full, and every report is dropped"),
    "spool_p99_us": (1_000, "every report is written to the spool before report() returns"),
    "lost": (0, "reports that the answering server did not store"),
}


def _serve(listening: Any, seconds: float) -> None:
    """Answer every batch as stored, after a wait."""
    pieces = (b'{"external_id":null,"status":201,"id":"0"}', b'{"results":[')

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(seconds)
            count = len(json.loads(body)["generations"])
            answer = pieces[1] + b",".join([pieces[0]] * count) + b"]}"
            self.send_response(207)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket = listening
    server.server_address = listening.getsockname()
    server.serve_forever()


@contextmanager
def answering(seconds: float = 0.0) -> Iterator[str]:
    """Run a server that stores everything; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listening, seconds), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()


@contextmanager
def hanging() -> Iterator[str]:
    """Take connections and answer nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def calls(client: Tributary, count: int, per_second: float) -> list[float]:
    """Report at a steady rate, and return the time of each call in microseconds."""
    took = []
    begun = time.perf_counter()
    for number in range(count):
        ahead = begun + number / per_second - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        before = time.perf_counter()
        client.report(model_version="sotu-1", output=TEXT, prompt=TEXT)
        took.append((time.perf_counter() - before) * 1e6)
    return took


def figures_of(name: str, took: list[float]) -> dict[str, float]:
    """Sum up the times of one case."""
    cuts = statistics.quantiles(took, n=1000)
    return {
        f"{name}_p50_us": round(statistics.median(took), 1),
        f"{name}_p99_us": round(cuts[989], 1),
        f"{name}_p999_us": round(cuts[998], 1),
        f"{name}_max_us": round(max(took), 1),
    }


def measure(count: int, per_second: float) -> dict[str, Any]:
    """Run every case with this number of reports at this rate."""
    key, quick = "trib_bench_key", Backoff(first=0.1, most=0.5)
    figures: dict[str, Any] = {"machine": platform.platform(), "cores": os.cpu_count(), "reports": count}
    figures |= {"per_second": per_second, "lost": 0}
    with answering() as url:
        with Tributary(url, key) as client:
            figures |= figures_of("there", calls(client, count, per_second))
            figures["lost"] += _lost(client)
        with Tributary(url, key) as client:
            figures |= figures_of("threads", _in_threads(client, count, per_second))
            figures["lost"] += _lost(client)
        with tempfile.TemporaryDirectory() as spool, Tributary(url, key, spool=spool) as client:
            figures |= figures_of("spool", calls(client, count, per_second))
            figures["lost"] += _lost(client)
        figures |= _rate(url, key, count * 4)
    with answering(0.3) as url, Tributary(url, key) as client:
        figures |= figures_of("slow", calls(client, count, per_second))
        figures["lost"] += _lost(client)
    for name, place in (("hanging", hanging), ("away", _away)):
        with place() as url:
            client = Tributary(url, key, backoff=quick)
            figures |= figures_of(name, calls(client, count, per_second))
            client.close(0.0)
    with _away() as url:
        client = Tributary(url, key, backoff=quick, buffer_items=10)
        figures |= figures_of("full", calls(client, count, per_second))
        client.close(0.0)
    return figures


def _lost(client: Tributary) -> int:
    """Count the reports that were taken and not stored within a minute."""
    client.flush(60)
    counts = client.counts()
    return counts.buffered + counts.dropped - counts.stored


@contextmanager
def _away() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def _in_threads(client: Tributary, count: int, per_second: float) -> list[float]:
    took: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: took.append(calls(client, count // 8, per_second / 8))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [microseconds for part in took for microseconds in part]


def _rate(url: str, key: str, count: int) -> dict[str, Any]:
    """Report as fast as the caller can, and wait until everything is stored."""
    with Tributary(url, key, buffer_items=count) as client:
        begun, used = time.perf_counter(), time.process_time()
        for _ in range(count):
            client.report(model_version="sotu-1", output=TEXT)
        put = time.perf_counter() - begun
        client.flush(120)
        whole, cpu = time.perf_counter() - begun, time.process_time() - used
        counts = client.counts()
    return {
        "burst_reports": count,
        "burst_put_per_second": round(count / put),
        "burst_stored_per_second": round(counts.stored / whole),
        "burst_cpu_us_a_report": round(1e6 * cpu / count, 1),
        "burst_dropped": counts.dropped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3,000 reports a case")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = measure(3_000 if args.quick else 20_000, 1_000.0)
    figures["goals"] = {name: {"goal": most, "met": figures[name] <= most} for name, (most, _) in GOALS.items()}
    print(f"{figures['machine']}, {figures['cores']} cores; {figures['reports']:,} reports a case, 1,000 a second")
    for name, (most, words) in GOALS.items():
        met = "met    " if figures["goals"][name]["met"] else "not met"
        print(f"  {met}  {name:<16} {figures[name]:>9,}  at most {most:>7,}  {words}")
    print(
        f"  burst: {figures['burst_put_per_second']:,} reports a second into the buffer, "
        f"{figures['burst_stored_per_second']:,} stored, {figures['burst_cpu_us_a_report']} CPU us each"
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
