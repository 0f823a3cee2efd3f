//! Sessions at a terminal: each test runs the real binary in a root of its own and reads what a person would read.

mod basics;
mod harness;
