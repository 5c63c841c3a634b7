#![no_main]
//! The target `virtual_azure` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("virtual_azure", data));
