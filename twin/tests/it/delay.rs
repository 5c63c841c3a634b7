//! `twin fit-delay`: what it prints, its errors and its exit codes.

use super::cli::{printed, refused};

#[test]
fn fit_delay_prints_the_chosen_family_first() {
    let text = printed(&["fit-delay", "--tolerate-s", "20"]);
    let chosen: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("* ")?.split_whitespace().next())
        .collect();
    assert_eq!(
        chosen,
        ["power", "power-offset", "exponential-offset", "power"]
    );
    assert!(text.contains("  20 s are not enough on the whole CPU\n"));

    let json = printed(&["fit-delay", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(value["groups"][0]["name"], "dog 720p");
    assert_eq!(value["groups"][0]["best"]["curve"]["family"], "power");
}

#[test]
fn fit_delay_names_what_is_wrong() {
    let (code, message) = refused(&["fit-delay", "/nowhere/delay.csv"]);
    assert_eq!(code, 66);
    assert!(
        message.contains("/nowhere/delay.csv: cannot read"),
        "{message}"
    );

    let folder = tempfile::tempdir().expect("a folder for the file");
    let file = folder.path().join("delay.csv");
    let header = twin::delay::HEADER.join(",");
    std::fs::write(&file, format!("{header}\ndog,720p,360,10,0.1,-5,0,table\n"))
        .expect("the file can be written");
    let (code, message) = refused(&["fit-delay", &file.display().to_string()]);
    assert_eq!(code, 65);
    assert!(
        message.ends_with("delay.csv:2: delay_s: expected a number above 0, found \"-5\"\n"),
        "{message}"
    );
    assert_eq!(refused(&["fit-delay", "--tolerate-s", "0"]).0, 2);
}
