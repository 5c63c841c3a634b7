#!/usr/bin/env python3
"""What the service costs before it decides anything: bytes on disk, time to answer, memory.

    python infer/benches/footprint.py target/release/infer [--runs 20] [--check]

Size is that of a stripped copy. Start-up time goes from the start of the process to the first
answer of /healthz; memory is the resident set after a thousand decisions for the small world.
`--check` fails beyond 30 MB, a median start-up of 200 ms, or 100 MB resident.
"""

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CRATE = Path(__file__).resolve().parent.parent
SIZE_LIMIT_MB, START_LIMIT_MS, MEMORY_LIMIT_MB = 30, 200, 100
DECISIONS = 1000
WAIT_LIMIT_S = 30


def stripped_mb(program: Path) -> float:
    """Megabytes of the program without symbols."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "infer"
        shutil.copy(program, copy)
        subprocess.run(["strip", "--strip-all", str(copy)], check=True)
        return copy.stat().st_size / 1e6


def start(program: Path) -> tuple[subprocess.Popen, str, float]:
    """The service, its address, and the milliseconds until it answered."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("INFER_", "OTEL_"))}
    command = [program, "serve", "--policy", "least-loaded", "--listen", "127.0.0.1:0"]
    command += ["--world", str(CRATE / "examples/small.toml")]
    begun = time.monotonic()
    service = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    address = service.stdout.readline().strip().removeprefix("listening on http://")
    connection = http.client.HTTPConnection(address, timeout=WAIT_LIMIT_S)
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
    elapsed_ms = (time.monotonic() - begun) * 1e3
    connection.close()
    if status != 200:
        sys.exit(f"footprint: /healthz answered {status}")
    return service, address, elapsed_ms


def resident_mb(service: subprocess.Popen, address: str) -> float:
    """Megabytes resident after many decisions."""
    body = (CRATE / "examples/request.json").read_bytes()
    connection = http.client.HTTPConnection(address, timeout=WAIT_LIMIT_S)
    for _ in range(DECISIONS):
        connection.request(
            "POST", "/v1/decisions", body, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"footprint: a decision got {response.status}")
    connection.close()
    for line in Path(f"/proc/{service.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def end(service: subprocess.Popen) -> None:
    """Ends the service as an operator does."""
    service.terminate()
    service.wait(WAIT_LIMIT_S)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    size = stripped_mb(arguments.program)
    times = []
    for _ in range(max(arguments.runs, 1)):
        service, address, elapsed_ms = start(arguments.program)
        times.append(elapsed_ms)
        memory = resident_mb(service, address) if len(times) == 1 else memory
        end(service)
    median, worst = statistics.median(times), max(times)
    print(f"stripped binary: {size:.1f} MB")
    print(f"start to first answer: median {median:.0f} ms, worst {worst:.0f} ms of {len(times)}")
    print(f"resident after {DECISIONS} decisions: {memory:.0f} MB")
    within = size < SIZE_LIMIT_MB and median < START_LIMIT_MS and memory < MEMORY_LIMIT_MB
    return 0 if within or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
