#![no_main]
//! The target `decision_log` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("decision_log", data));
