#![no_main]
//! The target `azure_answers` of [`infer_fuzz::TARGETS`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| infer_fuzz::run("azure_answers", data));
