//! Reads the part of `ssh_config(5)` that decides how a host is reached.
//!
//! `Host` patterns with `*`, `?` and `!`, `Include` with globs, `~`, `${VAR}` and the `%` tokens are understood, the
//! first value of an option wins, as in OpenSSH. `Match` and `ProxyCommand` cannot be honoured and are refused:
//! skipping them in silence would log in as somebody else or to somewhere else.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::SshError;
use super::words::{environment, expand_home, glob, home, matches, split, tokens};
use crate::inventory::Direct;

/// Nested `Include`s deeper than this are a loop.
const MAX_DEPTH: usize = 16;

/// What to do with a host key that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKeys {
    /// Record it and go on.
    Accept,
    /// Refuse the host.
    Refuse,
}

/// One hop of a `ProxyJump`: `[user@]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// User, where one is named.
    pub user: Option<String>,
    /// The host as written: itself looked up in the configuration.
    pub host: String,
    /// Port, where one is named.
    pub port: Option<u16>,
}

/// How one host is reached, with every token expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The name that was asked for.
    pub alias: String,
    /// Address or name to connect to.
    pub host_name: String,
    /// User to log in as; `None` when the configuration names none.
    pub user: Option<String>,
    /// TCP port.
    pub port: u16,
    /// Private keys, in order of preference; empty when none is configured.
    pub identity_files: Vec<PathBuf>,
    /// Only the configured keys may be offered.
    pub identities_only: bool,
    /// The agent's socket: `None` as in the environment, an empty path for no agent.
    pub identity_agent: Option<PathBuf>,
    /// Hosts to go through, nearest first.
    pub jumps: Vec<Jump>,
    /// Files with known host keys; the first one is written to.
    pub known_hosts_files: Vec<PathBuf>,
    /// Name to look up in these files instead of the host's.
    pub host_key_alias: Option<String>,
    /// `StrictHostKeyChecking yes` refuses new keys.
    pub new_keys: NewKeys,
    /// `ConnectTimeout`, s.
    pub connect_timeout_s: Option<u64>,
}

impl HostConfig {
    /// A host with an address and a key of its own, whose host key is kept beside that key.
    pub fn direct(alias: &str, direct: &Direct) -> Self {
        HostConfig {
            alias: alias.to_owned(),
            host_name: direct.host_name.clone(),
            user: None,
            port: direct.port,
            identity_files: vec![direct.identity.clone()],
            identities_only: true,
            identity_agent: Some(PathBuf::new()),
            jumps: Vec::new(),
            known_hosts_files: vec![direct.identity.with_file_name("known_hosts")],
            host_key_alias: None,
            new_keys: NewKeys::Accept,
            connect_timeout_s: None,
        }
    }
}

/// A parsed configuration: blocks in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub struct SshConfig {
    blocks: Vec<Block>,
    home: PathBuf,
}

#[derive(Clone, Debug)]
struct Block {
    /// Pattern lists that must all match: an `Include` inside a `Host` block applies to that host only.
    conditions: Vec<Vec<String>>,
    options: Vec<Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    keyword: String,
    arguments: Vec<String>,
    file: PathBuf,
    line: usize,
}

impl SshConfig {
    /// A configuration without any block: every host is its own name.
    pub fn empty() -> Self {
        SshConfig { blocks: Vec::new(), home: home() }
    }

    /// Reads `path` and everything it includes.
    ///
    /// # Errors
    /// [`SshError::Config`] with file and line for what cannot be read, parsed or honoured.
    pub fn read(path: &Path) -> Result<Self, SshError> {
        let mut config = SshConfig::empty();
        let text = std::fs::read_to_string(path).map_err(|error| SshError::Config {
            file: path.to_owned(),
            line: 0,
            why: error.to_string(),
        })?;
        config.parse(path, &text, &mut vec![vec!["*".to_owned()]], 0)?;
        Ok(config)
    }

    /// Reads the user's `~/.ssh/config`, which may be absent.
    ///
    /// # Errors
    /// As [`SshConfig::read`].
    pub fn of_user() -> Result<Self, SshError> {
        let path = home().join(".ssh/config");
        if path.exists() { SshConfig::read(&path) } else { Ok(SshConfig::empty()) }
    }

    fn parse(
        &mut self,
        path: &Path,
        text: &str,
        conditions: &mut Vec<Vec<String>>,
        depth: usize,
    ) -> Result<(), SshError> {
        let fault = |line: usize, why: &str| SshError::Config { file: path.to_owned(), line, why: why.to_owned() };
        let outer = conditions.len();
        self.blocks.push(Block { conditions: conditions.clone(), options: Vec::new() });
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let Some((keyword, arguments)) = split(raw).map_err(|why| fault(line, &why))? else { continue };
            match keyword.as_str() {
                "match" => {
                    return Err(fault(line, "`Match` is not supported; write what it sets into a `Host` block"));
                }
                "host" => {
                    conditions.truncate(outer);
                    conditions.push(arguments);
                    self.blocks.push(Block { conditions: conditions.clone(), options: Vec::new() });
                }
                "include" => {
                    if depth >= MAX_DEPTH {
                        return Err(fault(line, "`Include`s are nested too deeply; they seem to include each other"));
                    }
                    let files: Vec<PathBuf> =
                        arguments.iter().flat_map(|pattern| self.included(path, pattern)).collect();
                    for included in files {
                        let text = std::fs::read_to_string(&included)
                            .map_err(|error| fault(line, &format!("cannot read `{}`: {error}", included.display())))?;
                        self.parse(&included, &text, conditions, depth + 1)?;
                    }
                    self.blocks.push(Block { conditions: conditions.clone(), options: Vec::new() });
                }
                _ => {
                    let setting = Setting { keyword, arguments, file: path.to_owned(), line };
                    if let Some(block) = self.blocks.last_mut() {
                        block.options.push(setting);
                    }
                }
            }
        }
        conditions.truncate(outer);
        Ok(())
    }

    /// The files that an `Include` names: beside the including file, else below `~/.ssh`, as OpenSSH has it.
    fn included(&self, from: &Path, pattern: &str) -> Vec<PathBuf> {
        let pattern = expand_home(pattern, &self.home);
        if pattern.is_absolute() {
            return glob(&pattern);
        }
        let beside = from.parent().unwrap_or(Path::new("")).join(&pattern);
        let found = glob(&beside);
        if found.is_empty() { glob(&self.home.join(".ssh").join(&pattern)) } else { found }
    }

    /// Names that a `Host` line spells out without wildcards, in the order of the file.
    pub fn named_hosts(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let patterns = self.blocks.iter().flat_map(|block| block.conditions.iter().flatten());
        patterns
            .filter(|pattern| !pattern.contains(['*', '?', '!']))
            .filter(|pattern| seen.insert((*pattern).clone()))
            .cloned()
            .collect()
    }

    /// What applies to `alias`.
    ///
    /// # Errors
    /// [`SshError::Config`] for a value that cannot be used, and for `ProxyCommand`.
    pub fn host(&self, alias: &str) -> Result<HostConfig, SshError> {
        let settings: Vec<&Setting> = self
            .blocks
            .iter()
            .filter(|block| block.conditions.iter().all(|patterns| matches(patterns, alias)))
            .flat_map(|block| &block.options)
            .collect();
        let first = |keyword: &str| settings.iter().find(|s| s.keyword == keyword).copied();
        let value = |keyword: &str| first(keyword).map(|s| s.arguments.join(" "));
        if let Some(setting) = first("proxycommand").filter(|s| s.arguments.join(" ") != "none") {
            return Err(setting.fault("`ProxyCommand` is not supported; use `ProxyJump`"));
        }

        let host_name = value("hostname").map_or_else(|| alias.to_owned(), |name| tokens(&name, &[('h', alias)]));
        let user = value("user");
        let port = first("port").map_or(Ok(22), |s| s.number::<u16>("a port"))?;
        let local_user = std::env::var("USER").unwrap_or_default();
        let home = self.home.display().to_string();
        let known = [
            ('h', host_name.as_str()),
            ('n', alias),
            ('r', user.as_deref().unwrap_or(&local_user)),
            ('u', &local_user),
            ('d', &home),
        ];
        let path = |text: &str| expand_home(&environment(&tokens(text, &known)), &self.home);

        let identity_files = settings
            .iter()
            .filter(|s| s.keyword == "identityfile")
            .filter_map(|s| s.arguments.first())
            .filter(|file| *file != "none")
            .map(|file| path(file))
            .collect();
        let identity_agent = value("identityagent").filter(|v| v != "SSH_AUTH_SOCK").map(|v| match v.as_str() {
            "none" => PathBuf::new(),
            other => path(other),
        });
        let known_hosts_files = ["userknownhostsfile", "globalknownhostsfile"]
            .iter()
            .zip([".ssh/known_hosts .ssh/known_hosts2", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"])
            .flat_map(|(keyword, default)| match first(keyword) {
                Some(setting) => setting.arguments.iter().map(|file| path(file)).collect::<Vec<_>>(),
                None => default.split(' ').map(|file| self.home.join(file)).collect(),
            })
            .filter(|file| file != Path::new("none"))
            .collect();
        let jumps = match first("proxyjump") {
            Some(setting) if setting.arguments.join("") != "none" => {
                let hops = setting.arguments.join("");
                hops.split(',').map(|hop| jump(hop).map_err(|why| setting.fault(&why))).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        let strict = value("stricthostkeychecking").is_some_and(|v| v.eq_ignore_ascii_case("yes"));
        Ok(HostConfig {
            alias: alias.to_owned(),
            user,
            port,
            identity_files,
            identities_only: value("identitiesonly").is_some_and(|v| v.eq_ignore_ascii_case("yes")),
            identity_agent,
            jumps,
            known_hosts_files,
            host_key_alias: value("hostkeyalias"),
            new_keys: if strict { NewKeys::Refuse } else { NewKeys::Accept },
            connect_timeout_s: first("connecttimeout").map(|s| s.number::<u64>("a number of seconds")).transpose()?,
            host_name,
        })
    }
}

impl Setting {
    fn fault(&self, why: &str) -> SshError {
        SshError::Config { file: self.file.clone(), line: self.line, why: why.to_owned() }
    }

    fn number<T: std::str::FromStr>(&self, what: &str) -> Result<T, SshError> {
        let text = self.arguments.join(" ");
        text.parse().map_err(|_| self.fault(&format!("`{text}` is not {what}")))
    }
}

/// `[user@]host[:port]` or `ssh://[user@]host[:port]`; an IPv6 address in brackets.
fn jump(text: &str) -> Result<Jump, String> {
    let unusable = || format!("`{text}` is not [user@]host[:port]");
    let rest = text.trim().strip_prefix("ssh://").unwrap_or(text.trim());
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, rest),
    };
    let (host, port) = match (rest.strip_prefix('['), rest.matches(':').count()) {
        (Some(inner), _) => {
            let (host, after) = inner.split_once(']').ok_or_else(unusable)?;
            (host, after.strip_prefix(':'))
        }
        (None, 1) => rest.split_once(':').map(|(host, port)| (host, Some(port))).ok_or_else(unusable)?,
        (None, _) => (rest, None),
    };
    let port = port.map(str::parse).transpose().map_err(|_| unusable())?;
    if host.is_empty() || user.as_deref() == Some("") {
        return Err(unusable());
    }
    Ok(Jump { user, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Jump, NewKeys, SshConfig, matches};
    use crate::execute::ssh::words::wildcard;

    fn config(text: &str) -> SshConfig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, text).unwrap();
        SshConfig::read(&path).unwrap()
    }

    fn refusal(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, text).unwrap();
        let config = SshConfig::read(&path).and_then(|config| config.host("n1"));
        config.unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn the_first_value_wins_and_identity_files_add_up() {
        let config = config(
            "# lab\nUser nobody-yet\nHost n1\n  HostName=10.0.0.1\n  Port 2222\n  IdentityFile ~/.ssh/lab key\n\
             Host n*\n  Port 23\n  User lab\n  IdentityFile /keys/%h-%n\n  StrictHostKeyChecking yes\n",
        );
        let host = config.host("n1").unwrap();
        assert_eq!((host.host_name.as_str(), host.port), ("10.0.0.1", 2222));
        assert_eq!(host.user.as_deref(), Some("nobody-yet"));
        assert_eq!(host.identity_files.len(), 2);
        assert!(host.identity_files[0].is_absolute(), "{:?}", host.identity_files);
        assert_eq!(host.identity_files[1].to_str(), Some("/keys/10.0.0.1-n1"));
        assert_eq!(host.new_keys, NewKeys::Refuse);
        assert_eq!(config.host("n2").unwrap().port, 23);
        assert_eq!(config.host("other").unwrap().port, 22);
    }

    #[test]
    fn negated_patterns_take_hosts_out() {
        let config = config("Host *.lab !gw.lab\n  ProxyJump gw.lab\nHost *\n  User u\n");
        assert_eq!(config.host("a.lab").unwrap().jumps.len(), 1);
        assert!(config.host("gw.lab").unwrap().jumps.is_empty());
        assert!(matches(&["a".into(), "!b".into()], "a"));
        assert!(!matches(&["!b".into()], "a"));
    }

    #[test]
    fn host_name_may_use_the_alias() {
        let config = config("Host n?\n  HostName %h.lab.example\n");
        assert_eq!(config.host("n7").unwrap().host_name, "n7.lab.example");
    }

    #[test]
    fn quotes_keep_blanks_and_comments_end_lines() {
        let config = config("Host \"n1\" n2 # both\n\tIdentityFile \"/my keys/a\" # mine\n");
        assert_eq!(config.host("n2").unwrap().identity_files[0].to_str(), Some("/my keys/a"));
        assert_eq!(config.named_hosts(), ["n1", "n2"]);
    }

    #[test]
    fn includes_are_read_in_place_and_stay_inside_their_block() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        std::fs::write(dir.path().join("conf.d/1.conf"), "Host n1\n  Port 1001\n").unwrap();
        std::fs::write(dir.path().join("conf.d/2.conf"), "Host n2\n  Port 1002\n").unwrap();
        std::fs::write(dir.path().join("deep"), "User deep\n").unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "Include conf.d/*.conf\nHost n2\n  Include deep\nHost *\n  Port 22\n  User all\n")
            .unwrap();
        let config = SshConfig::read(&path).unwrap();
        let found = |name: &str| config.host(name).map(|h| (h.port, h.user.unwrap())).unwrap();
        assert_eq!(found("n1"), (1001, "all".to_owned()));
        assert_eq!(found("n2"), (1002, "deep".to_owned()));
    }

    #[test]
    fn jumps_are_split_into_hops() {
        let hops = config("Host n1\n ProxyJump me@gw:2022,[fe80::1]:22,inner\n").host("n1").unwrap().jumps;
        let hop = |user: Option<&str>, host: &str, port| Jump { user: user.map(Into::into), host: host.into(), port };
        assert_eq!(hops, [hop(Some("me"), "gw", Some(2022)), hop(None, "fe80::1", Some(22)), hop(None, "inner", None)]);
        assert!(config("Host n1\n ProxyJump none\n").host("n1").unwrap().jumps.is_empty());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_its_line() {
        assert_eq!(
            refusal("Host n1\n  User u\nMatch host n1\n  User v\n"),
            "`DIR/config` line 3: `Match` is not supported; write what it sets into a `Host` block"
        );
        assert_eq!(
            refusal("Host n1\n  ProxyCommand nc %h %p\n"),
            "`DIR/config` line 2: `ProxyCommand` is not supported; use `ProxyJump`"
        );
        assert_eq!(refusal("Port 70000\n"), "`DIR/config` line 1: `70000` is not a port");
        assert_eq!(refusal("User\n"), "`DIR/config` line 1: `User` has no argument");
        assert!(refusal("Include config\n").contains("nested too deeply"), "a file that includes itself");
        assert!(refusal("ProxyJump a:b:c@,\n").contains("is not [user@]host[:port]"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config");
            std::fs::write(&path, &text).unwrap();
            if let Ok(config) = SshConfig::read(&path) {
                drop(config.host("n1"));
            }
        }

        #[test]
        fn a_wildcard_matches_what_it_was_made_from(name in "[a-z0-9.]{1,8}", at in 0usize..8) {
            let at = at.min(name.len());
            let pattern = format!("{}*{}", &name[..at], &name[at..]);
            assert!(wildcard(&pattern, &name) && wildcard("*", &name));
            assert!(wildcard(&"?".repeat(name.len()), &name) && !wildcard(&"?".repeat(name.len() + 1), &name));
        }
    }
}
