//! `build`, `load` and `deps`: against a real engine, a registry of our own and a real git.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use maestro::app::{App, Recipe};
use maestro::execute::docker::Engine;

use crate::docker::{Made, Sweep, busybox, engine, shell_tree, unique};
use crate::harness::{Done, Session};
use crate::registry::Registry;

/// Tags that a build of the social network makes on the engine.
fn tags() -> Vec<String> {
    let tag = |recipe: &Recipe| match recipe {
        Recipe::Image(image) => Some(image.tag.to_owned()),
        Recipe::Generate(_) => None,
    };
    App::find("socialNetwork").unwrap().images.recipes.iter().filter_map(tag).collect()
}

/// A tree with all contexts of the social network, each built from `base` in a moment.
fn write_tree(session: &Session, base: &str, store: &str) {
    session.write(
        "tree/docker-compose.yml",
        format!(
            "version: '3.9'\nservices:\n  web: {{image: yg397/social-network-microservices:antipode}}\n  \
             front: {{image: yg397/openresty-thrift:latest}}\n  store: {{image: \"{store}\"}}\n"
        ),
    );
    let thrift = "#!/bin/busybox sh\nmkdir -p gen-cpp && echo made by \"$@\" > gen-cpp/made\n";
    session.write("tree/docker/thrift-microservice-deps/cpp/thrift", thrift);
    let path = session.path("tree/docker/thrift-microservice-deps/cpp/thrift");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    session.write(
        "tree/docker/thrift-microservice-deps/cpp/Dockerfile",
        format!("FROM {base}\nCOPY thrift /bin/thrift\nRUN [\"/bin/sh\", \"-c\", \"echo from https://dl.bintray.com/boostorg/release/x\"]\n"),
    );
    session.write(
        "tree/docker/openresty-thrift/xenial/Dockerfile",
        format!("ARG B={base}\nFROM ${{B}}\nCOPY nginx.conf /\n"),
    );
    session.write("tree/docker/openresty-thrift/nginx.conf", "x\n");
    for context in [
        "mongodb-delayed",
        "mongodb-setup/post-storage",
        "rabbitmq-setup/write-home-timeline",
        "wrk2",
        "python-wkld",
        "redis-im",
    ] {
        session.write(&format!("tree/docker/{context}/Dockerfile"), format!("FROM {base}\nENV NAME={context}\n"));
    }
    session.write("tree/.dockerignore", "docker\n*.log\n");
    session.write("tree/noise.log", "not sent\n");
    session.write("tree/src/main.cpp", "int main() {}\n");
    session.write("tree/social_network.thrift", "\n");
    session.write(
        "tree/Dockerfile",
        "FROM yg397/thrift-microservice-deps:antipode\nCOPY . /app\nRUN [\"/bin/sh\", \"-c\", \"cat /app/gen-cpp/made && ls -R /app\"]\n",
    );
}

fn build(session: &Session, options: &[&str]) -> Done {
    let args = [&["--local", "socialNetwork", "build", "--app-dir", "tree"], options].concat();
    session.run_args(&args)
}

fn ok(done: Done) -> Done {
    assert_eq!(done.code, 0, "stdout:\n{}\nstderr:\n{}", done.stdout, done.stderr);
    done
}

async fn id(engine: &Engine, image: &str) -> String {
    engine.image(image).await.unwrap().unwrap_or_else(|| panic!("no image {image}")).id
}

/// One long session, because the images' names are the application's own and there is one engine.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_built_locked_saved_and_loaded() {
    let Some(engine) = engine("an_app_is_built").await else { return };
    let Some(shell) = busybox("an_app_is_built") else { return };
    for tag in tags() {
        if engine.image(&tag).await.unwrap().is_some() {
            eprintln!("skipped an_app_is_built: the engine has `{tag}`, which is not the test's to replace");
            return;
        }
    }
    let registry = Registry::start();
    let name = unique("base");
    let architecture = engine.facts().await.unwrap().architecture;
    let (base, base_digest) = registry.add(&format!("test/{name}"), "1", &architecture, &shell_tree(&shell));
    let (store, _) = registry.add(&format!("test/{name}-store"), "7", &architecture, &shell_tree(b"other"));
    let made = tags().into_iter().rev().chain([store.clone(), base.clone()]).map(Made::Image).collect();
    let _sweep = Sweep(made);
    let session = Session::new();
    write_tree(&session, &base, &store);

    plan_is_printed(&session, &base, &store);
    builds_in_order(&session, &engine, &base, &base_digest, &store).await;
    holds_to_the_lock(&session, &engine, &registry, &base).await;
    saves_and_loads(&session, &engine, &store).await;
    shows_a_failed_step(&session);
}

fn plan_is_printed(session: &Session, base: &str, store: &str) {
    let done = ok(build(session, &["--dry-run", "--save", "out"]));
    let root = session.path("tree").display().to_string();
    let text = done.stdout.replace(&root, "TREE").replace(base, "BASE").replace(store, "STORE");
    let expected = "plan: build the images of socialNetwork\n\
        1. have the public images\n   - EnsurePulled STORE, BASE\n\
        2. build yg397/thrift-microservice-deps:antipode\n   \
        - EnsureBuilt yg397/thrift-microservice-deps:antipode from TREE/docker/thrift-microservice-deps/cpp (Dockerfile); \
        Boost's downloads: `https://archives.boost.io/release/` is used instead\n\
        3. build yg397/openresty-thrift:latest\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("10. generate the C++ stubs") && text.ends_with("save 9 images to out\n"), "{text}");
    assert!(!session.path("images.lock.yml").exists() && !session.path("build").exists());
}

async fn builds_in_order(session: &Session, engine: &Engine, base: &str, digest: &str, store: &str) {
    let done = ok(build(session, &[]));
    assert!(done.stderr.contains(&format!("pulled {base} (")), "{}", done.stderr);
    assert!(done.stderr.ends_with("socialNetwork has its 11 images\n"), "{}", done.stderr);
    let order: Vec<usize> = tags().iter().map(|tag| done.stderr.find(&format!("built {tag} ")).expect(tag)).collect();
    assert!(order.is_sorted(), "{}", done.stderr);
    for tag in tags() {
        assert!(engine.image(&tag).await.unwrap().is_some(), "{tag}");
    }
    let made = std::fs::read_to_string(session.path("tree/gen-cpp/made")).unwrap();
    assert!(made.starts_with("made by -r --gen cpp"), "{made}");
    let log = |name: &str| std::fs::read_to_string(session.path(&format!("build/socialNetwork/{name}.log"))).unwrap();
    let deps = log("yg397_thrift_microservice_deps_antipode");
    assert!(deps.contains("from https://archives.boost.io/release/x\n"), "{deps}");
    let all = log("yg397_social_network_microservices_antipode");
    assert!(all.contains("made by -r") && all.contains("main.cpp") && !all.contains("noise.log"), "{all}");
    let lock = std::fs::read_to_string(session.path("images.lock.yml")).unwrap();
    assert!(lock.contains(digest) && lock.contains(store) && lock.contains("kind: built"), "{lock}");
}

async fn holds_to_the_lock(session: &Session, engine: &Engine, registry: &Registry, base: &str) {
    let web = "yg397/social-network-microservices:antipode";
    let before = id(engine, web).await;
    let fetched = registry.fetched();
    let done = ok(build(session, &["--locked"]));
    assert!(done.stderr.contains(&format!("{web} is the locked one\n")), "{}", done.stderr);
    assert_eq!((id(engine, web).await, registry.fetched()), (before, fetched), "nothing is built or pulled again");

    session.write("tree/src/main.cpp", "int main() { return 1; }\n");
    let lock = std::fs::read_to_string(session.path("images.lock.yml")).unwrap();
    let done = build(session, &["--locked"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains(&format!("maestro: `{web}` has the context sha256:")), "{}", done.stderr);
    assert!(done.stderr.contains("  build without --locked"), "{}", done.stderr);
    assert_eq!(std::fs::read_to_string(session.path("images.lock.yml")).unwrap(), lock, "the lock stays");

    // Somebody gives the base's tag to another image: a locked build does not take it.
    engine.tag_image("wrk2:antipode", base).await.unwrap();
    session.write("tree/src/main.cpp", "int main() {}\n");
    ok(build(session, &["--locked"]));
    let lock: serde_json::Value = serde_saphyr::from_str(&lock).unwrap();
    assert_eq!(lock["apps"]["socialNetwork"][base]["id"], id(engine, base).await.as_str(), "pulled again by digest");

    std::fs::write(session.path("tree/docker-compose.yml"), "services: {a: {image: \"127.0.0.1:1/x/new:1\"}}\n")
        .unwrap();
    let done = build(session, &["--locked"]);
    assert!(
        done.code == 2 && done.stderr.starts_with("maestro: `127.0.0.1:1/x/new:1` is not in the lock"),
        "{}",
        done.stderr
    );
    let done = build(session, &[]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.starts_with("maestro: cannot get `127.0.0.1:1/x/new:1` ("), "{}", done.stderr);
}

async fn saves_and_loads(session: &Session, engine: &Engine, store: &str) {
    session.write(
        "tree/docker-compose.yml",
        format!("services:\n  web: {{image: yg397/social-network-microservices:antipode}}\n  store: {{image: \"{store}\"}}\n"),
    );
    let done = ok(build(session, &["-skip-images", "--save", "out"]));
    assert!(done.stderr.contains("saved 9 images to "), "{}", done.stderr);
    let file = session.path("out/yg397_social_network_microservices_antipode.tar.zst");
    assert!(file.is_file() && !session.path("out/yg397_thrift_microservice_deps_antipode.tar.zst").exists());
    let written = file.metadata().unwrap().modified().unwrap();
    ok(build(session, &["-skip-images", "--save", "out"]));
    assert_eq!(file.metadata().unwrap().modified().unwrap(), written, "what is there is kept");

    let web = "yg397/social-network-microservices:antipode";
    let before = id(engine, web).await;
    assert!(engine.remove_image(web).await.unwrap());
    let done = build(session, &["-skip-images"]);
    assert!(done.code == 3 && done.stderr.contains(&format!("cannot get `{web}` (not built)")), "{}", done.stderr);
    let done = session.run("load out");
    assert!(done.code == 0 && done.stderr.ends_with("9 images of socialNetwork are loaded\n"), "{}", done.stderr);
    assert_eq!(id(engine, web).await, before);

    assert!(engine.remove_image(web).await.unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let done = session.run("load out");
    assert!(
        done.code == 4 && done.stderr.contains("_antipode.tar.zst` is damaged: its SHA-256 is "),
        "{}",
        done.stderr
    );
    assert!(engine.image(web).await.unwrap().is_none(), "a damaged file is not loaded");
    let done = session.run("load nowhere");
    assert_eq!((done.code, done.stderr.lines().count()), (2, 1), "{}", done.stderr);
}

fn shows_a_failed_step(session: &Session) {
    let path = session.path("tree/docker/redis-im/Dockerfile");
    let from = std::fs::read_to_string(&path).unwrap();
    let script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; done; exit 9";
    std::fs::write(&path, format!("{from}RUN [\"/bin/sh\", \"-c\", \"{script}\"]\n")).unwrap();
    let done = build(session, &[]);
    assert_eq!(done.code, 4, "{}", done.stderr);
    let shown: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("  | ")).collect();
    assert_eq!(shown.len(), 40);
    assert!(shown.contains(&"  | line 60") && !shown.contains(&"  | line 10"), "{shown:?}");
    let last: Vec<&str> = done.stderr.lines().rev().take(2).collect();
    assert!(
        last[1].starts_with("maestro: building `redis-im:antipode` failed at step 3/4 (RUN [\"/bin/sh\""),
        "{last:?}"
    );
    assert!(last[1].contains("returned a non-zero code: 9"), "{last:?}");
    let log = session.path("build/socialNetwork/redis_im_antipode.log");
    assert_eq!(last[0], format!("  the whole log is in {}", log.display()));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("line 1\n") && log.contains("line 60\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_architecture_is_named_before_anything_is_pulled() {
    let Some(engine) = engine("an_image_for_another").await else { return };
    let registry = Registry::start();
    let name = unique("arch");
    let mine = engine.facts().await.unwrap().architecture;
    let other = if mine == "arm64" { "amd64" } else { "arm64" };
    let (good, _) = registry.add(&format!("test/{name}-a"), "1", &mine, &shell_tree(b"a"));
    let (bad, _) = registry.add(&format!("test/{name}-b"), "1", other, &shell_tree(b"b"));
    let session = Session::new();
    write_tree(&session, &good, &bad);
    let done = build(&session, &[]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    let expected = format!("maestro: the engine runs {mine}, but `{bad}` is for {other}\n");
    assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
    assert!(engine.image(&good).await.unwrap().is_none(), "nothing is pulled");
}

#[test]
fn absent_sources_give_one_line_and_the_command_that_gets_them() {
    let session = Session::new();
    for line in
        ["--local socialNetwork build", "--gsd socialNetwork build", "--local socialNetwork build --app-dir nowhere"]
    {
        let done = session.run(line);
        assert_eq!(done.code, 2, "{}", done.stderr);
        let lines: Vec<&str> = done.stderr.lines().collect();
        assert!(lines[0].starts_with("maestro: the sources of `socialNetwork` are not in `"), "{lines:?}");
        assert!(lines.len() == 2 && lines[1].contains("maestro deps fetch"), "{lines:?}");
    }
    let done = session.run("--embedded socialNetwork build");
    assert!(done.code == 2 && done.stderr.contains("needs no images"), "{}", done.stderr);
}

#[test]
fn a_missing_engine_and_a_bad_address_are_told_apart() {
    let session = Session::new();
    session.write("tree/docker-compose.yml", "services: {a: {image: x}}\n");
    write_tree(&session, "scratch", "x:1");
    for (host, code, word) in [
        ("unix:///nowhere.sock", 3, "no Docker engine answers at `unix:///nowhere.sock` (no such file or directory)"),
        ("gopher://x", 2, "cannot use `gopher://x` as an engine's address"),
    ] {
        let args = ["--local", "socialNetwork", "build", "--app-dir", "tree"];
        let done: Done = session.command(&args).env("DOCKER_HOST", host).output().unwrap().into();
        assert_eq!(done.code, code, "{}", done.stderr);
        assert!(
            done.stderr.starts_with(&format!("maestro: {word}")) && done.stderr.lines().count() == 2,
            "{}",
            done.stderr
        );
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"];
    let done = Command::new("git").current_dir(dir).args(identity).args(args).output().expect("git");
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// A bare repository with the app in it: its address and the commit before its branch's last.
fn upstream(session: &Session) -> (String, String) {
    session.write("work/socialNetwork/docker-compose.yml", "services: {a: {image: x}}\n");
    let work = session.path("work");
    git(&work, &["init", "-q", "-b", "antipode-xtrace"]);
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "one"]);
    let pinned = git(&work, &["rev-parse", "HEAD"]);
    session.write("work/later", "x");
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "two"]);
    git(session.root(), &["clone", "-q", "--bare", "work", "up.git"]);
    (format!("file://{}", session.path("up.git").display()), pinned)
}

#[test]
fn sources_are_fetched_at_a_commit_and_only_once() {
    let session = Session::new();
    let (url, commit) = upstream(&session);
    let mirror = format!("{url}#{commit}");
    let done = session.ok(&format!("deps fetch --url {mirror} --dry-run"));
    assert!(
        done.stdout.starts_with("EnsureSources checkout deps/DeathStarBench at ") && !session.path("deps").exists()
    );
    let done = session.ok(&format!("deps fetch --url {mirror}"));
    assert!(done.stderr.ends_with(&format!("deps/DeathStarBench is at {}\n", &commit[..12])), "{}", done.stderr);
    assert_eq!(git(&session.path("deps/DeathStarBench"), &["rev-parse", "HEAD"]), commit);
    let again = session.ok(&format!("deps fetch --url {mirror}"));
    assert!(again.stderr.ends_with(" already\n"), "{}", again.stderr);
    // Found by the commands that need it.
    let done = session.run("--local socialNetwork build --dry-run");
    assert!(
        done.code == 2 && done.stderr.contains("docker/thrift-microservice-deps/cpp`, which is not there"),
        "{}",
        done.stderr
    );

    session.write("deps/DeathStarBench/socialNetwork/docker-compose.yml", "changed");
    let head = git(&session.path("work"), &["rev-parse", "HEAD"]);
    let done = session.run(&format!("deps fetch --url {url}#{head}"));
    assert!(done.code == 2 && done.stderr.contains("holds changes, so it is not moved from "), "{}", done.stderr);
}

#[test]
fn a_root_that_pins_the_sources_as_a_submodule_is_obeyed() {
    let session = Session::new();
    let (url, commit) = upstream(&session);
    session.write("lab/configs/x", "");
    let lab = session.path("lab");
    git(&lab, &["init", "-q"]);
    session.write(
        "lab/.gitmodules",
        "[submodule \"deps/DeathStarBench\"]\n\tpath = deps/DeathStarBench\n\turl = https://example.invalid/x.git\n",
    );
    git(&lab, &["add", "."]);
    git(&lab, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},deps/DeathStarBench")]);
    git(&lab, &["commit", "-q", "-m", "pin"]);
    let args = ["--root", "lab", "deps", "fetch"];
    let done: Done = session.command(&args).env("MAESTRO_DEPS_URL", &url).output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(git(&lab.join("deps/DeathStarBench"), &["rev-parse", "HEAD"]), commit);
    assert!(git(&lab, &["submodule", "status"]).starts_with(&commit), "a submodule like any other");
}

#[test]
fn sources_that_cannot_be_fetched_are_explained() {
    let session = Session::new();
    let (url, _) = upstream(&session);
    let done = session.run(&format!("deps fetch --url {}", session.path("none.git").display()));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: `git fetch") && done.stderr.contains("--url URL"), "{}", done.stderr);
    // The pinned commit of the real repository is not in ours.
    let done = session.run(&format!("deps fetch --url {url}"));
    assert!(done.code == 4 && done.stderr.contains("maestro: `git checkout"), "{}", done.stderr);
    let done = session.run("deps fetch --url=-oProxyCommand=x");
    assert!(done.code == 2 && done.stderr.contains("is no address to fetch from"), "{}", done.stderr);
}
