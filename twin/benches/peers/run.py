#!/usr/bin/env python3
"""Builds the simulators, gives all of them the same workload, and compares what they make of it.

The completion times are compared task by task with the twin's; the largest difference, relative to
the time of completion, must be at most 1e-6. CPU time and memory go into a table. A simulator that
cannot be built here is left out, with the reason. README.md says more.

Exit codes: 0 all agree, 1 some differ, 2 usage, 69 the Rust part cannot be built.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import venv
from array import array
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SCRATCH = ROOT / "target" / "peers"
TOLERANCE = 1e-6
CORES = 8
SEED = 1
# Hosts and tasks.
CASES = [(16, 10_000), (1000, 100_000)]
FULL = [(16, 10_000), (1000, 100_000), (1000, 1_000_000)]
NAMES = {
    "kernel": "bare kernel, no accounts",
    "kernel-apart": "bare kernel, host after host",
    "twin": "twin, all accounts",
    "simpy": "SimPy, virtual-work heaps",
    "simgrid": "SimGrid",
}
INSTALL_SIMGRID = "install libsimgrid-dev (Debian, Ubuntu) or SimGrid 3.32 or later, and a C++17 compiler"


@dataclass
class Peer:
    """A simulator that can be run: its command, to which the two files are added."""

    name: str
    command: list
    version: str


@dataclass
class Measured:
    """What the runs of one simulator on one workload took, one entry a run."""

    loop_cpu_s: list = field(default_factory=list)
    process_cpu_s: list = field(default_factory=list)
    peak_memory_bytes: list = field(default_factory=list)
    qos: dict = None


def say(text):
    print(text, file=sys.stderr, flush=True)


def output_of(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build_rust():
    """Gives the path of the Rust part."""
    command = ["cargo", "build", "--release", "-p", "twin", "--example", "peers"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        say("peers: the Rust part cannot be built")
        sys.exit(69)
    messages = map(json.loads, built.stdout.splitlines())
    return [m["executable"] for m in messages if m.get("executable")][-1]


def build_simgrid():
    """Gives the SimGrid peer, or the reason why there is none."""
    compiler = os.environ.get("CXX", "c++")
    program = SCRATCH / "simgrid_peer"
    command = [compiler, "-std=c++17", "-O2", "-o", program, HERE / "simgrid_peer.cpp", "-lsimgrid"]
    if shutil.which(compiler) is None:
        return f"no {compiler}: {INSTALL_SIMGRID}"
    probe = [compiler, "-std=c++17", "-E", "-dM", "-include", "simgrid/version.h", "-x", "c++", os.devnull]
    probed = subprocess.run(probe, capture_output=True, text=True)
    if probed.returncode != 0:
        return f"no SimGrid: {INSTALL_SIMGRID}"
    built = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if built.returncode != 0:
        say(built.stderr)
        return f"simgrid_peer.cpp does not compile: {INSTALL_SIMGRID}"
    defines = dict(line.split(None, 2)[1:] for line in probed.stdout.splitlines() if len(line.split(None, 2)) == 3)
    parts = [defines.get(f"SIMGRID_VERSION_{part}", "?") for part in ("MAJOR", "MINOR")]
    return Peer("simgrid", [str(program)], "SimGrid " + ".".join(parts))


def build_simpy():
    """Gives the SimPy peer, or the reason why there is none."""
    requirements = HERE / "requirements.txt"
    folder = SCRATCH / "venv"
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        try:
            venv.create(folder, clear=True, with_pip=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
            subprocess.run(pip, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"SimPy cannot be installed: {error}"
        stamp.write_text(requirements.read_text())
    version = output_of([python, "-c", "import simpy; print(simpy.__version__)"]).strip()
    script = str(HERE / "simpy_peer.py")
    return Peer("simpy", [str(python), script], f"SimPy {version}, Python {platform.python_version()}")


def build(wanted):
    """Gives the Rust part, the simulators, and for those that are missing the reason."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    rust = build_rust()
    version = output_of(["rustc", "--version"]).strip()
    peers, missing = [], {}
    for name in NAMES:
        if name not in wanted:
            continue
        if name == "simgrid":
            peer = build_simgrid()
        elif name == "simpy":
            peer = build_simpy()
        else:
            peer = Peer(name, [rust, "run", name], version)
        if isinstance(peer, Peer):
            peers.append(peer)
        else:
            missing[name] = peer
            say(f"peers: without {name}: {peer}")
    return rust, peers, missing


def run(peer, workload, ends, measured):
    """Runs a simulator once, and notes what it took."""
    child = subprocess.Popen([*peer.command, workload, ends], stdout=subprocess.PIPE, text=True)
    told = json.loads(child.stdout.readline() or "null")
    child.stdout.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0 or told is None:
        sys.exit(f"peers: {peer.name} failed with exit code {child.returncode}")
    measured.loop_cpu_s.append(told["loop_cpu_s"])
    measured.process_cpu_s.append(usage.ru_utime + usage.ru_stime)
    if told["peak_memory_bytes"] is not None:
        measured.peak_memory_bytes.append(told["peak_memory_bytes"])
    measured.qos = told.get("qos")


def floats(path, code="d"):
    values = array(code)
    with open(path, "rb") as file:
        values.frombytes(file.read())
    return values


def difference(arrivals_ns, ends_s, reference_s):
    """The largest difference in s, relative to the completion, and relative to the response."""
    absolute = to_end = to_response = 0.0
    for arrival_ns, end_s, expected_s in zip(arrivals_ns, ends_s, reference_s):
        apart_s = abs(end_s - expected_s)
        # A task that was never completed has no time: that is no small difference.
        if not apart_s < float("inf"):
            return {"largest_s": None, "relative_to_completion": None, "relative_to_response": None}
        absolute = max(absolute, apart_s)
        to_end = max(to_end, apart_s / expected_s)
        to_response = max(to_response, apart_s / max(expected_s - arrival_ns / 1e9, 1e-9))
    return {"largest_s": absolute, "relative_to_completion": to_end, "relative_to_response": to_response}


def ratios(measured, floor):
    """Median of a simulator's CPU time over the kernel's in the same round."""
    if floor is None:
        return None
    return statistics.median(a / b for a, b in zip(measured.loop_cpu_s, floor.loop_cpu_s))


def measure(rust, peers, case, rounds):
    """Gives the rows of one workload."""
    hosts, tasks = case
    workload = SCRATCH / f"{hosts}x{tasks}.workload"
    sizes = ["--hosts", str(hosts), "--cores", str(CORES), "--tasks", str(tasks), "--seed", str(SEED)]
    subprocess.run([rust, "generate", *sizes, workload], check=True)
    all_measured = {peer.name: Measured() for peer in peers}
    for turn in range(rounds):
        for peer in peers:
            say(f"peers: {hosts} hosts, {tasks} tasks, round {turn + 1} of {rounds}: {peer.name}")
            run(peer, workload, SCRATCH / f"{peer.name}.ends", all_measured[peer.name])
    arrivals_ns = floats(workload, "Q")[5::2]
    ends_s = {peer.name: floats(SCRATCH / f"{peer.name}.ends") for peer in peers}
    rows = []
    for peer in peers:
        measured = all_measured[peer.name]
        row = {
            "simulator": peer.name,
            "version": peer.version,
            "loop_cpu_s": statistics.median(measured.loop_cpu_s),
            "process_cpu_s": statistics.median(measured.process_cpu_s),
            "loop_over_kernel": ratios(measured, all_measured.get("kernel")),
            "peak_memory_bytes": max(measured.peak_memory_bytes, default=None),
        }
        for other in ("twin", "kernel"):
            if other in ends_s and peer.name != other:
                row[f"difference_from_{other}"] = difference(arrivals_ns, ends_s[peer.name], ends_s[other])
        if measured.qos:
            row["qos"] = measured.qos
        rows.append(row)
    workload.unlink()
    return {"hosts": hosts, "cores_per_host": CORES, "tasks": tasks, "seed": SEED, "rounds": rounds, "rows": rows}


def agrees(row):
    apart = row.get("difference_from_twin")
    if apart is None:
        return True
    return apart["relative_to_completion"] is not None and apart["relative_to_completion"] <= TOLERANCE


def cell(value, form):
    return "" if value is None else form.format(value)


def table(results):
    """The results as Markdown."""
    lines = [f"Measured on {results['processor']}, one core; {results['command']}.", ""]
    for case in results["cases"]:
        lines += [
            f"## {case['hosts']} hosts of {case['cores_per_host']} cores, {case['tasks']} tasks",
            "",
            "| simulator | loop, CPU s | over kernel | process, CPU s | peak memory, MB "
            "| largest difference from the twin, s | relative to completion | relative to response "
            "| largest difference from the kernel, s |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in case["rows"]:
            apart = row.get("difference_from_twin", {})
            cells = [
                NAMES[row["simulator"]],
                cell(row["loop_cpu_s"], "{:.4f}"),
                cell(row["loop_over_kernel"], "{:.2f}"),
                cell(row["process_cpu_s"], "{:.3f}"),
                cell(row["peak_memory_bytes"] and row["peak_memory_bytes"] / 1e6, "{:.1f}"),
                cell(apart.get("largest_s"), "{:.1e}"),
                cell(apart.get("relative_to_completion"), "{:.1e}"),
                cell(apart.get("relative_to_response"), "{:.1e}"),
                cell(row.get("difference_from_kernel", {}).get("largest_s"), "{:.1e}"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    for name, reason in results["missing"].items():
        lines += [f"Without {NAMES[name]}: {reason}.", ""]
    versions = sorted({row["version"] for case in results["cases"] for row in case["rows"]})
    lines.append("; ".join(versions) + ".")
    return "\n".join(lines) + "\n"


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def case_of(text):
    hosts, separator, tasks = text.partition("x")
    if not (separator and hosts.isdigit() and tasks.isdigit() and int(hosts) and int(tasks)):
        raise argparse.ArgumentTypeError(f"{text}: not a workload; write hosts and tasks as in 16x10000")
    return int(hosts), int(tasks)


def arguments():
    parser = argparse.ArgumentParser(description="Compares the twin with other simulators on one workload.")
    parser.add_argument("--full", action="store_true", help="also 1,000 hosts with 1,000,000 tasks")
    parser.add_argument("--case", type=case_of, action="append", help="a workload instead of the usual: 16x10000")
    parser.add_argument("--peers", default=",".join(NAMES), help="simulators, by comma; the twin always runs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each simulator, in turn; medians are told")
    parser.add_argument("--out", type=Path, default=SCRATCH / "results", help="folder for peers.json and README.md")
    options = parser.parse_args()
    options.peers = {"twin", *options.peers.split(",")}
    if unknown := options.peers - NAMES.keys():
        parser.error(f"no such simulator: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main():
    options = arguments()
    rust, peers, missing = build(options.peers)
    cases = options.case or (FULL if options.full else CASES)
    results = {
        "schema": 1,
        "command": "`just peers" + "".join(f" {a}" for a in sys.argv[1:]) + "`",
        "processor": processor(),
        "tolerance": TOLERANCE,
        "missing": missing,
        "cases": [measure(rust, peers, case, options.rounds) for case in cases],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "peers.json").write_text(json.dumps(results, indent=2) + "\n")
    text = table(results)
    (options.out / "README.md").write_text("# The twin beside other simulators\n\n" + text)
    print(text)
    say(f"peers: written to {options.out}")
    differing = [row["simulator"] for case in results["cases"] for row in case["rows"] if not agrees(row)]
    if differing:
        sys.exit(f"peers: more than {TOLERANCE} from the twin: {', '.join(differing)}")


if __name__ == "__main__":
    main()
