#![no_main]
//! The target `registry_state` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("registry_state", data));
