//! Ten commands that do nothing, one after the other, on every host at once: what a plan's steps cost over SSH.
//! `benches/ansible.sh` compares it with ssh and ansible.
//!
//! usage: ssh_steps SSH_CONFIG HOST...

#![allow(clippy::print_stderr, reason = "a measurement says on stderr how it is used")]

use std::path::Path;
use std::process::ExitCode;

use maestro::execute::ssh::{Exec, Fleet, SshConfig, SshError};

const STEPS: usize = 10;

fn main() -> ExitCode {
    // cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [config, hosts @ ..] = words.as_slice() else {
        eprintln!("usage: ssh_steps SSH_CONFIG HOST...");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(steps(config, hosts))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("ssh_steps: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("ssh_steps: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A step begins when the one before it has ended on all hosts, as the stages of a plan do.
async fn steps(config: &str, hosts: &[String]) -> Result<(), SshError> {
    let fleet = Fleet::new(SshConfig::read(Path::new(config))?, None, false);
    let remotes = hosts.iter().map(|host| fleet.host(host)).collect::<Result<Vec<_>, _>>()?;
    let step = Exec::new(["true"]);
    for _ in 0..STEPS {
        futures_util::future::try_join_all(remotes.iter().map(|remote| remote.run_ok(&step))).await?;
    }
    Ok(())
}
