//! Many writers and readers at the same time.

use std::collections::BTreeSet;
use std::thread;

use super::*;

const WRITERS: usize = 4;
const EACH: usize = 500;

#[test]
fn readers_see_everything_in_order_while_many_write() {
    let folder = folder();
    let settings = Settings {
        segment_bytes: 16 << 10,
        ..Settings::default()
    };
    let (log, _) = open_with(folder.path(), settings);
    let (log, path) = (&log, folder.path());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    (0..EACH)
                        .map(|i| append(log, &format!("{writer}:{i}:{}", "x".repeat(i % 300))))
                        .collect::<Vec<u64>>()
                })
            })
            .collect();
        let done = &done;
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(move || follow(path, done)))
            .collect();
        let syncing = scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                log.sync().expect("it is on the disk");
                log.tidy().expect("it is tidied");
                let newest = log.status().next.saturating_sub(1);
                assert!(newest == 0 || log.get(newest).expect("readable").is_some());
            }
        });
        let mut given = BTreeSet::new();
        for writer in writers {
            let own = writer.join().expect("it ends");
            assert!(
                own.is_sorted(),
                "what one writer appends stays in its order"
            );
            given.extend(own);
        }
        done.store(true, Ordering::SeqCst);
        assert_eq!(given.len(), WRITERS * EACH);
        for reader in readers {
            let seen = reader.join().expect("it ends");
            assert!(seen.iter().eq(given.iter()));
        }
        syncing.join().expect("it ends");
    });
    assert!(log.status().segments > 5);
}

/// Everything that a reader sees until `done`, and then until the end.
fn follow(path: &Path, done: &AtomicBool) -> Vec<u64> {
    let mut reader = Reader::open(path, 0).expect("there");
    let mut seen = Vec::new();
    loop {
        let last = done.load(Ordering::SeqCst);
        while let Some(record) = reader.next_record().expect("readable") {
            assert!(record.entry().is_ok());
            seen.push(record.sequence);
        }
        if last {
            assert_eq!((reader.damaged(), reader.tail()), (0, None));
            return seen;
        }
    }
}
