//! The files that the simulators share: the workload they read, the completions they write.
//!
//! All numbers are little-endian. A workload opens with the 8 bytes `peers-1\n` and four whole
//! numbers of 8 bytes: hosts, cores of a host, tasks, seed. The tasks follow in the order of
//! arrival, each as 8 bytes of arrival, a whole number of ns, and 8 bytes of work, a float in s.
//! Completions are one float in s for each task, in the order of the tasks.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::tasks::{Shape, Task};

const MAGIC: &[u8; 8] = b"peers-1\n";

/// Writes the workload of `shape` to `path`.
pub(crate) fn write_workload(path: &Path, shape: Shape) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(failed)?);
    let sizes = [shape.hosts, shape.cores, shape.tasks].map(u64::from);
    let mut write = |bytes: &[u8]| out.write_all(bytes).with_context(failed);
    write(MAGIC)?;
    for size in sizes {
        write(&size.to_le_bytes())?;
    }
    write(&shape.seed.to_le_bytes())?;
    for task in shape.generate() {
        write(&task.arrival_ns.to_le_bytes())?;
        write(&task.work_s.to_le_bytes())?;
    }
    out.flush().with_context(failed)
}

/// A workload that is read task by task.
pub(crate) struct Workload {
    pub(crate) shape: Shape,
    input: BufReader<File>,
}

impl Workload {
    /// Opens the workload at `path`, and reads how large it is.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = || format!("failed to read {}", path.display());
        let mut input = BufReader::new(File::open(path).with_context(failed)?);
        let mut word = || read_word(&mut input);
        ensure!(
            word().with_context(failed)? == *MAGIC,
            "{}: not a workload; `generate` writes one",
            path.display()
        );
        let mut number = || word().map(u64::from_le_bytes).with_context(failed);
        let [hosts, cores, tasks, seed] = [number()?, number()?, number()?, number()?];
        let size = |name: &str, value: u64| {
            u32::try_from(value).with_context(|| format!("{}: {name}: {value}", path.display()))
        };
        let shape = Shape {
            hosts: size("hosts", hosts)?,
            cores: size("cores", cores)?,
            tasks: size("tasks", tasks)?,
            seed,
        };
        Ok(Self { shape, input })
    }

    /// Reads the tasks, and makes something of each.
    pub(crate) fn tasks<T>(mut self, mut make: impl FnMut(u32, Task) -> T) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(self.shape.tasks as usize);
        for index in 0..self.shape.tasks {
            let mut word = || {
                read_word(&mut self.input).with_context(|| format!("failed to read task {index}"))
            };
            let task = Task {
                arrival_ns: u64::from_le_bytes(word()?),
                work_s: f64::from_le_bytes(word()?),
            };
            all.push(make(index, task));
        }
        Ok(all)
    }
}

fn read_word(input: &mut impl Read) -> std::io::Result<[u8; 8]> {
    let mut word = [0; 8];
    input.read_exact(&mut word)?;
    Ok(word)
}

/// Writes when each task ended, in s.
pub(crate) fn write_ends(path: &Path, ends_s: &[f64]) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(failed)?);
    for end_s in ends_s {
        out.write_all(&end_s.to_le_bytes()).with_context(failed)?;
    }
    out.flush().with_context(failed)
}
