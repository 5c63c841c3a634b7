"""The page of a comparison: a table in Markdown and a picture."""

CLOCKS = {"stepped": "in steps", "after": "in steps, just behind the boundary"}
WIDTH, ROW, LEFT, RIGHT, TOP = 860, 34, 240, 24, 46


def markdown(results):
    """The page."""
    lines = [
        "# The control loop beside the loop in process",
        "",
        "`infer control --apply` turns the VMs of a virtual Azure on and off, `infer serve` decides"
        " with the committed model, `virtual-azure` runs the world: three processes, an episode for"
        " each held-out seed.",
        "Beside it stands `trainer evaluate` of the same model on the same seeds, which decides in"
        " process at once.",
        "The difference is the control loop's objective minus that in process, seed by seed; higher"
        " is better.",
        "",
        "In steps, time stands at each boundary until the control loop, a process that is started"
        " anew, has acted; or just behind it, when the requests that waited there are placed.",
        "A clock that runs begins when the loop has acted for the first time.",
        "Then the loop looks once an interval, at no fixed time of it, and what it decides takes"
        " effect after the real time that it takes to look, to decide and to act, times the speed:"
        " at 30 times some tens of milliseconds are about a second of virtual time, well within an"
        " interval; at 100 times they are a good part of one.",
        "A fleet in real time has none of that.",
        "",
        "Requests are placed as they arrive at any speed: the virtual Azure waits for the service.",
        "`scinet-16` gathers them at boundaries.",
        "In process and in steps the model turns VMs on and off while they wait.",
        "With a clock that runs they are placed before the loop looks, and a model that sees none"
        " wait keeps fewer VMs on, here for the better: the steps just behind the boundary,"
        " where nothing acts late, show the greater part of what 30 times does.",
        "`azure-llm` places each request as it arrives, with one clock as with the other.",
        "",
        "The machine had other work beside the runs.",
        "",
        "![Paired differences of each seed, by clock](closed-loop.svg)",
    ]
    for name, world in results["worlds"].items():
        lines += ["", f"## {name}", "", *section(world)]
    return "\n".join(lines) + "\n"


def section(world):
    """The table of a world."""
    near, hosts = world["in_process"], world["in_process_hosts"]["mean"]
    lines = [
        f"{world['seeds']} seeds from {world['first_seed']}, {world['intervals']} intervals of"
        f" {world['interval_s']:g} s.",
        f"In process: {spread(near)}, with {hosts:.2f} hosts billed; the committed evaluation has"
        f" {spread(world['committed'])}.",
        "",
        "| clock | episodes | objective | within the 95 % interval | difference | same to the last"
        " bit | hosts billed | energy (Wh) | cost (USD) | late (%) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for clock, found in world["clocks"].items():
        far, paired = found["control_loop"], found["paired_difference"]["objective"]
        cells = [
            clock_name(clock),
            str(found["seeds"]),
            spread(far["objective"]),
            "yes" if found["within_ci95"] else "**no**",
            interval(paired),
            f"{found['identical_episodes']}",
            f"{far['hosts_billed_mean']['mean']:.2f}",
            f"{far['energy_wh']['mean']:.2f}",
            f"{far['cost_usd']['mean']:.4f}",
            f"{100 * far['sla_violation_ratio']['mean']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| clock | intervals | acted | actions | acted after the boundary (virtual s) | from look"
        " to act, p50 / p99 (virtual s) | held / failed | disputed | fallbacks of control / of the"
        " deployer | real time (s) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for clock, found in world["clocks"].items():
        c = found["control"]
        cells = [
            clock_name(clock),
            str(c["intervals"]),
            str(c["acted"]),
            str(c["actions"]),
            seconds(c["after_boundary_s"]),
            f"{seconds(c['look_to_act_p50_s'])} / {seconds(c['look_to_act_p99_s'])}",
            f"{c['held']} / {c['failed']}",
            str(c["disputed_hosts"]),
            f"{c['fallbacks']} / {found['deployer']['fallbacks']}",
            f"{found['real_s']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def clock_name(clock):
    """How a clock is called."""
    return CLOCKS.get(clock) or f"{clock.removesuffix('x')} times faster"


def seconds(value):
    """A time, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def minus(text):
    """With the sign of print."""
    return text.replace("-", "−")


def spread(found):
    """Mean and half the width of its interval."""
    if found["ci95_low"] is None:
        return minus(f"{found['mean']:.4f}")
    return minus(f"{found['mean']:.4f} ± {(found['ci95_high'] - found['ci95_low']) / 2:.4f}")


def interval(found):
    """Mean and ends of its interval."""
    if found["ci95_low"] is None:
        return minus(f"{found['mean']:+.4f}")
    return minus(f"{found['mean']:+.4f} [{found['ci95_low']:+.4f}, {found['ci95_high']:+.4f}]")


def picture(results, differences):
    """The differences of each seed as SVG; `differences[world][clock]` lists them."""
    parts, y = [], 0
    for name, world in results["worlds"].items():
        panel, height = panel_of(name, world, differences[name])
        parts.append(f'<g transform="translate(0 {y})">{panel}</g>')
        y += height
    style = (
        "text{font:13px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;fill:#24292f}"
        ".band{fill:#dbe7f5}.zero{stroke:#57606a}.seed{fill:#8c959f;fill-opacity:.55}"
        ".bar{stroke:#0b57d0;stroke-width:3}.mean{fill:#0b57d0}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">'
        f"<title>Objective of the control loop minus that in process</title><style>{style}</style>"
        f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def panel_of(name, world, differences):
    """One world: a row for each clock, and its height."""
    near = world["in_process"]
    half = (near["ci95_high"] - near["ci95_low"]) / 2 if near["ci95_low"] is not None else 0.0
    values = [value for row in differences.values() for value in row]
    reach = 1.05 * max([half, *map(abs, values), 1e-6])

    def x(value):
        return round(LEFT + (value / reach + 1) / 2 * (WIDTH - LEFT - RIGHT), 1)

    height = TOP + ROW * len(differences)
    parts = [
        f'<text class="title" x="8" y="22">{name}</text>',
        f'<text x="{LEFT}" y="22">objective, control loop minus in process; shaded: the 95 %'
        " interval in process</text>",
        f'<rect class="band" x="{x(-half)}" y="{TOP - 12}" width="{x(half) - x(-half)}"'
        f' height="{height - TOP}"/>',
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="{TOP - 12}" y2="{height - 12}"/>',
    ]
    for row, (clock, seeds) in enumerate(differences.items()):
        y = TOP + ROW * row
        parts.append(f'<text x="8" y="{y + 9}">{clock_name(clock)}</text>')
        parts += [f'<circle class="seed" cx="{x(v)}" cy="{y + 5}" r="4"/>' for v in seeds]
        found = world["clocks"][clock]["paired_difference"]["objective"]
        if found["ci95_low"] is not None:
            ends = x(found["ci95_low"]), x(found["ci95_high"])
            parts.append(
                f'<line class="bar" x1="{ends[0]}" x2="{ends[1]}" y1="{y + 5}" y2="{y + 5}"/>'
            )
        parts.append(f'<circle class="mean" cx="{x(found["mean"])}" cy="{y + 5}" r="5"/>')
    ends = f"{reach / 1.05:.3g}"
    parts.append(f'<text x="{x(-reach / 1.05)}" y="{height}" text-anchor="middle">−{ends}</text>')
    parts.append(f'<text x="{x(reach / 1.05)}" y="{height}" text-anchor="middle">+{ends}</text>')
    return "".join(parts), height + 14
