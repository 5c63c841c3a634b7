#![no_main]
//! The target `control_state` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("control_state", data));
