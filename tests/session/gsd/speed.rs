//! How long things take on four hosts; with `MAESTRO_TEST_SPEED`, since only a quiet machine gives numbers of use.

use std::process::Command;
use std::time::Instant;

use super::{HOSTS, Site};

#[test]
fn deploying_and_running_with_the_images_in_place_and_single_steps() {
    if std::env::var_os("MAESTRO_TEST_SPEED").is_none() {
        eprintln!("skipped deploying_and_running_with_the_images_in_place: MAESTRO_TEST_SPEED=1 runs it");
        return;
    }
    let Some(site) = Site::start("deploying_and_running") else { return };
    let timed = |line: &str| {
        let begun = Instant::now();
        site.ok(line);
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("{seconds:7.2} s  maestro --gsd socialNetworkMini {line}");
        seconds
    };
    timed("build");
    timed(&site.deploy_line("first"));
    for variant in ["", "-antipode"] {
        timed("clean");
        let both = timed(&site.deploy_line("again")) + timed(&format!("run {variant} --timeout 240"));
        eprintln!("{both:7.2} s  deploy and run {variant} with the images in place");
    }
    for duration in [2, 5] {
        timed(&format!("wkld -E compose-post -r 50 -d {duration} -c 2"));
        timed("gather");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/ansible.sh");
    let done = Command::new(script).arg(site.lab.ssh_config()).args(HOSTS).status();
    eprintln!("{script}: {done:?}");
    timed("clean -strong");
}
