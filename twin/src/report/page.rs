//! The page: sections in order.

use std::fmt::Write as _;

use super::{Contents, Outcome, lanes};
use crate::chart::scale::{decimals_for, number};
use crate::chart::svg::{breakable, escape};
use crate::chart::timeline::{intervals_per_point, timeline};
use crate::chart::{STYLE, Screen};
use crate::compare::{Direction, direction};
use crate::summary::Summary;
use crate::world::World;

const OWN_STYLE: &str = include_str!("style.css");

/// The whole page; the same contents give the same bytes.
#[must_use]
pub fn render(contents: &Contents<'_>) -> String {
    let title = escape(&format!("{} in {}", contents.policy, contents.world.name));
    let sections = [
        ("qos", "Quality of service", qos(contents)),
        ("hosts", "Hosts over time", hosts(contents)),
        ("fleet", "The fleet over time", fleet(contents)),
        ("world", "The world", world(contents.world)),
        ("repeat", "Repeat it", repeat(contents)),
    ];
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n{}<nav aria-label=\"Sections\">",
        facts(contents)
    );
    for (id, heading, _) in &sections {
        let _ = write!(page, "<a href=\"#{id}\">{heading}</a> ");
    }
    page.push_str("</nav>\n</header>\n<main>\n");
    for (id, heading, content) in sections {
        let _ = write!(
            page,
            "<section id=\"{id}\" aria-labelledby=\"{id}-h\">\n<h2 id=\"{id}-h\">{heading}</h2>\n{content}</section>\n"
        );
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn facts(contents: &Contents<'_>) -> String {
    let qos = contents.qos;
    let facts = [
        ("Policy", contents.policy.to_owned()),
        ("World", contents.world.name.clone()),
        ("Seed", contents.seed.to_string()),
        (
            "Length",
            format!(
                "{} intervals, {} s",
                contents.intervals,
                shown(qos.duration_s)
            ),
        ),
        ("Hosts", contents.world.hosts.len().to_string()),
        (
            "Requests",
            format!(
                "{} arrived, {} answered, {} under way at the end",
                qos.requests_arrived, qos.requests_completed, qos.requests_unfinished
            ),
        ),
    ];
    let items: String = facts
        .iter()
        .map(|(label, value)| format!("<div><dt>{label}</dt><dd>{}</dd></div>", escape(value)))
        .collect();
    format!("<dl class=\"facts\">{items}</dl>\n")
}

/// A value with as many decimals as four digits need.
fn shown(value: f64) -> String {
    if !value.is_finite() {
        return "unknown".into();
    }
    let decimals = decimals_for(value, None);
    let written = number(value, decimals);
    if written.contains('.') {
        let short = written.trim_end_matches('0').trim_end_matches('.');
        return short.to_owned();
    }
    written
}

fn qos(contents: &Contents<'_>) -> String {
    let rows: String = contents
        .metrics
        .iter()
        .map(|&(name, value)| {
            let better = match direction(name) {
                Some(Direction::Higher) => "higher",
                Some(Direction::Lower) => "lower",
                None => "neither",
            };
            format!(
                "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td class=\"words\">{better}</td></tr>\n",
                breakable(name),
                shown(value)
            )
        })
        .collect();
    format!(
        "<p>Units are the ends of the names: <code>_s</code> seconds, <code>_wh</code> watt-hours, <code>_us</code> microseconds. Requests under way at the end count in the objective with their age.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Metric</th><th scope=\"col\">Value</th><th scope=\"col\" class=\"words\">Better is</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn hosts(contents: &Contents<'_>) -> String {
    let lanes = &contents.watching.lanes;
    let kind = if lanes.single() {
        "A lane for each host: what it was, and how busy at each boundary."
    } else {
        "The fleet is too large for a lane a host: a lane shows how many hosts of a size at a site were what, the full height being all of them, and how busy those that serve were on average."
    };
    let moments = contents.watching.columns.first().map_or(1, |c| c.moments);
    let merged = if moments > 1 {
        format!(" A shade is the mean of {moments} boundaries.")
    } else {
        String::new()
    };
    let wide = lanes::draw(contents, "lanes", Screen::Wide);
    let narrow = lanes::draw(contents, "lanes-narrow", Screen::Narrow);
    format!(
        "<p>{kind}{merged}</p>\n{}<figure>{wide}{narrow}</figure>\n{}",
        swatches(!contents.migrations.is_empty()),
        migrations(contents)
    )
}

fn swatches(arcs: bool) -> String {
    let mut text = String::from(
        "<div class=\"swatches\"><span><i class=\"off\"></i>off</span><span><i class=\"booting\"></i>booting</span><span><i class=\"on\"></i>on, idle</span><span><i class=\"heat\"></i>utilization 0 to 100 %</span><span><i class=\"draining\"></i>draining</span>",
    );
    if arcs {
        for outcome in [Outcome::Completed, Outcome::Failed, Outcome::Canceled] {
            let name = outcome.name();
            let _ = write!(
                text,
                "<span><i class=\"{name}\"></i>migration, {name}</span>"
            );
        }
    }
    text.push_str("</div>\n");
    text
}

fn migrations(contents: &Contents<'_>) -> String {
    if contents.migrations.is_empty() {
        return "<p>Nothing was migrated in this run.</p>\n".into();
    }
    let count = |outcome| {
        let of = contents.migrations.iter();
        of.filter(|m| m.outcome == outcome).count()
    };
    format!(
        "<p>Migrations: {} completed, {} failed, {} canceled; each arc ends with a dot on the destination.</p>\n",
        count(Outcome::Completed),
        count(Outcome::Failed),
        count(Outcome::Canceled)
    )
}

fn fleet(contents: &Contents<'_>) -> String {
    let run = contents.timeline;
    let draw = |id, screen| timeline(contents.policy, run, None, &[run], id, screen);
    let wide = draw("fleet-panels", Screen::Wide);
    let Some((wide, narrow)) = wide.zip(draw("fleet-panels-narrow", Screen::Narrow)) else {
        return "<p class=\"missing\">The run has no interval boundary.</p>\n".into();
    };
    let group = intervals_per_point(run.len());
    let grouped = if group > 1 {
        format!(" Each point is the mean of {group} intervals.")
    } else {
        String::new()
    };
    format!(
        "<p>The fleet at each boundary, before the decision.{grouped}</p>\n<figure>{wide}{narrow}</figure>\n"
    )
}

fn world(world: &World) -> String {
    let summary = Summary::of(world);
    let peak = summary.load_peak.map_or_else(String::new, |peak| {
        format!(", {} % in the busiest interval", shown(100.0 * peak))
    });
    let mut text = format!(
        "<p>{}</p>\n<p>With the most accurate variants and all hosts on, the load is {} %{peak}. All hosts draw {} W idle and {} W busy, and cost {} USD per hour.</p>\n",
        escape(&world.description),
        shown(100.0 * summary.load_mean),
        shown(summary.idle_power_w),
        shown(summary.full_power_w),
        shown(summary.price_usd_per_hour)
    );
    let rows: String = world
        .file
        .hosts
        .iter()
        .map(|g| group_row(world, g))
        .collect();
    let _ = write!(
        text,
        "<div class=\"scroll\"><table>\n<caption>Hosts</caption>\n<thead><tr><th scope=\"col\">Size, site</th><th scope=\"col\">Count</th><th scope=\"col\">Speed, MIPS</th><th scope=\"col\">Memory, MiB</th><th scope=\"col\">Power, W</th><th scope=\"col\">Price, USD/h</th><th scope=\"col\">Boot, s</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    );
    let mut rows = String::new();
    for (application, known) in world.applications.iter().zip(&summary.applications) {
        for (variant, v) in application.variants.iter().zip(&known.variants) {
            let _ = writeln!(
                rows,
                "<tr><th scope=\"row\">{} {}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                breakable(&application.name),
                breakable(&variant.name),
                shown(known.rate_per_s),
                shown(application.deadline.seconds()),
                shown(variant.accuracy),
                variant.fragments.len(),
                shown(v.work_mean_mi),
                shown(v.ram_mib)
            );
        }
    }
    let _ = write!(
        text,
        "<div class=\"scroll\"><table>\n<caption>Applications and variants</caption>\n<thead><tr><th scope=\"col\">Application, variant</th><th scope=\"col\">Requests per second</th><th scope=\"col\">Deadline, s</th><th scope=\"col\">Accuracy</th><th scope=\"col\">Fragments</th><th scope=\"col\">Work, MI</th><th scope=\"col\">Memory, MiB</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    );
    text
}

fn group_row(world: &World, group: &crate::world::file::HostGroupFile) -> String {
    let Some(size) = world.sizes.iter().find(|s| s.name == group.size) else {
        return String::new();
    };
    let site = world.sites.iter().position(|s| s.name == group.site);
    let price = site.and_then(|s| size.price_usd_per_hour.get(s)).copied();
    format!(
        "<tr><th scope=\"row\">{} {}</th><td>{}</td><td>{}</td><td>{}</td><td>{} to {}</td><td>{}</td><td>{}</td></tr>\n",
        breakable(&group.size),
        breakable(&group.site),
        group.count,
        shown(size.capacity().0),
        shown(size.ram.0),
        shown(size.power.at(0.0).0),
        shown(size.power.at(1.0).0),
        price.map_or("–".to_owned(), shown),
        shown(size.boot.seconds())
    )
}

fn repeat(contents: &Contents<'_>) -> String {
    format!(
        "<p>The same world, seed and program give the same run, but for the times of decisions.</p>\n<pre><code>{}</code></pre>\n<p>Hash of the world and its arrivals: <code>{}</code></p>\n",
        escape(contents.command),
        escape(&contents.world.hash)
    )
}
