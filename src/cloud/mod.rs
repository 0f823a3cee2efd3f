//! Google Cloud as facts and decisions, without a connection: what this site allows, which machines a placement needs,
//! what they cost, which firewall rules they want. Pure; `execute/gce` acts on it.

pub mod firewall;
pub mod fleet;
pub mod leftover;
pub mod price;
pub mod provision;
pub mod site;
pub mod startup;

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Label keys on everything that maestro creates.
pub const TOOL: &str = "tool";
/// Label key: the deployment's tag.
pub const DEPLOYMENT: &str = "deployment";
/// Label key: who created it.
pub const OWNER: &str = "owner";
/// Label key: when it may be deleted, s since the epoch.
pub const EXPIRY: &str = "expiry";
/// Label key: manager, node or client.
pub const ROLE: &str = "role";
/// Label key: its name in the placement.
pub const NODE: &str = "node";
/// Label key: what tells deployments of the same tag in different roots apart.
pub const UID: &str = "uid";
/// Value of [`TOOL`].
pub const MAESTRO: &str = "maestro";

/// Labels that say whose a resource is and how long it may live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The deployment's tag.
    pub deployment: String,
    /// Who created it.
    pub owner: String,
    /// When it may be deleted.
    pub expiry: Timestamp,
}

impl Ownership {
    /// As labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            (TOOL, MAESTRO.to_owned()),
            (DEPLOYMENT, label_value(&self.deployment)),
            (OWNER, label_value(&self.owner)),
            (EXPIRY, self.expiry.as_second().to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// Reads them back; `None` when the resource is not maestro's.
    pub fn from_labels<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Ownership> {
        if get(TOOL)? != MAESTRO {
            return None;
        }
        Some(Ownership {
            deployment: get(DEPLOYMENT)?.to_owned(),
            owner: get(OWNER).unwrap_or_default().to_owned(),
            expiry: Timestamp::from_second(get(EXPIRY)?.parse().ok()?).ok()?,
        })
    }

    /// Whether it is past its time.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expiry <= now
    }
}

/// `text` as a label value: lower-case letters, digits, `-` and `_`, at most 63 characters.
/// Source: Compute Engine documentation, "Requirements for labels".
pub fn label_value(text: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-' | '_') => c,
        _ => '-',
    };
    text.chars().map(plain).take(63).collect()
}

/// `us-central1` of `us-central1-a`.
pub fn region(zone: &str) -> &str {
    zone.rsplit_once('-').map_or(zone, |(region, _)| region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ownership_survives_the_trip_through_labels() {
        let ownership = Ownership {
            deployment: "20261122".into(),
            owner: "Ada@Lab.example".into(),
            expiry: Timestamp::from_second(1_800_000_000).unwrap(),
        };
        let labels = ownership.labels();
        let read = Ownership::from_labels(|key| labels.get(key).map(String::as_str)).unwrap();
        assert_eq!(read.owner, "ada-lab-example");
        assert_eq!((read.deployment, read.expiry), (ownership.deployment, ownership.expiry));
    }

    #[test]
    fn foreign_resources_are_not_ours() {
        let labels: BTreeMap<&str, &str> = [("tool", "terraform"), ("deployment", "x"), ("expiry", "1")].into();
        assert_eq!(Ownership::from_labels(|key| labels.get(key).copied()), None);
    }
}
