//! Grammar, help and bad input, through the binary.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Done, Session};

const DEPLOY: &str = "--embedded socialNetwork deploy -config configs/embedded/socialNetwork/us-eu.yml -clients 1";

/// One line that says what is wrong, at most one hint below it, the right exit code, nothing on stdout.
fn refused(done: &Done, code: i32, needle: &str) {
    assert_eq!(done.code, code, "{}", done.stderr);
    assert_eq!(done.stdout, "");
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("maestro: ")).collect();
    assert_eq!(lines.len(), 1, "{}", done.stderr);
    assert!(lines[0].contains(needle), "wanted `{needle}` in: {}", lines[0]);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

#[test]
fn every_command_has_help() {
    let session = Session::new();
    let top = session.ok("-h");
    for command in [
        "build", "deploy", "run", "wkld", "gather", "delay", "clean", "info", "ssh", "plot", "sweep", "report",
        "doctor",
    ] {
        assert!(top.stdout.contains(command), "{command} is not in the help");
        let help = session.ok(&format!("{command} -h"));
        assert!(help.stdout.contains("Usage: maestro"), "{}", help.stdout);
    }
}

#[test]
fn links_named_like_the_old_tools_behave_like_them() {
    let session = Session::new();
    let link = |name: &str| {
        let path = session.path(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_maestro"), &path).unwrap();
        std::process::Command::new(path)
    };
    let plot: Done = link("plot").arg("nothing.yml").current_dir(session.root()).output().unwrap().into();
    refused(&plot, 2, "nothing.yml");
    let sweep: Done =
        link("maestrina").args(["--embedded", "--dry-run"]).current_dir(session.root()).output().unwrap().into();
    assert_eq!(sweep.code, 0, "{}", sweep.stderr);
    assert!(sweep.stdout.contains("20 cells x 2 rounds = 40 runs"), "{}", sweep.stdout);
}

#[test]
fn wrong_words_are_named() {
    let session = Session::new();
    refused(&session.run("frobnicate"), 2, "unknown app or command `frobnicate`");
    refused(&session.run("--embedded hotelCalifornia run"), 2, "hotelCalifornia");
    refused(&session.run("socialNetwork run"), 2, "no target given");
    refused(&session.run("--embedded --gcp socialNetwork run"), 2, "cannot be used with");
    refused(&session.run("--embedded socialNetwork wkld -E x -r 1 -r 2 --frob"), 2, "--frob");
}

#[test]
fn rates_and_threads_are_checked() {
    let session = Session::new();
    session.ok(DEPLOY);
    for (options, needle) in [
        ("-r 0", "greater than 0"),
        ("-r -3", "greater than 0"),
        ("-r NaN", "not a number"),
        ("-r 1e300", "beyond any client"),
        ("-r 10 -d 0", "greater than 0"),
        ("-r 10 -c 1 -t 2", "thread"),
    ] {
        refused(&session.run(&format!("--embedded socialNetwork wkld -E compose-post {options}")), 2, needle);
    }
}

#[test]
fn commands_before_their_turn_say_what_comes_first() {
    let session = Session::new();
    let early = session.run("--embedded socialNetwork wkld -E compose-post -r 10");
    refused(&early, 2, "nothing is deployed");
    assert!(early.stderr.contains("deploy -config"), "{}", early.stderr);
    let clean = session.ok("--embedded socialNetwork clean");
    assert!(clean.stderr.contains("nothing to clean"), "{}", clean.stderr);
    session.ok(DEPLOY);
    let idle = session.run("--embedded socialNetwork wkld -E compose-post -r 10");
    assert!(matches!(idle.code, 2 | 3), "{}", idle.stderr);
    assert!(idle.stderr.contains("run"), "{}", idle.stderr);
}

#[test]
fn placements_that_cannot_be_used_are_named_with_their_reason() {
    let session = Session::new();
    let deploy = |name: &str, content: &[u8]| {
        session.write(name, content);
        session.run(&format!("--embedded socialNetwork deploy -config {name} -clients 1"))
    };
    refused(&session.run("--embedded socialNetwork deploy -config gone.yml -clients 1"), 2, "no such file `gone.yml`");
    refused(&deploy("empty.yml", b""), 2, "empty");
    refused(&deploy("binary.yml", &[0, 159, 146, 150, 0, 1]), 2, "binary.yml");
    refused(&deploy("deep.yml", "[".repeat(100_000).as_bytes()), 2, "deep.yml");
    refused(&deploy("unknown.yml", b"replication_pair: US->EU\nspeed_of_light: 3\n"), 2, "speed_of_light");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nreplication_pair: [*e,*e,*e,*e,*e]\n";
    refused(&deploy("bomb.yml", bomb.as_bytes()), 2, "bomb.yml");
    assert!(!session.path("deploy/embedded/socialNetwork").exists(), "nothing half-done is left");
}

#[test]
fn a_root_that_cannot_be_written_is_named() {
    let session = Session::new();
    let file = session.write("file", "not a directory");
    let done = session.run_args(&[
        "--root",
        file.to_str().unwrap(),
        "--embedded",
        "socialNetwork",
        "deploy",
        "-config",
        "configs/embedded/socialNetwork/us-eu.yml",
    ]);
    assert!(matches!(done.code, 2 | 3), "{}", done.stderr);
    assert!(done.stderr.contains("file"), "{}", done.stderr);
    let locked = session.path("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("x"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let done = session.run(&format!("--root {} {DEPLOY}", locked.display()));
    refused(&done, 3, "cannot write");
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_broken() {
    let session = Session::new();
    let disk = session.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs", disk.to_str().unwrap()])
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: mounting a tmpfs is not allowed here");
        return;
    }
    std::fs::write(disk.join("ballast"), vec![0_u8; 8192]).unwrap();
    let done = session.run(&format!("--root {} {DEPLOY}", disk.display()));
    std::process::Command::new("umount").arg(&disk).status().unwrap();
    refused(&done, 3, "cannot write");
    assert!(done.stderr.contains("free some space"), "{}", done.stderr);
}

#[test]
fn the_second_of_two_commands_at_once_is_told_about_the_first() {
    let session = Session::new();
    session.ok(DEPLOY);
    let lock = std::fs::File::options().read(true).write(true).open(session.path("deploy/.lock")).unwrap();
    lock.lock().unwrap();
    let done = session.run("--embedded socialNetwork run --ports auto");
    refused(&done, 3, "another maestro");
}

#[test]
fn a_state_of_the_python_tool_is_understood() {
    let session = Session::new();
    session.write(
        "deploy/gcp/.last.yml",
        "cleaned: true\napp: socialNetwork\ntag: '202110181055'\nconfig: configs/gcp/socialNetwork/us-sg.yml\nantipode: false\n\
         wkld_rate: 160\nwkld_duration: 300\nwkld_connections: 4\nwkld_threads: 2\nwkld_tag: '202110191123'\nwkld_endpoint: compose-post\n",
    );
    let info = session.ok("--gcp info");
    assert!(info.stdout.contains("nothing is deployed"), "{}", info.stdout);
}

#[test]
fn completions_come_for_every_shell() {
    let session = Session::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(session.ok(&format!("completions {shell}")).stdout.contains("maestro"));
    }
}

#[test]
fn doctor_says_what_mends_what_is_missing() {
    let session = Session::new();
    let fine = session.run("--embedded doctor --json");
    let rows: serde_json::Value = serde_json::from_str(&fine.stdout).unwrap();
    let verdict = |what: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["what"].as_str().unwrap().starts_with(what)).unwrap();
        row["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!((verdict("working root"), verdict("deployment")), ("ok".to_owned(), "doubt".to_owned()));
    assert_eq!(fine.code == 0, (verdict("port 8080") + &verdict("port 8082") + &verdict("port 16686")) == "okokok");

    let hosts = session.run("--gsd socialNetworkMini doctor");
    assert_eq!(hosts.code, 3);
    assert!(hosts.stderr.starts_with("maestro: no run can start on `gsd` yet: hosts\n"), "{}", hosts.stderr);
    assert!(hosts.stdout.contains("maestro --gsd socialNetworkMini doctor -config"), "{}", hosts.stdout);

    let sources = session.run("--local socialNetwork doctor");
    assert_eq!(sources.code, 3, "{}", sources.stdout);
    for needle in ["maestro deps fetch", "upstream redis:latest", "Docker engine"] {
        assert!(sources.stdout.contains(needle), "{needle}: {}", sources.stdout);
    }
    session.write("bad.yml", "manager: nowhere\n");
    let placement = session.run("--gsd socialNetworkMini doctor -config bad.yml");
    assert!(placement.code == 3 && placement.stdout.contains("bad.yml"), "{}", placement.stdout);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let session = Session::new();
    session.ok("man pages");
    let names: Vec<String> = std::fs::read_dir(session.path("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["maestro.1", "maestro-deploy.1", "maestro-wkld.1", "maestro-bundle.1"] {
        assert!(names.iter().any(|name| name == page), "{page} is not among {names:?}");
    }
    let page = std::fs::read_to_string(session.path("pages/maestro-wkld.1")).unwrap();
    assert!(page.starts_with(".") && page.contains("requests"), "{page}");
}
