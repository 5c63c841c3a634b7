//! What a virtual Azure is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use jiff::Timestamp;
use twin::World;
use twin::workload::Split;

use super::clock::ClockKind;
use super::deploy::DeployerChoice;
use super::faults::FaultSettings;

/// The subscription unless another is named.
pub(super) const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
/// The tenant unless another is named.
pub(super) const TENANT: &str = "00000000-0000-0000-0000-000000000002";
/// The resource group unless another is named.
pub(super) const RESOURCE_GROUP: &str = "fleet";
/// The secret of every client unless another is set.
pub(super) const CLIENT_SECRET: &str = "virtual-secret";
/// Entries of a page of a list unless another number is set.
pub(super) const PAGE_SIZE: usize = 100;

/// As what the hosts of the world appear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Each host is a VM of its own.
    #[default]
    Vms,
    /// The hosts of one size at one site are a scale set; those that are off do not exist yet.
    ScaleSets,
    /// Every other group of hosts is a scale set.
    Mixed,
}

/// What a virtual Azure is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The world that runs behind it.
    pub world: Arc<World>,
    /// Where it listens; port 0 for any free one.
    pub listen: SocketAddr,
    /// How time passes.
    pub clock: ClockKind,
    /// Virtual time at the start.
    pub start_time: Timestamp,
    /// Seed of arrivals, demands, VM speeds and the world's faults.
    pub seed: u64,
    /// Length of an episode in intervals; the world's if `None`. Arrivals go on after it.
    pub intervals: Option<u32>,
    /// The part of the workload that arrivals are drawn from.
    pub split: Split,
    /// Who places arriving requests.
    pub deployer: DeployerChoice,
    /// As what hosts appear.
    pub layout: Layout,
    /// What goes wrong with calls.
    pub faults: FaultSettings,
    /// Whether calls are throttled as Azure does.
    pub throttle: bool,
    /// Whether to serve HTTPS with a certificate of its own authority.
    pub tls: bool,
    /// Where `ca.pem` is written, if anywhere.
    pub tls_dir: Option<PathBuf>,
    /// The subscription.
    pub subscription: String,
    /// The tenant.
    pub tenant: String,
    /// The resource group.
    pub resource_group: String,
    /// The secret that any client gets a token for.
    pub client_secret: String,
    /// Entries of a page of a list.
    pub page_size: usize,
}

impl Options {
    /// A stepped clock, a free local port, TLS, no faults, no throttling: for tests that must
    /// repeat.
    #[must_use]
    pub fn stepped(world: Arc<World>) -> Self {
        Self {
            world,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clock: ClockKind::Stepped,
            start_time: Timestamp::constant(1_767_225_600, 0),
            seed: 0,
            intervals: None,
            split: Split::HeldOut,
            deployer: DeployerChoice::default(),
            layout: Layout::default(),
            faults: FaultSettings::default(),
            throttle: false,
            tls: true,
            tls_dir: None,
            subscription: SUBSCRIPTION.into(),
            tenant: TENANT.into(),
            resource_group: RESOURCE_GROUP.into(),
            client_secret: CLIENT_SECRET.into(),
            page_size: PAGE_SIZE,
        }
    }
}
