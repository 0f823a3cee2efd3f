//! The readers of SSH's configuration and of known hosts.

use maestro::execute::ssh::{SshConfig, known_lines};

use super::{file, one_line, text, texts};

const HOSTS: [&str; 4] = ["n1", "n2.example", "10.0.0.1", "é"];

/// Reads `data` as `~/.ssh/config` and asks for hosts.
pub fn config(data: &[u8]) {
    // An `Include` would read files of this machine, which are not the input.
    if text(data).to_ascii_lowercase().contains("include") {
        return;
    }
    match SshConfig::read(&file("config", data)) {
        Ok(config) => {
            let named = config.named_hosts();
            for host in named.iter().map(String::as_str).take(8).chain(HOSTS) {
                match config.host(host) {
                    Ok(found) => assert_eq!(found.alias, host),
                    Err(error) => one_line(error),
                }
            }
        }
        Err(error) => one_line(error),
    }
}

/// Blocks with patterns, quotes, tokens and jumps.
pub fn config_examples() -> Vec<Vec<u8>> {
    texts(&[
        "Host n1\n  HostName 10.0.0.1\n  Port 2222\n  User u\n  IdentityFile ~/.ssh/%h_%r\n  ProxyJump a@b:22,c\n",
        "# all\nHost * !n2.*\n  UserKnownHostsFile=\"/a b\" none\n  StrictHostKeyChecking yes\n  ConnectTimeout 5\n",
        "Host n?\n  IdentityAgent ${SSH_AUTH_SOCK}\n  HostKeyAlias x\n  ProxyJump ssh://u@[::1]:22\n  ProxyCommand none\n",
        "Match all\n  User u\n",
    ])
}

/// Reads `data` as a known-hosts file and asks for hosts.
pub fn known_hosts(data: &[u8]) {
    let files = [file("known_hosts", data)];
    let lines = data.split(|byte| *byte == b'\n').count();
    for host in HOSTS {
        for port in [22, 2222] {
            match known_lines(&files, host, port) {
                Ok(found) => assert!(found.iter().all(|line| (1..=lines).contains(line)), "{found:?} of {lines}"),
                Err(error) => one_line(error),
            }
        }
    }
}

/// Plain, hashed and marked lines.
pub fn known_hosts_examples() -> Vec<Vec<u8>> {
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIJ0RkkvbOjQ8xGlCS0Ln5nXHPOOE0Hz8o7kMKHgzTQK6";
    vec![
        format!("n1,[n1]:2222 ssh-ed25519 {key} comment\n@revoked * ssh-ed25519 {key}\n# no\n").into_bytes(),
        format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 {key}\n").into_bytes(),
        format!("@cert-authority *.example ssh-rsa {key}\n!n1,n? ssh-rsa {key}\n").into_bytes(),
    ]
}
