//! The learned policy as a policy of the twin.

use std::path::Path;

use twin::Observation;
use twin::decision::Decision;
use twin::policy::{InputDrift, Policy, PolicyError};
use twin::sequence::{Chooser, Context, Question, Stepwise};

use crate::encoding::{Encoded, Encoder};
use crate::folder::{ModelConfig, ModelError, ModelFolder};
use crate::forward::Forward;
use crate::ranges::{Ranges, Watch};
use crate::weights::Weights;

/// Answers each question with the candidate that the network scores highest.
///
/// It answers on any world, whichever it was trained on. Clones share the weights.
#[derive(Clone, Debug)]
pub struct ModelChooser {
    name: String,
    encoder: Encoder,
    encoded: Encoded,
    forward: Forward,
    watch: Option<Watch>,
}

impl ModelChooser {
    /// Answers by `weights`; `name` is what reports call it.
    #[must_use]
    pub fn new(name: impl Into<String>, weights: &Weights) -> Self {
        Self {
            name: name.into(),
            encoder: Encoder::new(),
            encoded: Encoded::default(),
            forward: Forward::new(weights),
            watch: None,
        }
    }

    /// The same, and counts the values that lie outside of `ranges` ([`ModelChooser::drift`]).
    #[must_use]
    pub fn watching(self, ranges: Option<&Ranges>) -> Self {
        Self {
            watch: ranges.map(Watch::new),
            ..self
        }
    }

    /// How far the questions of the last decision lay outside of the ranges, if there are any.
    #[must_use]
    pub fn drift(&self) -> Option<&InputDrift> {
        self.watch.as_ref().map(Watch::drift)
    }

    /// The score of each candidate of `question`, higher is better; which answers they are says
    /// [`ModelChooser::encoded`].
    pub fn scores(&mut self, context: &Context<'_>, question: &Question<'_>) -> &[f32] {
        self.encoder.encode(context, question, &mut self.encoded);
        if let Some(watch) = &mut self.watch {
            watch.see(&self.encoded);
        }
        self.forward.scores(&self.encoded)
    }

    /// The last question as the network saw it.
    #[must_use]
    pub fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// What the network expects of the load ([`crate::weights::FORECASTS`]) as of the last
    /// question.
    #[must_use]
    pub fn forecast(&self) -> [f32; crate::weights::FORECASTS] {
        self.forward.forecast()
    }
}

impl Chooser for ModelChooser {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&mut self, _observation: &Observation<'_>) {
        if let Some(watch) = &mut self.watch {
            watch.begin();
        }
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        let best = argmax(self.scores(context, question));
        Ok(self.encoded.answer(best))
    }
}

/// The position of the greatest score; the first of equals.
#[must_use]
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = (f32::NEG_INFINITY, 0);
    for (i, &score) in scores.iter().enumerate() {
        if score > best.0 {
            best = (score, i);
        }
    }
    best.1
}

/// A trained model as a [`Policy`], called `model:` and the name of its folder.
#[derive(Debug)]
pub struct ModelPolicy {
    stepwise: Stepwise<ModelChooser>,
    config: ModelConfig,
    sha256: String,
}

impl ModelPolicy {
    /// Reads the model in the folder `dir`.
    ///
    /// # Errors
    ///
    /// As [`ModelFolder::load`].
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let folder = ModelFolder::load(dir)?;
        // A path such as `runs/fit/..` has no last name of its own.
        let path = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        let name = path
            .file_name()
            .map_or_else(|| dir.into(), |name| name.to_owned());
        Self::new(&format!("model:{}", name.to_string_lossy()), &folder).map_err(|source| {
            ModelError::Weights {
                path: dir.join(crate::folder::WEIGHTS_FILE),
                source,
            }
        })
    }

    /// The model of `folder`; `name` is what reports call it.
    ///
    /// # Errors
    ///
    /// As [`ModelFolder::sha256`].
    pub fn new(name: &str, folder: &ModelFolder) -> Result<Self, crate::weights::WeightsError> {
        Ok(Self {
            stepwise: Stepwise::new(
                ModelChooser::new(name, &folder.weights).watching(folder.ranges.as_ref()),
            ),
            config: folder.config.clone(),
            sha256: folder.sha256()?,
        })
    }

    /// The same model with nothing remembered: as a policy for another run or thread. The weights
    /// are shared.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self {
            stepwise: Stepwise::new(self.stepwise.chooser.clone()),
            config: self.config.clone(),
            sha256: self.sha256.clone(),
        }
    }

    /// What the weights belong to: the world that the model was trained on, and the seeds.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// SHA-256 of the file of the weights, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Who answers the questions.
    #[must_use]
    pub fn chooser(&self) -> &ModelChooser {
        &self.stepwise.chooser
    }
}

impl Policy for ModelPolicy {
    fn name(&self) -> &str {
        self.stepwise.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        self.stepwise.decide(observation, decision)
    }

    fn drift(&self) -> Option<&InputDrift> {
        self.stepwise.chooser.drift()
    }
}
