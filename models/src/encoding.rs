//! The observation encoding: what the policy's network sees of a question.
//!
//! An *example* is one [`Question`] of a joint decision: features of the whole fleet (*global*),
//! features of every host, and features of every candidate answer with the host that it is about.
//! What was decided before is part of the [`Context`], so it is part of the features.
//!
//! Every feature is free of scale: a share, a ratio, a logarithm, or a penalty in units of the
//! world's own objective. None depends on how many hosts, applications or requests there are, so
//! that a model which was trained on one world can be asked about another. Values are finite and
//! within ±[`LIMIT`].
//!
//! The estimates of the greedy policy ([`twin::estimate`], [`twin::policy::greedy`]) are among the
//! features of the candidates: a network starts from them and learns where they are wrong.
//!
//! The encoding has a [version](ENCODING_VERSION), which rises with the meaning of any feature, and
//! a [hash](encoding_hash) over the version and the names of all features.
//!
//! Left out: single running fragments, the topology of variants beyond what their estimated
//! placement says, and the history before the decayed arrival rates.

mod candidates;
mod fleet;
mod hosts;
mod scale;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use twin::sequence::{Context, Question};

pub use candidates::{PLACE_FEATURES, POWER_FEATURES, VARIANT_FEATURES};
pub use fleet::GLOBAL_FEATURES;
pub use hosts::HOST_FEATURES;
pub use scale::LIMIT;

use hosts::HostEncoder;
use scale::Scale;

/// Version of the encoding; it rises when any feature changes its meaning.
pub const ENCODING_VERSION: u32 = 1;

/// The position that says that a candidate is about no host.
pub const NO_HOST: u32 = u32::MAX;

/// The most hosts that are candidates for a fragment: those of the least estimated penalty, and
/// the greedy policy's choice.
pub const MOST_PLACES: usize = 12;

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Which host to turn on or off next.
    #[default]
    Power = 0,
    /// Which variant to run.
    Variant = 1,
    /// Where to run a fragment.
    Place = 2,
}

impl Kind {
    /// All kinds, by their [index](Kind::index).
    pub const ALL: [Self; 3] = [Self::Power, Self::Variant, Self::Place];

    /// The kind's number, from 0, as datasets store it.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The kind with number `index`, if there is one.
    #[must_use]
    pub fn at(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// The name in tensor names and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Variant => "variant",
            Self::Place => "place",
        }
    }

    /// Names of the features of a candidate of this kind.
    #[must_use]
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Self::Power => &POWER_FEATURES,
            Self::Variant => &VARIANT_FEATURES,
            Self::Place => &PLACE_FEATURES,
        }
    }

    /// The kind of `question`.
    #[must_use]
    pub fn of(question: &Question<'_>) -> Self {
        match question {
            Question::Power(_) => Self::Power,
            Question::Variant { .. } => Self::Variant,
            Question::Place { .. } => Self::Place,
        }
    }
}

/// One encoded question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// What is asked.
    pub kind: Kind,
    /// Features of the fleet, one for each of [`GLOBAL_FEATURES`].
    pub global: Vec<f32>,
    /// Features of the hosts, row-major: `host_count` × [`HOST_FEATURES`].
    pub hosts: Vec<f32>,
    /// Number of hosts.
    pub host_count: usize,
    /// Features of the candidates, row-major: `candidate_count` × [`Kind::features`].
    pub candidates: Vec<f32>,
    /// For each candidate the position of the host that it is about, or [`NO_HOST`].
    ///
    /// A variant is about the host of its first fragment in the greedy placement.
    pub candidate_hosts: Vec<u32>,
    /// Number of candidates, at least one.
    pub candidate_count: usize,
    /// For each candidate its position among the question's answers, ascending. All answers are
    /// candidates, but of the hosts for a fragment at most [`MOST_PLACES`].
    pub answers: Vec<u32>,
}

impl Encoded {
    /// Features of host `host`.
    #[must_use]
    pub fn host(&self, host: usize) -> &[f32] {
        row(&self.hosts, host, HOST_FEATURES.len())
    }

    /// Features of candidate `candidate`.
    #[must_use]
    pub fn candidate(&self, candidate: usize) -> &[f32] {
        row(&self.candidates, candidate, self.kind.features().len())
    }

    /// The answer that is candidate `candidate`.
    #[must_use]
    pub fn answer(&self, candidate: usize) -> usize {
        self.answers[candidate] as usize
    }

    /// The candidate that is answer `answer`, if it is one.
    #[must_use]
    pub fn candidate_of(&self, answer: usize) -> Option<usize> {
        self.answers.iter().position(|&a| a as usize == answer)
    }

    /// The values of the candidates, given the values of all answers; NaN where there is none or
    /// it is infinite.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "datasets hold single precision"
    )]
    pub fn candidate_values(&self, values: &[f64]) -> Vec<f32> {
        let value = |answer: &u32| values.get(*answer as usize).map_or(f32::NAN, |v| *v as f32);
        let finite = |value: f32| if value.is_finite() { value } else { f32::NAN };
        self.answers.iter().map(value).map(finite).collect()
    }

    /// Number of hosts, as a dataset stores it; at most [`twin::world::MAX_HOSTS`].
    #[must_use]
    pub fn host_count_u32(&self) -> u32 {
        u32::try_from(self.host_count).unwrap_or(u32::MAX)
    }

    /// Number of candidates, as a dataset stores it.
    #[must_use]
    pub fn candidate_count_u32(&self) -> u32 {
        u32::try_from(self.candidate_count).unwrap_or(u32::MAX)
    }
}

fn row(values: &[f32], position: usize, width: usize) -> &[f32] {
    &values[position * width..(position + 1) * width]
}

/// Encodes questions; keeps what does not change between them.
///
/// An encoder gives the same features whatever it encoded before; what it keeps only saves time.
/// Worlds of equal [hash](twin::World::hash) and equal objective are taken to be the same.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    scale: Scale,
    hosts: HostEncoder,
    shortlist: candidates::Shortlist,
}

impl Encoder {
    /// An encoder that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the features of `question` into `out`, whose allocations are kept.
    ///
    /// Costs time linear in the number of hosts and of candidates, and no allocation once the
    /// buffers have grown to the world's size.
    pub fn encode(&mut self, context: &Context<'_>, question: &Question<'_>, out: &mut Encoded) {
        let world = context.observation.world();
        if self.scale.renew(world) {
            self.hosts.renew(world, &self.scale);
        }
        out.kind = Kind::of(question);
        out.host_count = context.loads.hosts().len();
        self.hosts.encode(context, &mut out.hosts);
        let fleet = fleet::Fleet::of(context);
        out.global.clear();
        out.global.extend(fleet.features(context, &self.scale));
        out.candidates.clear();
        out.candidate_hosts.clear();
        out.answers.clear();
        match question {
            Question::Power(answers) => {
                candidates::power(context, &self.scale, &fleet, answers, out);
            }
            Question::Variant { asked, options, .. } => {
                candidates::variant(context, &self.scale, asked, options, out);
            }
            Question::Place {
                asked,
                option,
                placed,
                candidates,
                ..
            } => {
                let asked = candidates::Piece {
                    asked,
                    option,
                    placed,
                };
                let shortlist = &mut self.shortlist;
                candidates::place(context, &self.scale, asked, candidates, shortlist, out);
            }
        }
        out.candidate_count = out.answers.len();
    }
}

/// SHA-256 over the version of the encoding and the names of its features, in hexadecimal.
#[must_use]
pub fn encoding_hash() -> String {
    let mut hash = Sha256::new();
    hash.update(ENCODING_VERSION.to_le_bytes());
    let tables: [&[&str]; 5] = [
        &GLOBAL_FEATURES,
        &HOST_FEATURES,
        &POWER_FEATURES,
        &VARIANT_FEATURES,
        &PLACE_FEATURES,
    ];
    for table in tables {
        for name in table {
            hash.update(name.as_bytes());
            hash.update([b'\n']);
        }
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}
