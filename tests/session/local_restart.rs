//! `--local run` on an engine that goes away in the middle of it.

use std::process::{Child, Command, Stdio};

use crate::docker::busybox;
use crate::harness::{Done, wait_for};
use crate::hosts::{Host, Lab};
use crate::local::{Bench, idle_image};

/// A way to the engine of a test host: a socket of this machine, carried over SSH.
struct Way {
    child: Child,
    address: String,
}

impl Way {
    fn to(lab: &Lab, alias: &str) -> Self {
        let socket = lab.path("engine.sock");
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(lab.ssh_config()).args(["-o", "StrictHostKeyChecking=no", "-N", "-L"]);
        ssh.arg(format!("{}:/var/run/docker.sock", socket.display())).arg(alias).stderr(Stdio::null());
        let child = ssh.spawn().expect("ssh");
        wait_for("the way to the engine", 20, || socket.exists().then_some(()));
        Way { child, address: format!("unix://{}", socket.display()) }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn count(host: &Host, what: &str) -> usize {
    host.sh(what).lines().count()
}

#[test]
fn an_engine_that_is_restarted_in_the_middle_of_run_keeps_nothing() {
    let Some(shell) = busybox("an_engine_that_is_restarted") else { return };
    let Some(lab) = Lab::start(&["engine"]) else { return };
    let host = lab.host("engine");
    let bench = Bench::new("restart");
    for (_, name) in &bench.images {
        let mut there = Command::new("docker");
        idle_image(there.args(["exec", "-i", &host.container, "docker", "import"]), name, &shell);
    }
    let way = Way::to(&lab, "engine");
    bench.deploy("restarted");
    let networks = count(host, "docker network ls -q");
    for (containers, crash) in [(18, false), (6, true)] {
        let mut run = bench.command("run --ports auto --timeout 120");
        let run = run.env("DOCKER_HOST", &way.address).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("containers", 60, || (count(host, "docker ps -aq") >= containers).then_some(()));
        if crash {
            host.sh("kill -9 $(cat /run/docker.pid)");
        } else {
            host.restart_engine();
        }
        let done: Done = run.wait_with_output().unwrap().into();
        let said: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("maestro: ")).collect();
        assert_eq!(said.len(), 1, "{}", done.stderr);
        // An engine that ends in good order stops its containers first: that may be seen before it is gone.
        let gone = said[0].contains("went away") || said[0].contains("no Docker engine answers");
        assert!(
            (done.code == 3 && gone) || (done.code == 4 && said[0].contains("ended: exit code")),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("took back "), "{}", done.stderr);
        assert_eq!(count(host, "docker ps -aq"), 0, "{}", done.stderr);
        assert_eq!(count(host, "docker network ls -q"), networks, "{}", done.stderr);
    }
    let mut clean = bench.command("clean");
    let cleaned: Done = clean.env("DOCKER_HOST", &way.address).output().unwrap().into();
    assert_eq!(cleaned.code, 0, "{}", cleaned.stderr);
}
