//! The firewall rules of a deployment as a table, and what existing rules lack or give away.

use std::fmt;

/// A protocol with its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// `tcp`, `udp`, or `all`.
    pub protocol: String,
    /// Single ports and ranges, inclusive; empty: all ports.
    pub ports: Vec<(u16, u16)>,
}

/// A rule: existing or wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it lets in.
    pub allowed: Vec<Allowed>,
    /// From where (CIDR).
    pub source_ranges: Vec<String>,
    /// From which machines.
    pub source_tags: Vec<String>,
    /// To which machines.
    pub target_tags: Vec<String>,
    /// Switched off.
    pub disabled: bool,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The rule's name in the documents.
    pub name: &'static str,
    /// TCP ports.
    pub tcp: &'static [u16],
    /// UDP ports.
    pub udp: &'static [u16],
    /// Machines that need it.
    pub target_tag: &'static str,
    /// Only the machines themselves talk over it.
    pub internal: bool,
}

/// The rules that the documents name, and SSH.
pub const TABLE: &[Wanted] = &[
    Wanted {
        name: "portainer",
        tcp: &[9000, 8000, 9090, 9091, 9100],
        udp: &[],
        target_tag: "portainer",
        internal: false,
    },
    Wanted { name: "swarm", tcp: &[2376, 2377, 7946], udp: &[7946, 4789], target_tag: "swarm", internal: true },
    Wanted {
        name: "nodes",
        tcp: &[
            9001, 16686, 8080, 8081, 8082, 1234, 4080, 5563, 15672, 5672, 5778, 14268, 14250, 9411, 9100, 15673, 5673,
        ],
        udp: &[5775, 6831, 6832],
        target_tag: "nodes",
        internal: false,
    },
    Wanted { name: "maestro-ssh", tcp: &[22], udp: &[], target_tag: "swarm", internal: false },
];

/// Everyone.
pub const ANYWHERE: &str = "0.0.0.0/0";

/// One difference between what is there and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No rule of that name.
    Missing {
        /// The rule.
        rule: String,
    },
    /// The rule is there but switched off.
    Disabled {
        /// The rule.
        rule: String,
    },
    /// The rule lacks ports.
    Closed {
        /// The rule.
        rule: String,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The ports.
        ports: Vec<u16>,
    },
    /// The rule lets everyone in.
    TooOpen {
        /// The rule.
        rule: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Missing { rule } => write!(f, "rule `{rule}` is missing"),
            Finding::Disabled { rule } => write!(f, "rule `{rule}` is switched off"),
            Finding::Closed { rule, protocol, ports } => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "rule `{rule}` does not let in {protocol} {}", ports.join(", "))
            }
            Finding::TooOpen { rule } => write!(f, "rule `{rule}` lets in everyone ({ANYWHERE})"),
        }
    }
}

impl Allowed {
    /// Whether it covers `port` of `protocol`.
    fn covers(&self, protocol: &str, port: u16) -> bool {
        (self.protocol == protocol || self.protocol == "all")
            && (self.ports.is_empty() || self.ports.iter().any(|(low, high)| (*low..=*high).contains(&port)))
    }
}

/// Reads `80` or `8000-8100`, as the API writes ports.
///
/// # Errors
/// The text that is neither.
pub fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let number = |part: &str| part.trim().parse::<u16>().map_err(|_| format!("`{text}` is no port or range of ports"));
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(text)?, number(text)?),
    };
    if low > high {
        return Err(format!("`{text}` is no range of ports"));
    }
    Ok((low, high))
}

/// What the `existing` rules lack or give away, in the order of the table. `open` accepts rules for everyone.
pub fn compare(existing: &[Rule], open: bool) -> Vec<Finding> {
    TABLE.iter().flat_map(|wanted| compare_one(wanted, existing, open)).collect()
}

fn compare_one(wanted: &Wanted, existing: &[Rule], open: bool) -> Vec<Finding> {
    let rule = wanted.name.to_owned();
    let Some(found) = existing.iter().find(|r| r.name == wanted.name) else {
        return vec![Finding::Missing { rule }];
    };
    if found.disabled {
        return vec![Finding::Disabled { rule }];
    }
    let closed = |protocol: &'static str, ports: &[u16]| {
        let covered = |port: &u16| found.allowed.iter().any(|allowed| allowed.covers(protocol, *port));
        let missing: Vec<u16> = ports.iter().copied().filter(|port| !covered(port)).collect();
        (!missing.is_empty()).then(|| Finding::Closed { rule: rule.clone(), protocol, ports: missing })
    };
    let mut findings: Vec<Finding> =
        [closed("tcp", wanted.tcp), closed("udp", wanted.udp)].into_iter().flatten().collect();
    if !open && found.source_ranges.iter().any(|range| range == ANYWHERE) {
        findings.push(Finding::TooOpen { rule });
    }
    findings
}

/// The rule to create for a row: from the machines themselves, and from `sources` where people reach it.
pub fn rule(wanted: &Wanted, sources: &[String], open: bool) -> Rule {
    let protocol = |name: &str, ports: &[u16]| {
        (!ports.is_empty())
            .then(|| Allowed { protocol: name.to_owned(), ports: ports.iter().map(|p| (*p, *p)).collect() })
    };
    let source_ranges = match (wanted.internal, open) {
        (true, _) => Vec::new(),
        (false, true) => vec![ANYWHERE.to_owned()],
        (false, false) => sources.to_vec(),
    };
    Rule {
        name: wanted.name.to_owned(),
        allowed: [protocol("tcp", wanted.tcp), protocol("udp", wanted.udp)].into_iter().flatten().collect(),
        source_ranges,
        source_tags: vec!["swarm".to_owned()],
        target_tags: vec![wanted.target_tag.to_owned()],
        disabled: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Vec<Rule> {
        TABLE.iter().map(|wanted| rule(wanted, &["192.0.2.7/32".to_owned()], false)).collect()
    }

    #[test]
    fn created_rules_satisfy_the_table() {
        assert_eq!(compare(&created(), false), []);
    }

    #[test]
    fn missing_closed_and_open_are_told_apart() {
        let mut rules = created();
        rules.retain(|r| r.name != "portainer");
        rules[0].allowed[0].ports.retain(|p| p.0 != 2377);
        rules[1].source_ranges = vec![ANYWHERE.to_owned()];
        let findings: Vec<String> = compare(&rules, false).iter().map(Finding::to_string).collect();
        assert_eq!(
            findings,
            [
                "rule `portainer` is missing",
                "rule `swarm` does not let in tcp 2377",
                "rule `nodes` lets in everyone (0.0.0.0/0)"
            ]
        );
    }

    #[test]
    fn ranges_cover_their_ports() {
        let mut rules = created();
        rules[2].allowed = vec![
            Allowed { protocol: "tcp".into(), ports: vec![parse_ports("1-65535").unwrap()] },
            Allowed { protocol: "udp".into(), ports: vec![] },
        ];
        assert_eq!(compare(&rules, false), []);
        assert!(parse_ports("9-3").is_err() && parse_ports("x").is_err());
    }

    #[test]
    fn machines_talk_to_each_other_and_only_the_caller_gets_in() {
        for rule in created() {
            assert_eq!(rule.source_tags, ["swarm"]);
            assert!(!rule.source_ranges.iter().any(|r| r == ANYWHERE));
        }
    }
}
