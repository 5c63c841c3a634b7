//! Progress on standard error: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// A command that ends before this shows no bar.
const QUIET: Duration = Duration::from_secs(2);

/// Counts steps.
#[derive(Debug)]
pub(crate) struct Progress {
    noun: &'static str,
    total: u32,
    bar: Option<ProgressBar>,
    started: Instant,
    last: Instant,
}

impl Progress {
    /// Progress of `total` steps called `noun`.
    pub(crate) fn new(noun: &'static str, total: u32) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(u64::from(total))
                .with_style(style)
                .with_message(noun)
        });
        Self {
            noun,
            total,
            bar,
            started: Instant::now(),
            last: Instant::now(),
        }
    }

    /// Says that `done` steps are done.
    pub(crate) fn at(&mut self, done: u32) {
        if let Some(bar) = &self.bar {
            if self.started.elapsed() >= QUIET {
                bar.set_position(u64::from(done));
            }
        } else if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            eprintln!("{done} of {} {}", self.total, self.noun);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
