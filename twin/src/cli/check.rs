//! `twin check`.

use std::fmt::Write;

use clap::ValueEnum;
use twin::World;
use twin::check::{ApplicationReach, CheckReport, Finding, Load, Severity};

use super::Format;
use super::failure::Denied;

/// Width of the text.
const WIDTH: usize = 96;

/// Options of `twin check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of an embedded world (see `twin worlds`), or path of a world file.
    world: String,
    /// Exit with 64 if there is a finding of this severity or a graver one.
    #[arg(long, value_enum, value_name = "SEVERITY")]
    deny: Option<Deny>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// From which severity on a finding fails the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Deny {
    /// Errors: no policy can do well.
    Errors,
    /// Errors, and warnings: what is probably not meant.
    Warnings,
    /// Every finding.
    Notes,
}

impl From<Deny> for Severity {
    fn from(deny: Deny) -> Self {
        match deny {
            Deny::Errors => Self::Error,
            Deny::Warnings => Self::Warning,
            Deny::Notes => Self::Note,
        }
    }
}

/// Checks a world and prints what is odd.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let world = World::load(&args.world)?;
    let report = CheckReport::of(&world);
    match args.format {
        Format::Json => super::print_json(&report)?,
        Format::Text => super::print(&text(&report)?)?,
    }
    if let Some(deny) = args.deny {
        let least = Severity::from(deny);
        let count = report.count(least);
        if count > 0 {
            let (kind, s) = (least.name(), if count == 1 { "" } else { "s" });
            return Err(Denied(format!(
                "{}: {count} finding{s} of severity {kind} or graver",
                args.world
            ))
            .into());
        }
    }
    Ok(())
}

fn text(report: &CheckReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "{}\n", report.world)?;
    let load = &report.load;
    writeln!(
        out,
        "Load: {:.4} requests/s on hosts of {:.0} MIPS together",
        load.rate_per_s, load.capacity_mips
    )?;
    let peaks = match load.peak_quantile {
        None => "busiest windows:".to_owned(),
        Some(q) => format!(
            "in all but {:.1} % of windows at most, of",
            100.0 * (1.0 - q)
        ),
    };
    load_line(out, "most accurate variants", &load.most_accurate, &peaks)?;
    load_line(out, "variants of least work", &load.least_work, &peaks)?;
    reach(out, &report.applications)?;
    let terms: Vec<String> = report
        .terms
        .iter()
        .map(|t| format!("{} {:.0} %", t.term, 100.0 * t.share))
        .collect();
    writeln!(
        out,
        "\nWhat decisions can change in the objective: {}\n",
        terms.join(", ")
    )?;
    if report.findings.is_empty() {
        writeln!(out, "Nothing is odd.")?;
    }
    for finding in &report.findings {
        write_finding(out, finding)?;
    }
    let count = |severity| {
        let of = report.findings.iter();
        of.filter(|f| f.severity == severity).count()
    };
    let counted = |severity: Severity| {
        let n = count(severity);
        format!("{n} {}{}", severity.name(), if n == 1 { "" } else { "s" })
    };
    writeln!(
        out,
        "{}, {}, {}",
        counted(Severity::Error),
        counted(Severity::Warning),
        counted(Severity::Note)
    )?;
    Ok(text)
}

fn reach(out: &mut String, applications: &[ApplicationReach]) -> std::fmt::Result {
    writeln!(
        out,
        "\nResponse on idle hosts, without queues (late: beyond the deadline even so)"
    )?;
    let names = applications.iter().flat_map(|a| {
        let variants = a.variants.iter().map(|v| v.name.chars().count() + 2);
        variants.chain([a.name.chars().count()])
    });
    let width = names.max().unwrap_or(0);
    for a in applications {
        writeln!(
            out,
            "  {:width$}  deadline {} s, {:.4} requests/s",
            a.name, a.deadline_s, a.rate_per_s
        )?;
        for v in &a.variants {
            writeln!(
                out,
                "    {:short$}  p50 {:8.3} s   p90 {:8.3} s   late {:5.1} %   accuracy {:.3}",
                v.name,
                v.response_p50_s,
                v.response_p90_s,
                100.0 * v.late_ratio,
                v.accuracy,
                short = width.saturating_sub(2)
            )?;
        }
    }
    Ok(())
}

fn load_line(out: &mut String, name: &str, load: &Load, what: &str) -> std::fmt::Result {
    let peaks: Vec<String> = load
        .peaks
        .iter()
        .map(|p| format!("{:.0} s {:.1} %", p.window_s, 100.0 * p.load))
        .collect();
    let least = match load.hosts_least {
        Some(1) => "1 host is enough in the long run".into(),
        Some(hosts) => format!("{hosts} hosts are enough in the long run"),
        None => "all hosts are too few".into(),
    };
    writeln!(
        out,
        "  {name}: mean {:.1} %; {least}\n    {what} {}",
        100.0 * load.mean,
        peaks.join(", ")
    )
}

fn write_finding(out: &mut String, finding: &Finding) -> std::fmt::Result {
    writeln!(
        out,
        "{}[{}] {}",
        finding.severity.name(),
        finding.code,
        finding.field
    )?;
    wrapped(out, "  ", "  ", &finding.what)?;
    wrapped(out, "  why: ", "       ", &finding.why)?;
    wrapped(out, "  way out: ", "           ", &finding.way_out)?;
    writeln!(out)
}

/// Writes `text` in lines of at most [`WIDTH`] characters.
fn wrapped(out: &mut String, first: &str, others: &str, text: &str) -> std::fmt::Result {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            others.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    writeln!(out, "{line}")
}
