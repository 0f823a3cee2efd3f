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
    /// The VPC network that it belongs to.
    pub network: String,
    /// Made by maestro, so it may be changed by it.
    pub ours: bool,
}

/// How the rules of the table are wanted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The VPC network of the machines.
    pub network: String,
    /// Who may reach the machines from outside (CIDR); empty: not known, so it is not compared.
    pub sources: Vec<String>,
    /// Everyone may.
    pub open: bool,
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
    Wanted { name: MACHINES, tcp: &[2376, 2377, 7946], udp: &[7946, 4789], target_tag: "swarm", internal: true },
    Wanted {
        name: "nodes",
        tcp: &[
            9001, 16686, 8080, 8081, 8082, 1234, 4080, 5563, 15672, 5672, 5778, 14268, 14250, 9411, 9100, 15673, 5673,
        ],
        udp: &[5775, 6831, 6832],
        target_tag: "nodes",
        internal: false,
    },
    Wanted { name: SSH, tcp: &[22], udp: &[], target_tag: "swarm", internal: false },
];

/// Everyone.
pub const ANYWHERE: &str = "0.0.0.0/0";
/// Description of the rules that maestro makes: rules carry no labels. Others are never changed.
pub const MADE_BY: &str = "made by maestro";
/// The rule that lets SSH in.
const SSH: &str = "maestro-ssh";
/// Network tag of every machine, and the rule of what they say to each other.
const MACHINES: &str = "swarm";
/// Where the machines of a VPC network in auto mode have their addresses.
const AUTO_MODE: &str = "10.128.0.0/9";
/// Addresses that no packet from the internet comes from.
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// One difference between what is there and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// What is the matter with it.
    pub fault: Fault,
    /// The rule is somebody else's: it is told, never changed.
    pub foreign: bool,
}

/// What is the matter with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No rule of that name.
    Missing,
    /// It is there but switched off.
    Disabled,
    /// It belongs to another network.
    Elsewhere(String),
    /// It lacks ports of `tcp` or `udp`.
    Closed(&'static str, Vec<u16>),
    /// It does not let in this source.
    NotFrom(String),
    /// It does not hold for the machines with this tag.
    NotTo(&'static str),
    /// It lets in addresses that it should not.
    TooOpen(String),
}

impl Finding {
    /// Whether services or people do not get through; the opposite is a rule that gives too much away.
    pub fn blocks(&self) -> bool {
        !matches!(self.fault, Fault::TooOpen(_))
    }

    /// Whether machines made under such a rule could not become a swarm: nobody gets in, or they do not hear each other.
    pub fn shuts_out(&self) -> bool {
        self.blocks() && [MACHINES, SSH].contains(&self.rule)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.rule;
        match &self.fault {
            Fault::Missing => write!(f, "rule `{rule}` is missing"),
            Fault::Disabled => write!(f, "rule `{rule}` is switched off"),
            Fault::Elsewhere(network) => write!(f, "rule `{rule}` belongs to network `{network}`"),
            Fault::Closed(protocol, ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "rule `{rule}` does not let in {protocol} {}", ports.join(", "))
            }
            Fault::NotFrom(source) => write!(f, "rule `{rule}` does not let in {source}"),
            Fault::NotTo(tag) => write!(f, "rule `{rule}` does not hold for machines tagged `{tag}`"),
            Fault::TooOpen(range) if range == ANYWHERE => write!(f, "rule `{rule}` lets in everyone ({ANYWHERE})"),
            Fault::TooOpen(range) => write!(f, "rule `{rule}` lets in {range}, which is not among the sources"),
        }?;
        if self.foreign { f.write_str("; it was not made by maestro, so it is left alone") } else { Ok(()) }
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

/// What the `existing` rules lack or give away, in the order of the table.
pub fn compare(existing: &[Rule], wish: &Wish) -> Vec<Finding> {
    TABLE.iter().flat_map(|wanted| compare_one(wanted, existing, wish)).collect()
}

fn compare_one(wanted: &Wanted, existing: &[Rule], wish: &Wish) -> Vec<Finding> {
    let Some(found) = existing.iter().find(|rule| rule.name == wanted.name) else {
        return vec![Finding { rule: wanted.name, fault: Fault::Missing, foreign: false }];
    };
    let faults = if found.disabled {
        vec![Fault::Disabled]
    } else if found.network != wish.network {
        vec![Fault::Elsewhere(found.network.clone())]
    } else {
        [closed(wanted, found), absent(wanted, found, wish), given_away(wanted, found, wish)].concat()
    };
    faults.into_iter().map(|fault| Finding { rule: wanted.name, fault, foreign: !found.ours }).collect()
}

/// Ports that the rule lacks.
fn closed(wanted: &Wanted, found: &Rule) -> Vec<Fault> {
    let lacking = |protocol: &'static str, ports: &[u16]| {
        let covered = |port: &u16| found.allowed.iter().any(|allowed| allowed.covers(protocol, *port));
        let missing: Vec<u16> = ports.iter().copied().filter(|port| !covered(port)).collect();
        (!missing.is_empty()).then_some(Fault::Closed(protocol, missing))
    };
    [lacking("tcp", wanted.tcp), lacking("udp", wanted.udp)].into_iter().flatten().collect()
}

/// Sources and machines that the rule lacks.
fn absent(wanted: &Wanted, found: &Rule, wish: &Wish) -> Vec<Fault> {
    let lets_in = |source: &str| found.source_ranges.iter().any(|range| contains(range, source));
    let mut faults = Vec::new();
    if !found.source_tags.iter().any(|tag| tag == MACHINES) && !lets_in(AUTO_MODE) {
        faults.push(Fault::NotFrom(format!("the machines themselves (tag `{MACHINES}`)")));
    }
    let sources = outside(wanted, wish);
    faults.extend(sources.into_iter().filter(|source| !lets_in(source)).map(Fault::NotFrom));
    if !found.target_tags.is_empty() && !found.target_tags.iter().any(|tag| tag == wanted.target_tag) {
        faults.push(Fault::NotTo(wanted.target_tag));
    }
    faults
}

/// Ranges that the rule lets in although nobody asked for it.
fn given_away(wanted: &Wanted, found: &Rule, wish: &Wish) -> Vec<Fault> {
    let sources = outside(wanted, wish);
    let unknown = wish.sources.is_empty() && !wish.open && !wanted.internal;
    let fine = |range: &str| {
        let asked = sources.iter().map(String::as_str).chain(PRIVATE).any(|source| contains(source, range));
        asked || (unknown && range != ANYWHERE && range != "::/0")
    };
    found.source_ranges.iter().filter(|range| !fine(range)).cloned().map(Fault::TooOpen).collect()
}

/// Who may reach a row's ports from outside.
fn outside(wanted: &Wanted, wish: &Wish) -> Vec<String> {
    match (wanted.internal, wish.open) {
        (true, _) => Vec::new(),
        (false, true) => vec![ANYWHERE.to_owned()],
        (false, false) => wish.sources.clone(),
    }
}

/// Whether address block `outer` holds all of `inner`; false for what is no address block.
fn contains(outer: &str, inner: &str) -> bool {
    let block = |text: &str| {
        let (address, length) = text.split_once('/')?;
        let length: u32 = length.parse().ok()?;
        let (bits, length) = match address.parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), length.checked_add(96)?),
            std::net::IpAddr::V6(v6) => (v6.to_bits(), length),
        };
        (length <= 128).then_some((bits, length))
    };
    let (Some((outer, wide)), Some((inner, narrow))) = (block(outer), block(inner)) else { return false };
    wide <= narrow && (outer ^ inner).checked_shr(128 - wide).unwrap_or(0) == 0
}

/// The rule to create for a row: from the machines themselves, and from the sources where people reach it.
pub fn rule(wanted: &Wanted, wish: &Wish) -> Rule {
    let protocol = |name: &str, ports: &[u16]| {
        (!ports.is_empty())
            .then(|| Allowed { protocol: name.to_owned(), ports: ports.iter().map(|p| (*p, *p)).collect() })
    };
    Rule {
        name: wanted.name.to_owned(),
        allowed: [protocol("tcp", wanted.tcp), protocol("udp", wanted.udp)].into_iter().flatten().collect(),
        source_ranges: outside(wanted, wish),
        source_tags: vec![MACHINES.to_owned()],
        target_tags: vec![wanted.target_tag.to_owned()],
        disabled: false,
        network: wish.network.clone(),
        ours: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish { network: "default".to_owned(), sources: vec!["192.0.2.7/32".to_owned()], open: false }
    }

    fn created() -> Vec<Rule> {
        TABLE.iter().map(|wanted| rule(wanted, &wish())).collect()
    }

    fn lines(rules: &[Rule], wish: &Wish) -> Vec<String> {
        compare(rules, wish).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn created_rules_satisfy_the_table() {
        assert_eq!(compare(&created(), &wish()), []);
        let open = Wish { open: true, ..wish() };
        let rules: Vec<Rule> = TABLE.iter().map(|wanted| rule(wanted, &open)).collect();
        assert_eq!(compare(&rules, &open), []);
    }

    #[test]
    fn missing_closed_and_open_are_told_apart() {
        let mut rules = created();
        rules.retain(|r| r.name != "portainer");
        rules[0].allowed[0].ports.retain(|p| p.0 != 2377);
        rules[1].source_ranges = vec![ANYWHERE.to_owned(), "198.51.100.0/24".to_owned(), "10.1.0.0/16".to_owned()];
        rules[2].target_tags = vec!["web".to_owned()];
        rules[2].source_tags.clear();
        rules[2].source_ranges.clear();
        rules[2].ours = false;
        assert_eq!(
            lines(&rules, &wish()),
            [
                "rule `portainer` is missing",
                "rule `swarm` does not let in tcp 2377",
                "rule `nodes` lets in everyone (0.0.0.0/0)",
                "rule `nodes` lets in 198.51.100.0/24, which is not among the sources",
                "rule `maestro-ssh` does not let in the machines themselves (tag `swarm`); it was not made by maestro, so it is left alone",
                "rule `maestro-ssh` does not let in 192.0.2.7/32; it was not made by maestro, so it is left alone",
                "rule `maestro-ssh` does not hold for machines tagged `swarm`; it was not made by maestro, so it is left alone",
            ]
        );
    }

    #[test]
    fn a_rule_that_is_off_or_elsewhere_says_only_that() {
        let mut rules = created();
        rules[0].disabled = true;
        rules[1].network = "other".to_owned();
        assert_eq!(
            lines(&rules, &wish()),
            ["rule `portainer` is switched off", "rule `swarm` belongs to network `other`"]
        );
    }

    #[test]
    fn the_documents_rules_for_everyone_are_too_open_unless_asked_for() {
        let mut rules = created();
        for rule in &mut rules {
            rule.source_ranges = vec![ANYWHERE.to_owned()];
            rule.source_tags.clear();
        }
        let too_open = |wish: &Wish| lines(&rules, wish).iter().filter(|line| line.contains("everyone")).count();
        assert_eq!(too_open(&wish()), 4);
        assert_eq!(too_open(&Wish { sources: Vec::new(), ..wish() }), 4);
        assert_eq!(lines(&rules, &Wish { open: true, ..wish() }), ["rule `swarm` lets in everyone (0.0.0.0/0)"]);
    }

    #[test]
    fn ranges_cover_their_ports() {
        let mut rules = created();
        rules[2].allowed = vec![
            Allowed { protocol: "tcp".into(), ports: vec![parse_ports("1-65535").unwrap()] },
            Allowed { protocol: "udp".into(), ports: vec![] },
        ];
        assert_eq!(compare(&rules, &wish()), []);
        assert!(parse_ports("9-3").is_err() && parse_ports("x").is_err());
    }

    #[test]
    fn blocks_hold_what_is_inside_them() {
        for (outer, inner, held) in [
            ("0.0.0.0/0", "192.0.2.7/32", true),
            ("192.0.2.0/24", "192.0.2.7/32", true),
            ("192.0.2.0/24", "192.0.3.7/32", false),
            ("192.0.2.7/32", "192.0.2.0/24", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
            ("0.0.0.0/0", "2001:db8::/32", false),
            ("::/0", "2001:db8::/32", true),
            ("x/8", "192.0.2.7/32", false),
            ("10.0.0.0/200", "10.0.0.0/8", false),
        ] {
            assert_eq!(contains(outer, inner), held, "{outer} {inner}");
        }
    }

    #[test]
    fn machines_talk_to_each_other_and_only_the_caller_gets_in() {
        for rule in created() {
            assert_eq!(rule.source_tags, ["swarm"]);
            assert!(!rule.source_ranges.iter().any(|r| r == ANYWHERE));
        }
    }
}
