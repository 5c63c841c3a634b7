"""The official Azure clients for Python, unmodified, run the VMs of a virtual Azure.

    python sdk.py target/debug/virtual-azure
"""

import sys
import time
from datetime import datetime, timedelta

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.mgmt.compute import ComputeManagementClient, models
from azure.mgmt.monitor import MonitorManagementClient

from virtual import GROUP, SECRET, SUBSCRIPTION, TENANT, virtual_azure

SIZE = "Standard_B2s"
LOCATION = "uksouth"
METERED = timedelta(minutes=5)


def power(compute, name):
    view = compute.virtual_machines.instance_view(GROUP, name)
    codes = [status.code for status in view.statuses]
    return next(code.removeprefix("PowerState/") for code in codes if code.startswith("Power"))


def list_vms(compute):
    in_group = list(compute.virtual_machines.list(GROUP))
    everywhere = list(compute.virtual_machines.list_all())
    at = list(compute.virtual_machines.list_by_location(LOCATION))
    # Pages of five: the client follows the links.
    assert len(in_group) == len(everywhere) == len(at) == 16, len(in_group)
    assert {vm.name for vm in in_group} == {vm.name for vm in everywhere}
    assert in_group[0].hardware_profile.vm_size.startswith("Standard_B2")
    status = list(compute.virtual_machines.list_all(status_only="true"))
    assert all(vm.instance_view.statuses for vm in status)


def turn_off_and_on(compute, name):
    compute.virtual_machines.begin_deallocate(GROUP, name).result(60)
    assert power(compute, name) == "deallocated"
    compute.virtual_machines.begin_start(GROUP, name).result(60)
    assert power(compute, name) == "running"
    compute.virtual_machines.begin_restart(GROUP, name).result(60)
    assert power(compute, name) == "running"
    compute.virtual_machines.begin_power_off(GROUP, name).result(60)
    assert power(compute, name) == "stopped"
    compute.virtual_machines.begin_start(GROUP, name).result(60)
    expanded = compute.virtual_machines.get(GROUP, name, expand="instanceView")
    assert expanded.instance_view.statuses[1].code == "PowerState/running"


def new_vm():
    return models.VirtualMachine(
        location=LOCATION,
        tags={"made-by": "sdk"},
        hardware_profile=models.HardwareProfile(vm_size=SIZE),
        storage_profile=models.StorageProfile(
            image_reference=models.ImageReference(
                publisher="Canonical", offer="ubuntu-24_04-lts", sku="server", version="latest"
            )
        ),
        os_profile=models.OSProfile(
            computer_name="made", admin_username="operator", admin_password="not-shown-again-1"
        ),
        network_profile=models.NetworkProfile(
            network_interfaces=[models.NetworkInterfaceReference(id="/nic", primary=True)]
        ),
    )


def delete_and_create(compute, name):
    try:
        compute.virtual_machines.begin_create_or_update(GROUP, "made", new_vm()).result(60)
        raise AssertionError("every host is listed, so there is no quota left")
    except HttpResponseError as error:
        assert error.error.code == "QuotaExceeded", error
    compute.virtual_machines.begin_delete(GROUP, name).result(60)
    try:
        compute.virtual_machines.get(GROUP, name)
        raise AssertionError("it is gone")
    except ResourceNotFoundError as error:
        assert error.error.code == "ResourceNotFound", error
    made = compute.virtual_machines.begin_create_or_update(GROUP, "made", new_vm()).result(60)
    assert made.provisioning_state == "Succeeded" and made.vm_id, made
    assert made.os_profile.admin_password is None
    assert power(compute, "made") == "running"
    update = models.VirtualMachineUpdate(tags={"a": "b"})
    tagged = compute.virtual_machines.begin_update(GROUP, "made", update).result(60)
    assert tagged.tags == {"a": "b"}
    usage = {entry.name.value: entry for entry in compute.usage.list(LOCATION)}
    assert usage[SIZE].current_value == usage[SIZE].limit == 8
    assert SIZE in {size.name for size in compute.virtual_machine_sizes.list(LOCATION)}


def run_command(compute, name):
    command = models.RunCommandInput(command_id="RunShellScript", script=["uptime"])
    result = compute.virtual_machines.begin_run_command(GROUP, name, command).result(60)
    assert "[stdout]" in result.value[0].message, result.value[0].message


def meter(compute, monitor, name, start):
    vm = compute.virtual_machines.get(GROUP, name)
    known = {metric.name.value for metric in monitor.metric_definitions.list(vm.id)}
    names = ["Percentage CPU", "Available Memory Bytes", "CPU Credits Remaining", "Network In Total"]
    assert known.issuperset(names), known
    end = start + METERED
    answer = monitor.metrics.list(
        vm.id,
        metricnames=",".join(names),
        timespan=f"{start:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}",
        interval="PT1M",
        aggregation="Average,Total",
    )
    series = {metric.name.value: metric.timeseries[0].data for metric in answer.value}
    cpu = [point.average for point in series["Percentage CPU"]]
    assert len(cpu) == 5 and all(0 <= value <= 100 for value in cpu), cpu
    assert any(value > 0 for value in cpu), cpu
    assert all(point.average > 0 for point in series["Available Memory Bytes"])
    # The sizes of this world are not burstable.
    assert all(point.average is None for point in series["CPU Credits Remaining"])
    assert sum(point.total for point in series["Network In Total"]) > 0


def scale(compute):
    sets = list(compute.virtual_machine_scale_sets.list(GROUP))
    assert {found.name for found in sets} == {"B2s-uksouth", "B2ms-uksouth"}
    name = sets[0].name
    before = compute.virtual_machine_scale_sets.get(GROUP, name).sku.capacity
    assert before == 8
    scale_sets = compute.virtual_machine_scale_sets

    def with_capacity(capacity):
        update = models.VirtualMachineScaleSetUpdate(sku=models.Sku(capacity=capacity))
        return scale_sets.begin_update(GROUP, name, update).result(60)

    changed = with_capacity(6)
    assert changed.sku.capacity == 6
    assert len(list(compute.virtual_machine_scale_set_vms.list(GROUP, name))) == 6
    with_capacity(7)
    instances = list(compute.virtual_machine_scale_set_vms.list(GROUP, name, expand="instanceView"))
    assert len(instances) == 7
    number = instances[0].instance_id
    some = models.VirtualMachineScaleSetVMInstanceIDs(instance_ids=[number])
    scale_sets.begin_deallocate(GROUP, name, some).result(60)
    view = compute.virtual_machine_scale_set_vms.get_instance_view(GROUP, name, number)
    assert view.statuses[1].code == "PowerState/deallocated", view.statuses
    compute.virtual_machine_scale_set_vms.begin_start(GROUP, name, number).result(60)


def clients(server):
    host = server.url.removeprefix("https://")
    credential = ClientSecretCredential(
        TENANT,
        "sdk",
        SECRET,
        authority=host,
        disable_instance_discovery=True,
        connection_verify=server.ca,
    )
    common = {
        "base_url": server.url,
        "credential_scopes": ["https://management.azure.com/.default"],
        "connection_verify": server.ca,
    }
    compute = ComputeManagementClient(credential, SUBSCRIPTION, **common)
    monitor = MonitorManagementClient(credential, SUBSCRIPTION, **common)
    return compute, monitor


def step(name, function, *arguments):
    started = time.monotonic()
    function(*arguments)
    print(f"{name}: {time.monotonic() - started:.1f} s")


def main():
    binary = sys.argv[1]
    # In turn, so that every VM has something to do.
    fast = ["--world", "scinet-16", "--speed", "300", "--deployer", "round-robin"]
    fast += ["--page-size", "5"]
    start = datetime(2026, 1, 1)
    with virtual_azure(binary, *fast, "--start-time", f"{start:%Y-%m-%dT%H:%M:%SZ}") as server:
        compute, monitor = clients(server)
        step("list", list_vms, compute)
        step("deallocate, start, restart, stop", turn_off_and_on, compute, "B2s-uksouth-01")
        step("delete, create, tag", delete_and_create, compute, "B2s-uksouth-02")
        step("run a command", run_command, compute, "B2ms-uksouth-01")
        server.wait_until(METERED.total_seconds())
        step("meter", meter, compute, monitor, "B2ms-uksouth-02", start)
        actions = [entry["action"] for entry in server.get("log")["entries"]]
        print("executed:", ", ".join(actions))
        assert actions == [
            "deallocate", "start", "restart", "power-off", "start",
            "delete", "create", "update", "run-command",
        ], actions
    with virtual_azure(binary, *fast, "--layout", "scale-sets") as server:
        step("scale sets", scale, clients(server)[0])


main()
