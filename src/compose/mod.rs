//! Compose files as typed input.
