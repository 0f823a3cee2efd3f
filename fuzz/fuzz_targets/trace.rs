//! The reader of Jaeger's answers, for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maestro_fuzz::trace::check(data));
