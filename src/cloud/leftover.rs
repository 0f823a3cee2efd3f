//! What of maestro's lies in a project, and what of it may go: by labels only, so nothing else is ever looked at.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Ownership;

/// Kinds of things that cost money while they lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A machine with its boot disk.
    Machine,
    /// A disk that no machine has.
    Disk,
    /// A machine image.
    Image,
}

impl Kind {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Machine => "machine",
            Kind::Disk => "disk",
            Kind::Image => "image",
        }
    }
}

/// A thing that carries maestro's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Zone; images have none.
    pub zone: Option<String>,
    /// Whose it is.
    pub ownership: Ownership,
    /// What tells its deployment from one of the same tag in another root; empty where that is not labelled.
    pub uid: String,
    /// A newer image of the same owner has taken its place.
    pub superseded: bool,
}

/// Why a thing may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is past its time, whoever made it.
    Expired,
    /// The caller's, of a deployment that was not made, or not removed, to its end.
    HalfMade,
    /// The caller's disk that no machine has.
    Unattached,
    /// The caller's image that a newer one has replaced.
    Superseded,
    /// The caller's, and everything of the caller's was asked for.
    Asked,
}

impl Reason {
    /// The words in tables.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Expired => "expired",
            Reason::HalfMade => "orphaned: its deployment is half made or half removed",
            Reason::Unattached => "orphaned: no machine has it",
            Reason::Superseded => "replaced by a newer image",
            Reason::Asked => "yours",
        }
    }
}

/// Who asks, when, and for what.
#[derive(Clone, Debug)]
pub struct Question {
    /// Now.
    pub now: Timestamp,
    /// The caller, as the owner label has it.
    pub owner: String,
    /// Deployments of the caller that are known to be half made, as the deployment label has them, with their uid.
    pub half_made: BTreeSet<(String, String)>,
    /// Everything of the caller's, in use or not.
    pub all: bool,
}

impl Question {
    /// Why `thing` may go; `None` when it stays.
    pub fn reason(&self, thing: &Thing) -> Option<Reason> {
        let mine = thing.ownership.owner == self.owner;
        let half_made = self.half_made.contains(&(thing.ownership.deployment.clone(), thing.uid.clone()));
        match thing.kind {
            _ if thing.ownership.expired(self.now) => Some(Reason::Expired),
            _ if !mine => None,
            Kind::Machine if half_made => Some(Reason::HalfMade),
            Kind::Disk => Some(Reason::Unattached),
            Kind::Image if thing.superseded => Some(Reason::Superseded),
            _ if self.all => Some(Reason::Asked),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(kind: Kind, owner: &str, deployment: &str, expiry: i64) -> Thing {
        let expiry = Timestamp::from_second(expiry).unwrap();
        let ownership = Ownership { deployment: deployment.into(), owner: owner.into(), expiry };
        Thing { kind, name: "x".into(), zone: None, ownership, uid: "u".into(), superseded: false }
    }

    #[test]
    fn only_what_is_expired_or_the_callers_and_of_no_use_may_go() {
        let question = |all| Question {
            now: Timestamp::from_second(1000).unwrap(),
            owner: "ada".into(),
            half_made: BTreeSet::from([("broken".to_owned(), "u".to_owned())]),
            all,
        };
        let reason = |thing: &Thing| question(false).reason(thing);
        assert_eq!(reason(&thing(Kind::Machine, "bob", "d", 1000)), Some(Reason::Expired));
        assert_eq!(reason(&thing(Kind::Machine, "bob", "broken", 1001)), None);
        assert_eq!(reason(&thing(Kind::Machine, "ada", "broken", 1001)), Some(Reason::HalfMade));
        assert_eq!(reason(&Thing { uid: "v".into(), ..thing(Kind::Machine, "ada", "broken", 1001) }), None);
        assert_eq!(reason(&thing(Kind::Machine, "ada", "d", 1001)), None);
        assert_eq!(reason(&thing(Kind::Disk, "ada", "d", 1001)), Some(Reason::Unattached));
        assert_eq!(reason(&thing(Kind::Disk, "bob", "d", 1001)), None);
        let image = thing(Kind::Image, "ada", "d", 1001);
        assert_eq!(reason(&image), None);
        assert_eq!(reason(&Thing { superseded: true, ..image.clone() }), Some(Reason::Superseded));
        assert_eq!(question(true).reason(&image), Some(Reason::Asked));
        assert_eq!(question(true).reason(&thing(Kind::Image, "bob", "d", 1001)), None);
    }
}
