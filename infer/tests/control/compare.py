"""Means with 95 % intervals, as `trainer evaluate` computes them, and what a closed loop comes to
beside the one in process."""

import math

METRICS = (
    "objective",
    "energy_wh",
    "cost_usd",
    "response_mean_s",
    "sla_violation_ratio",
    "accuracy_mean",
    "hosts_billed_mean",
)


def student_quantile(share, freedom):
    """The quantile of Student's t, by bisection of its distribution function."""
    low, high = 0.0, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def student(x, freedom, steps=2000):
    """The distribution function of Student's t at x >= 0: Simpson's rule over the angle.

    With t = sqrt(freedom) tan(a) the density is a power of cos(a), so that nothing is cut off.
    """
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    end = math.atan(x / math.sqrt(freedom))
    width = end / steps
    weights = [1] + [4, 2] * (steps // 2 - 1) + [4, 1]
    total = sum(w * math.cos(k * width) ** (freedom - 1) for k, w in enumerate(weights))
    return 0.5 + math.exp(log_scale) * total * width / 3


def estimate(values):
    """Mean and the ends of its 95 % interval, which a single value does not have."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return {"mean": mean, "ci95_low": None, "ci95_high": None}
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1))
    half = student_quantile(0.975, count - 1) * deviation / math.sqrt(count)
    return {"mean": mean, "ci95_low": mean - half, "ci95_high": mean + half}


def compare(episodes, reference):
    """What the episodes of one clock, by seed, come to beside those in process."""
    seeds = sorted(episodes)
    qos = {seed: episodes[seed]["qos"] for seed in seeds}
    near = estimate([reference[seed]["objective"] for seed in seeds])
    far = {name: estimate([qos[seed][name] for seed in seeds]) for name in METRICS}
    paired = {
        name: estimate([qos[seed][name] - reference[seed][name] for seed in seeds])
        for name in METRICS
    }
    control = [episodes[seed]["control"] for seed in seeds]
    mean = far["objective"]["mean"]
    return {
        "seeds": len(seeds),
        "in_process": near,
        "control_loop": far,
        "paired_difference": paired,
        "within_ci95": near["ci95_low"] is not None
        and near["ci95_low"] <= mean <= near["ci95_high"],
        "identical_episodes": sum(identical(qos[seed], reference[seed]) for seed in seeds),
        "control": {
            "intervals": sum(c["intervals"] for c in control),
            "acted": sum(c["outcomes"].get("acted", 0) for c in control),
            "actions": sum(c["actions"] for c in control),
            "held": sum(c["states_of_actions"].get("held", 0) for c in control),
            "failed": sum(
                count
                for c in control
                for state, count in c["states_of_actions"].items()
                if state not in ("submitted", "succeeded", "held")
            ),
            "disputed_hosts": sum(c["disputed_hosts"] for c in control),
            "fallbacks": sum(c["fallbacks"] for c in control),
            "after_boundary_s": average(c["after_boundary_mean_s"] for c in control),
            "look_to_act_p50_s": average(c["look_to_act_p50_s"] for c in control),
            "look_to_act_p99_s": average(c["look_to_act_p99_s"] for c in control),
        },
        "deployer": {
            "asked": sum(episodes[seed]["deployer"]["asked"] for seed in seeds),
            "fallbacks": sum(episodes[seed]["deployer"]["fallbacks"] for seed in seeds),
        },
        "real_s": round(sum(episodes[seed]["real_s"] for seed in seeds), 1),
    }


def identical(far, near):
    """Whether every measure of quality is the same to the last bit."""
    return all(far[name] == value for name, value in near.items())


def average(values):
    """The mean of what is there."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
