#![no_main]
//! The target `decision_response` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("decision_response", data));
