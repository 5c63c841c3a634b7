//! A disk that is full, and one that fails.

use std::fs;

use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn a_full_disk_is_told_leaves_nothing_behind_and_passes() {
    let folder = folder();
    let (log, faults, _) = open_faulty(folder.path(), Settings::default());
    append(&log, "a");
    let path = segment::path(folder.path(), 1);
    let length = fs::metadata(&path).expect("it is there").len();
    // Space for every front part of a record, but not for all of it.
    for room in 0..100 {
        faults.room.store(room, Ordering::SeqCst);
        let error = log.append(&note(&"x".repeat(100))).expect_err("full");
        assert!(matches!(error, LogError::Full { .. }), "{error}");
        assert_eq!(error.reason(), "full");
        assert_eq!(fs::metadata(&path).expect("there").len(), length);
        let failure = log.status().failure.expect("it fails");
        assert!(failure.contains("no space is left to append"), "{failure}");
        assert!(log.tidy().is_err(), "the attempt to write fails as well");
    }
    // There is room for a short record, but not for what was refused.
    faults.room.store(120, Ordering::SeqCst);
    assert!(log.tidy().is_err());
    faults.room.store(MIB, Ordering::SeqCst);
    log.tidy().expect("it is tried again");
    assert_eq!(log.status().failure, None);
    // The numbers of what was refused are free: nobody knows them.
    assert_eq!(append(&log, "b"), 3);
    let resumed = log.get(2).expect("readable").expect("it is there");
    let Ok(Entry::Resumed(resumed)) = resumed.as_record().entry() else {
        panic!("another kind");
    };
    assert_eq!(resumed.refused, 201);
    let texts: Vec<String> = notes(folder.path()).into_iter().map(|n| n.1).collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn a_disk_that_was_full_when_a_segment_began_is_no_hindrance() {
    for stubborn in [false, true] {
        let folder = folder();
        let (log, faults, _) = open_faulty(folder.path(), Settings::default());
        faults.no_remove.store(stubborn, Ordering::SeqCst);
        for room in [0, 10, 75] {
            faults.room.store(room, Ordering::SeqCst);
            log.append(&note("a")).expect_err("full");
        }
        faults.room.store(MIB, Ordering::SeqCst);
        append(&log, "b");
        assert_eq!(notes(folder.path()).len(), 1);
        drop(log);
        let (log, _) = open(folder.path());
        append(&log, "c");
        assert_eq!(notes(folder.path()).len(), 2, "stubborn: {stubborn}");
    }
}

#[test]
fn what_cannot_be_taken_back_costs_its_numbers() {
    let folder = folder();
    let (log, faults, _) = open_faulty(folder.path(), Settings::default());
    append(&log, "a");
    faults.no_truncate.store(true, Ordering::SeqCst);
    faults.room.store(50, Ordering::SeqCst);
    log.append(&note("lost")).expect_err("full");
    faults.room.store(MIB, Ordering::SeqCst);
    assert_eq!(append(&log, "b"), 3);
    assert_eq!(log.status().segments, 2);
    let all = notes(folder.path());
    assert_eq!(all, [(1, "a".into()), (3, "b".into())]);
    let mut reader = Reader::open(folder.path(), 0).expect("there");
    while reader.next_record().expect("readable").is_some() {}
    assert_eq!((reader.damaged(), reader.damage()[0].bytes), (1, 50));
    assert_eq!(log.get(2).expect("readable"), None);
}

#[test]
fn a_failed_sync_is_told_to_all_whom_it_concerns() {
    let folder = folder();
    let (log, faults, _) = open_faulty(folder.path(), Settings::default());
    let safe = append(&log, "a");
    log.sync().expect("it is on the disk");
    let lost = [append(&log, "b"), append(&log, "c")];
    faults.no_sync.store(true, Ordering::SeqCst);
    log.sync().expect_err("the disk fails");
    assert!(log.status().failure.expect("told").contains("cannot sync"));
    faults.no_sync.store(false, Ordering::SeqCst);
    let late = append(&log, "d");
    log.sync().expect("it is on the disk");
    assert_eq!(log.status().failure, None);
    assert!(!log.lost(safe) && !log.lost(late));
    // A later sync that succeeds says nothing about them.
    assert!(lost.iter().all(|sequence| log.lost(*sequence)));
    assert_eq!(log.status().segments, 2, "the file is left");
    assert_eq!(notes(folder.path()).len(), 4);
}

#[test]
fn the_lock_is_held_by_one_at_a_time() {
    let folder = folder();
    let (log, _) = open(folder.path());
    let error = recover::lock(folder.path(), std::time::Duration::ZERO).expect_err("locked");
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another process writes"));
    // Readers need no lock.
    append(&log, "a");
    assert_eq!(notes(folder.path()).len(), 1);
    drop(log);
    recover::lock(folder.path(), std::time::Duration::ZERO).expect("it is free");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").expect("it is written");
    let error = Log::open(&file, WORLD, Settings::default()).expect_err("a file");
    assert!(error.to_string().contains("cannot create"), "{error}");
    let error = Reader::open(&folder.path().join("absent"), 0).expect_err("absent");
    assert!(error.to_string().contains("cannot list"), "{error}");
}

#[test]
fn a_segment_of_a_later_version_is_left_alone() {
    let folder = folder();
    let (log, _) = open(folder.path());
    append(&log, "a");
    drop(log);
    let path = segment::path(folder.path(), 1);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..72]);
    bytes[72..76].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).expect("written");
    let error = Log::open(folder.path(), WORLD, Settings::default()).expect_err("later");
    assert!(error.to_string().contains("of version 2"), "{error}");
    assert_eq!(fs::read(&path).expect("readable"), bytes);
}
