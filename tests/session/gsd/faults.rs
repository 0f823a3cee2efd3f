//! What can go wrong on the way, each time with a plain message and a state from which the same command goes on.
//! They take minutes: with `MAESTRO_TEST_FULL`.

use std::process::{Child, Stdio};
use std::time::Duration;

use super::Site;
use crate::harness::{Done, wait_for};

fn full(test: &str) -> bool {
    let full = std::env::var_os("MAESTRO_TEST_FULL").is_some();
    if !full {
        eprintln!("skipped {test}: it takes minutes; MAESTRO_TEST_FULL=1 runs it");
    }
    full
}

fn start(site: &Site, line: &str) -> Child {
    site.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(child: Child) -> Done {
    child.wait_with_output().unwrap().into()
}

/// Waits until the copy of the program on a host is being written.
fn wait_for_part(site: &Site, alias: &str) {
    let size = "cat /root/.maestro/bin/*.part 2>/dev/null | wc -c";
    wait_for("a part of the program", 120, || (site.host(alias).sh(size).parse() != Ok(0_u64)).then_some(()));
}

#[test]
fn deploy_says_what_is_wrong_and_goes_on_when_it_is_mended() {
    if !full("deploy_says_what_is_wrong") {
        return;
    }
    let Some(site) = Site::start("deploy_says_what_is_wrong") else { return };
    site.ok("build");

    site.host("gamma").unplug();
    let done = site.run(&site.deploy_line("unplugged"));
    site.host("gamma").plug();
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: cannot reach `gamma` at "), "{}", done.stderr);
    assert!(done.stderr.contains("see that the host is up, then run the same command again"), "{}", done.stderr);

    site.host("beta").sh("docker swarm init --advertise-addr 127.0.0.1");
    let done = site.run(&site.deploy_line("foreign"));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: `beta` is in a swarm that maestro did not form"), "{}", done.stderr);
    assert_eq!(site.host("beta").sh("docker info -f '{{.Swarm.LocalNodeState}}'"), "active");
    site.ok(&format!("{} --force", site.deploy_line("forced")));
    site.ok("clean -strong");
    assert_eq!(site.left(), Vec::<String>::new());

    site.host("gamma").sh("mkdir -p /root/.maestro && mount -t tmpfs -o size=8m none /root/.maestro");
    let done = site.run(&site.deploy_line("full"));
    site.host("gamma").sh("umount /root/.maestro");
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: no space left on `gamma` for `.maestro/bin/"), "{}", done.stderr);

    // For good: the message; for a moment: nobody notices.
    let deploy = start(&site, &site.deploy_line("cut"));
    wait_for_part(&site, "gamma");
    site.host("gamma").kill_sshd();
    let done = finish(deploy);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("`gamma`"), "{}", done.stderr);
    site.host("gamma").start_sshd();
    site.host("gamma").sh("rm -rf /root/.maestro");
    let deploy = start(&site, &format!("-v {}", site.deploy_line("again")));
    wait_for_part(&site, "gamma");
    site.host("gamma").cut_connections();
    let done = finish(deploy);
    assert_eq!(done.code, 0, "{}", done.stderr);

    site.host("delta").swap_host_key();
    let done = site.run(&site.deploy_line("swapped"));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: `delta` shows the key ssh-ed25519 "), "{}", done.stderr);
    assert!(done.stderr.contains("if the change is expected: ssh-keygen -R "), "{}", done.stderr);
    let known = std::fs::read_to_string(site.lab.known_hosts()).unwrap();
    let others: Vec<&str> = known.lines().filter(|line| !line.starts_with(&site.host("delta").address)).collect();
    std::fs::write(site.lab.known_hosts(), others.join("\n") + "\n").unwrap();
    site.ok(&site.deploy_line("trusted"));
    site.ok("clean -strong");
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn deploy_killed_at_twenty_points_completes() {
    if !full("deploy_killed_at_twenty_points") {
        return;
    }
    let Some(site) = Site::start("deploy_killed_at_twenty_points") else { return };
    site.ok("build");
    let begun = std::time::Instant::now();
    site.ok(&site.deploy_line("whole"));
    let whole = begun.elapsed();
    site.ok("clean -strong");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    let mut killed = 0;
    for round in 0..80 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let point = whole.mul_f64((state >> 33) as f64 / f64::from(1_u32 << 31));
        let mut deploy = start(&site, &format!("-v {}", site.deploy_line(&format!("killed{round}"))));
        std::thread::sleep(point);
        deploy.kill().unwrap();
        let done = finish(deploy);
        let stage = done.stderr.lines().rfind(|line| line.starts_with("deploy ")).unwrap_or_default();
        eprintln!("after {point:.1?} of {whole:.1?}: {} {stage}", done.code);
        assert!(done.code <= 0, "neither done nor killed: {}", done.stderr);
        killed += u32::from(done.code == -1);
        if killed == 20 {
            break;
        }
        // From the start again, so that early steps are cut off, too.
        if done.code == 0 || round % 4 == 3 {
            site.ok("clean -strong");
        }
    }
    assert_eq!(killed, 20);
    site.ok(&site.deploy_line("done"));
    site.ok("run --timeout 240");
    site.ok("clean -strong");
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn runs_and_loads_survive_engines_and_clients_that_go_away() {
    if !full("runs_and_loads_survive") {
        return;
    }
    let Some(site) = Site::start("runs_and_loads_survive") else { return };
    site.ok("build");
    site.ok(&site.deploy_line("shaken"));

    let run = start(&site, "run --timeout 240");
    wait_for("containers", 120, || (site.host("beta").sh("docker ps -q | wc -l") != "0").then_some(()));
    site.host("beta").restart_engine();
    let done = finish(run);
    assert_eq!(done.code, 0, "{}", done.stderr);

    let load = start(&site, "wkld -E compose-post -r 40 -d 6 -c 2 --drain 1");
    let worker = |alias: &str| site.host(alias).try_sh("pgrep -f '[m]aestro-.* worker'").0 == 0;
    wait_for("the generator", 60, || worker("delta").then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    site.host("delta").unplug();
    let done = finish(load);
    site.host("delta").plug();
    assert_eq!(done.code, 5, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: client `delta` was lost: "), "{}", done.stderr);
    assert!(done.stdout.contains("run: gather/gsd/"), "{}", done.stdout);
    let run = done.stdout.lines().find_map(|line| line.strip_prefix("run: ")).unwrap();
    let dir = site.session.path(run);
    assert!(dir.join("client00.out").exists() && !dir.join("client01.out").exists(), "{run}");
    let record = std::fs::read_to_string(dir.join("run.yml")).unwrap();
    assert!(record.contains("status: void"), "{record}");

    // Nobody is told to stop by a controller that dies: the generators notice it themselves.
    let mut load = start(&site, "wkld -E compose-post -r 40 -d 300 -c 2 -N delta");
    wait_for("the generator", 60, || worker("delta").then_some(()));
    load.kill().unwrap();
    load.wait().unwrap();
    wait_for("the end of the generator", 60, || (!worker("delta")).then_some(()));

    let only = site.ok("wkld -E compose-post -r 40 -d 2 -c 2 -N alpha");
    assert!(only.stdout.contains(" of 80 requests ok"), "{}", only.stdout);
    let strange = site.run("wkld -E compose-post -r 40 -d 2 -c 2 -N beta");
    assert_eq!(strange.stderr, "maestro: no client is called `beta`\n  clients: alpha, delta\n");
    site.ok("clean -strong");
    assert_eq!(site.left(), Vec::<String>::new());
}

/// Users who are not root, and a directory that all hosts share.
#[test]
fn sudo_and_a_shared_directory_are_used() {
    if !full("sudo_and_a_shared_directory") {
        return;
    }
    let Some(site) = Site::start("sudo_and_a_shared_directory") else { return };
    if !std::path::Path::new("/usr/bin/sudo").exists() {
        eprintln!("skipped sudo_and_a_shared_directory: sudo is not installed");
        return;
    }
    site.ok("build");
    let config = std::fs::read_to_string(site.lab.ssh_config()).unwrap().replace("User root", "User lab");
    std::fs::write(site.lab.ssh_config(), config).unwrap();
    let config = std::fs::read_to_string(site.session.path("gsd/config.yml")).unwrap() + "nas_path: /shared\n";
    site.session.write("gsd/config.yml", config);
    let done = site.run(&site.deploy_line("powerless"));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("`lab` may not use the Docker engine of `"), "{}", done.stderr);
    for host in site.lab.hosts() {
        host.sh("chmod 1777 /shared; mkdir -p /etc/pam.d; printf 'root ALL=(ALL:ALL) ALL\\nlab ALL=(ALL) NOPASSWD: ALL\\n' > /etc/sudoers; \
            chmod 440 /etc/sudoers; printf 'auth sufficient pam_permit.so\\naccount sufficient pam_permit.so\\nsession sufficient pam_permit.so\\n' > /etc/pam.d/sudo");
    }
    let done = site.ok(&site.deploy_line("mighty"));
    assert!(done.stderr.contains("(sudo)"), "{}", done.stderr);
    let archives = site.host("gamma").sh("ls /shared/antipode-dsb-deploy/container-images | wc -l");
    assert_eq!(archives, "3", "every image once, for all hosts");
    site.ok("run --timeout 240");
    site.ok("wkld -E compose-post -r 40 -d 2 -c 2");
    site.ok("clean -strong");
    assert_eq!(site.host("gamma").sh("ls -A /shared"), "");
    assert_eq!(site.left(), Vec::<String>::new());
}
