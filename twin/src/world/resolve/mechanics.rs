//! Checks of what not every world has: models, credits, recorded speeds, faults.

use std::sync::Arc;

use super::{Check, WorldError};
use crate::credits::CreditSpec;
use crate::faults::Faults;
use crate::speed::SpeedModel;
use crate::units::{Mebibytes, SimTime};
use crate::world::file::{FaultsFile, SizeFile, WorldFile};
use crate::world::{MAX_MODELS, Model};

impl Check<'_> {
    /// The models that fragments load.
    pub(super) fn models(&self, file: &WorldFile) -> Result<Vec<Model>, WorldError> {
        if file.models.len() > MAX_MODELS {
            let count = file.models.len();
            return Err(self.invalid("models", format!("at most {MAX_MODELS}, found {count}")));
        }
        let names: Vec<&str> = file.models.iter().map(|m| m.name.as_str()).collect();
        self.unique("models", &names)?;
        let mut models = Vec::new();
        for (i, model) in file.models.iter().enumerate() {
            self.not_negative(&format!("models[{i}].ram_mib"), model.ram_mib)?;
            self.not_negative(&format!("models[{i}].load_s"), model.load_s)?;
            models.push(Model {
                name: model.name.clone(),
                ram: Mebibytes(model.ram_mib),
                load: SimTime::from_seconds(model.load_s),
            });
        }
        Ok(models)
    }

    /// The credits of a size, `field` in the file.
    pub(super) fn credits(
        &self,
        field: &str,
        size: &SizeFile,
    ) -> Result<Option<CreditSpec>, WorldError> {
        let Some(credits) = size.credits else {
            return Ok(None);
        };
        CreditSpec::new(
            size.vcpus,
            credits.initial,
            credits.per_hour,
            credits.maximum,
        )
        .map(Some)
        .map_err(|problem| self.invalid(field, problem.to_string()))
    }

    /// The speeds of VMs of a size, `field` in the file.
    pub(super) fn speed(
        &self,
        field: &str,
        size: &SizeFile,
    ) -> Result<Option<Arc<SpeedModel>>, WorldError> {
        let Some(name) = &size.speed else {
            return Ok(None);
        };
        SpeedModel::recorded(name)
            .map(|model| Some(Arc::new(model)))
            .map_err(|problem| self.invalid(field, problem.to_string()))
    }

    /// What goes wrong.
    pub(super) fn faults(&self, file: Option<&FaultsFile>) -> Result<Faults, WorldError> {
        let Some(file) = file else {
            return Ok(Faults::default());
        };
        let every = |name: &str, mean_s: Option<f64>| match mean_s {
            None => Ok(None),
            Some(mean_s) => {
                self.positive(&format!("faults.{name}"), mean_s)?;
                Ok(Some(mean_s))
            }
        };
        for (name, value) in [
            ("restart_s", file.restart_s),
            ("slow_for_s", file.slow_for_s),
            ("link_down_for_s", file.link_down_for_s),
        ] {
            self.not_negative(&format!("faults.{name}"), value)?;
        }
        if file.slow_every_s.is_some() && !(file.slow_factor > 0.0 && file.slow_factor <= 1.0) {
            let problem = format!(
                "must lie above 0 and at most at 1, found {}",
                file.slow_factor
            );
            return Err(self.invalid("faults.slow_factor", problem));
        }
        if !(0.0..1.0).contains(&file.allocation_failure) {
            let problem = format!(
                "must be from 0 to below 1, found {}",
                file.allocation_failure
            );
            return Err(self.invalid("faults.allocation_failure", problem));
        }
        Ok(Faults {
            crash_every_s: every("crash_every_s", file.crash_every_s)?,
            restart: SimTime::from_seconds(file.restart_s),
            slow_every_s: every("slow_every_s", file.slow_every_s)?,
            slow_for: SimTime::from_seconds(file.slow_for_s),
            slow_factor: file.slow_factor,
            link_down_every_s: every("link_down_every_s", file.link_down_every_s)?,
            link_down_for: SimTime::from_seconds(file.link_down_for_s),
            allocation_failure: file.allocation_failure,
        })
    }
}
