"""Load tests of `zoo serve`.

    python -m benchmarks.serving load [--requests 10000] [--clients 1,4,16] [--peers onnxruntime]
        [--rounds 5] [--jax-python PATH] [--json FILE.json]

For each number of clients, each server gets so many requests, in rounds in which the servers take
turns. The clients are in a process of their own, on the same cores. A request is lost if its answer
is missing, no success, or another than the first one for the same photo. onnxruntime needs the
extra `peers`.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved
from benchmarks.harness.recording import ROOT, describe_commit, format_command, write_json
from benchmarks.serving.clients import Load

ZOO, ONNXRUNTIME = "ours", "onnxruntime"
PEERS = (ONNXRUNTIME,)
PERCENTILES = (50, 90, 99)
# Untimed requests to a new server.
WARM_UP = 50


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("test", choices=["load"], help="what to do")
    parser.add_argument("--model", default="EfficientNetLite0", help="a model with weights")
    parser.add_argument(
        "--requests", type=int, default=10_000, help="to each server from each number of clients"
    )
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients, with commas")
    parser.add_argument("--peers", default=ONNXRUNTIME, help="other servers, with commas; or none")
    parser.add_argument("--rounds", type=int, default=5, help="into which the requests are divided")
    parser.add_argument("--batch-sizes", default="1,2,4,8", help="as of zoo serve")
    parser.add_argument("--max-wait-ms", type=float, default=2.0, help="as of zoo serve")
    parser.add_argument("--jax-python", default=sys.executable, help="another Python for ours")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        options.clients = [int(number) for number in options.clients.split(",")]
    except ValueError:
        parser.error(f"argument --clients: expected numbers as in 1,4,16, got {options.clients!r}")
    options.peers = [] if options.peers == "none" else options.peers.split(",")
    for peer in options.peers:
        if peer not in PEERS:
            known = ", ".join(PEERS)
            parser.error(f"argument --peers: expected one of {known}, or none; got {peer!r}")
    if min(options.clients) < 1:
        parser.error(f"argument --clients: expected at least 1, got {min(options.clients)}")
    if options.rounds < 2:
        parser.error(f"argument --rounds: expected at least 2, got {options.rounds}")
    if options.requests < options.rounds * max(options.clients):
        parser.error(
            f"argument --requests: expected one for each client in each round, got "
            f"{options.requests}"
        )
    return options


def make_commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each server, by its name."""
    wait = ["--max-wait-ms", str(options.max_wait_ms)]
    max_batch = max(int(size) for size in options.batch_sizes.split(","))
    commands = {
        ZOO: [
            *(options.jax_python, "-m", "zoo", "serve", "--port", "0", "--model", options.model),
            *("--batch-sizes", options.batch_sizes, *wait),
        ],
        ONNXRUNTIME: [
            *(sys.executable, "-m", "benchmarks.serving.onnxruntime_server"),
            *("--model", options.model, "--max-batch", str(max_batch), *wait),
        ],
    }
    return {name: commands[name] for name in (ZOO, *options.peers)}


@contextlib.contextmanager
def start_server(command: Sequence[str]) -> Iterator[int]:
    """Starts a server, gives its port once it serves, and stops it as a user would.

    Raises:
      SystemExit: it does not start, or does not stop without an error.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise SystemExit(f"{' '.join(command)} does not serve")
        yield int(line.rpartition(":")[2])
        process.send_signal(signal.SIGTERM)
        if code := process.wait(60):
            raise SystemExit(f"{' '.join(command)} ended with code {code}")
    finally:
        process.kill()
        process.communicate()


def run_clients(port: int, requests: int, clients: int) -> Load:
    """Runs clients in a process of their own."""
    numbers = map(str, (port, requests, clients))
    command = [sys.executable, "-m", "benchmarks.serving.clients", *numbers]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Load(**json.loads(done.stdout))


def measure(
    ports: Mapping[str, int], clients: int, requests: int, rounds: int
) -> dict[str, list[Load]]:
    """What so many clients saw of each server, round by round; each round begins with another."""
    loads: dict[str, list[Load]] = {name: [] for name in ports}
    names = list(ports)
    for number in range(rounds):
        count = requests // rounds + (number < requests % rounds)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            loads[name].append(run_clients(ports[name], count, clients))
    return loads


def make_row(server: str, clients: int, loads: Sequence[Load]) -> dict[str, Any]:
    """The figures of a server: requests a second of the rounds, and percentiles of all latencies.

    A percentile is None where nothing was answered.
    """
    latencies = [latency for load in loads for latency in load.latencies]
    lost: dict[str, int] = {}
    for load in loads:
        for what, count in load.lost.items():
            lost[what] = lost.get(what, 0) + count
    rates = [len(load.latencies) / load.seconds for load in loads]
    lower, median, upper = statistics.quantiles(rates, n=4, method="inclusive")
    return {
        "server": server,
        "clients": clients,
        "requests": len(latencies) + sum(lost.values()),
        "lost": lost,
        "requests_a_second": {"median": median, "lower": lower, "upper": upper},
        "seconds": {f"p{each}": percentile(latencies, each) for each in PERCENTILES},
    }


def percentile(values: Sequence[float], share: int) -> float | None:
    """The smallest value that so many per cent of all do not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else None


def print_row(row: Mapping[str, Any]) -> None:
    """Requests a second and latencies; in brackets the quartiles of the rounds."""
    rate = row["requests_a_second"]
    latencies = ", ".join(
        f"{name} {1e3 * value:.1f}" for name, value in row["seconds"].items() if value is not None
    )
    lost = ", ".join(f"{count} × {what}" for what, count in row["lost"].items()) or "none"
    print(
        f"{row['clients']:3} clients, {row['server']:12}{rate['median']:7.1f} requests/s "
        f"({rate['lower']:.1f} to {rate['upper']:.1f}); ms: {latencies}; "
        f"{row['requests']} requests, lost: {lost}",
        flush=True,
    )


def find_versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages under another Python."""
    program = (
        "import importlib.metadata, json, platform, sys;"
        "print(json.dumps({**{name: importlib.metadata.version(name) for name in sys.argv[1:]},"
        "'python': platform.python_version()}))"
    )
    command = [python, "-c", program, *packages]
    return dict(json.loads(subprocess.check_output(command, text=True)))


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    options = parse_arguments()
    os.chdir(ROOT)
    packages = {ZOO: ("jax", "starlette", "uvicorn"), ONNXRUNTIME: ("onnxruntime",)}
    commands = make_commands(options)
    versions = {name: find_versions(commands[name][0], packages[name]) for name in commands}
    record: dict[str, Any] = {
        "benchmark": "serving",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.serving", sys.argv[1:]),
        "commit": describe_commit(),
        "model": options.model,
        "rounds": options.rounds,
        "jax": versions[ZOO]["jax"],
        "versions": versions,
        "rows": [],
    }
    with contextlib.ExitStack() as stack:
        ports = {
            name: stack.enter_context(start_server(command)) for name, command in commands.items()
        }
        for port in ports.values():
            run_clients(port, WARM_UP, max(options.clients))
        for clients in options.clients:
            loads = measure(ports, clients, options.requests, options.rounds)
            check_agreement(loads)
            for name, each in loads.items():
                record["rows"].append(make_row(name, clients, each))
                print_row(record["rows"][-1])
            write_json(options.json, record)  # after each: a long run may be cut off


def check_agreement(loads: Mapping[str, Sequence[Load]]) -> None:
    """Raises SystemExit where servers name other classes for a photo: they run another model."""
    labels = {name: each[0].labels for name, each in loads.items()}
    if any(each != labels[ZOO] for each in labels.values()):
        raise SystemExit(f"the servers disagree: {labels}")


if __name__ == "__main__":
    main()
