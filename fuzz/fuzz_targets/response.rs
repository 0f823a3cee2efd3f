//! The reader of HTTP responses, for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maestro_fuzz::response::check(data));
