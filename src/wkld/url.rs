//! The URLs a load goes to, and the sockets behind them.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;

use rustls::ClientConfig;

/// `http[s]://host[:port]/path?query`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// Over TLS.
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
}

impl Url {
    /// `host[:port]` as in a Host field; the scheme's usual port is left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    fn default_port(&self) -> u16 {
        if self.https { 443 } else { 80 }
    }

    /// Whether `other` is reached through the same sockets.
    pub fn same_host(&self, other: &Url) -> bool {
        (self.https, self.port, &self.host) == (other.https, other.port, &other.host)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("unusable URL `{text}`: {why}");
        let (https, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => return Err(bad(&format!("scheme `{scheme}` is not http or https"))),
            None => return Err(bad("it does not begin with http:// or https://")),
        };
        if rest.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad("blanks and control characters must be percent-encoded"));
        }
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return Err(bad("a user name in it is not supported"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(|| bad("`[` without `]`"))?;
                (host, after.strip_prefix(':').unwrap_or(after))
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        if host.is_empty() {
            return Err(bad("no host"));
        }
        let port = match port {
            "" if https => 443,
            "" => 80,
            digits => digits.parse().ok().filter(|&p: &u16| p > 0).ok_or_else(|| bad("the port is not 1..65535"))?,
        };
        Ok(Url { https, host: host.to_owned(), port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// A host with its addresses.
#[derive(Clone, Debug)]
pub struct Host {
    /// As in the URL.
    pub name: String,
    /// `host[:port]`.
    pub authority: String,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// How to speak TLS to it.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Host {
    /// Looks up the host of `url`.
    ///
    /// # Errors
    /// The resolver's text.
    pub fn resolve(url: &Url, tls: Option<Arc<ClientConfig>>) -> Result<Host, String> {
        let found = (url.host.as_str(), url.port).to_socket_addrs().map_err(|error| error.to_string())?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        // IPv4 first: a host that has both but listens on one is tried in vain only after a restart.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        if addresses.is_empty() {
            return Err("the name has no address".into());
        }
        Ok(Host { name: url.host.clone(), authority: url.authority(), addresses, tls: tls.filter(|_| url.https) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url: Url = "http://127.0.0.1:8080/a/b?c=1#frag".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("127.0.0.1", 8080, "/a/b?c=1"));
        assert_eq!(url.authority(), "127.0.0.1:8080");
        let url: Url = "https://[::1]?x".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 443, "/?x"));
        assert_eq!(url.to_string(), "https://[::1]/?x");
        assert_eq!("http://h".parse::<Url>().unwrap().path, "/");
    }

    #[test]
    fn unusable_urls_say_why() {
        for (text, why) in [
            ("ftp://x/", "scheme `ftp`"),
            ("x/y", "http://"),
            ("http:///x", "no host"),
            ("http://h:0/", "port"),
            ("http://h:99999/", "port"),
            ("http://h/a b", "percent"),
            ("http://me@h/", "user name"),
            ("http://[::1/", "`[`"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
