//! The engine of this machine, for tests that need one: small images made here, and everything removed afterwards.

#![allow(dead_code, reason = "each test file uses the part it needs")]

use std::path::Path;

use bytes::Bytes;
use maestro::execute::docker::Engine;

/// The engine of this machine, or none with a printed reason. A machine that must have one sets
/// `MAESTRO_TEST_DOCKER=required`.
pub async fn engine(test: &str) -> Option<Engine> {
    let engine = Engine::local().expect("a usable address");
    match engine.version().await {
        Ok(_) => Some(engine),
        Err(error) if std::env::var("MAESTRO_TEST_DOCKER").is_ok_and(|v| v == "required") => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped {test}: {error}");
            None
        }
    }
}

/// Whether a static shell is there to make images of; prints why not.
pub fn busybox(test: &str) -> Option<Vec<u8>> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("skipped {test}: no static busybox (Debian package busybox-static)");
    }
    found.map(|path| std::fs::read(path).expect("read busybox"))
}

/// A name nobody else uses: `maestro-test-<pid>-<word>`.
pub fn unique(word: &str) -> String {
    format!("maestro-test-{}-{word}", std::process::id())
}

/// The tar of a file system with a shell and its usual names in `/bin`.
pub fn shell_tree(busybox: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content).expect("add to a tar");
    };
    add("bin/busybox", busybox, 0o755);
    for name in ["sh", "cat", "echo", "sleep", "ls", "nc", "wget", "true", "false", "uname", "mkdir", "cp"] {
        let script = format!("#!/bin/busybox sh\nexec /bin/busybox {name} \"$@\"\n");
        if name == "sh" {
            continue;
        }
        add(&format!("bin/{name}"), script.as_bytes(), 0o755);
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mtime(0);
    tar.append_link(&mut link, "bin/sh", "busybox").expect("add a link");
    tar.into_inner().expect("end a tar")
}

/// `bytes` as the stream that the engine's calls take.
pub fn stream(bytes: Vec<u8>) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let pieces: Vec<_> = bytes.chunks(64 << 10).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures_util::stream::iter(pieces)
}

/// Makes the image `tag` with a shell in it.
pub async fn shell_image(engine: &Engine, tag: &str, busybox: &[u8]) {
    engine.import_tree(tag, &[], stream(shell_tree(busybox))).await.expect("import a tree");
}

/// What a test made.
#[derive(Clone, Debug)]
pub enum Made {
    Container(String),
    Image(String),
    Network(String),
    Volume(String),
}

/// Removes what a test made, in the order given, also when the test fails.
pub struct Sweep(pub Vec<Made>);

impl Drop for Sweep {
    fn drop(&mut self) {
        let made = std::mem::take(&mut self.0);
        let sweeping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let engine = Engine::local().expect("a usable address");
                for thing in &made {
                    let removed = match thing {
                        Made::Container(name) => engine.remove_container(name).await,
                        Made::Image(name) => engine.remove_image(name).await,
                        Made::Network(name) => engine.remove_network(name).await,
                        Made::Volume(name) => engine.remove_volume(name).await,
                    };
                    if let Err(error) = removed {
                        eprintln!("left behind {thing:?}: {error}");
                    }
                }
            });
        });
        sweeping.join().ok();
    }
}
