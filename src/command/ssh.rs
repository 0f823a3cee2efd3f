//! `maestro ssh`: a shell on a host, a terminal split into one pane per host, or a command on all of them.

use std::process::Command as Process;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::Context;
use crate::command::{Selection, current, hosts};
use crate::error::{Exit as Code, Plain, Result};
use crate::execute::cluster::Hosts;
use crate::execute::ssh::{Exec, Exit, Remote, quote};
use crate::inventory::{Access, Host, Role};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub hosts: Vec<String>,
    pub groups: Vec<String>,
    pub strict: bool,
    pub command: Vec<String>,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let current = current(context, &request.selection)?;
    let (inventory, mut connections) = hosts::connect(context, &current)?;
    let chosen = inventory.select(&split(&request.hosts), &split(&request.groups)).map_err(|strange| {
        let known: Vec<&str> = inventory.hosts.iter().map(|host| host.name.as_str()).collect();
        let groups: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        Plain::usage(format!("no host or group is called {}", quoted(&strange))).with_hint(format!(
            "hosts: {}; groups: {}, all",
            known.join(", "),
            groups.join(", ")
        ))
    })?;
    if request.strict && !inventory.access.strict {
        let strict = Access { strict: true, ..inventory.access.clone() };
        let inventory = crate::inventory::Inventory { access: strict, ..(*inventory).clone() };
        connections = Hosts::of(&std::sync::Arc::new(inventory))?;
    }
    if request.command.is_empty() {
        return shells(context, &connections, &chosen, &inventory.access);
    }
    if context.dry_run {
        chosen.iter().for_each(|host| ui::out(format_args!("{} | {}", host.name, request.command.join(" "))));
        return Ok(());
    }
    everywhere(&connections, &chosen, &request.command).await
}

/// `-hosts a b`, `-hosts a,b` and `-hosts a -hosts b` mean the same.
fn split(names: &[String]) -> Vec<String> {
    names.iter().flat_map(|names| names.split([',', ' '])).filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Runs the command on all hosts at once. One word is a line for the host's shell, several are a program and its
/// arguments, taken as they are.
async fn everywhere(connections: &Hosts, chosen: &[&Host], command: &[String]) -> Result<()> {
    let exec = match command {
        [line] => Exec::script(line, &[]),
        words => Exec::new(words.iter().cloned()),
    };
    let work = chosen.iter().enumerate().map(|(number, host)| {
        let exec = &exec;
        async move {
            let done = match connections.remote(&host.name) {
                Ok(remote) => on_one(&remote, exec, number).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(Exit::Code(0)) => None,
                Ok(Exit::Code(code)) => Some((Code::StepFailed, format!("`{}` ended with status {code}", host.name))),
                Ok(Exit::Signal(signal)) => Some((Code::StepFailed, format!("`{}` was ended by {signal}", host.name))),
                Err(error) => Some((error.exit_code(), error.line())),
            }
        }
    });
    let failures: Vec<(Code, String)> = futures_util::future::join_all(work).await.into_iter().flatten().collect();
    match failures.first() {
        None => Ok(()),
        Some((code, _)) => {
            let texts: Vec<&str> = failures.iter().map(|(_, text)| text.as_str()).collect();
            Err(Plain::new(*code, texts.join("; ")).into())
        }
    }
}

async fn on_one(remote: &Remote, exec: &Exec, number: usize) -> Result<Exit> {
    let mut running = remote.start(exec).await?;
    tokio::io::AsyncWriteExt::shutdown(&mut running.stdin).await.ok();
    let name = remote.name();
    let (stdout, stderr) = (&mut running.stdout, &mut running.stderr);
    tokio::join!(
        lines(stdout, |line| ui::service_line(number, name, line)),
        lines(stderr, |line| ui::service_aside(number, name, line)),
    );
    Ok(running.end().await?)
}

async fn lines(from: impl AsyncRead + Unpin, say: impl Fn(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // The end of the connection shows in the command's end.
    while matches!(from.read_until(b'\n', &mut line).await, Ok(n) if n > 0) {
        say(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// One shell in this terminal, or a tmux session with a pane per host.
fn shells(context: &Context, connections: &Hosts, chosen: &[&Host], access: &Access) -> Result<()> {
    let line = |host: &&Host| Ok(client(host, connections.remote(&host.name)?.user(), access));
    let lines = chosen.iter().map(line).collect::<Result<Vec<Vec<String>>>>()?;
    let argv = match lines.as_slice() {
        [] => return Err(Plain::usage("no host to open a shell on").into()),
        [one] => one.clone(),
        many => tmux(many)?,
    };
    if context.dry_run {
        ui::out(argv.join(" "));
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        let hint = "without it: maestro ssh -hosts NAME -- COMMAND";
        Plain::new(Code::Unreachable, format!("cannot start `{}`: {error}", argv[0])).with_hint(hint)
    };
    let status = Process::new(&argv[0]).args(&argv[1..]).status().map_err(failed)?;
    // The shell's own last status is not ours to report, but ssh's is 255 when it did not come that far.
    if status.code() == Some(255) {
        return Err(Plain::new(Code::Unreachable, format!("`{}` failed; its own message is above", argv[0])).into());
    }
    Ok(())
}

/// The system's ssh as it reaches the host.
fn client(host: &Host, user: &str, access: &Access) -> Vec<String> {
    let mut argv = vec!["ssh".to_owned()];
    if let Some(direct) = &host.direct {
        let known = direct.identity.with_file_name("known_hosts");
        argv.extend(["-i".to_owned(), direct.identity.display().to_string()]);
        argv.extend(["-o".to_owned(), "IdentitiesOnly=yes".to_owned()]);
        argv.extend(["-o".to_owned(), format!("UserKnownHostsFile={}", known.display())]);
        if access.strict {
            argv.extend(["-o".to_owned(), "StrictHostKeyChecking=yes".to_owned()]);
        }
        argv.extend(["-p".to_owned(), direct.port.to_string()]);
        argv.extend(["-l".to_owned(), user.to_owned(), direct.host_name.clone()]);
        return argv;
    }
    if let Some(config) = &access.ssh_config {
        let path = crate::execute::ssh::expand_home(config, &crate::execute::ssh::home());
        argv.extend(["-F".to_owned(), path.display().to_string()]);
    }
    argv.extend(["-l".to_owned(), user.to_owned(), host.name.clone()]);
    argv
}

/// A tmux session with one pane for each command line.
fn tmux(lines: &[Vec<String>]) -> Result<Vec<String>> {
    let mut argv = vec!["tmux".to_owned()];
    for (index, line) in lines.iter().enumerate() {
        let line = quote::line(line)?;
        match index {
            0 => argv.extend(["new-session".to_owned(), line]),
            _ => argv.extend([";", "split-window", &line, ";", "select-layout", "tiled"].map(str::to_owned)),
        }
    }
    Ok(argv)
}
