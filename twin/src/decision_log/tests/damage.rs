//! Files that are cut off or changed.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::frame::{RECORD_HEADER, SEGMENT_HEADER};
use super::*;

/// Writes notes of these lengths; the segment, its bytes, and where records end.
fn written(folder: &Path, lengths: &[usize]) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let (log, _) = open(folder);
    let path = segment::path(folder, 1);
    let mut ends = Vec::new();
    for (i, length) in lengths.iter().enumerate() {
        append(&log, &expected(i, *length));
        let end = fs::metadata(&path).expect("it is there").len();
        ends.push(usize::try_from(end).expect("short"));
    }
    drop(log);
    let bytes = fs::read(&path).expect("it is readable");
    (path, bytes, ends)
}

/// The note at position `i`.
fn expected(i: usize, length: usize) -> String {
    format!("{i}:{}", "x".repeat(length))
}

/// The texts of all notes, and whether their numbers rise.
fn texts(folder: &Path) -> Vec<String> {
    let notes = notes(folder);
    assert!(notes.is_sorted_by(|a, b| a.0 < b.0));
    notes.into_iter().map(|note| note.1).collect()
}

/// Opens a folder whose segment holds `bytes`, appends, and tells what was found and is read.
fn opened(bytes: &[u8]) -> (Recovered, Vec<String>, TempDir) {
    let folder = folder();
    fs::write(segment::path(folder.path(), 1), bytes).expect("it is written");
    let (log, found) = open(folder.path());
    append(&log, "after");
    let texts = texts(folder.path());
    (found, texts, folder)
}

const LENGTHS: [usize; 4] = [0, 30, 7, 100];

#[test]
fn a_segment_cut_anywhere_keeps_every_whole_record_and_sets_the_rest_aside() {
    let origin = folder();
    let (_, bytes, ends) = written(origin.path(), &LENGTHS);
    let all: Vec<String> = LENGTHS
        .iter()
        .enumerate()
        .map(|(i, l)| expected(i, *l))
        .collect();
    for cut in 0..=bytes.len() {
        let (found, texts, folder) = opened(&bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut wanted = all[..whole].to_vec();
        wanted.push("after".into());
        assert_eq!(texts, wanted, "cut at {cut}");
        let kept = whole.checked_sub(1).map_or(SEGMENT_HEADER, |i| ends[i]);
        match &found.torn {
            None => assert!(cut <= SEGMENT_HEADER || cut == kept, "cut at {cut}"),
            Some(torn) => {
                assert_eq!(torn.damage.offset, kept as u64);
                let aside = fs::read(&torn.kept).expect("it is there");
                assert_eq!(aside, &bytes[kept..cut], "cut at {cut}");
                assert_eq!(torn.kept.parent(), Some(folder.path()));
            }
        }
        assert_eq!((found.damage.len(), found.cautions.len()), (0, 0));
    }
}

#[test]
fn a_flipped_bit_costs_at_most_its_record_and_is_told_with_file_and_offset() {
    let origin = folder();
    let (_, bytes, ends) = written(origin.path(), &LENGTHS);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if (8..10).contains(&at) {
            // The checksum tells that this is no other version.
            assert_ne!(flipped[8..10], bytes[8..10]);
        }
        let (found, texts, folder) = opened(&flipped);
        let hit = ends.iter().position(|end| at < *end).expect("inside");
        let hit = (at >= SEGMENT_HEADER).then_some(hit);
        let mut wanted: Vec<String> = (0..LENGTHS.len())
            .filter(|i| Some(*i) != hit)
            .map(|i| expected(i, LENGTHS[i]))
            .collect();
        wanted.push("after".into());
        assert_eq!(texts, wanted, "flipped at {at}");
        let damage = match hit {
            Some(3) => found.torn.expect("the last record is the tail").damage,
            _ => found.damage.first().expect("it is told").clone(),
        };
        let begin = match hit {
            None => 0,
            Some(0) => SEGMENT_HEADER,
            Some(i) => ends[i - 1],
        };
        assert_eq!(damage.offset, begin as u64);
        assert_eq!(damage.path, segment::path(folder.path(), 1));
        assert!(damage.to_string().contains(&format!("offset {begin}")));
        if let Some(hit) = hit.filter(|hit| *hit < 3) {
            assert_eq!((damage.first, damage.records), (hit as u64 + 1, 1));
        }
    }
}

#[test]
fn records_inside_a_payload_are_not_taken_for_records() {
    // A snapshot that holds a whole record, and is damaged before it.
    let origin = folder();
    let (_, inner, ends) = written(origin.path(), &[5, 5]);
    let outer = folder();
    let (log, _) = open(outer.path());
    append(&log, "a");
    let checkpoint = Entry::Checkpoint(Checkpoint {
        through: 1,
        snapshot: &inner[SEGMENT_HEADER..ends[1]],
    });
    log.append(&checkpoint).expect("it is appended");
    append(&log, "b");
    drop(log);
    assert_eq!(notes(outer.path()).len(), 2);
}

#[test]
fn damage_longer_than_any_buffer_is_passed() {
    let origin = folder();
    let lengths: Vec<usize> = (0..600).map(|i| 2_000 + i % 7).collect();
    let (path, mut bytes, ends) = written(origin.path(), &lengths);
    // Zeros, as a file system leaves them where the power failed.
    bytes[ends[9]..ends[589]].fill(0);
    fs::write(&path, &bytes).expect("it is written");
    let mut reader = Reader::open(origin.path(), 0).expect("it is there");
    let mut count = 0;
    while reader.next_record().expect("readable").is_some() {
        count += 1;
    }
    assert_eq!(count, 20);
    let damage = &reader.damage()[0];
    assert_eq!((damage.first, damage.records), (11, 580));
    assert_eq!(damage.bytes, (ends[589] - ends[9]) as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Over several runs with small segments, any bytes of any segment may be changed, cut out or
    /// put in: the log opens and goes on, and whatever record was not touched is read.
    #[test]
    fn any_damage_costs_only_what_it_touches(
        runs in prop::collection::vec(prop::collection::vec(0_usize..3_000, 1..12), 1..4),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..200, 0_u8..3), 1..4),
    ) {
        let folder = folder();
        let settings = Settings { segment_bytes: 4096, ..Settings::default() };
        let mut all = Vec::new();
        for lengths in &runs {
            let (log, _) = open_with(folder.path(), settings.clone());
            for length in lengths {
                let text = expected(all.len(), *length);
                append(&log, &text);
                all.push(text);
            }
        }
        prop_assert_eq!(&texts(folder.path()), &all);
        let mut touched = 0;
        for (which, place, length, how) in &hits {
            let listed = segment::list(folder.path()).expect("it is there");
            let (_, path, _) = which.get(&listed);
            let mut bytes = fs::read(path).expect("readable");
            // Damage begins behind the header, whose loss costs no record.
            if bytes.len() <= SEGMENT_HEADER { continue; }
            let at = SEGMENT_HEADER + place.index(bytes.len() - SEGMENT_HEADER);
            let end = (at + length).min(bytes.len());
            match how {
                0 => bytes[at..end].iter_mut().for_each(|b| *b = !*b),
                1 => drop(bytes.drain(at..end)),
                _ => { bytes.splice(at..at, vec![0xff; *length]); }
            }
            fs::write(path, &bytes).expect("written");
            // A stretch of so many bytes can touch no more records than that.
            touched += 2 + length / RECORD_HEADER;
        }
        let left = texts(folder.path());
        prop_assert!(left.iter().all(|text| all.contains(text)));
        prop_assert!(left.len() + touched >= all.len(), "{} of {} with {touched} touched", left.len(), all.len());
        let (log, _) = open_with(folder.path(), settings);
        append(&log, "after");
        let after = texts(folder.path());
        prop_assert_eq!(&after[..after.len() - 1], &left[..]);
        prop_assert_eq!(after.last().map(String::as_str), Some("after"));
    }
}
