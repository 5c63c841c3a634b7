//! The thread that owns the cloud: calls are done one after the other, and time passes between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use twin::units::SimTime;

use super::answer::{Answer, Call, Denial};
use super::clock::Clock;
use super::cloud::{Cloud, Until};

/// Calls that wait for their turn; more are turned away.
const QUEUE: usize = 256;
/// How often a running clock is looked at while nobody calls.
const TICK: Duration = Duration::from_millis(20);
/// Virtual time that passes before calls have their turn again.
const SLICE: SimTime = SimTime(60_000_000_000);

/// A call and where its answer goes.
struct Job {
    call: Call,
    answer: oneshot::Sender<Answer>,
}

/// Passes calls to the thread.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    jobs: SyncSender<Job>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Too many calls wait.
    Busy,
    /// The thread has ended.
    Gone,
}

impl Engine {
    /// Starts the thread, which ends when the last [`Engine`] is dropped.
    pub(super) fn start(cloud: Cloud) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("virtual-azure".into())
            .spawn(move || run(cloud, &queue))?;
        Ok((Self { jobs }, thread))
    }

    /// Has `call` answered.
    pub(super) async fn answer(&self, call: Call) -> Result<Answer, Unanswered> {
        let (answer, answered) = oneshot::channel();
        match self.jobs.try_send(Job { call, answer }) {
            Ok(()) => answered.await.map_err(|_| Unanswered::Gone),
            Err(TrySendError::Full(_)) => Err(Unanswered::Busy),
            Err(TrySendError::Disconnected(_)) => Err(Unanswered::Gone),
        }
    }
}

fn run(mut cloud: Cloud, queue: &Receiver<Job>) {
    let mut clock = Clock::new(cloud.clock, Instant::now());
    loop {
        let behind = pass(&mut cloud, &mut clock);
        let wait = if behind { Duration::ZERO } else { TICK };
        match queue.recv_timeout(wait) {
            Ok(job) => {
                // A step may take long, and has the time pass by itself.
                pass(&mut cloud, &mut clock);
                let answer = answer(&mut cloud, &job.call);
                let time = cloud.time(cloud.now()).to_string();
                // Who asked may have gone.
                let _ = job.answer.send(answer.with("x-virtual-time", time));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Answers `call`. A panic, which would be a defect, becomes a status of 500.
fn answer(cloud: &mut Cloud, call: &Call) -> Answer {
    let answered = catch_unwind(AssertUnwindSafe(|| {
        match call.segments.first().map(String::as_str) {
            Some("virtual") => cloud.control(call),
            _ => cloud.handle(call),
        }
    }));
    answered.unwrap_or_else(|_| {
        tracing::error!(method = call.method, path = call.path, "a call panicked");
        let message = "The call failed: this is a defect of the virtual Azure.";
        Denial::new(500, "InternalServerError", message).answer()
    })
}

/// Lets a running clock's time pass, at most a slice of it; whether there is more.
fn pass(cloud: &mut Cloud, clock: &mut Clock) -> bool {
    let now = Instant::now();
    let Some(shown) = clock.shows(now) else {
        return false;
    };
    let target = shown.min(cloud.now().after(SLICE));
    cloud.advance(Until::time(target));
    clock.reached(Instant::now(), cloud.now());
    target < shown
}
