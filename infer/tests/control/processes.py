"""The processes of a closed loop: a decision service, a virtual Azure and the control loop.

Each writes its log into the folder of its episode. Where one fails, the error names it and shows
the end of its log.
"""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "azure"))

from virtual import GROUP, SECRET, SUBSCRIPTION, TENANT  # noqa: E402

END_LIMIT_S = 40
ANSWER_LIMIT_S = 60
SHOWN_LINES = 20
# What Azure gives to a subscription and region.
READS_PER_S, WRITES_PER_S = 25, 10


class Failure(Exception):
    """A process did not do its part."""


class Process:
    """A process that runs as long as a `with` block lasts."""

    def __init__(self, name, command, folder, more_environment=()):
        self.name = name
        self.log = Path(folder) / f"{name}.log"
        self.output = Path(folder) / f"{name}.out"
        self.command = [str(part) for part in command]
        self.environment = environment(more_environment)
        self.process = None

    def __enter__(self):
        with self.output.open("wb") as output, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=log, env=self.environment, cwd=self.log.parent
            )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def failure(self, problem):
        """The error that this process is at fault."""
        lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        shown = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return Failure(f"{self.name}: {problem}; its standard error ends with\n{shown}")

    def check(self):
        """Fails if the process has ended."""
        if (code := self.process.poll()) is not None:
            raise self.failure(f"ended with exit code {code}")

    def wait(self, limit_s, accepted=(0,)):
        """Waits for an end with an exit code that is accepted."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise self.failure(f"goes on after {limit_s} s") from None
        if code not in accepted:
            raise self.failure(f"ended with exit code {code}")

    def end(self):
        """Asks the process to end, as an operator does, and waits for it."""
        self.check()
        self.process.terminate()
        self.wait(END_LIMIT_S)

    def address(self, pause):
        """Where it says that it listens."""
        for _ in pause(ANSWER_LIMIT_S):
            line, separator, _ = self.output.read_text().partition("\n")
            if separator:
                if not line.startswith("listening on "):
                    raise self.failure(f"says {line!r}")
                return line.removeprefix("listening on ")
            self.check()
        raise self.failure(f"does not listen within {ANSWER_LIMIT_S} s")


def environment(more):
    """That of this process without what would configure the processes, and `more`."""
    ours = ("INFER_", "VIRTUAL_AZURE_", "OTEL_", "AZURE_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return kept | dict(more)


class Virtual:
    """What a virtual Azure has beside its Resource Manager."""

    def __init__(self, process, url, ca):
        self.process, self.url, self.ca = process, url, ca
        context = ssl.create_default_context(cafile=str(ca))
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def call(self, path, body=None):
        """The JSON below `/virtual`; with `body` it is posted."""
        request = urllib.request.Request(f"{self.url}/virtual/{path}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        try:
            with self.opener.open(request, timeout=ANSWER_LIMIT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise self.process.failure(f"{path}: status {error.code}: {detail}") from None
        except OSError as error:
            raise self.process.failure(f"{path}: {error}") from None

    def log(self):
        """Each executed call that changes something."""
        entries = []
        while page := self.call(f"log?after={len(entries)}")["entries"]:
            entries += page
        return entries


def service(programs, model, folder):
    """The decision service with `model`, which decides in every state, as it does in process.

    As configured by default the service would have search decide where a state is unlike those that
    the model was trained on.
    """
    command = [programs / "infer", "serve", "--model", model, "--listen", "127.0.0.1:0"]
    command += ["--policies-search-threshold", "2"]
    return Process("infer-serve", command, folder)


def virtual_azure(programs, world, seed, intervals, clock, deployer, folder):
    """A virtual Azure whose requests are placed by the service at `deployer`."""
    command = [programs / "virtual-azure", "--world", world, "--seed", seed]
    command += ["--intervals", intervals, "--deployer", deployer, "--listen", "127.0.0.1:0"]
    command += ["--tls-dir", folder, *clock]
    return Process("virtual-azure", command, folder)


def control(programs, world, config, decides, folder, *more):
    """The control loop, which acts."""
    command = [programs / "infer", "control", "--apply", "--service", decides]
    command += ["--world", world, "--config", config, *more]
    secrets = {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": "control",
        "AZURE_CLIENT_SECRET": SECRET,
    }
    return Process("infer-control", command, folder, secrets)


def write_config(cloud, folder, interval_s, speed):
    """The configuration of the control loop where virtual time is `speed` times faster than real.

    No guardrail binds, so that what is decided is what is done, as in process. What is read is
    never old, so that no reading is mistrusted. Metrics are not read: their times are virtual,
    those of the control loop real. Azure's budget of calls refills in virtual time, and so does
    the loop's.
    """
    folder = Path(folder)
    real_s = interval_s / speed
    text = f"""
[control]
subscription = "{SUBSCRIPTION}"
resource_group = "{GROUP}"
state_url = "{cloud.url}/virtual/state?epoch=boundary"
service_ca_file = "{cloud.ca}"
interval_s = {real_s}
action_log = "{folder / 'actions.jsonl'}"
metrics = false
grace_s = 0
operation_limit_s = {20 * real_s}
in_flight = 32
[control.azure]
endpoint = "{cloud.url}"
authority = "{cloud.url}"
ca_file = "{cloud.ca}"
credentials = ["environment"]
reads_per_s = {READS_PER_S * speed}
writes_per_s = {WRITES_PER_S * speed}
[control.guardrails]
maximum_actions = 1000
backoff_s = 0
[control.lease]
path = "{folder / 'control.lock'}"
"""
    path = folder / "infer.toml"
    path.write_text(text)
    return path
