//! Worlds by hand, each with one odd thing.

use super::*;

/// A world in which nothing is odd.
const SOUND: &str = include_str!("tests/sound.toml");

fn checked(text: &str) -> CheckReport {
    let world = World::parse(text, "world.toml", None).expect("the world is valid");
    CheckReport::of(&world)
}

/// The sound world with one text replaced.
#[track_caller]
fn with(from: &str, to: &str) -> CheckReport {
    assert!(SOUND.contains(from), "the world has no {from}");
    checked(&SOUND.replace(from, to))
}

/// `severity code field` of each finding.
fn told(report: &CheckReport) -> Vec<String> {
    report
        .findings
        .iter()
        .map(|f| format!("{} {} {}", f.severity.name(), f.code, f.field))
        .collect()
}

#[track_caller]
fn finds(report: &CheckReport, expected: &str) {
    let told = told(report);
    assert!(
        told.iter().any(|t| t == expected),
        "{expected} is not in {told:#?}"
    );
}

#[test]
fn nothing_is_odd_in_a_sound_world() {
    let report = checked(SOUND);
    assert_eq!(told(&report), [""; 0]);
    // 2 requests/s of 1500 MI on 2 · 2000 + 2 · 4000 = 12000 MIPS: 1/4; the least is 400 MI: 1/15.
    let load = &report.load;
    assert!((load.most_accurate.mean - 1.0 / 4.0).abs() < 1e-9);
    assert!((load.least_work.mean - 1.0 / 15.0).abs() < 1e-9);
    // 3000 MIPS of work are less than the 4000 of one large host.
    assert_eq!(load.most_accurate.hosts_least, Some(1));
    // P(N ≤ 7 | mean 2) = 0.9989, P(N ≤ 8) = 0.99976: 8 · 1500 / 12000 in a second.
    assert!((load.most_accurate.peaks[0].load - 1.0).abs() < 1e-9);
    // 10 ms there and back, 0.1 Mbit of input at 100 Mbit/s, 500 MI at 1000 and 1000 MI at 2000 MIPS:
    // 0.01 + 0.001 + 0.5 + 0.5 s.
    let whole = &report.applications[0].variants[0];
    assert!((whole.response_p50_s - 1.011).abs() < 1e-6, "{whole:?}");
    assert!((whole.response_p90_s - 1.011).abs() < 1e-6, "{whole:?}");
}

#[test]
fn load() {
    finds(
        &with("rate_per_s = 2 ", "rate_per_s = 35 "),
        "error load-unstable hosts",
    );
    finds(
        &with("rate_per_s = 2 ", "rate_per_s = 13 "),
        "warning load-needs-cheap-variants hosts",
    );
    finds(
        &with("rate_per_s = 2 ", "rate_per_s = 7.5 "),
        "warning load-high hosts",
    );
    finds(
        &with("rate_per_s = 2 ", "rate_per_s = 0.01 "),
        "note load-low hosts",
    );
    // 28 · 400 / 12000 = 93 % on average, and more than that in a busy minute.
    finds(
        &with("rate_per_s = 2 ", "rate_per_s = 28 "),
        "warning load-peak workload.rate_per_s",
    );
}

#[test]
fn deadlines() {
    let field = "applications[0].deadline_s";
    // The fastest variant takes 0.411 s.
    finds(
        &with("deadline_s = 3", "deadline_s = 0.4"),
        &format!("error deadline-out-of-reach {field}"),
    );
    finds(
        &with("deadline_s = 3", "deadline_s = 1"),
        "warning variant-out-of-reach applications[0].variants[0]",
    );
    // Exponential work of mean 400 MI: 0.277 + 0.011 s at the median, 0.92 + 0.011 s at 90 %.
    let spread = SOUND
        .replace(
            "{ kind = \"constant\", value = 400 }",
            "{ kind = \"exponential\", mean = 400 }",
        )
        .replace("deadline_s = 3", "deadline_s = 0.5");
    finds(
        &checked(&spread),
        &format!("warning deadline-tight {field}"),
    );
    let gathered = SOUND.replace(
        "interval_s = 10",
        "interval_s = 10\ndispatch = \"interval\"",
    );
    finds(
        &checked(&gathered),
        &format!("warning dispatch-too-late {field}"),
    );
}

#[test]
fn variants_and_applications() {
    let better = SOUND
        .replace("accuracy = 0.7", "accuracy = 0.95")
        .replace("ram_mib = 200 }", "ram_mib = 100 }");
    finds(
        &checked(&better),
        "warning variant-dominated applications[0].variants[0]",
    );
    let second = SOUND.replace(
        "[[applications]]",
        "[[applications]]\nname = \"idle\"\nshare = 0\ndeadline_s = 3\n[[applications.variants]]\nname = \"v\"\naccuracy = 1\nfragments = [{ name = \"f\", max_vcpus = 1, ram_mib = 1 }]\n[[applications]]",
    );
    finds(
        &checked(&second),
        "warning application-never-asked applications[0].share",
    );
    // The compressed model has all its work in one fragment, the whole one in two smaller ones.
    let note = SOUND
        .replace("accuracy = 0.7", "accuracy = 0.95")
        .replace("ram_mib = 100", "ram_mib = 150");
    finds(
        &checked(&note),
        "note variant-dominated applications[0].variants[0]",
    );
    finds(
        &with("max_vcpus = 2,", "max_vcpus = 8,"),
        "note cap-above-hosts applications[0].variants[0].fragments[1].max_vcpus",
    );
}

#[test]
fn memory() {
    // Only large hosts have 3000 MiB: two of four. With ten small ones more, two of fourteen.
    let few = SOUND
        .replace("ram_mib = 100, output_kib", "ram_mib = 3000, output_kib")
        .replace("count = 2 # small", "count = 12 # small");
    finds(
        &checked(&few),
        "warning ram-few-hosts applications[0].variants[0].fragments[0].ram_mib",
    );
    // A compressed model holds 1500 MiB for 0.4 s: 18 requests/s hold 10800 of 12000 MiB.
    let short = SOUND
        .replace("ram_mib = 200 }", "ram_mib = 1500 }")
        .replace("ram_mib = 100", "ram_mib = 1500");
    finds(
        &checked(&short.replace("rate_per_s = 2 ", "rate_per_s = 18 ")),
        "warning ram-short hosts",
    );
    finds(
        &checked(&short.replace("rate_per_s = 2 ", "rate_per_s = 25 ")),
        "error ram-never-enough hosts",
    );
    // One fragment of 1500 MiB and one vCPU fills a small host of 2000 MiB and two vCPUs.
    finds(
        &checked(&short.replace("max_vcpus = 2,", "max_vcpus = 1,")),
        "note ram-strands-cpu sizes[0].ram_mib",
    );
}

#[test]
fn sizes_sites_and_links() {
    finds(
        &with("count = 2 # small", "count = 0"),
        "note size-unused sizes[0]",
    );
    finds(
        &with(
            "price_usd_per_hour = { west = 0.1,",
            "price_usd_per_hour = { west = 0,",
        ),
        "warning price-zero sizes[0].price_usd_per_hour.west",
    );
    finds(
        &with("power_w = [10, 11,", "power_w = [10, 9,"),
        "warning power-decreases sizes[0].power_w[1]",
    );
    finds(
        &with(
            "power_w = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]",
            "power_w = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]",
        ),
        "warning power-zero sizes[0].power_w",
    );
    finds(
        &with("boot_s = 8", "boot_s = 25"),
        "note boot-spans-intervals sizes[0].boot_s",
    );
    finds(
        &with("boot_s = 8", "boot_s = 500"),
        "warning boot-beyond-episode sizes[0].boot_s",
    );
    // Twice the memory at twice the price, and nothing needs it.
    let memory = SOUND
        .replace("vcpus = 4", "vcpus = 2")
        .replace("site = \"east\"", "site = \"west\"");
    finds(&checked(&memory), "note size-memory-only sizes[1]");
    // A large host at the price and power of a small one.
    let better = SOUND
        .replace("{ west = 0.2, east = 0.2 }", "{ west = 0.1, east = 0.1 }")
        .replace(
            "power_w = [20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40]",
            "power_w = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]",
        )
        .replace("site = \"east\"", "site = \"west\"");
    let report = checked(&better);
    finds(&report, "warning size-dominated sizes[0]");
    finds(&report, "warning site-empty sites[1]");
    finds(&report, "note link-unused links[0]");
    finds(
        &with("after = [\"front\"], ", ""),
        "note link-unused links[0]",
    );
    finds(
        &checked(
            &SOUND
                .replace("# small", "\ninitially_on = 0")
                .replace("# large", "\ninitially_on = 0"),
        ),
        "note nothing-on hosts",
    );
}

#[test]
fn terms_of_the_objective() {
    finds(
        &with("energy = 1", "energy = 0"),
        "note term-off objective.weights.energy",
    );
    finds(
        &with("energy = 1", "energy = 1000"),
        "note term-dominates objective.weights.energy",
    );
    finds(
        &with("energy = 1", "energy = 0.0001"),
        "note term-vanishes objective.weights.energy",
    );
    finds(
        &with("accuracy = 0.7", "accuracy = 0.9"),
        "note term-constant objective.weights.accuracy",
    );
    finds(
        &with("reference_power_w = 100", "reference_power_w = 10000"),
        "note reference-far objective.reference_power_w",
    );
}

#[test]
fn the_gravest_come_first_and_all_say_what_to_do() {
    let report = with("rate_per_s = 2 ", "rate_per_s = 35 ");
    assert!(
        report
            .findings
            .windows(2)
            .all(|w| w[0].severity >= w[1].severity)
    );
    assert_eq!(report.count(Severity::Error), 1);
    for finding in &report.findings {
        let Finding {
            what, why, way_out, ..
        } = finding;
        assert!(
            !what.is_empty() && !why.is_empty() && !way_out.is_empty(),
            "{finding:?}"
        );
        for text in [what, why, way_out] {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}
