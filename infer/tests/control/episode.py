"""One episode of the closed loop through three processes, and what came of it."""

import json
import math
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import processes
from processes import Virtual

STEP_LIMIT_S = 60
ATTEMPTS = 3
# The exit code where something could not be reached.
UNAVAILABLE = 69
JUST_S = 1e-6
POLL_S = 0.02


def speed_of(clock):
    """The speed of the clock of a name; None if it goes in steps."""
    return None if clock in ("stepped", "after") else float(clock.removesuffix("x"))


def pause(limit_s):
    """Turns of a loop that waits, with a pause between, until the limit."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_S)


def memory():
    """A folder in memory, where there is one: the action log waits for the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run(programs, world, seed, clock, tell):
    """Runs the episode of `seed` with the `clock` of a name."""
    speed = speed_of(clock)
    flags = ["--clock", "stepped"] if speed is None else ["--speed", speed, "--hold"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        with processes.service(programs, world.model, folder) as serve:
            decides = serve.address(pause)
            azure = processes.virtual_azure(
                programs, world.name, seed, world.intervals, flags, decides, folder
            )
            with azure:
                cloud = Virtual(azure, azure.address(pause), Path(folder) / "ca.pem")
                interval_s = cloud.call("clock")["interval_ns"] / 1e9
                loop = Loop(
                    programs, world.name, interval_s, world.intervals, decides, cloud, folder
                )
                if speed is None:
                    reports = in_steps(loop, clock, tell)
                else:
                    reports = running(loop, speed, tell)
                serve.check()
                qos = cloud.call("qos?of=episode")
                calls = cloud.log()
        actions = records(Path(folder) / "actions.jsonl")
    return {
        "world": world.name,
        "seed": seed,
        "intervals": world.intervals,
        "interval_s": interval_s,
        "deployer": qos.pop("deployer"),
        "control": summary(loop, reports, actions, calls, speed),
        "real_s": round(time.monotonic() - began, 3),
        "qos": {name: value for name, value in qos.items() if name != "time"},
    }


@dataclass
class Loop:
    """What the control loop is run with."""

    programs: Path
    world: str
    interval_s: float
    intervals: int
    decides: str
    cloud: Virtual
    folder: str

    @property
    def end_s(self):
        """The length of the episode."""
        return self.interval_s * self.intervals

    def control(self, speed, *more):
        """The control loop as a process."""
        config = processes.write_config(self.cloud, self.folder, self.interval_s, speed)
        return processes.control(
            self.programs, self.world, config, self.decides, self.folder, *more
        )


def in_steps(loop, clock, tell):
    """Time stands until the control loop, a process of its own, has acted.

    It stands at each boundary; with the clock `after` just behind it, when what waited is placed.
    """
    reports = []
    while True:
        at = loop.cloud.call("advance", {"until_next_epoch": True, "to_s": loop.end_s})
        if at["epoch"] is None:
            return reports
        tell(at["now_s"] / loop.end_s)
        if clock == "after":
            loop.cloud.call("advance", {"by_s": JUST_S})
        reports += one_interval(loop)


def one_interval(loop):
    """The reports of a control loop that acts once; where it could not look, it looks again."""
    reports = []
    for _ in range(ATTEMPTS):
        with loop.control(1, "--once") as step:
            step.wait(STEP_LIMIT_S, (0, UNAVAILABLE))
            reports += told(step)
            if reports and reports[-1]["outcome"]["kind"] == "acted":
                return reports
    raise step.failure(f"did not act in {ATTEMPTS} attempts")


def running(loop, speed, tell):
    """Time passes by itself once the control loop is at work, which looks and acts on its own."""
    with loop.control(speed) as process:
        for _ in pause(STEP_LIMIT_S):
            process.check()
            if told(process):
                break
        loop.cloud.call("start", {})
        while (now_s := loop.cloud.call("clock")["now_s"]) < loop.end_s:
            process.check()
            tell(now_s / loop.end_s)
            time.sleep(min(1.0, max(POLL_S, (loop.end_s - now_s) / speed)))
        process.end()
        return told(process)


def told(process):
    """The reports on the standard output of the control loop, up to the last whole line."""
    whole, _, _ = process.output.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def records(path):
    """The records of an action log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def moment(text):
    """Seconds since 1970."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def summary(loop, reports, actions, calls, speed):
    """What the control loop did, in numbers. Times are virtual ones."""
    outcomes = Counter(report["outcome"]["kind"] for report in reports)
    end_ns = round(loop.end_s * 1e9)
    late_s = [call["at_ns"] / 1e9 % loop.interval_s for call in calls if call["at_ns"] < end_ns]
    phases = {}
    for record in actions:
        phases.setdefault(record["action"], {})[record["phase"]] = moment(record["at"])
    lags_s = [
        (at["submitted"] - at["planned"]) * (speed or 0)
        for at in phases.values()
        if "submitted" in at
    ]
    return {
        "intervals": len(reports),
        "outcomes": dict(outcomes),
        "actions": len(phases),
        "calls": len(late_s),
        "policies": dict(Counter(report.get("policy") for report in reports)),
        "states_of_actions": dict(Counter(a["state"] for r in reports for a in r["actions"])),
        "disputed_hosts": sum(len(report.get("disputed_hosts", [])) for report in reports),
        "fallbacks": sum("fallback" in report for report in reports),
        "after_boundary_mean_s": mean(late_s),
        "look_to_act_p50_s": quantile(lags_s, 0.50),
        "look_to_act_p99_s": quantile(lags_s, 0.99),
    }


def mean(values):
    """None of nothing."""
    return round(sum(values) / len(values), 6) if values else None


def quantile(values, share):
    """By nearest rank; None of nothing."""
    if not values:
        return None
    rank = max(1, math.ceil(share * len(values)))
    return round(sorted(values)[rank - 1], 6)
