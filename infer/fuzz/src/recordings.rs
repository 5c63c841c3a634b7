//! Files that the twin reads: traces, recordings, calibrations, telemetry.

use std::fs;
use std::path::Path;

use twin::arrivals;
use twin::calibrate::inputs::Inputs;
use twin::compare;
use twin::container::columns::Columns;
use twin::cosim::perturb::{OfHosts, OfWork};
use twin::cosim::telemetry;
use twin::delay::Measurements;
use twin::events;
use twin::recording::Recording;
use twin::replay::calibration::Calibration;
use twin::replay::containers::{DEMAND_FILE, JOBS_FILE};
use twin::replay::testbed::model::Model;
use twin::replay::window::Window;
use twin::replay::{MANIFEST_FILE, Manifest, containers, energy, measured};

use super::support::scratch;

/// The most bins of a replay.
const MAX_BINS: f64 = 10_000.0;

/// A file that the twin reads, of the kind that the first byte says; files that belong together are
/// separated by a line `---`.
pub(crate) fn recordings(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (first, second) = text.split_once("\n---\n").unwrap_or((text, ""));
    let result = match kind {
        b'a' => drop_ok(arrivals::parse(text, "fuzz", &["a", "code"])),
        b'b' => calibration(text),
        b'c' => columns(text),
        b'd' => drop_ok(Measurements::parse(text, "fuzz")),
        b'e' => event_log(text),
        b'i' => drop_ok(Inputs::parse(text, "fuzz")),
        b'm' => model(text),
        b'p' => drop_ok(text.parse::<OfHosts>()).and(drop_ok(text.parse::<OfWork>())),
        b'r' => drop_ok(Recording::parse((first, "fuzz"), (second, "fuzz"))),
        b't' => records(text),
        b'w' => drop_ok(text.parse::<Window>()),
        b'x' => compared(first, second),
        _ => folder(text),
    };
    if let Err(told) = result {
        assert!(!told.trim().is_empty(), "nothing is told");
    }
}

fn drop_ok<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

/// What is read is written and read again.
fn calibration(text: &str) -> Result<(), String> {
    let calibration = Calibration::parse(text)?;
    let text = calibration.to_toml().expect("what was read can be written");
    assert_eq!(Calibration::parse(&text).as_ref(), Ok(&calibration));
    Ok(())
}

fn model(text: &str) -> Result<(), String> {
    let model = Model::parse(text, "fuzz").map_err(|error| error.to_string())?;
    let text = model.to_toml().expect("what was read can be written");
    let again = Model::parse(&text, "again").expect("its own text");
    assert_eq!(again, model);
    Ok(())
}

/// Steps go forwards and are percentages.
fn columns(text: &str) -> Result<(), String> {
    let table = Columns::parse(text, "fuzz").map_err(|error| error.to_string())?;
    for column in 0..table.names().len() {
        for (span, percent) in table.steps(column) {
            assert!(span.0 > 0 && percent >= 0.0, "{span} {percent}");
        }
    }
    Ok(())
}

/// Lines are read and written again to the same.
fn records(text: &str) -> Result<(), String> {
    let records = telemetry::parse(text, "fuzz").map_err(|error| error.to_string())?;
    for record in &records {
        let line = record.to_line();
        let again = telemetry::Record::parse_line(&line, "again", 1).expect("its own line");
        assert_eq!(&again, record);
    }
    Ok(())
}

fn event_log(text: &str) -> Result<(), String> {
    let told = |error: events::EventsError| error.to_string();
    let mut reader = events::Reader::new(text.as_bytes(), "fuzz").map_err(told)?;
    while reader.next_line().map_err(told)?.is_some() {}
    Ok(())
}

/// Two reports or event logs of runs.
fn compared(first: &str, second: &str) -> Result<(), String> {
    let folder = scratch();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&a, first).expect("a scratch file");
    fs::write(&b, second).expect("a scratch file");
    drop_ok(compare::files(&a, &b))
}

/// A folder of a recording: its manifest, then its other files in the order that the kind has.
fn folder(text: &str) -> Result<(), String> {
    let mut parts = text.split("\n---\n");
    let mut next = || parts.next().unwrap_or_default();
    let folder = scratch();
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("a scratch file");
    };
    write(MANIFEST_FILE, next());
    match Manifest::load(folder.path()).map_err(|error| error.to_string())? {
        Manifest::Containers(manifest) => {
            write(JOBS_FILE, next());
            write(DEMAND_FILE, next());
            write("power.csv", next());
            replay(folder.path(), manifest)
        }
        Manifest::HostEnergy(manifest) => {
            write(energy::HOSTS_FILE, next());
            write(energy::ENERGY_FILE, next());
            drop_ok(energy::replay(folder.path(), &manifest))
        }
        Manifest::Testbed(_) => Ok(()),
    }
}

fn replay(folder: &Path, manifest: containers::Manifest) -> Result<(), String> {
    drop_ok(measured::load(&folder.join("power.csv")))?;
    let told = |error: twin::replay::ReplayError| error.to_string();
    let recording = containers::Recording::load(folder, manifest).map_err(told)?;
    let last = recording
        .containers
        .iter()
        .map(|c| c.demand.duration().seconds());
    if last.sum::<f64>() > recording.manifest.bin_s * MAX_BINS {
        return Ok(());
    }
    drop_ok(containers::replay(
        &recording,
        &containers::Options::default(),
    ))
}
