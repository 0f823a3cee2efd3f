//! Targets as rows.
