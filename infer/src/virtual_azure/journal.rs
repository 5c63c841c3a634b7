//! The log of state-changing calls that were executed: who did what, when, and what it did.

use std::collections::VecDeque;

use serde::Serialize;

/// Entries that are kept; the oldest go first.
const MOST_ENTRIES: usize = 200_000;
/// Entries of one page.
pub(super) const PAGE: usize = 10_000;

/// One executed call, or one part of it for each VM that it is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Entry {
    /// Number, from 1.
    pub(super) sequence: u64,
    /// Virtual time of the call since the start, in ns.
    pub(super) at_ns: u64,
    /// Virtual time of the call.
    pub(super) time: String,
    /// Who called, as the token says.
    pub(super) caller: String,
    /// `x-ms-client-request-id`, where the client sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_request_id: Option<String>,
    /// What was asked for: `start`, `deallocate`, …
    pub(super) action: &'static str,
    /// Name of the VM, or of the instance as `scale set/number`.
    pub(super) vm: String,
    /// The world's name of its host.
    pub(super) host: String,
    /// The operation, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<String>,
    /// What it did to the host: `off -> booting`, `none: on`, or `pending` while it has not acted.
    pub(super) effect: String,
    /// The fault that it met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<super::faults::FaultKind>,
    /// Whether it is the second execution of a call that was sent once.
    pub(super) duplicate: bool,
}

/// The log.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    written: u64,
}

impl Journal {
    /// Writes `entry` and gives its number.
    pub(super) fn write(&mut self, mut entry: Entry) -> u64 {
        self.written += 1;
        entry.sequence = self.written;
        if self.entries.len() == MOST_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.written
    }

    /// Says what the call of entry `sequence` did.
    pub(super) fn tell(&mut self, sequence: u64, effect: String) {
        let first = self.entries.front().map_or(0, |entry| entry.sequence);
        let place = usize::try_from(sequence.saturating_sub(first));
        if let Some(entry) = place.ok().and_then(|place| self.entries.get_mut(place))
            && entry.sequence == sequence
        {
            entry.effect = effect;
        }
    }

    /// How many entries were ever written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// A page of the entries after number `after`.
    pub(super) fn after(&self, after: u64) -> Vec<&Entry> {
        let skip = self.entries.partition_point(|e| e.sequence <= after);
        self.entries.iter().skip(skip).take(PAGE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(vm: &str) -> Entry {
        Entry {
            sequence: 0,
            at_ns: 0,
            time: String::new(),
            caller: "tester".into(),
            client_request_id: None,
            action: "start",
            vm: vm.into(),
            host: "host".into(),
            operation: None,
            effect: "pending".into(),
            fault: None,
            duplicate: false,
        }
    }

    #[test]
    fn entries_are_numbered_and_told_what_they_did() {
        let mut journal = Journal::default();
        assert_eq!(journal.write(entry("a")), 1);
        assert_eq!(journal.write(entry("b")), 2);
        journal.tell(2, "off -> booting".into());
        journal.tell(9, "nobody".into());
        assert_eq!(journal.written(), 2);
        let page = journal.after(1);
        assert_eq!(page.len(), 1);
        assert_eq!(
            (page[0].vm.as_str(), page[0].effect.as_str()),
            ("b", "off -> booting")
        );
    }

    #[test]
    fn the_oldest_go_first() {
        let mut journal = Journal::default();
        for _ in 0..MOST_ENTRIES + 5 {
            journal.write(entry("a"));
        }
        assert_eq!(journal.entries.len(), MOST_ENTRIES);
        assert_eq!(journal.after(0)[0].sequence, 6);
        journal.tell(6, "told".into());
        assert_eq!(journal.after(0)[0].effect, "told");
        assert_eq!(journal.after(0).len(), PAGE);
    }
}
