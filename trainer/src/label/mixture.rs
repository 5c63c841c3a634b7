//! Who steers, and how often.

use std::fmt;
use std::str::FromStr;

use twin::policy::POLICIES;

/// The oracle with a random answer now and then.
pub(super) const NOISY_ORACLE: &str = "noisy-oracle";

/// Names of those who steer, each with its share of the episodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    shares: Vec<(String, f64)>,
}

impl Mixture {
    /// The mixture that is used where none is given.
    pub const DEFAULT: &str = "oracle=0.4,noisy-oracle=0.2,greedy=0.15,\
        threshold-autoscaler=0.1,best-fit=0.1,random=0.05";

    /// The name at `point`, between 0 and 1, on a line where each has its share.
    pub(super) fn at(&self, point: f64) -> &str {
        let total: f64 = self.shares.iter().map(|(_, share)| share).sum();
        let mut left = point * total;
        let mut last = "";
        for (name, share) in &self.shares {
            last = name;
            left -= share;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

impl Default for Mixture {
    fn default() -> Self {
        // The text above is a mixture, as a test makes sure.
        Self::DEFAULT.parse().unwrap_or_else(|_| Self {
            shares: vec![("oracle".to_owned(), 1.0)],
        })
    }
}

impl FromStr for Mixture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares: Vec<(String, f64)> = Vec::new();
        for part in text.split(',') {
            let (name, share) = part.split_once('=').unwrap_or((part, "1"));
            if name != NOISY_ORACLE && !POLICIES.iter().any(|(known, _)| *known == name) {
                let names: Vec<&str> = POLICIES.iter().map(|policy| policy.0).collect();
                return Err(format!(
                    "{name:?} cannot steer; there are {NOISY_ORACLE}, {}",
                    names.join(", ")
                ));
            }
            let share = match share.parse() {
                Ok(share) if f64::is_finite(share) && share > 0.0 => share,
                _ => return Err(format!("{name}: {share:?} is not a share above zero")),
            };
            if shares.iter().any(|(known, _)| known == name) {
                return Err(format!("{name} is named twice"));
            }
            shares.push((name.to_owned(), share));
        }
        Ok(Self { shares })
    }
}

impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, share)) in self.shares.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{name}={share}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_by_their_point() {
        // Of 4 in all, the first quarter is the oracle's.
        let mixture: Mixture = "oracle,best-fit=3".parse().expect("a mixture");
        let found = [0.0, 0.24, 0.26, 1.0].map(|point| mixture.at(point));
        assert_eq!(found, ["oracle", "oracle", "best-fit", "best-fit"]);
        assert_eq!(mixture.to_string(), "oracle=1,best-fit=3");
        let default: Mixture = Mixture::DEFAULT.parse().expect("a mixture");
        assert_eq!(default.to_string(), Mixture::DEFAULT);
    }

    #[test]
    fn wrong_mixtures_say_why() {
        for (text, why) in [
            ("best-fitt", "cannot steer"),
            ("", "cannot steer"),
            ("oracle=0", "above zero"),
            ("oracle=NaN", "above zero"),
            ("oracle,oracle", "twice"),
        ] {
            let error = text.parse::<Mixture>().expect_err("it is refused");
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
