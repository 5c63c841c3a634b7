//! One comparison: the other policy decides, and both decisions are priced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use twin::checker;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::state::{Epoch, State};
use twin::what_if::Reaction;
use twin::world::World;

use crate::pricing::{self, Budget, Cancel, Plan};
use crate::recent::Recorded;
use crate::registry::{Role, Serving};
use crate::source::{self, Loaded};

/// Futures on which both decisions are priced.
const FUTURES: usize = 8;
/// Time that a comparison may take.
const TIME: Duration = Duration::from_secs(10);
/// The seed of the random choices of policies in the shadow.
const SEED: u64 = 1;

/// What a comparison found.
pub(super) struct Compared {
    /// Whether both policies decide alike.
    pub(super) agreed: bool,
    /// Whether the candidate's decision was the one that was sent.
    pub(super) in_earnest: bool,
    /// Penalty of the active policy's decision less that of the candidate's, in s; `None` where
    /// the candidate gave none that can be carried out.
    pub(super) gain_s: Option<f64>,
}

/// The policies as the shadow holds them.
pub(super) struct Comparer {
    world: Arc<World>,
    generation: Option<u64>,
    active: Option<Loaded>,
    candidate: Option<Loaded>,
}

impl Comparer {
    pub(super) fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            generation: None,
            active: None,
            candidate: None,
        }
    }

    /// Compares the decision that was sent with that of the other policy of `serving`; `None`
    /// where they are not comparable: policies were changed since, search or nobody decided, or the
    /// time was up.
    pub(super) fn compare(&mut self, serving: &Serving, sent: &Recorded) -> Option<Compared> {
        if sent.generation != serving.generation || sent.searched || sent.policy.is_none() {
            return None;
        }
        self.follow(serving);
        // A panic, which would be a defect, must not end the comparisons.
        let compared = catch_unwind(AssertUnwindSafe(|| self.compare_now(sent)));
        compared.unwrap_or_else(|_| {
            tracing::error!("a comparison panicked");
            None
        })
    }

    fn follow(&mut self, serving: &Serving) {
        if self.generation == Some(serving.generation) {
            return;
        }
        self.generation = Some(serving.generation);
        let load = |role| {
            let source = serving.entry(role).source.as_ref()?;
            source::load_policy(source, &self.world, SEED).ok()
        };
        self.active = load(Role::Active);
        self.candidate = load(Role::Candidate);
    }

    fn compare_now(&mut self, sent: &Recorded) -> Option<Compared> {
        let in_earnest = sent.role == Role::Candidate;
        if in_earnest && sent.fallback.is_some() {
            return Some(Compared {
                agreed: false,
                in_earnest,
                gain_s: None,
            });
        }
        let view = sent.situation.view(&self.world).ok()?;
        let state = State::from_view(&self.world, &view).ok()?;
        let observation = Observation::new(&self.world, &state, view.epoch);
        let other = match sent.role {
            Role::Active => self.candidate.as_mut()?,
            Role::Candidate => self.active.as_mut()?,
        };
        let mut decision = Decision::none();
        let decided = other.policy.decide(&observation, &mut decision);
        let feasible = decided.is_ok() && checker::check(&observation, &decision).is_ok();
        if !feasible {
            // Where the active policy fails there is nothing to compare with.
            return (!in_earnest).then_some(Compared {
                agreed: false,
                in_earnest,
                gain_s: None,
            });
        }
        if decision == sent.decision {
            return Some(Compared {
                agreed: true,
                in_earnest,
                gain_s: Some(0.0),
            });
        }
        let mut plan = Plan::new(&self.world, view.epoch, None);
        plan.futures = FUTURES;
        plan.seed = sent.id.0;
        if view.epoch == Epoch::Arrival {
            // What one request changes drowns in the reactions to it.
            plan.reaction = Reaction::Held;
        }
        let budget = Budget::new(TIME, Cancel::new());
        let decisions = [sent.decision.clone(), decision];
        let prices = pricing::price(&observation, &decisions, &plan, &budget).ok()?;
        let gain_of_other_s = prices.difference(0, 1)?.penalty_s.mean;
        Some(Compared {
            agreed: false,
            in_earnest,
            gain_s: Some(if in_earnest {
                -gain_of_other_s
            } else {
                gain_of_other_s
            }),
        })
    }
}
