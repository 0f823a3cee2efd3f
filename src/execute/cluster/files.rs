//! Files that services mount, on the hosts that run those services.

use std::io;
use std::path::{Path, PathBuf};

use super::Hosts;
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::ssh::{Exec, Mode};
use crate::swarm::Shipment;

/// Ensures that every shipment lies on the hosts of its nodes.
///
/// # Errors
/// Exit code 2 for a source that is missing here, and [`crate::execute::ssh::SshError`].
pub(super) async fn ensure(hosts: &Hosts, shipments: &[Shipment]) -> Result<Outcome> {
    let missing: Vec<String> = shipments
        .iter()
        .filter(|shipment| !shipment.source.exists())
        .map(|shipment| format!("`{}`", shipment.source.display()))
        .collect();
    if !missing.is_empty() {
        let why = format!("services mount files that are not here: {}", missing.join(", "));
        return Err(Plain::usage(why).with_hint("point --app-dir at the application's complete source tree").into());
    }
    let names: Vec<String> = hosts.names();
    hosts
        .each(&names, async |name| {
            let nodes = hosts.all().iter().find(|host| host.name == name).map(|host| &host.nodes);
            let mine =
                |shipment: &&Shipment| nodes.is_some_and(|nodes| shipment.nodes.iter().any(|n| nodes.contains(n)));
            for shipment in shipments.iter().filter(mine) {
                ship(hosts, &name, shipment).await?;
            }
            Ok(())
        })
        .await?;
    Ok(Outcome::Done)
}

/// One file as it is; a folder as an archive that is unpacked in place of the old one.
async fn ship(hosts: &Hosts, name: &str, shipment: &Shipment) -> Result<()> {
    let remote = hosts.remote(name)?;
    let target = shipment.target.display().to_string();
    if shipment.source.is_file() {
        remote.upload(&shipment.source, &target, Mode::Plain, &|_| {}).await?;
        return Ok(());
    }
    let source = shipment.source.clone();
    let packed = tokio::task::spawn_blocking(move || pack(&source)).await;
    let packed = packed.map_err(io::Error::other).and_then(|packed| packed);
    let unreadable = |error: io::Error| {
        Plain::new(Exit::Unreachable, format!("cannot pack `{}`: {error}", shipment.source.display()))
    };
    let script = r#"new=$1.new; rm -rf -- "$new" && mkdir -p -- "$new" && tar -C "$new" -xf - || exit 1
rm -rf -- "$1.old"; [ ! -e "$1" ] || mv -- "$1" "$1.old"; mv -- "$new" "$1" && rm -rf -- "$1.old""#;
    let exec = Exec::script(script, &[&target]).with_input(packed.map_err(unreadable)?);
    remote.run_ok(&exec.within(std::time::Duration::from_secs(600))).await?;
    Ok(())
}

/// A folder as a tar archive: names, permissions and content, in a fixed order.
fn pack(folder: &Path) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.mode(tar::HeaderMode::Deterministic);
    add(&mut archive, folder, Path::new(""))?;
    archive.into_inner()
}

fn add(archive: &mut tar::Builder<Vec<u8>>, folder: &Path, inside: &Path) -> io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = inside.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            archive.append_dir(&name, &path)?;
            add(archive, &path, &name)?;
        } else {
            archive.append_path_with_name(&path, &name)?;
        }
    }
    Ok(())
}
