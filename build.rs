//! Puts the git revision into the binary.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-env-changed=MAESTRO_REVISION");
    let revision = std::env::var("MAESTRO_REVISION").ok().or_else(git_revision).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=MAESTRO_REVISION={revision}");
}

fn git_revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
