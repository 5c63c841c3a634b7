#!/usr/bin/env python3
"""Makes the validation table: theory, properties, other simulators and recorded reality.

Runs the tests of the twin, which write what they find (tests/it/validation.rs), imports the
recordings under datasets/data, replays them, and takes the comparison with other simulators from
docs/results/peers. Writes validation.md and validation.json.

Exit codes: 0 done, 1 a test or a command failed, 2 usage. A target that is missed is told in the
table and does not fail the command.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRATCH = ROOT / "target" / "validation"
PEERS = Path("docs/results/peers/peers.json")
DATA = Path("datasets/data")
# Length of an interval of the recorded testbed.
INTERVAL_S = 5
# Tests that hold a property on fixed cases, by the start of their names.
FIXED = ("changes::", "what_if::", "gap::the_gap_does_not_depend_on_the_number_of_threads")
PERTURBED = (
    "--from-interval 350 --slow-hosts 3,7=0.7 --demand-scale blur=1.4 "
    "--power-scale 5=1.03 --background 2=0.05"
)
NO_POWER = (
    "not measured here: SURF_POWER names no file; `power.csv` of atlarge-research/opendt is it, "
    "which has no license and is not part of this project"
)


@dataclass
class Row:
    """One comparison; `met` is None where there is no target."""

    what: str
    target: str
    found: str
    met: bool = None
    figures: dict = field(default_factory=dict)


@dataclass
class Section:
    """Rows that come from one command."""

    title: str
    command: str
    rows: list
    note: str = ""


class Failed(Exception):
    """A command failed."""


def number(value, digits=4):
    """`value` with as many significant digits, without an exponent where that is short."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3 or size >= 1e6:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace(".0e", "e")
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def most(what, value, limit, unit="%", more=""):
    """A row whose figure must be at most `limit`; without a target where that is None."""
    target = "" if limit is None else f"at most {limit:g} {unit}".rstrip()
    met = None if limit is None else value <= limit
    found = f"{value:.2f} {unit}".rstrip() + more
    return Row(what, target, found, met, {"value": value, "limit": limit})


def run(command, **options):
    """What `command` prints; its errors are shown."""
    print("$", " ".join(map(str, command)), file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise Failed(f"exit code {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def twin(arguments):
    """The JSON that `twin` prints."""
    cargo = ["cargo", "run", "--quiet", "--package", "twin", "--bin", "twin", "--"]
    return json.loads(run(cargo + arguments + ["--format", "json"]))


def tests():
    """What the tests of the twin wrote, whether each passed, and whether all did."""
    threads = max(2, os.cpu_count() or 2)
    notes, passed, good = [], {}, True
    with tempfile.TemporaryDirectory() as folder:
        for target in (["--lib"], ["--test", "it"]):
            rows = Path(folder) / "rows.jsonl"
            rows.unlink(missing_ok=True)
            done = subprocess.run(
                ["cargo", "test", "--package", "twin", *target, "--", f"--test-threads={threads}"],
                cwd=ROOT,
                env=os.environ | {"VALIDATION_ROWS": str(rows)},
                stdout=subprocess.PIPE,
                text=True,
            )
            found = re.findall(r"^test (\S+) .*\.\.\. (ok|FAILED)", done.stdout, re.MULTILINE)
            passed |= {name: result == "ok" for name, result in found}
            good &= done.returncode == 0
            if not good:
                print(done.stdout, file=sys.stderr)
            if rows.exists():
                notes += [json.loads(line) for line in rows.read_text().splitlines()]
    # Tests run side by side: their order is that of names, the order within a test its own.
    notes.sort(key=lambda note: note["test"])
    return notes, passed, good


def interval_row(note, passed):
    f = note["figures"]
    met = passed.get(note["test"], False)
    target = f"{number(f['theory'], 5)}, within ± {number(f['widest'], 2)}"
    found = f"{number(f['mean'], 5)} ± {number(f['half_width'], 2)}"
    return Row(note["what"], target, found, met, f)


def difference_row(note, passed):
    f = note["figures"]
    met = passed.get(note["test"], False)
    target = f"at most {number(f['most'])}"
    return Row(note["what"], target, number(f["largest"], 2), met, f)


def theory(notes, passed):
    kinds = {"interval": interval_row, "difference": difference_row}
    module = lambda name: [n for n in notes if n["test"].startswith(name) and n["kind"] in kinds]
    rows = lambda name: [kinds[n["kind"]](n, passed) for n in module(name)]
    command = "cargo test -p twin --test it"
    return [
        Section(
            "Closed forms of queuing theory",
            f"{command} closed_forms",
            rows("closed_forms::"),
            "The interval is that of the mean over 12 to 40 seeds with 99 % confidence; it must "
            "hold the theory's value, and be at most as wide as the target says. "
            "Differences without a unit are relative.",
        ),
        Section(
            "Migration against what others publish",
            f"{command} migration",
            rows("migration::"),
            "Differences are relative; dirty rates were to be within 0.5 %.",
        ),
        Section(
            "Bare kernel of heaps, task by task",
            f"{command} peers",
            rows("peers::"),
            "Differences are relative to the time at which a task ends.",
        ),
    ]


def properties(notes, passed):
    cases = {n["test"]: n["figures"]["cases"] for n in notes if n["kind"] == "property"}
    names = set(cases) | {n for n in passed if n.startswith(FIXED) and "::tests::" not in n}
    rows = []
    for name in sorted(names):
        path, _, words = name.rpartition("::")
        what = f"{words.replace('_', ' ')} (`{path}`)"
        good = passed.get(name, False)
        count = cases.get(name)
        found = ("holds in " if good else "FAILED among ") + (
            f"{count} random cases" if count else "all fixed cases"
        )
        rows.append(Row(what, "holds", found, good, {"cases": count}))
    return Section("Properties", "cargo test -p twin --lib --test it", rows)


def peers():
    path = ROOT / PEERS
    if not path.exists():
        row = Row("task by task", "at most 1e-6", f"no {PEERS}: run the command first")
        return Section("Other simulators", "just peers --full --out docs/results/peers", [row])
    report = json.loads(path.read_text())
    rows = []
    for case in report["cases"]:
        for entry in case["rows"]:
            difference = entry.get("difference_from_twin")
            if difference is None or entry["simulator"].startswith("kernel"):
                continue
            value = difference["relative_to_completion"]
            what = f"{entry['version']}, {case['hosts']:,} hosts"
            rows.append(
                Row(
                    f"{what}, {case['tasks']:,} tasks: ends of tasks",
                    f"at most {number(report['tolerance'])}",
                    f"{number(value)} ({number(difference['largest_s'])} s)",
                    value <= report["tolerance"],
                    difference,
                )
            )
    missing = "".join(f" {name}: {why}." for name, why in report["missing"].items())
    return Section(
        "Other simulators, one workload, task by task",
        report["command"].strip("`"),
        rows,
        "The largest difference from the twin, relative to the time at which a task ends." + missing,
    )


TESTBED = [
    ("power of the fleet by interval of 5 s, MAPE", "power_mape_percent", 3, "%"),
    ("power of the fleet in bins of 150 s, MAPE", "power_bins_mape_percent", 3, "%"),
    ("mean power of a host, MAPE", "power_hosts_mape_percent", 3, "%"),
    ("utilization of a host, largest error", "utilization_largest_points", 2, "points"),
    ("mean response of application and variant, mean error", "response_mean_error_percent", None, "%"),
    ("p50 of responses, mean error", "response_p50_error_percent", None, "%"),
    ("p95 of responses, mean error", "response_p95_error_percent", None, "%"),
]
COUNTS = [
    ("hosts within 2 points of utilization", "hosts_within", "hosts"),
    ("variants with mean response within 5 %", "response_mean_within", "variants"),
    ("variants with p95 within 10 %", "response_p95_within", "variants"),
]
RANKS = [
    ("rank correlation of utilization over hosts", "hosts_utilization_rank"),
    ("rank correlation of power over hosts", "hosts_power_rank"),
    ("rank correlation of responses over applications", "applications_response_rank"),
    ("rank correlation of responses over variants", "variants_response_rank"),
]


def testbed():
    arguments = "replay --recording scinet-testbed --fit-window 0..350 --window 350..701"
    report = twin(arguments.split())
    rows = []
    for kind, name in (("online", "online"), ("calibrated", "calibrated before")):
        part = report[kind]
        found, floor = part["figures"], part["floor"]
        for what, key, limit, unit in TESTBED:
            more = f" (if exact {floor[key]:.2f})"
            rows.append(most(f"{what}, {name}", found[key], limit, unit, more))
        for what, key, of in COUNTS:
            count = len(part[of])
            text = f"{found[key]:.0f} (if exact {floor[key]:.1f})"
            met = found[key] >= count
            values = {"value": found[key], "of": count}
            rows.append(Row(f"{what}, {name}", f"{count}", text, met, values))
        for what, key in RANKS:
            text = f"{found[key]:.2f} (if exact {floor[key]:.2f})"
            rows.append(Row(f"{what}, {name}", "", text, None, {"value": found[key]}))
        for what, value in part["coverage"].items():
            label = f"coverage of 90 % intervals: {what.removesuffix('_percent')}, {name}"
            rows.append(Row(label, "90 %", f"{value:.0f} %", None, {"value": value}))
    note = (
        f"Calibrated on intervals 0 to 349, reported on 350 to 700: {report['requests']} requests, "
        f"{report['replications']} replications. *Online* predicts each interval from those before "
        "it, *calibrated before* uses nothing of the reported window, and *if exact* is what the "
        "online twin shows against replications of its own: the noise floor. "
        "[twin.md](../twin.md#replay-of-the-testbed) says why targets are missed."
    )
    return Section("Recorded testbed: `scinet-testbed`", f"twin {arguments}", rows, note)


def imported(name, trainer):
    """The folder of the recording `name` in the twin's plain format."""
    folder = SCRATCH / name
    cargo = ["cargo", "run", "--quiet", "--package", "trainer", "--bin", "trainer", "--"]
    command = [trainer] if trainer else cargo
    copy = str(DATA / name)
    run(command + ["import", "--from", name, "--folder", copy, "--out", str(folder)])
    return str(folder)


def import_command(name):
    return f"trainer import --from {name} --folder {DATA / name} --out {name}"


def energy(trainer):
    name = "scinet-recorded"
    report = twin(["replay", "--recording", imported(name, trainer)])
    count = report["window"]["until_interval"] - report["window"]["from_interval"]
    error = report["largest_relative_error"]
    row = Row(
        f"energy by interval, {count} intervals of {report['hosts']} hosts: largest difference",
        "at most 1e-9",
        number(error),
        error <= 1e-9,
        {"value": error, "equal": report["equal"], "of": count},
    )
    command = f"{import_command(name)} && twin replay --recording {name}"
    return Section(f"Recorded energy: `{name}`", command, [row])


def work_row(report):
    work, bins = report["work"], len(report["bins"])
    return Row(
        f"work of {report['containers']} containers in bins of {report['bin_s']:g} s",
        f"equal to the last digit in {bins} bins",
        f"equal in {work['bins_exact']}; unmet {work['unmet_percent']:g} %",
        work["bins_exact"] == bins,
        work,
    )


def bitbrains(trainer):
    name = "bitbrains-small"
    report = twin(["replay", "--recording", imported(name, trainer)])
    command = f"{import_command(name)} && twin replay --recording {name}"
    return Section(f"Recorded work: `{name}`", command, [work_row(report)])


def surf(trainer, power):
    name = "surf-week"
    options = "--fit-window 0d..2d --window 2d..4d"
    arguments = ["replay", "--recording", imported(name, trainer)]
    if power:
        arguments += ["--power", str(Path(power).resolve()), *options.split()]
    report = twin(arguments)
    rows = [work_row(report)]
    what = "power of the cluster in bins of 150 s, MAPE"
    if power:
        best = report["power"]["models"][0]
        score, floor = best["window"], report["power"]["noise_floor"]
        more = f" (noise floor {floor['mape_percent']:.2f})"
        rows.append(most(what, score["mape_percent"], 2, "%", more))
        for other in report["power"]["models"][1:]:
            label = f"{what}, model {other['model']}, not chosen"
            rows.append(most(label, other["window"]["mape_percent"], None))
        rows += [
            most("energy of the two days, error", score["bias_percent"], None),
            Row("rank correlation over bins", "", f"{score['rank_correlation']:.3f}"),
            Row("coverage of 95 % intervals", "95 %", f"{best['coverage_percent']:.1f} %"),
        ]
    else:
        rows.append(Row(what, "at most 2 %", NO_POWER))
    command = (
        f"{import_command(name)} && "
        f"twin replay --recording {name} --power $SURF_POWER {options}"
    )
    note = (
        "Calibrated on the first two days, reported on the next two; the model is chosen by "
        "cross-validation within the first two."
    )
    return Section(f"Measured power: `{name}`", command, rows, note)


def cosim_rows(report):
    first = report["perturbations"]["from_interval"]
    before = [a for a in report["alarms"] if a["time_s"] < report["change_s"]]
    first_alarm = min(report["alarms"], key=lambda a: a["time_s"])
    rows = [
        Row(f"alarms before interval {first}", "0", f"{len(before)}", not before),
        Row(
            "first drift named: the recording itself changes",
            "",
            f"{first_alarm['stream']}, {first_alarm['test']}, "
            f"in interval {first_alarm['time_s'] / INTERVAL_S:.0f}",
        ),
    ]
    return rows + accuracy_rows(report)


def accuracy_rows(report):
    rows = []
    for what, key, scale, unit in (
        ("durations", "duration_s", 1, "s"),
        ("utilization", "utilization", 100, "points"),
        ("power from tasks", "power_of_tasks_w", 1, "W"),
    ):
        fitted, learned = report["after_without"][key], report["after_with"][key]
        for figure in ("bias", "rmse"):
            a, b = fitted[figure] * scale, learned[figure] * scale
            rows.append(
                Row(
                    f"{figure.replace('rmse', 'RMSE')} of {what}, recalibrated",
                    f"below {abs(a):.2f} {unit}, as fitted",
                    f"{b:.2f} {unit}",
                    abs(b) < abs(a),
                    {"fitted": a, "recalibrated": b},
                )
            )
    return rows


def perturbed_rows(report):
    rows = []
    for stream in (
        "speed of host 3",
        "speed of host 7",
        "duration of blur",
        "power of host 5",
        "utilization of host 2",
    ):
        alarms = [a for a in report["alarms"] if a["stream"].startswith(stream)]
        alarms = [a for a in alarms if a["time_s"] >= report["change_s"]]
        found = "not named"
        if alarms:
            alarm = min(alarms, key=lambda a: a["time_s"])
            delay = (alarm["time_s"] - report["change_s"]) / INTERVAL_S
            found = f"{alarm['test']}, {delay:.0f} intervals after the change"
        rows.append(Row(f"{stream}: drift is named", "named", found, bool(alarms)))
    for host in report["calibration"]["hosts"]:
        if host["host"] in (3, 7):
            text = f"{host['speed']:.2f} ± {host['speed_error']:.2f}"
            rows.append(Row(f"speed of host {host['host']}, learned", "0.7 of before", text))
    return rows + accuracy_rows(report)


def cosim():
    arguments = f"cosim {PERTURBED}"
    return [
        Section(
            "Co-simulation: the recording as it is",
            "twin cosim",
            cosim_rows(twin(["cosim"])),
            "Fitted on intervals 0 to 199; one step ahead, on intervals 350 to 700.",
        ),
        Section(
            "Co-simulation: second half perturbed",
            f"twin {arguments}",
            perturbed_rows(twin(arguments.split())),
        ),
    ]


def delay():
    rows = []
    for group in twin(["fit-delay"])["groups"]:
        candidates = [group["best"], *group["others"]]
        errors = {c["curve"]["family"]: 100 * c["left_out"]["relative"] for c in candidates}
        best = min(errors, key=errors.get)
        others = ", ".join(f"{name} {value:.1f}" for name, value in errors.items() if name != best)
        chosen = group["best"]["curve"]["family"]
        found = f"{chosen} {errors[chosen]:.1f} % (others: {others})"
        what = f"{group['name']}, {group['rows']} measurements: error on what was left out"
        rows.append(Row(what, "the least", found, chosen == best, errors))
    return Section("Delay against CPU share", "twin fit-delay", rows)


def to_markdown(sections, command):
    lines = [
        "# Validation",
        "",
        f"Made by `{command}`; [twin.md](../twin.md) describes what is validated.",
        "*met* says whether the target holds; where it is empty there is none.",
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", f"`{section.command}`"]
        if section.note:
            lines += ["", section.note]
        lines += ["", "| what | target | found | met |", "|---|---|---|---|"]
        for row in section.rows:
            met = {True: "yes", False: "**no**", None: ""}[row.met]
            found = re.sub(r"(?<![\w-])-(?=\d)", "−", row.found)
            lines.append(f"| {row.what} | {row.target} | {found} | {met} |")
    return "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results", metavar="DIR")
    parser.add_argument(
        "--power",
        default=os.environ.get("SURF_POWER"),
        metavar="FILE",
        help="measured power of surf-week; SURF_POWER if absent",
    )
    parser.add_argument(
        "--trainer",
        default=os.environ.get("TRAINER"),
        metavar="FILE",
        help="the program trainer, if it is built already; TRAINER if absent",
    )
    return parser.parse_args()


def main():
    args = arguments()
    if args.power and not Path(args.power).is_file():
        print(f"validation: {args.power}: no such file", file=sys.stderr)
        return 2
    SCRATCH.mkdir(parents=True, exist_ok=True)
    try:
        notes, passed, good = tests()
        sections = [
            *theory(notes, passed),
            properties(notes, passed),
            peers(),
            testbed(),
            energy(args.trainer),
            surf(args.trainer, args.power),
            bitbrains(args.trainer),
            *cosim(),
            delay(),
        ]
    except Failed as problem:
        print(f"validation: {problem}", file=sys.stderr)
        return 1
    command = "SURF_POWER=power.csv just validation" if args.power else "just validation"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "validation.md").write_text(to_markdown(sections, command))
    report = {"schema": 1, "command": command, "sections": [asdict(s) for s in sections]}
    (args.out / "validation.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for section in sections:
        for row in section.rows:
            if row.met is False:
                print(f"missed: {row.what}: {row.found}, target {row.target}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
