//! Volumes in their short and long forms, and memory file systems.

use super::fields::Item;
use super::{Kind, Reader, Result};
use crate::compose::model::{Mount, MountKind};
use crate::compose::units;

impl Reader<'_> {
    pub(super) fn mounts(&mut self, volumes: Option<Item>, tmpfs: Option<Item>) -> Result<Vec<Mount>> {
        let mut mounts: Vec<Mount> = Vec::new();
        for item in volumes.map(Item::list).transpose()?.unwrap_or_default() {
            let mount = if item.is_map() { self.long_mount(&item)? } else { self.short_mount(&item)? };
            if let MountKind::Volume { name: Some(name), .. } = &mount.kind {
                self.refer(Kind::Volume, name, &item);
            }
            Self::once(&mounts, &mount, &item)?;
            mounts.push(mount);
        }
        let tmpfs = match tmpfs {
            Some(item) if item.is_list() => item.list()?,
            other => other.into_iter().collect(),
        };
        for item in tmpfs {
            let mount = self.tmpfs(&item)?;
            Self::once(&mounts, &mount, &item)?;
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// The engine refuses two mounts in one place, but only when the container is created.
    fn once(before: &[Mount], mount: &Mount, item: &Item) -> Result<()> {
        if before.iter().any(|other| other.target == mount.target) {
            return Err(item.fail(format!("something is mounted on `{}` already", mount.target)));
        }
        Ok(())
    }

    /// `source:target[:options]` or `target`.
    fn short_mount(&mut self, item: &Item) -> Result<Mount> {
        let text = item.text()?;
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] => (None, target, ""),
            [source, target] => (Some(source), target, ""),
            [source, target, options] => (Some(source), target, options),
            _ => return Err(item.fail(format!("`{}` is not `source:target[:options]`", text.escape_debug()))),
        };
        check_target(target, item)?;
        let mut mount = match source {
            None => Mount {
                kind: MountKind::Volume { name: None, no_copy: false },
                target: target.into(),
                read_only: false,
            },
            Some("") => return Err(item.fail("the source before `:` is empty")),
            Some(source) if source.starts_with(['/', '.', '~']) => {
                let kind = MountKind::Bind { source: source.into(), propagation: None };
                Mount { kind, target: target.into(), read_only: false }
            }
            Some(name) => {
                let kind = MountKind::Volume { name: Some(name.into()), no_copy: false };
                Mount { kind, target: target.into(), read_only: false }
            }
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match (option, &mut mount.kind) {
                ("ro", _) => mount.read_only = true,
                ("rw", _) => mount.read_only = false,
                ("nocopy", MountKind::Volume { no_copy, .. }) => *no_copy = true,
                (
                    "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave",
                    MountKind::Bind { propagation, .. },
                ) => {
                    *propagation = Some(option.to_owned());
                }
                // Hints for file sharing with a virtual machine.
                ("cached" | "delegated" | "consistent", _) => {}
                (other, _) => self.warn(item, format!("option `{other}` has no effect")),
            }
        }
        Ok(mount)
    }

    fn long_mount(&mut self, item: &Item) -> Result<Mount> {
        let mut fields = item.clone().fields()?;
        let kind = fields.take("type").ok_or_else(|| item.fail("`type` is missing"))?.text()?;
        let source = fields.text("source")?;
        let target = fields.text("target")?.ok_or_else(|| item.fail("`target` is missing"))?;
        check_target(&target, item)?;
        let read_only = fields.flag("read_only")?.unwrap_or(false);
        let kind = match kind.as_str() {
            "bind" => {
                let source = source.ok_or_else(|| item.fail("a bind needs `source`"))?;
                let mut options = fields.take("bind").map(Item::fields).transpose()?;
                let propagation = options.as_mut().map(|f| f.text("propagation")).transpose()?.flatten();
                if let Some(options) = options {
                    options.finish(&mut self.warnings, &["create_host_path", "selinux", "recursive"]);
                }
                MountKind::Bind { source, propagation }
            }
            "volume" => {
                let mut options = fields.take("volume").map(Item::fields).transpose()?;
                let no_copy = options.as_mut().map(|f| f.flag("nocopy")).transpose()?.flatten().unwrap_or(false);
                if let Some(options) = options {
                    options.finish(&mut self.warnings, &["subpath"]);
                }
                MountKind::Volume { name: source, no_copy }
            }
            "tmpfs" => {
                let mut options = fields.take("tmpfs").map(Item::fields).transpose()?;
                let size = options.as_mut().map(|f| f.size("size")).transpose()?.flatten();
                let mode = options.as_mut().and_then(|f| f.take("mode"));
                let mode = mode.map(|item| item.convert("a file mode", units::mode)).transpose()?;
                if let Some(options) = options {
                    options.finish(&mut self.warnings, &[]);
                }
                MountKind::Tmpfs { size, mode }
            }
            other => return Err(item.fail(format!("type `{}` is not bind, volume or tmpfs", other.escape_debug()))),
        };
        fields.finish(&mut self.warnings, &["consistency"]);
        Ok(Mount { kind, target, read_only })
    }

    /// `/path[:size=64m,mode=1777]`.
    fn tmpfs(&mut self, item: &Item) -> Result<Mount> {
        let text = item.text()?;
        let (target, options) = text.split_once(':').unwrap_or((&text, ""));
        check_target(target, item)?;
        let (mut size, mut mode, mut read_only) = (None, None, false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let bad = || item.fail(format!("option `{}` is not understood", option.escape_debug()));
            match option.split_once('=') {
                Some(("size", value)) => size = Some(units::size(value).ok_or_else(bad)?),
                Some(("mode", value)) => mode = Some(u32::from_str_radix(value, 8).map_err(|_| bad())?),
                None if option == "ro" => read_only = true,
                None if option == "rw" => {}
                _ => self.warn(item, format!("option `{option}` has no effect")),
            }
        }
        Ok(Mount { kind: MountKind::Tmpfs { size, mode }, target: target.to_owned(), read_only })
    }
}

fn check_target(target: &str, item: &Item) -> Result<()> {
    if target.starts_with('/') {
        return Ok(());
    }
    Err(item.fail(format!("`{}` is no absolute path inside the container", target.escape_debug())))
}
