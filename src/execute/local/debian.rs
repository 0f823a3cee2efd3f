//! Stand-ins for public images, made from Debian's packages where no registry can be reached.
//!
//! Packages that are installed here are taken from here; others are fetched with `apt-get download` and unpacked
//! beside, never installed. The image gets the public image's name and a label that says what it is.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::Tree;

/// How to make one stand-in.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The last part of the public image's name (`redis`).
    pub(super) repository: &'static str,
    /// Packages whose files go into the image.
    packages: &'static [&'static str],
    /// Further packages that belong to it: dependencies whose names begin like this.
    families: &'static [&'static str],
    /// Programs of the base system that it calls.
    tools: &'static [&'static str],
    /// Directories that its user owns.
    home: &'static [&'static str],
    /// Its user.
    user: &'static str,
    /// What the import is told besides (Dockerfile instructions).
    changes: &'static [&'static str],
}

/// User and group number of the stand-ins' users.
const USER: u64 = 999;

/// Every stand-in that can be made.
const RECIPES: &[Recipe] = &[
    Recipe {
        repository: "redis",
        packages: &["redis-server", "redis-tools"],
        families: &[],
        tools: &["sh"],
        home: &["/data"],
        user: "redis",
        changes: &["WORKDIR /data", "CMD [\"redis-server\", \"--protected-mode\", \"no\"]"],
    },
    Recipe {
        repository: "rabbitmq",
        packages: &["rabbitmq-server"],
        families: &["erlang-"],
        tools: &[
            "sh", "basename", "cat", "date", "dirname", "expr", "grep", "hostname", "id", "ls", "mkdir", "readlink",
            "sed", "sleep", "uname",
        ],
        home: &["/var/lib/rabbitmq", "/var/log/rabbitmq", "/etc/rabbitmq"],
        user: "rabbitmq",
        changes: &[
            "ENV HOME=/var/lib/rabbitmq",
            "ENV RABBITMQ_LOGS=-",
            "ENV LANG=C.UTF-8",
            "CMD [\"/usr/lib/rabbitmq/bin/rabbitmq-server\"]",
        ],
    },
    Recipe {
        repository: "prometheus",
        packages: &["prometheus"],
        families: &[],
        tools: &["sh"],
        home: &["/prometheus"],
        user: "nobody",
        changes: &["WORKDIR /prometheus", "ENTRYPOINT [\"/usr/bin/prometheus\"]"],
    },
    Recipe {
        repository: "node-exporter",
        packages: &["prometheus-node-exporter"],
        families: &[],
        tools: &["sh"],
        home: &["/home"],
        user: "nobody",
        changes: &["ENTRYPOINT [\"/usr/bin/prometheus-node-exporter\"]"],
    },
    Recipe {
        repository: "pushgateway",
        packages: &["prometheus-pushgateway"],
        families: &[],
        tools: &["sh"],
        home: &["/home"],
        user: "nobody",
        changes: &["ENTRYPOINT [\"/usr/bin/prometheus-pushgateway\"]"],
    },
];

/// The recipe for the public image `image`, if there is one; what counts is the last part of its name, so that it
/// serves mirrors, too.
pub(super) fn recipe(image: &str) -> Option<&'static Recipe> {
    let repository = crate::execute::docker::split_tag(image).0;
    let name = repository.rsplit('/').next();
    RECIPES.iter().find(|recipe| Some(recipe.repository) == name)
}

impl Recipe {
    /// What the import is told about the image.
    pub(super) fn changes(&self, label: &str) -> Vec<String> {
        let user = format!("USER {}", self.user);
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let mut changes = vec![path, user, format!("LABEL {label}")];
        changes.extend(self.changes.iter().map(|&change| change.to_owned()));
        changes
    }

    /// Puts the image's file system together; `staging` is an empty directory for packages that must be fetched.
    ///
    /// # Errors
    /// When a package can neither be found nor fetched, or a file cannot be read.
    pub(super) fn tree(&self, staging: &Path) -> io::Result<Tree> {
        let mut wanted = self.held()?;
        let (here, away): (Vec<String>, Vec<String>) = wanted.drain(..).partition(|package| installed(package));
        let (unpacked, libraries) = (staging.join("root"), staging.join("libraries"));
        if !away.is_empty() {
            fetch(&away, staging, &unpacked)?;
            let needed: Vec<String> = self.related(|name| name.starts_with("lib"))?;
            fetch(&needed.into_iter().filter(|name| !installed(name)).collect::<Vec<_>>(), staging, &libraries)?;
        }
        let mut tree = Tree::new().with_libraries_from(library_dirs(&[&unpacked, &libraries])?);
        for package in here {
            for file in files_of(&package)? {
                tree.copy(&file, &real_place(&file)?)?;
            }
        }
        if unpacked.is_dir() {
            copy_all(&mut tree, &unpacked, &unpacked)?;
        }
        for tool in self.tools {
            let tool = Path::new("/usr/bin").join(tool);
            tree.program(&tool, &tool, None)?;
        }
        tree.complete(&loader()?)?;
        self.accounts(&mut tree);
        Ok(tree)
    }

    fn accounts(&self, tree: &mut Tree) {
        let home = self.home.first().copied().unwrap_or("/");
        let user = self.user;
        let passwd = format!("root:x:0:0:root:/root:/bin/sh\n{user}:x:{USER}:{USER}::{home}:/bin/sh\n");
        tree.text("/etc/passwd", passwd, 0o644);
        tree.text("/etc/group", format!("root:x:0:\n{user}:x:{USER}:\n"), 0o644);
        tree.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644);
        for dir in self.home {
            tree.dir(dir, 0o755, USER);
        }
    }

    /// The packages whose files go into the image.
    fn held(&self) -> io::Result<Vec<String>> {
        let mut held: Vec<String> = self.packages.iter().map(|&package| package.to_owned()).collect();
        if !self.families.is_empty() {
            held.extend(self.related(|name| self.families.iter().any(|family| name.starts_with(family)))?);
        }
        Ok(held)
    }

    /// Those packages that this one depends on, directly or not, that `fits` wants.
    fn related(&self, fits: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let mut apt = Command::new("apt-cache");
        apt.args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"]);
        apt.args(["--no-replaces", "--no-enhances"]).args(self.packages);
        let listed = output(&mut apt)?;
        let names = listed.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let related: BTreeSet<String> = names.map(str::trim).filter(|name| fits(name)).map(str::to_owned).collect();
        Ok(related.into_iter().collect())
    }
}

fn installed(package: &str) -> bool {
    let status = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    status.is_ok_and(|status| status.stdout == b"installed")
}

/// Downloads `packages` into `staging` and unpacks them below `root`.
fn fetch(packages: &[String], staging: &Path, root: &Path) -> io::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let debs = staging.join("packages");
    std::fs::create_dir_all(&debs)?;
    output(Command::new("apt-get").args(["download", "-q"]).args(packages).current_dir(&debs))?;
    for entry in std::fs::read_dir(&debs)? {
        let path = entry?.path();
        output(Command::new("dpkg-deb").arg("-x").arg(&path).arg(root))?;
    }
    std::fs::remove_dir_all(&debs)
}

/// The files, links and directories of an installed package, without its documentation.
fn files_of(package: &str) -> io::Result<Vec<PathBuf>> {
    let listed = output(Command::new("dpkg").args(["-L", package]))?;
    let paths = listed.lines().filter(|line| line.starts_with('/')).map(PathBuf::from);
    Ok(paths.filter(|path| useful(path) && std::fs::symlink_metadata(path).is_ok_and(|f| !f.is_dir())).collect())
}

fn useful(path: &Path) -> bool {
    const USELESS: &[&str] = &["/usr/share/doc", "/usr/share/man", "/usr/share/lintian", "/usr/share/bash-completion"];
    const SYSTEM: &[&str] = &["/etc", "/lib/systemd", "/usr/lib/systemd", "/usr/lib/ocf", "/var"];
    !USELESS.iter().chain(SYSTEM).any(|dir| path.starts_with(dir))
}

/// `path` with links in its directories resolved: package lists name files through `/lib` and the like.
fn real_place(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    Ok(std::fs::canonicalize(parent)?.join(name))
}

fn copy_all(tree: &mut Tree, root: &Path, dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let place = Path::new("/").join(path.strip_prefix(root).unwrap_or(&path));
        if !useful(&place) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            copy_all(tree, root, &path)?;
        } else {
            tree.copy(&path, &place)?;
        }
    }
    Ok(())
}

/// Directories with libraries below unpacked roots.
fn library_dirs(roots: &[&Path]) -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    let bases = roots.iter().flat_map(|root| ["usr/lib", "lib"].map(|base| root.join(base)));
    for base in bases.filter(|base| base.is_dir()) {
        for entry in std::fs::read_dir(&base)? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-")) {
                dirs.push(path);
            }
        }
        dirs.push(base);
    }
    Ok(dirs)
}

/// The dynamic loader of this machine's own programs.
fn loader() -> io::Result<PathBuf> {
    super::tree::interpreter(Path::new("/bin/sh"))?
        .ok_or_else(|| io::Error::other("`/bin/sh` does not name a dynamic loader"))
}

/// A command's stdout; its stderr's last line as error.
fn output(command: &mut Command) -> io::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().map_err(|error| io::Error::new(error.kind(), format!("`{name}`: {error}")))?;
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("`{name}`: {}", text.trim().lines().last().unwrap_or("failed"))));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
