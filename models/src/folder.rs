//! Model folders: what a trained model is on disk.
//!
//! | file | holds |
//! |---|---|
//! | `model.safetensors` | the weights ([`crate::weights`]) |
//! | `config.json` | what they belong to ([`ModelConfig`]) |
//! | `metrics.json` | what was measured |
//! | `README.md` | the model card |
//! | `ranges.json` | the range of each feature in training ([`crate::ranges`]); older models lack it |
//! | `SHA256SUMS` | the checksum of each, as `sha256sum` writes it |
//!
//! Each file is written to a temporary name and renamed; the checksums come last, so a folder
//! without them is one that was never finished. A folder is read only if every checksum is right.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::encoding::{ENCODING_VERSION, encoding_hash};
use crate::ranges::{Ranges, RangesError};
use crate::weights::{Weights, WeightsError, Widths};

/// Version of the folder's form.
pub const FORMAT_VERSION: u32 = 1;

/// The weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// What the weights belong to.
pub const CONFIG_FILE: &str = "config.json";
/// What was measured.
pub const METRICS_FILE: &str = "metrics.json";
/// The model card.
pub const CARD_FILE: &str = "README.md";
/// The range of each feature in training.
pub const RANGES_FILE: &str = "ranges.json";
/// The checksums.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// The largest file that is read, in bytes.
const MOST_BYTES: u64 = 256 << 20;

/// What the weights belong to; nothing in it depends on when or where the model was fitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// [`ENCODING_VERSION`] of the writer.
    pub encoding_version: u32,
    /// [`encoding_hash`] of the writer.
    pub encoding_hash: String,
    /// Widths of the network.
    pub widths: Widths,
    /// Name of the world that the model was trained on.
    pub world: String,
    /// Hash of that world.
    pub world_hash: String,
    /// Seeds of the datasets and of the fit.
    pub training_seeds: Vec<u64>,
}

impl ModelConfig {
    /// The configuration of a model with this program's encoding.
    #[must_use]
    pub fn new(widths: Widths, world: &twin::World, training_seeds: Vec<u64>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            encoding_version: ENCODING_VERSION,
            encoding_hash: encoding_hash(),
            widths,
            world: world.name.clone(),
            world_hash: world.hash.clone(),
            training_seeds,
        }
    }
}

/// A model card: front matter, then text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// License, as its SPDX expression.
    pub license: String,
    /// What the model is, in words.
    pub tags: Vec<String>,
    /// What it was trained on.
    pub datasets: Vec<String>,
    /// Names of the metrics that are reported.
    pub metrics: Vec<String>,
    /// The text, in Markdown.
    pub text: String,
}

impl Card {
    /// The card as Markdown with YAML front matter.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        // A JSON string is a YAML string.
        let quoted = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        let mut out = format!("---\nlicense: {}\n", quoted(&self.license));
        let lists = [
            ("tags", &self.tags),
            ("datasets", &self.datasets),
            ("metrics", &self.metrics),
        ];
        for (name, items) in lists {
            if items.is_empty() {
                out.push_str(&format!("{name}: []\n"));
                continue;
            }
            out.push_str(&format!("{name}:\n"));
            for item in items {
                out.push_str(&format!("  - {}\n", quoted(item)));
            }
        }
        out.push_str("---\n\n");
        out.push_str(self.text.trim());
        out.push('\n');
        out
    }
}

/// Why a model folder cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// There is no such folder.
    #[error("there is no model folder {}; `trainer fit` writes one", .0.display())]
    NoFolder(PathBuf),
    /// A file of the folder is missing.
    #[error("{} is missing: the model was not finished or not copied whole; copy the whole folder, or fit the model again", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is too large.
    #[error("{} has {bytes} bytes, more than the {MOST_BYTES} that a model file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The list of checksums is malformed.
    #[error("{}: {problem}; copy the folder again, or fit the model again", path.display())]
    Sums {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file is not the one that was written.
    #[error("{} is damaged or was edited: expected SHA-256 {expected}, found {found}; copy the folder again, or fit the model again", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum in the list.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// A JSON file is malformed.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The folder has another form.
    #[error("{}: format version {found}, but this program reads version {FORMAT_VERSION}; fit the model again", path.display())]
    Format {
        /// The configuration.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// The model was trained on another observation encoding.
    #[error("{}: the model was trained on observation encoding version {found_version} ({found}), this program encodes version {ENCODING_VERSION} ({expected}); fit the model again", path.display())]
    Encoding {
        /// The configuration.
        path: PathBuf,
        /// The version found.
        found_version: u32,
        /// The hash found.
        found: String,
        /// This program's hash.
        expected: String,
    },
    /// The weights are malformed.
    #[error("{}: {source}; fit the model again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// The ranges are malformed.
    #[error("{}: {source}; fit the model again", path.display())]
    Ranges {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RangesError,
    },
}

/// A model as its folder holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolder {
    /// What the weights belong to.
    pub config: ModelConfig,
    /// The weights.
    pub weights: Weights,
    /// What was measured.
    pub metrics: serde_json::Value,
    /// The model card, in Markdown.
    pub card: String,
    /// The range of each feature in training; models of older programs have none.
    pub ranges: Option<Ranges>,
}

impl ModelFolder {
    /// Writes the model into the folder `dir`, which is created where it is missing.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), ModelError> {
        let access = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ModelError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(access(dir))?;
        let sums_path = dir.join(SUMS_FILE);
        match fs::remove_file(&sums_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(access(&sums_path)(error));
            }
            _ => {}
        }
        let weights = self
            .weights
            .to_safetensors()
            .map_err(|source| ModelError::Weights {
                path: dir.join(WEIGHTS_FILE),
                source,
            })?;
        let mut files = vec![
            (WEIGHTS_FILE, weights),
            (CONFIG_FILE, json(&dir.join(CONFIG_FILE), &self.config)?),
            (METRICS_FILE, json(&dir.join(METRICS_FILE), &self.metrics)?),
            (CARD_FILE, self.card.clone().into_bytes()),
        ];
        if let Some(ranges) = &self.ranges {
            let bytes = json(&dir.join(RANGES_FILE), &ranges.to_file())?;
            files.push((RANGES_FILE, bytes));
        }
        let mut sums = String::new();
        for (name, bytes) in &files {
            let path = dir.join(name);
            write_atomic(&path, bytes).map_err(access(&path))?;
            sums.push_str(&format!("{}  {name}\n", sha256_hex(bytes)));
        }
        write_atomic(&sums_path, sums.as_bytes()).map_err(access(&sums_path))
    }

    /// Reads the model in the folder `dir`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if a file is missing, damaged or malformed, or if the model was trained on
    /// another encoding; the error names the file and the way out.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        if !dir.is_dir() {
            return Err(ModelError::NoFolder(dir.to_path_buf()));
        }
        let sums = Sums::load(&dir.join(SUMS_FILE))?;
        let config_path = dir.join(CONFIG_FILE);
        let bytes = sums.read(dir, CONFIG_FILE)?;
        let version: Version = parse(&config_path, &bytes)?;
        if version.format_version != u64::from(FORMAT_VERSION) {
            return Err(ModelError::Format {
                path: config_path,
                found: version.format_version,
            });
        }
        let config: ModelConfig = parse(&config_path, &bytes)?;
        let expected = encoding_hash();
        if config.encoding_hash != expected {
            return Err(ModelError::Encoding {
                path: config_path,
                found_version: config.encoding_version,
                found: config.encoding_hash,
                expected,
            });
        }
        let weights = Weights::from_safetensors(config.widths, &sums.read(dir, WEIGHTS_FILE)?)
            .map_err(|source| ModelError::Weights {
                path: dir.join(WEIGHTS_FILE),
                source,
            })?;
        let metrics = parse(&dir.join(METRICS_FILE), &sums.read(dir, METRICS_FILE)?)?;
        let card = String::from_utf8_lossy(&sums.read(dir, CARD_FILE)?).into_owned();
        let ranges = match sums.lists(RANGES_FILE) {
            true => Some(read_ranges(dir, &sums)?),
            false => None,
        };
        Ok(Self {
            config,
            weights,
            metrics,
            card,
            ranges,
        })
    }

    /// SHA-256 of the file of the weights, in hexadecimal: names the model.
    ///
    /// # Errors
    ///
    /// As [`Weights::to_safetensors`].
    pub fn sha256(&self) -> Result<String, WeightsError> {
        Ok(sha256_hex(&self.weights.to_safetensors()?))
    }
}

/// The list of checksums.
struct Sums {
    path: PathBuf,
    entries: Vec<(String, String)>,
}

impl Sums {
    fn load(path: &Path) -> Result<Self, ModelError> {
        let bytes = read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some((sum, name)) = line.split_once("  ") else {
                return Err(ModelError::Sums {
                    path: path.to_path_buf(),
                    problem: format!("line {} is not a checksum and a name", number + 1),
                });
            };
            entries.push((name.to_owned(), sum.to_owned()));
        }
        Ok(Self {
            path: path.to_path_buf(),
            entries,
        })
    }

    fn lists(&self, name: &str) -> bool {
        self.entries.iter().any(|(listed, _)| listed == name)
    }

    /// The bytes of the file `name`, if they are those that were written.
    fn read(&self, dir: &Path, name: &str) -> Result<Vec<u8>, ModelError> {
        let Some((_, expected)) = self.entries.iter().find(|(listed, _)| listed == name) else {
            return Err(ModelError::Sums {
                path: self.path.clone(),
                problem: format!("{name} is not listed"),
            });
        };
        let path = dir.join(name);
        let bytes = read(&path)?;
        let found = sha256_hex(&bytes);
        if found != *expected {
            return Err(ModelError::Checksum {
                path,
                expected: expected.clone(),
                found,
            });
        }
        Ok(bytes)
    }
}

fn read_ranges(dir: &Path, sums: &Sums) -> Result<Ranges, ModelError> {
    let path = dir.join(RANGES_FILE);
    let file = parse(&path, &sums.read(dir, RANGES_FILE)?)?;
    Ranges::from_file(file).map_err(|source| ModelError::Ranges { path, source })
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let access = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ModelError::Missing(path.to_path_buf()),
        _ => ModelError::Io {
            path: path.to_path_buf(),
            source,
        },
    };
    let bytes = fs::metadata(path).map_err(access)?.len();
    if bytes > MOST_BYTES {
        return Err(ModelError::TooLarge {
            path: path.to_path_buf(),
            bytes,
        });
    }
    fs::read(path).map_err(access)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ModelError> {
    serde_json::from_slice(bytes).map_err(|error| ModelError::Json {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

fn json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, ModelError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| ModelError::Json {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes `bytes` so that the file is either the old one or the whole new one.
fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
