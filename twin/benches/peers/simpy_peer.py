"""The workload through SimPy: processor sharing by virtual work, as fast as SimPy allows.

SimPy has no processor sharing. Each host has a counter of virtual work and a heap of the values at
which its tasks end, as in kernel.rs, so that an event costs the logarithm of what runs on the host.
SimPy orders the events: one arrival at a time, and for each host the completion that was foreseen
last; an event that was foreseen before and no longer holds is passed over when it comes.

Usage: simpy_peer.py WORKLOAD ENDS; README.md describes the files.
"""

import json
import math
import struct
import sys
import time
from array import array
from heapq import heappop, heappush

import simpy
from simpy.events import Event, NORMAL, URGENT


def read_workload(path):
    """Gives the number of hosts, the cores of a host, arrivals in ns and works in s."""
    with open(path, "rb") as file:
        if file.read(8) != b"peers-1\n":
            sys.exit(f"{path}: not a workload")
        hosts, cores, count, _seed = struct.unpack("<4Q", file.read(32))
        arrivals_ns, works_s = array("Q"), array("d")
        while chunk := file.read(1 << 20):
            arrivals_ns.frombytes(b"".join(chunk[i : i + 8] for i in range(0, len(chunk), 16)))
            works_s.frombytes(b"".join(chunk[i : i + 8] for i in range(8, len(chunk), 16)))
    if len(works_s) != count:
        sys.exit(f"{path}: {count} tasks are announced, found {len(works_s)}")
    return hosts, cores, arrivals_ns, works_s


class Host:
    """Tasks that share some cores, each with at most one."""

    __slots__ = ("environment", "cores", "ends_s", "virtual_s", "updated_s", "running", "foreseen")

    def __init__(self, environment, cores, ends_s):
        self.environment = environment
        self.cores = cores
        self.ends_s = ends_s
        self.virtual_s = 0.0
        self.updated_s = 0.0
        self.running = []
        self.foreseen = None

    def start(self, task, work_s):
        """Starts a task now."""
        now, running = self.environment.now, self.running
        if running:
            self.virtual_s += (now - self.updated_s) / max(1.0, len(running) / self.cores)
        else:
            self.virtual_s = 0.0
        self.updated_s = now
        heappush(running, (self.virtual_s + work_s, task))
        self.foresee()

    def foresee(self):
        """Sets an event for the next completion."""
        running = self.running
        left_s = (running[0][0] - self.virtual_s) * max(1.0, len(running) / self.cores)
        event = Event(self.environment)
        event._ok, event._value = True, None
        event.callbacks.append(self.finish)
        self.foreseen = event
        self.environment.schedule(event, URGENT, left_s)

    def finish(self, event):
        """Ends the next task, if `event` still holds."""
        if event is not self.foreseen:
            return
        now = self.environment.now
        self.virtual_s, task = heappop(self.running)
        self.updated_s = now
        self.ends_s[task] = now
        if self.running:
            self.foresee()


class Arrivals:
    """Starts each task when it arrives, on hosts in turn."""

    def __init__(self, environment, hosts, tasks):
        self.environment = environment
        self.hosts = hosts
        self.tasks = iter(tasks)
        self.count = 0
        self.announce()

    def announce(self):
        """Sets an event for the next arrival."""
        arrival = next(self.tasks, None)
        if arrival is None:
            return
        arrival_ns, self.work_s = arrival
        event = Event(self.environment)
        event._ok, event._value = True, None
        event.callbacks.append(self.arrive)
        delay_s = arrival_ns / 1e9 - self.environment.now
        self.environment.schedule(event, NORMAL, max(0.0, delay_s))

    def arrive(self, _event):
        task = self.count
        self.hosts[task % len(self.hosts)].start(task, self.work_s)
        self.count += 1
        self.announce()


def peak_memory_bytes():
    """The most memory that this process has had in use; Linux tells it."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: simpy_peer.py WORKLOAD ENDS")
    host_count, cores, arrivals_ns, works_s = read_workload(sys.argv[1])
    ends_s = array("d", [math.nan]) * len(works_s)
    environment = simpy.Environment()
    hosts = [Host(environment, cores, ends_s) for _ in range(host_count)]
    Arrivals(environment, hosts, zip(arrivals_ns, works_s))
    started_s = time.process_time()
    environment.run()
    took_s = time.process_time() - started_s
    with open(sys.argv[2], "wb") as file:
        ends_s.tofile(file)
    print(json.dumps({"loop_cpu_s": took_s, "peak_memory_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    main()
