"""Runs a virtual Azure as long as a `with` block lasts."""

import contextlib
import json
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
TENANT = "00000000-0000-0000-0000-000000000002"
GROUP = "fleet"
SECRET = "virtual-secret"
WAIT_LIMIT_S = 60


class Virtual:
    """Where it is, and what its clients must trust."""

    def __init__(self, url, folder):
        self.url = url
        self.ca = str(Path(folder) / "ca.pem")

    def get(self, path):
        """The JSON below `/virtual`."""
        context = ssl.create_default_context(cafile=self.ca)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(f"{self.url}/virtual/{path}", timeout=20) as response:
            return json.load(response)

    def wait_until(self, virtual_s):
        """Waits for the time at which so much has been metered."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while (now_s := self.get("clock")["now_s"]) < virtual_s:
            assert time.monotonic() < deadline, f"the clock stands at {now_s} s"
            time.sleep(0.05)


@contextlib.contextmanager
def virtual_azure(binary, *arguments):
    """Starts `binary` and gives a Virtual."""
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--listen", "127.0.0.1:0", "--tls-dir", folder, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline()
            prefix = "listening on "
            if not line.startswith(prefix):
                raise SystemExit(f"{binary} does not start: {line!r}")
            yield Virtual(line.removeprefix(prefix).strip(), folder)
        finally:
            process.terminate()
            process.wait(timeout=20)
