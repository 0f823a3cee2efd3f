//! What a look at the world found: one thing, whether it will do, and what mends it.

use std::fmt::Display;

use crate::error::Error;

/// Whether a thing will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// A run can start, but its numbers or its end may suffer.
    Doubt,
    /// No run can start.
    Missing,
}

/// One line of a table of findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The thing looked at.
    pub what: String,
    /// Whether it will do.
    pub verdict: Verdict,
    /// What was seen.
    pub found: String,
    /// The exact command or the one sentence that mends it.
    pub mend: Option<String>,
}

impl Finding {
    /// A thing as it should be.
    pub fn fine(what: impl Into<String>, found: impl Display) -> Self {
        Finding { what: what.into(), verdict: Verdict::Fine, found: found.to_string(), mend: None }
    }

    /// A thing that a run can start without.
    pub fn doubt(what: impl Into<String>, found: impl Display, mend: impl Into<String>) -> Self {
        Finding { what: what.into(), verdict: Verdict::Doubt, found: found.to_string(), mend: Some(mend.into()) }
    }

    /// A thing that no run can start without.
    pub fn missing(what: impl Into<String>, found: impl Display, mend: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Missing, ..Finding::doubt(what, found, mend) }
    }

    /// A thing that could not be looked at or used: the error's line, and its hint as what mends it.
    pub fn failed(what: impl Into<String>, error: &Error) -> Self {
        Finding { what: what.into(), verdict: Verdict::Missing, found: error.line(), mend: error.hint() }
    }
}

impl Verdict {
    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Fine => "ok",
            Verdict::Doubt => "doubt",
            Verdict::Missing => "missing",
        }
    }
}
