//! Grammar, help and bad input.
