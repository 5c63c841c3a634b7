"""azure-cli, unmodified, runs the VMs of a virtual Azure.

    python cli.py target/debug/virtual-azure

Each call of azure-cli takes seconds to start by itself.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from virtual import GROUP, SECRET, SUBSCRIPTION, TENANT, virtual_azure

VM = "B2s-uksouth-01"


class Az:
    """azure-cli with a configuration of its own."""

    def __init__(self, server, folder):
        self.environment = dict(
            os.environ,
            AZURE_CONFIG_DIR=folder,
            AZURE_CORE_COLLECT_TELEMETRY="false",
            AZURE_CORE_INSTANCE_DISCOVERY="false",
            AZURE_CORE_OUTPUT="json",
            NO_PROXY="127.0.0.1",
            REQUESTS_CA_BUNDLE=server.ca,
        )

    def __call__(self, *arguments):
        started = time.monotonic()
        command = [sys.executable, "-m", "azure.cli", *arguments]
        result = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise SystemExit(f"az {' '.join(arguments)}\n{result.stdout}{result.stderr}")
        print(f"az {' '.join(arguments[:3])}: {time.monotonic() - started:.1f} s")
        return json.loads(result.stdout) if result.stdout.strip() else None


def log_in(az, server):
    az("config", "set", "core.instance_discovery=false")
    az(
        "cloud", "register", "--name", "virtual", "--skip-endpoint-discovery",
        "--endpoint-resource-manager", server.url,
        "--endpoint-management", server.url,
        "--endpoint-active-directory", server.url,
        "--endpoint-active-directory-resource-id", "https://management.azure.com/",
        "--endpoint-active-directory-graph-resource-id", server.url,
    )
    az("cloud", "set", "--name", "virtual")
    found = az(
        "login", "--service-principal", "--username", "robot", "--password", SECRET,
        "--tenant", TENANT,
    )
    assert found[0]["id"] == SUBSCRIPTION, found


def power(az):
    view = az("vm", "get-instance-view", "--resource-group", GROUP, "--name", VM)
    return view["instanceView"]["statuses"][1]["code"]


def run_vms(az):
    vms = az("vm", "list", "--resource-group", GROUP)
    assert len(vms) == 16, len(vms)
    named = ("--resource-group", GROUP, "--name", VM)
    az("vm", "deallocate", *named)
    assert power(az) == "PowerState/deallocated"
    az("vm", "start", *named)
    assert power(az) == "PowerState/running"
    az("vm", "restart", *named)
    printed = az(
        "vm", "run-command", "invoke", *named,
        "--command-id", "RunShellScript", "--scripts", "uptime",
    )
    assert "[stdout]" in printed["value"][0]["message"], printed
    metrics = az(
        "monitor", "metrics", "list", "--resource", vms[0]["id"],
        "--metric", "Percentage CPU", "--interval", "PT1M",
    )
    data = metrics["value"][0]["timeseries"][0]["data"]
    assert any(point.get("average") is not None for point in data), data
    az("vm", "delete", *named, "--yes")
    assert len(az("vm", "list", "--resource-group", GROUP)) == 15


def run_sets(az):
    sets = az("vmss", "list", "--resource-group", GROUP)
    assert len(sets) == 2, sets
    named = ("--resource-group", GROUP, "--name", sets[0]["name"])
    az("vmss", "scale", *named, "--new-capacity", "5")
    assert az("vmss", "show", *named)["sku"]["capacity"] == 5


def main():
    binary = sys.argv[1]
    # Metrics are asked for by the wall clock, so time may not run far ahead of it.
    world = ["--world", "scinet-16", "--speed", "20"]
    for arguments, run in ((world, run_vms), ([*world, "--layout", "scale-sets"], run_sets)):
        with virtual_azure(binary, *arguments) as server, tempfile.TemporaryDirectory() as folder:
            az = Az(server, folder)
            log_in(az, server)
            run(az)
    print("azure-cli runs the virtual Azure")


main()
