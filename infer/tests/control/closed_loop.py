#!/usr/bin/env python3
"""The closed loop through three processes beside that of `trainer evaluate`, on the same seeds.

    python infer/tests/control/closed_loop.py --programs target/release [--worlds scinet-16]

`infer control --apply` runs the VMs of a virtual Azure with what `infer serve` decides by the model
under models/: in steps, where time stands at a boundary or just behind it while the loop looks and
acts, and with clocks that run.
Episodes are lines of OUT/episodes.jsonl as they end; what is there already, of the same programs,
model and world, is not run again, so that a run can be ended and go on, or be made in parts.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare  # noqa: E402
import episode  # noqa: E402
import page  # noqa: E402
from processes import Failure, environment  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = 1
TELL_S = 10
EVALUATE_LIMIT_S = 1200


@dataclass
class World:
    """A world, and the episodes that are compared in it."""

    name: str
    intervals: int
    seeds: list
    model: Path
    # The objective of the committed evaluation.
    committed: dict
    # Quality of service in process, by seed.
    reference: dict = field(default_factory=dict)


def world_of(name, arguments):
    """The world `name`, with the seeds of its committed evaluation unless others are asked for."""
    evaluation = json.loads((ROOT / "docs/results" / name / "evaluation.json").read_text())
    first = evaluation["first_seed"] if arguments.first_seed is None else arguments.first_seed
    count = evaluation["seeds"] if arguments.seeds is None else arguments.seeds
    world = World(
        name=name,
        intervals=arguments.intervals or evaluation["intervals"],
        seeds=list(range(first, first + count)),
        model=ROOT / "models" / name,
        committed=evaluation["policies"][f"model:models/{name}"]["objective"],
    )
    world.reference = in_process(world, arguments.trainer)
    return world


def in_process(world, trainer):
    """What `trainer evaluate` finds, by seed."""
    with tempfile.TemporaryDirectory() as out:
        command = [trainer, "evaluate", "--world", world.name, "--seeds", len(world.seeds)]
        command += ["--policies", f"model:models/{world.name}", "--first-seed", world.seeds[0]]
        command += ["--intervals", world.intervals, "--out", out]
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment({}),
            timeout=EVALUATE_LIMIT_S,
        )
        if done.returncode != 0:
            problem = f"ended with exit code {done.returncode}"
            raise Failure(f"trainer evaluate: {problem}; its standard error is\n{done.stderr}")
        lines = (Path(out) / "journal.jsonl").read_text().splitlines()[1:]
    episodes = [json.loads(line) for line in lines]
    return {found["seed"]: found["qos"] for found in episodes}


def build_of(arguments, world):
    """What an episode depends on: the programs, which have the worlds, and the model."""
    found = hashlib.sha256()
    for path in (
        arguments.programs / "infer",
        arguments.programs / "virtual-azure",
        world.model / "model.safetensors",
    ):
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def clock_of(text):
    """The name of a clock: steps, or a speed."""
    if text in ("stepped", "after"):
        return text
    speed = float(text.removesuffix("x"))
    if not 0.1 <= speed <= 10_000:
        raise ValueError(f"{text}: must be stepped, after, or a speed from 0.1 to 10000")
    return f"{speed:g}x"


class Teller:
    """Says on standard error how far it is, at most once in ten seconds."""

    def __init__(self, total):
        self.total, self.done, self.last = total, 0, time.monotonic()

    def __call__(self, label, share):
        if time.monotonic() - self.last >= TELL_S:
            self.last = time.monotonic()
            print(
                f"{self.done} of {self.total} episodes, {label}: {100 * share:.0f} %",
                file=sys.stderr,
                flush=True,
            )


def known_episodes(path):
    """The episodes that have ended; a line that broke off is none."""
    known = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        known[found["world"], found["clock"], found["intervals"], found["seed"]] = found
    return known


def measure(arguments, worlds, known, path):
    """Runs the episodes that are missing, as long as time is left."""
    wanted = [
        (world, clock, seed)
        for clock in arguments.clocks
        for world in worlds
        for seed in world.seeds
    ]
    builds = {world.name: build_of(arguments, world) for world in worlds}
    missing = [
        (world, clock, seed)
        for world, clock, seed in wanted
        if known.get((world.name, clock, world.intervals, seed), {}).get("build")
        != builds[world.name]
    ]
    tell, began = Teller(len(missing)), time.monotonic()
    with path.open("a") as out:
        for world, clock, seed in missing:
            if arguments.limit_s is not None and time.monotonic() - began > arguments.limit_s:
                break
            label = f"{world.name}, {clock}, seed {seed}"
            try:
                found = episode.run(
                    arguments.programs, world, seed, clock, lambda share, of=label: tell(of, share)
                )
            except Failure as failure:
                raise Failure(f"{label}: {failure}") from None
            found |= {"clock": clock, "build": builds[world.name]}
            out.write(json.dumps(found, sort_keys=True) + "\n")
            out.flush()
            known[world.name, clock, world.intervals, seed] = found
            tell.done += 1
    return len(missing) - tell.done


def summarize(arguments, worlds, known):
    """The results, and the differences of each seed."""
    results = {"schema": SCHEMA, "worlds": {}}
    differences = {}
    for world in worlds:
        clocks, differences[world.name] = {}, {}
        for name in arguments.clocks:
            found = {
                seed: known[world.name, name, world.intervals, seed]
                for seed in world.seeds
                if (world.name, name, world.intervals, seed) in known
            }
            if not found:
                continue
            clocks[name] = compare.compare(found, world.reference)
            differences[world.name][name] = [
                found[seed]["qos"]["objective"] - world.reference[seed]["objective"]
                for seed in sorted(found)
            ]
            interval_s = next(iter(found.values()))["interval_s"]
        if clocks:
            near = [qos["objective"] for qos in world.reference.values()]
            results["worlds"][world.name] = {
                "seeds": len(world.seeds),
                "first_seed": world.seeds[0],
                "intervals": world.intervals,
                "interval_s": interval_s,
                "in_process": compare.estimate(near),
                "in_process_hosts": compare.estimate(
                    [qos["hosts_billed_mean"] for qos in world.reference.values()]
                ),
                "committed": world.committed,
                "clocks": clocks,
            }
    return results, differences


def arguments_of():
    """Those of the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release",
                        help="folder with infer and virtual-azure")
    parser.add_argument("--trainer", type=Path, help="the program trainer [that of --programs]")
    parser.add_argument("--worlds", default="scinet-16,azure-llm", help="names, with commas")
    parser.add_argument("--clocks", default="stepped,30",
                        help="stepped, after, or speeds, with commas")
    parser.add_argument("--seeds", type=int, help="how many [those of the committed evaluation]")
    parser.add_argument("--first-seed", type=int, help="the first [that of the evaluation]")
    parser.add_argument("--intervals", type=int,
                        help="length of an episode [that of the evaluation]")
    parser.add_argument("--limit-s", type=float, help="begin no episode after so much time")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/control-loop")
    parser.add_argument("--check", action="store_true",
                        help="fail unless every episode in steps is the same to the last bit")
    arguments = parser.parse_args()
    arguments.programs = arguments.programs.resolve()
    arguments.trainer = (arguments.trainer or arguments.programs / "trainer").resolve()
    try:
        arguments.clocks = [clock_of(text) for text in arguments.clocks.split(",")]
    except ValueError as error:
        parser.error(f"--clocks: {error}")
    for program in (arguments.programs / "infer", arguments.programs / "virtual-azure",
                    arguments.trainer):
        if not program.is_file():
            parser.error(f"{program} does not exist: build it with cargo build --release --bins")
    return arguments


def passed(results):
    """Whether the loop in steps is the loop in process."""
    return all(
        found["identical_episodes"] == found["seeds"]
        for world in results["worlds"].values()
        for name, found in world["clocks"].items()
        if name == "stepped"
    )


def main():
    """Measures what is missing and writes what there is."""
    # Whoever ends this ends its processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = arguments_of()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "episodes.jsonl"
    try:
        worlds = [world_of(name, arguments) for name in arguments.worlds.split(",")]
        known = known_episodes(path)
        left = measure(arguments, worlds, known, path)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    results, differences = summarize(arguments, worlds, known)
    (arguments.out / "closed-loop.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "closed-loop.md").write_text(page.markdown(results))
    (arguments.out / "closed-loop.svg").write_text(page.picture(results, differences))
    print(page.markdown(results))
    if left:
        print(f"{left} episodes are left: run the same command again", file=sys.stderr)
        return 75
    return 0 if passed(results) or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
