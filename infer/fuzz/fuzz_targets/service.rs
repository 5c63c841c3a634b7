#![no_main]
//! The target `service` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("service", data));
