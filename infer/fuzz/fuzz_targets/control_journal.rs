#![no_main]
//! The target `control_journal` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("control_journal", data));
