#![no_main]
//! The target `log_entry` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("log_entry", data));
