//! The log of decisions and the snapshots in it.

use std::fs;

use infer::fleet::{FleetInput, LiveFleet};
use infer::log::view::{DecisionSummary, RecordView};
use sha2::{Digest, Sha256};
use twin::decision_log::{
    DecisionId, Entry, Kind, Log, NewDecision, Outcome, Reader, Record, Rows, Settings,
};
use twin::live::Live;
use twin::snapshot;
use twin::state::State;

use super::support::{json, scratch, small, told, view};

/// The name of the first segment.
const FIRST: &str = "00000000000000000001.log";
/// Bytes of the header of a segment, before its checksum.
const SEGMENT_HEAD: usize = 72;
/// Bytes of the header of a record, before its checksum.
const RECORD_HEAD: usize = 32;
/// What a record begins with.
const MARKER: [u8; 4] = [0xff, b'r', b'e', b'c'];
/// The first byte of input that has all its checksums made right before it is read.
const SEALED: u8 = b'S';
/// Records that are looked up one by one.
const MAX_LOOKED_UP: u64 = 64;

/// A segment of the log of decisions: read forwards, recovered, read backwards, and written on.
/// Where the first byte is `S`, checksums are made right before, so that what is behind them is met.
pub(crate) fn segment(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if *mode == SEALED {
        seal(&mut bytes);
    }
    let folder = scratch();
    fs::write(folder.path().join(FIRST), &bytes).expect("a scratch file");
    let forwards = read_forwards(folder.path());
    let log = match Log::open(folder.path(), &small().hash, Settings::default()) {
        Ok((log, _)) => log,
        Err(error) => return told(&error.to_string()),
    };
    read_backwards(&log);
    let decision = append(&log);
    log.close().expect("the log can be closed");
    drop(log);
    let after = read_forwards(folder.path());
    assert!(
        after.len() > forwards.len() && after.starts_with(&forwards),
        "what was read before is there: {forwards:?}, {after:?}"
    );
    let (log, recovered) = Log::open(folder.path(), &small().hash, Settings::default())
        .expect("a log that was closed opens");
    assert!(recovered.in_good_order, "{recovered:?}");
    let found = log.get(decision.0).expect("the disk works");
    assert!(found.is_some(), "{decision:?} is missing");
}

/// The sequence numbers of whole records.
fn read_forwards(folder: &std::path::Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    let Ok(mut reader) = Reader::open(folder, 0) else {
        return numbers;
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                numbers.push(record.sequence);
                show(&record);
            }
            Ok(None) => break,
            Err(error) => {
                told(&error.to_string());
                break;
            }
        }
    }
    for damage in reader.damage() {
        told(&damage.to_string());
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    if let Ok(mut rows) = Rows::open(folder, 0) {
        while let Ok(Some(_)) = rows.next_row() {}
    }
    numbers
}

/// What `infer log` and the service show of a record.
fn show(record: &Record<'_>) {
    match RecordView::new(record) {
        Ok(view) => drop(json(&view)),
        Err(error) => drop(error.to_string()),
    }
    if let Ok(summary) = DecisionSummary::new(record) {
        json(&summary);
    }
}

fn read_backwards(log: &Log) {
    let page = log
        .newest(u64::MAX, 100, 1 << 20, |record| Some(record.sequence))
        .expect("the disk works");
    assert!(page.items.is_sorted_by(|a, b| a > b), "{:?}", page.items);
    for sequence in page.items.into_iter().take(8) {
        let found = log.get(sequence).expect("the disk works");
        assert_eq!(found.map(|record| record.sequence), Some(sequence));
    }
    for sequence in 0..MAX_LOOKED_UP {
        log.get(sequence).expect("the disk works");
    }
}

/// Appends a decision and its outcome.
fn append(log: &Log) -> DecisionId {
    let parsed = |text: &'static [u8]| twin::decision_log::Json::check(text).expect("JSON");
    let id = log
        .append_decision(&NewDecision {
            policy: "least-loaded",
            model_sha256: None,
            client: None,
            request: parsed(b"{}"),
            stateful: None,
            candidate: false,
            response: parsed(b"{\"schema\":1}"),
        })
        .expect("the log can be written");
    let outcome = Outcome {
        schema: 1,
        decision: id,
        request: 1,
        answered: true,
        response_s: Some(1.0),
        late: false,
    };
    log.append_outcomes(&[outcome])
        .expect("the log can be written");
    id
}

/// Makes the checksums of a segment right, as far as it is one.
fn seal(bytes: &mut [u8]) {
    if let Some((head, rest)) = bytes.split_at_mut_checked(SEGMENT_HEAD)
        && let Some(check) = rest.first_chunk_mut::<4>()
    {
        *check = crc32fast::hash(head).to_le_bytes();
    }
    let mut at = SEGMENT_HEAD + 4;
    while let Some(record) = bytes.get_mut(at..).filter(|r| r.len() > RECORD_HEAD + 4) {
        let length = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if record[..4] != MARKER {
            return;
        }
        let (head, payload) = record.split_at_mut(RECORD_HEAD + 4);
        if let Some(payload) = payload.get(..length) {
            head[28..32].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        }
        let check = crc32fast::hash(&head[..RECORD_HEAD]);
        head[RECORD_HEAD..].copy_from_slice(&check.to_le_bytes());
        at = at.saturating_add(RECORD_HEAD + 4).saturating_add(length);
    }
}

/// The payload of a record behind the number of its kind: read, and an input of the fleet taken in.
pub(crate) fn entry(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else {
        return;
    };
    let kind = u16::from(kind.wrapping_sub(b'0'));
    let record = Record {
        sequence: 7,
        at_ns: u64::MAX,
        kind,
        payload,
        world: None,
    };
    show(&record);
    let entry = match Entry::read(7, kind, payload) {
        Ok(entry) => entry,
        Err(error) => return told(&error.to_string().chars().take(300).collect::<String>()),
    };
    assert_eq!(Kind::numbered(kind), Some(entry.kind()));
    match entry {
        Entry::Fleet(input) | Entry::Telemetry(input) => take_in(input.input.get()),
        Entry::Checkpoint(checkpoint) => {
            if let Err(error) = LiveFleet::restore(small(), checkpoint.snapshot) {
                told(&error.to_string());
            }
        }
        _ => {}
    }
}

/// What a fleet accepted once is taken in again when the service starts.
fn take_in(input: &str) {
    let Ok(input) = serde_json::from_str::<FleetInput>(input) else {
        return;
    };
    let text = json(&input);
    let again: FleetInput = serde_json::from_slice(&text).expect("its own text");
    assert_eq!(again, input);
    // Only decisions that the checker found feasible are written; they are not checked again.
    if matches!(input, FleetInput::Apply(_)) {
        return;
    }
    let mut fleet = LiveFleet::put(small(), view()).expect("the example is valid");
    let checked = fleet.check(&input).is_ok();
    assert_eq!(fleet.accept(&input).is_ok(), checked, "{input:?}");
    assert!(!fleet.checkpoint().is_empty());
}

/// A snapshot of a state, and one of a live twin, with the right checksums.
pub(crate) fn snapshot(data: &[u8]) {
    if let Err(error) = snapshot::decode(data) {
        told(&error.to_string());
    }
    if let Err(error) = Live::decode(small(), data) {
        told(&error.to_string());
    }
    let mut bytes = vec![snapshot::VERSION];
    bytes.extend(&Sha256::digest(data)[..8]);
    bytes.extend(data);
    let state = match snapshot::decode(&bytes) {
        Ok(state) => state,
        Err(error) => return told(&error.to_string()),
    };
    let again = snapshot::encode(&state);
    let other: State = snapshot::decode(&again).expect("its own bytes");
    assert_eq!(snapshot::encode(&other), again);
    let accounts = accounts(small().hosts.len());
    let mut live = u64::try_from(again.len())
        .unwrap_or_default()
        .to_le_bytes()
        .to_vec();
    live.extend(&again);
    live.extend(&Sha256::digest(&accounts)[..8]);
    live.extend(&accounts);
    match Live::decode(small(), &live) {
        Ok(live) => drop(live.encode()),
        Err(error) => told(&error.to_string()),
    }
}

/// The accounts of a live twin of `hosts` that nothing is known of.
fn accounts(hosts: usize) -> Vec<u8> {
    json(&serde_json::json!({"tracks": [], "ended": [], "turned": vec![0; hosts]}))
}
