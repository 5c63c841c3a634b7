//! The worlds and arrivals that are part of the program.

/// A file that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// World files, in alphabetical order.
pub const WORLDS: &[Embedded] = &[
    Embedded {
        name: "azure-llm",
        text: include_str!("../../worlds/azure-llm.toml"),
    },
    Embedded {
        name: "scinet-16",
        text: include_str!("../../worlds/scinet-16.toml"),
    },
];

/// Arrivals files that worlds refer to by name.
pub const ARRIVALS: &[Embedded] = &[Embedded {
    name: "azure-llm",
    text: include_str!("../../worlds/azure-llm.arrivals.csv"),
}];

/// The text of the embedded file `name` of `list`.
#[must_use]
pub fn find(list: &[Embedded], name: &str) -> Option<&'static str> {
    list.iter()
        .find(|file| file.name == name)
        .map(|file| file.text)
}
