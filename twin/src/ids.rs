//! Identifiers: each kind of thing has a type of its own, so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl $name {
            /// The position in the world's list.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }

            /// The identifier of the thing at `position`.
            ///
            /// # Panics
            ///
            /// If `position` does not fit; world files are bounded well below that.
            #[must_use]
            pub fn at(position: usize) -> Self {
                Self(<$repr>::try_from(position).expect("positions are bounded by the world's limits"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

index!(
    /// A host: its position in `World::hosts`.
    HostId, u32);
index!(
    /// A site: its position in `World::sites`.
    SiteId, u16);
index!(
    /// A VM size: its position in `World::sizes`.
    SizeId, u16);
index!(
    /// An application: its position in `World::applications`.
    ApplicationId, u16);
index!(
    /// A variant: its position in `Application::variants`.
    VariantId, u16);

index!(
    /// A model: its position in `World::models`.
    ModelId, u16);

index!(
    /// A long-running container: its position in `World::containers`.
    ContainerId, u32);

/// A request, numbered in the order of arrival from zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
