//! What is experimented on: the application, the target it runs on, its placement and its variant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an experiment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetName {
    /// The miniature inside this binary.
    Embedded,
    /// One Docker engine.
    Local,
    /// A cluster reached over SSH.
    Gsd,
    /// Google Cloud.
    Gcp,
}

impl TargetName {
    /// All targets, in the order of the documentation.
    pub const ALL: [TargetName; 4] = [TargetName::Embedded, TargetName::Local, TargetName::Gsd, TargetName::Gcp];

    /// The word used in paths, flags (`--gcp`) and records.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetName::Embedded => "embedded",
            TargetName::Local => "local",
            TargetName::Gsd => "gsd",
            TargetName::Gcp => "gcp",
        }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Without or with lineage enforcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The application as it is.
    Baseline,
    /// With lineage and barrier.
    Antipode,
}

impl Variant {
    /// The variant that the `antipode` flag of the command line and of `.last.yml` asks for.
    pub fn from_antipode(antipode: bool) -> Self {
        if antipode { Variant::Antipode } else { Variant::Baseline }
    }

    /// Whether lineage is enforced.
    pub fn is_antipode(self) -> bool {
        self == Variant::Antipode
    }

    /// The word used in `info.yml` and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Variant::Baseline => "baseline",
            Variant::Antipode => "antipode",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
