//! One week of SURF Lisa, an academic cluster of 277 nodes of 16 cores at 2.1 GHz.
//!
//! 6,295 jobs from 2022-10-06 22:00 UTC on, each alone on its node; nothing queues.
//! CPU use is in steps of 30 s, and it is the load average of one minute in MHz, cut off at 16
//! cores: it comes in hundredths of a core's 2,100 MHz, and approaches a level by a factor of
//! exp(−30/60) a step. Processes that wait for a disk count too.
//!
//! Source: the public repository of OpenDC (test resources of its trace reader); form of the
//! tables: [`container_trace`](crate::container_trace).
//!
//! Left out: power, which was published without a license, and which node a job had.

/// The manifest of the plain recording.
pub const MANIFEST: &str = "\
kind = \"containers\"
name = \"surf-week\"
source = \"one week of SURF Lisa from 2022-10-06 22:00 UTC; OpenDC, MIT license\"
bin_s = 150.0
placement = \"exclusive\"

[hosts]
count = 277
cores = 16
core_mhz = 2100.0
";
