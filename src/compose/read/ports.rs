//! Published ports: `[[address:]host:]container[/protocol]` with ranges, and the long form.

use super::fields::Item;
use super::{Reader, Result};
use crate::compose::model::{Port, Protocol, PublishMode};

/// One entry may spell out no more ports than this.
const RANGE_LIMIT: usize = 1000;

impl Reader<'_> {
    pub(super) fn ports(&mut self, item: Option<Item>) -> Result<Vec<Port>> {
        let mut ports = Vec::new();
        for item in item.map(Item::list).transpose()?.unwrap_or_default() {
            if item.is_map() {
                ports.extend(self.long_port(item)?);
            } else {
                let text = item.text()?;
                ports.extend(short_port(&text).map_err(|why| item.fail(why))?);
            }
        }
        Ok(ports)
    }

    fn long_port(&mut self, item: Item) -> Result<Vec<Port>> {
        let mut fields = item.clone().fields()?;
        let target = fields.take("target").ok_or_else(|| item.fail("`target` is missing"))?;
        let target: u16 = target.convert("a port", port)?;
        let published = fields.text("published")?.filter(|text| !text.is_empty());
        let published = published.map(|text| range(&text)).transpose().map_err(|why| item.fail(why))?;
        let published = match published.as_deref() {
            None => None,
            Some([one]) => Some(*one),
            Some(_) => return Err(item.fail("a range of host ports for one container port is not supported")),
        };
        let protocol = fields.text("protocol")?;
        let protocol = protocol.map_or(Ok(Protocol::Tcp), |word| protocol_of(&word)).map_err(|why| item.fail(why))?;
        let mode = match fields.text("mode")?.as_deref() {
            None => None,
            Some("host") => Some(PublishMode::Host),
            Some("ingress") => Some(PublishMode::Ingress),
            Some(other) => return Err(item.fail(format!("mode `{other}` is neither `host` nor `ingress`"))),
        };
        let host_ip = fields.text("host_ip")?;
        fields.finish(&mut self.warnings, &["name", "app_protocol"]);
        Ok(vec![Port { host_ip, published, target, protocol, mode }])
    }
}

fn short_port(text: &str) -> Result<Vec<Port>, String> {
    let unusable = |why: &str| format!("`{}` {why}", text.escape_debug());
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, word)) => (rest, protocol_of(word)?),
        None => (text, Protocol::Tcp),
    };
    let (host, target) = match rest.rsplit_once(':') {
        Some((host, target)) => (Some(host), target),
        None => (None, rest),
    };
    let targets = range(target)?;
    let (host_ip, published) = match host {
        None => (None, None),
        Some(host) => match host.rsplit_once(':') {
            None => (None, Some(host)),
            Some((ip, published)) => {
                let ip = ip.trim_start_matches('[').trim_end_matches(']');
                if ip.parse::<std::net::IpAddr>().is_err() {
                    return Err(unusable("does not begin with an address"));
                }
                (Some(ip.to_owned()), Some(published).filter(|text| !text.is_empty()))
            }
        },
    };
    let published = published.map(range).transpose()?;
    if published.as_ref().is_some_and(|published| published.len() != targets.len()) {
        return Err(unusable("pairs ranges of different length"));
    }
    let port = |(index, target)| Port {
        host_ip: host_ip.clone(),
        published: published.as_ref().map(|published| published[index]),
        target,
        protocol,
        mode: None,
    };
    Ok(targets.into_iter().enumerate().map(port).collect())
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

fn range(text: &str) -> Result<Vec<u16>, String> {
    let bad = || format!("`{}` is not a port (1 to 65535) or a range of ports", text.escape_debug());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first).ok_or_else(bad)?, port(last).ok_or_else(bad)?);
    if last < first || usize::from(last - first) >= RANGE_LIMIT {
        return Err(format!("`{text}` is no range of at most {RANGE_LIMIT} ports"));
    }
    Ok((first..=last).collect())
}

fn protocol_of(word: &str) -> Result<Protocol, String> {
    match word.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(format!("protocol `{}` is not tcp, udp or sctp", word.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let tcp = |host_ip: Option<&str>, published, target| Port {
            host_ip: host_ip.map(str::to_owned),
            published,
            target,
            ..Port::default()
        };
        for (text, expected) in [
            ("8080", vec![tcp(None, None, 8080)]),
            ("8082:8080", vec![tcp(None, Some(8082), 8080)]),
            ("127.0.0.1:8082:8080", vec![tcp(Some("127.0.0.1"), Some(8082), 8080)]),
            ("127.0.0.1::8080", vec![tcp(Some("127.0.0.1"), None, 8080)]),
            ("[::1]:80:81", vec![tcp(Some("::1"), Some(80), 81)]),
            ("90-91:80-81", vec![tcp(None, Some(90), 80), tcp(None, Some(91), 81)]),
            ("6831:6831/udp", vec![Port { protocol: Protocol::Udp, ..tcp(None, Some(6831), 6831) }]),
        ] {
            assert_eq!(short_port(text), Ok(expected), "{text}");
        }
        for text in
            ["", "0", "70000", "a:80", "80-79", "1-65535:1-65535", "90-92:80-81", "80/xtp", "x:80:80", ":", "80:"]
        {
            assert!(short_port(text).is_err(), "{text}");
        }
    }
}
