//! Rows of the validation table: what the tests find, as they find it.
//!
//! Where the environment variable `VALIDATION_ROWS` names a file, each row is added to it as a line
//! of JSON; without it nothing is written. `just validation` makes the table of these lines.

use std::fs::OpenOptions;
use std::io::Write;

use proptest::test_runner::Config;
use serde_json::{Value, json};

/// Adds a row about the running test.
pub(crate) fn note(kind: &str, what: &str, figures: &Value) {
    let Some(path) = std::env::var_os("VALIDATION_ROWS") else {
        return;
    };
    let test = std::thread::current().name().map(str::to_owned);
    let row = json!({ "test": test, "kind": kind, "what": what, "figures": figures });
    // One write a line, so that tests of several threads do not mix.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{row}\n").as_bytes()))
        .expect("VALIDATION_ROWS names a file that can be written");
}

/// A property that is tested on so many cases, which are drawn as in `rest`.
pub(crate) fn property(cases: u32, rest: Config) -> Config {
    note("property", "", &json!({ "cases": cases }));
    Config { cases, ..rest }
}
