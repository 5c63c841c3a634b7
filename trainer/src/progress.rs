//! Progress of long commands: a bar on a terminal, a line every ten seconds elsewhere.
//!
//! Both go to standard error, so that standard output holds results only.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows how far a command is, until it is dropped; may be shared by threads.
///
/// ```
/// let progress = trainer::progress::Progress::new("evaluate", 2);
/// progress.add(1);
/// progress.add(1);
/// ```
pub struct Progress {
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Lines),
}

impl Progress {
    /// Progress of `title` towards `total` steps.
    #[must_use]
    pub fn new(title: &str, total: u64) -> Self {
        let shown = if io::stderr().is_terminal() {
            Shown::Bar(bar(title, total))
        } else {
            Shown::Lines(Lines::new(title, total, LINE_EVERY, Box::new(io::stderr())))
        };
        Self { shown }
    }

    /// Adds `steps` to what is done.
    pub fn add(&self, steps: u64) {
        match &self.shown {
            Shown::Bar(bar) => bar.inc(steps),
            Shown::Lines(lines) => {
                lines.done.fetch_add(steps, Ordering::Relaxed);
            }
        }
    }

    /// Prints one line of text without disturbing the bar.
    pub fn say(&self, text: &str) {
        let line = || {
            // Progress that nobody can read is no reason to fail.
            let _ = writeln!(io::stderr(), "{text}");
        };
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(line),
            Shown::Lines(_) => line(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(title: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_prefix(title.to_owned());
    let template = "{prefix} [{bar:32}] {percent:>3} %  {elapsed} elapsed, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Writes lines from a thread of its own, so that one long step does not silence it.
struct Lines {
    done: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn new(title: &str, total: u64, every: Duration, mut out: Box<dyn Write + Send>) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = mpsc::channel();
        let title = title.to_owned();
        let seen = Arc::clone(&done);
        let started = Instant::now();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let line = line(
                    &title,
                    seen.load(Ordering::Relaxed),
                    total,
                    started.elapsed(),
                );
                // Progress that nobody can read is no reason to fail.
                let _ = writeln!(out, "{line}");
            }
        });
        Self {
            done,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread holds nothing that could be lost.
            let _ = thread.join();
        }
    }
}

/// `title: 25 % (5 of 20), 10 s elapsed, about 30 s left`.
fn line(title: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let done = done.min(total);
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    let seconds = elapsed.as_secs();
    let left = match (seconds * (total - done)).checked_div(done) {
        Some(left) => format!("about {left} s left"),
        None => "time left unknown".to_owned(),
    };
    format!("{title}: {percent} % ({done} of {total}), {seconds} s elapsed, {left}")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn lines_say_how_far_and_how_long() {
        // 10 s for 5 of 20 leave 10 · 15 / 5 = 30 s.
        assert_eq!(
            line("evaluate", 5, 20, Duration::from_secs(10)),
            "evaluate: 25 % (5 of 20), 10 s elapsed, about 30 s left"
        );
        assert_eq!(
            line("fit", 0, 20, Duration::from_secs(3)),
            "fit: 0 % (0 of 20), 3 s elapsed, time left unknown"
        );
        assert_eq!(
            line("fit", 9, 0, Duration::ZERO),
            "fit: 100 % (0 of 0), 0 s elapsed, time left unknown"
        );
    }

    /// A writer that others can look into.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_without_steps_and_stop_with_the_owner() {
        let out = Shared::default();
        let text = || String::from_utf8(out.0.lock().expect("no panic").clone()).expect("text");
        let every = Duration::from_millis(1);
        let lines = Lines::new("label", 4, every, Box::new(out.clone()));
        lines.done.fetch_add(1, Ordering::Relaxed);
        let patience = Instant::now() + Duration::from_secs(20);
        while !text().contains("label: 25 % (1 of 4)") && Instant::now() < patience {
            thread::sleep(every);
        }
        drop(lines);
        assert!(text().contains("label: 25 % (1 of 4)"), "{}", text());
        let after = text();
        thread::sleep(Duration::from_millis(10));
        assert_eq!(text(), after);
    }
}
