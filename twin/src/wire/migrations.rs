//! Migrations, between messages and the twin's own values.

use super::convert::inconsistent;
use super::{Migration, MigrationStage, MigrationState, WireError};
use crate::decision;
use crate::ids::{HostId, RequestId};
use crate::migration::Stage;
use crate::observation::MigrationView;
use crate::units::{Mebibytes, SimTime};

impl MigrationState {
    pub(super) fn from_view(view: &MigrationView) -> Self {
        Self {
            request: view.request.0,
            fragment: view.fragment,
            from_host: view.from.0,
            to_host: view.to.0,
            strategy: view.strategy,
            stage: view.stage.and_then(MigrationStage::of),
            stage_elapsed_ns: view.stage_elapsed.0,
            stage_sent_mib: view.stage_sent.0,
            left_mib: view.left.0,
            bandwidth_mib_per_s: view.bandwidth_mib_per_s,
            post_copy: view.post_copy,
            rounds: view.rounds,
            sent_mib: view.sent.0,
            fetched_mib: view.fetched.0,
            total_s: view.total_s,
            downtime_s: view.downtime_s,
            stall_s: view.stall_s,
        }
    }

    pub(super) fn to_view(self, i: usize) -> Result<MigrationView, WireError> {
        let Some(round) = self.rounds.checked_add(1) else {
            let problem = "there are too many".into();
            return inconsistent(format!("state.migrations[{i}].rounds"), problem);
        };
        Ok(MigrationView {
            request: RequestId(self.request),
            fragment: self.fragment,
            from: HostId(self.from_host),
            to: HostId(self.to_host),
            strategy: self.strategy,
            stage: self.stage.map(|stage| stage.to_stage(round)),
            stage_elapsed: SimTime(self.stage_elapsed_ns),
            stage_sent: Mebibytes(self.stage_sent_mib),
            left: Mebibytes(self.left_mib),
            bandwidth_mib_per_s: self.bandwidth_mib_per_s,
            post_copy: self.post_copy,
            rounds: self.rounds,
            sent: Mebibytes(self.sent_mib),
            fetched: Mebibytes(self.fetched_mib),
            total_s: self.total_s,
            downtime_s: self.downtime_s,
            stall_s: self.stall_s,
        })
    }
}

impl MigrationStage {
    /// The stage of a migration under way; nothing for one that has ended.
    fn of(stage: Stage) -> Option<Self> {
        Some(match stage {
            Stage::FetchImage => Self::FetchImage,
            Stage::Handshake => Self::Handshake,
            Stage::Round { .. } => Self::Round,
            Stage::Dump => Self::Dump,
            Stage::Copy => Self::Copy,
            Stage::HandOver => Self::HandOver,
            Stage::Restore => Self::Restore,
            Stage::Verify => Self::Verify,
            Stage::Resume => Self::Resume,
            Stage::Pull => Self::Pull,
            Stage::RollBack => Self::RollBack,
            Stage::Done | Stage::Aborted { .. } => return None,
        })
    }

    fn to_stage(self, round: u32) -> Stage {
        match self {
            Self::FetchImage => Stage::FetchImage,
            Self::Handshake => Stage::Handshake,
            Self::Round => Stage::Round { number: round },
            Self::Dump => Stage::Dump,
            Self::Copy => Stage::Copy,
            Self::HandOver => Stage::HandOver,
            Self::Restore => Stage::Restore,
            Self::Verify => Stage::Verify,
            Self::Resume => Stage::Resume,
            Self::Pull => Stage::Pull,
            Self::RollBack => Stage::RollBack,
        }
    }
}

impl Migration {
    pub(super) fn from_decision(migration: &decision::Migration) -> Self {
        Self {
            request: migration.request.0,
            fragment: migration.fragment,
            to_host: migration.to.0,
            strategy: migration.strategy,
        }
    }

    pub(super) fn to_decision(self) -> decision::Migration {
        decision::Migration {
            request: RequestId(self.request),
            fragment: self.fragment,
            to: HostId(self.to_host),
            strategy: self.strategy,
        }
    }
}
