//! 50 business-critical VMs over 30 days: a sample of the trace GWA-T-12 (fastStorage).
//!
//! CPU use is a mean over five minutes. A VM may use a little more than its capacity.
//!
//! Source: the public repository of OpenDC (test resources of its trace reader); form of the
//! tables: [`container_trace`](crate::container_trace). The trace: Shen, van Beek, Iosup,
//! "Statistical characterization of business-critical workloads hosted in cloud datacenters",
//! CCGrid 2015.
//!
//! Left out: memory in use, disk and network, and the hosts, which the trace does not name; the
//! plain recording has hosts that are large enough for all VMs.

/// The manifest of the plain recording.
pub const MANIFEST: &str = "\
kind = \"containers\"
name = \"bitbrains-small\"
source = \"50 VMs of GWA-T-12 fastStorage (Shen et al., CCGrid 2015); OpenDC, MIT license\"
bin_s = 300.0
placement = \"least-reserved\"

# The trace does not name its hosts; these hold all VMs at their full size.
[hosts]
count = 6
cores = 48
core_mhz = 2700.0
";
