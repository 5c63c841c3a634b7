//! The page of small runs, and drawings by hand.

use super::*;
use crate::policy;
use crate::simulate::{Hooks, Options, run_with};

/// A fleet of `count` hosts, half of them at each of two sites, two of them on at first.
fn world(count: u32) -> World {
    let text = include_str!("tests/world.toml").replace("COUNT", &(count / 2).to_string());
    World::parse(&text, "world.toml", None).expect("the world is valid")
}

/// The page of a run of best-fit.
fn page(world: &World, intervals: u32, migrations: &[Migration]) -> String {
    let mut policy = policy::by_name("best-fit", world, 1).expect("the policy is listed");
    let options = Options {
        intervals: Some(intervals),
        timeline: true,
        ..Options::new(3)
    };
    let mut lives = Lives::new(world);
    let mut watched = Watched::new(world, policy.as_mut());
    let mut hooks = Hooks {
        events: Some(&mut lives),
        ..Hooks::default()
    };
    let run = run_with(world, &mut watched, &options, &mut hooks).expect("feasible");
    let watching = watched.into_watching();
    render(&Contents {
        world,
        policy: "best-fit",
        seed: 3,
        intervals,
        command: "twin simulate --world 'a <b> & c.toml'",
        qos: &run.qos,
        metrics: &run.qos.metrics(),
        timeline: &run.timeline,
        lives: &lives,
        watching: &watching,
        migrations,
    })
}

/// Elements without an end tag.
const VOID: [&str; 2] = ["meta", "wbr"];

/// Every element is closed in order, every attribute is quoted, ids are unique, and nothing comes
/// from elsewhere.
#[track_caller]
fn check(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a document");
    let (head, rest) = body.split_once("<style>").expect("a style sheet");
    let (style, tail) = rest.split_once("</style>").expect("it ends");
    assert!(!style.contains("url(") && !style.contains("@import"));
    let text = format!("{head}{tail}");
    let mut open: Vec<&str> = Vec::new();
    for part in text.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("each tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closes what is open");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for (i, piece) in tag.split('"').enumerate() {
            assert!(i % 2 == 1 || !piece.contains('\''), "{tag}");
        }
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
    for forbidden in [
        "<script",
        "http:",
        "https:",
        "src=",
        "NaN",
        "inf\"",
        " href=\"http",
    ] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    let ids: Vec<&str> = text
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let unique: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "ids are unique");
}

#[test]
fn a_page_is_well_formed_and_the_same_again() {
    let world = world(4);
    let shown = page(&world, 6, &[]);
    check(&shown);
    assert_eq!(shown, page(&world, 6, &[]));
    assert!(shown.contains("a &lt;b&gt; &amp; c.toml"), "escaped");
    assert!(shown.contains("Nothing was migrated in this run."));
    // One lane a host, for a desk and for a phone.
    let label = "<title>small-west-01</title>";
    assert_eq!(shown.matches(label).count(), 2);
    // A host that is off at first has no bar from the start.
    assert!(shown.contains("small-west-01: "));
    assert!(!shown.contains("small-west-02: on from 0.0 s"));
}

#[test]
fn a_short_run_and_a_run_of_many_intervals_have_pages() {
    check(&page(&world(2), 1, &[]));
    let long = page(&world(2), 700, &[]);
    check(&long);
    // 700 boundaries in at most 300 columns: four to a column.
    assert!(long.contains("A shade is the mean of 4 boundaries."));
}

#[test]
fn a_large_fleet_is_drawn_by_size_and_site() {
    let world = world(202);
    assert!(world.hosts.len() > HOSTS_DRAWN);
    let shown = page(&world, 4, &[]);
    check(&shown);
    assert!(shown.contains("too large for a lane a host"));
    assert_eq!(shown.matches("<title>101 × small west</title>").count(), 2);
    assert!(!shown.contains("small-west-01"), "no host is named");
    let lanes = Lanes::of(&world);
    assert_eq!((lanes.names.len(), lanes.hosts[0]), (2, 101));
}

#[test]
fn migrations_are_arcs_between_lanes() {
    let world = world(4);
    let migration = |outcome| Migration {
        start_s: 5.0,
        end_s: 12.0,
        from: HostId(0),
        to: HostId(2),
        outcome,
    };
    let list = [
        migration(Outcome::Completed),
        migration(Outcome::Completed),
        migration(Outcome::Failed),
        migration(Outcome::Canceled),
    ];
    let shown = page(&world, 6, &list);
    check(&shown);
    assert!(shown.contains("2 completed, 1 failed, 1 canceled"));
    let tooltip = "small-west-01 to small-east-01, 5.0 s to 12.0 s: completed";
    assert_eq!(shown.matches(tooltip).count(), 4, "twice on each screen");
    assert_eq!(shown.matches("class=\"migration failed\"").count(), 2);
}

#[test]
fn lanes_follow_the_events() {
    use crate::host::Lifecycle;
    use crate::simulate::EventSink;
    use crate::units::SimTime;
    let world = world(2);
    let mut lives = Lives::new(&world);
    let ready_at = SimTime::from_seconds(7.0);
    let host = HostId(0);
    // On at first; off at 0 leaves no stretch; booting from 2 s, on from 7 s.
    lives.lifecycle(SimTime::ZERO, host, Lifecycle::Off);
    lives.lifecycle(
        SimTime::from_seconds(2.0),
        host,
        Lifecycle::Booting { ready_at },
    );
    lives.lifecycle(ready_at, host, Lifecycle::On);
    let spans: Vec<(f64, f64)> = lives
        .spans(host, 10.0)
        .map(|s| (s.start_s, s.end_s))
        .collect();
    assert_eq!(spans, [(0.0, 2.0), (2.0, 7.0), (7.0, 10.0)]);
}
