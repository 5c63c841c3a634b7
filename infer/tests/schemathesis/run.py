#!/usr/bin/env python3
"""Holds a running service against infer/openapi.json, with every check of schemathesis.

    python infer/tests/schemathesis/run.py target/debug/infer [ARGUMENT OF SCHEMATHESIS ...]

It starts the service with the small world of the examples on a free port, with a log of decisions
and the committed models, tells it a fleet, and loads policies, so that no endpoint is idle. Then it
runs schemathesis with the settings beside this file, and ends the service, which must end well.
Exit code: that of schemathesis, or 1.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CRATE = HERE.parent.parent
START_LIMIT_S = 30
RUN_LIMIT_S = 600
END_LIMIT_S = 40


def start(program: str, folder: str, log) -> tuple[subprocess.Popen, str]:
    """The service, and where it answers."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("INFER_", "OTEL_"))}
    service = subprocess.Popen(
        [
            program,
            "serve",
            *("--policy", "least-loaded"),
            *("--world", str(CRATE / "examples/small.toml")),
            *("--listen", "127.0.0.1:0"),
            *("--log-folder", folder),
            *("--policies-folder", str(CRATE.parent / "models")),
        ],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
    )
    line = service.stdout.readline().strip()
    url = line.removeprefix("listening on ")
    if not url.startswith("http"):
        service.kill()
        sys.exit(f"schemathesis: the service did not start: {line!r}")
    return service, url


def prepare(url: str) -> str:
    """Tells the service a fleet, loads policies, and gives the id of a decision."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    fleet = (CRATE / "examples/request.json").read_bytes()
    asked = (CRATE / "examples/fleet-decision.json").read_bytes()
    decision = ""
    for method, path, body in [
        ("PUT", "/v1/fleet", fleet),
        ("POST", "/v1/decisions", asked),
        ("POST", "/v1/models", json.dumps({"policy": "greedy"}).encode()),
        ("POST", "/v1/models", json.dumps({"policy": "random"}).encode()),
    ]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url + path, body, headers, method=method)
        with opener.open(request, timeout=START_LIMIT_S) as answer:
            decision = answer.headers.get("x-decision-id", decision)
    return decision


def run(url: str, decision: str, arguments: list[str]) -> int:
    """Runs schemathesis against the service at `url`."""
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        "run",
        *("--url", url),
        *arguments,
        str(CRATE / "openapi.json"),
    ]
    environment = os.environ | {
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_DECISION": decision,
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "127.0.0.1",
    }
    with tempfile.TemporaryDirectory() as scratch:
        return subprocess.run(
            command, cwd=scratch, env=environment, timeout=RUN_LIMIT_S, check=False
        ).returncode


def main() -> int:
    """Runs everything."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        service, url = start(sys.argv[1], folder, log)
        try:
            code = run(url, prepare(url), sys.argv[2:])
        finally:
            service.send_signal(signal.SIGTERM)
            ended = service.wait(END_LIMIT_S)
        log.seek(0)
        text = log.read()
    if ended != 0 or "panicked" in text:
        print(f"the service ended with {ended}:\n{text[-4000:]}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
