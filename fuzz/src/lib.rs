//! What is fuzzed: plain functions over bytes, with examples to start from. They are run by cargo-fuzz, and on stable by
//! the tests, which mutate the examples.

pub mod response;
pub mod trace;

/// One reader of bytes from outside.
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// Panics when the input is read wrongly.
    pub check: fn(&[u8]),
    /// Inputs that mutations start from.
    pub examples: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "response", check: response::check, examples: response::examples },
    Target { name: "trace", check: trace::check, examples: trace::examples },
];
