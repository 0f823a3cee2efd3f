//! Images that need no source tree: this very binary, and stand-ins for public images.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::LocalError;
use super::debian;
use super::tree::Tree;
use crate::error::Result;
use crate::execute::docker::Engine;
use crate::execute::docker::feed::feed;
use crate::local::HELPER_IMAGE;
use crate::ui;

/// Label of every image made here; its value says from what.
pub(super) const MADE_FROM: &str = "dev.maestro.made-from";

/// Makes the image `tag` of this very binary, unless it is there already. Returns false when it was.
///
/// # Errors
/// [`LocalError::Tree`], and what the engine refuses.
pub(super) async fn ensure_own(engine: &Engine, tag: &str, again: bool) -> Result<bool> {
    let (binary, from) = own(tag).await?;
    make_own(engine, tag, binary, &from, again).await
}

/// Makes sure that the engine has the delay helper's image of this very build, and gives its name: another build's has
/// another one, so that neither takes the other's place.
///
/// # Errors
/// As [`ensure_own`].
pub(crate) async fn ensure_helper(engine: &Engine) -> Result<String> {
    let (binary, from) = own(HELPER_IMAGE).await?;
    let tag = format!("{HELPER_IMAGE}:{}", from.get(..16).unwrap_or(&from));
    make_own(engine, &tag, binary, &from, false).await?;
    Ok(tag)
}

/// Removes the delay helpers' images, whichever build made them, unless a helper runs from them.
///
/// # Errors
/// What the engine refuses.
pub(crate) async fn remove_helpers(engine: &Engine) -> Result<()> {
    for tag in engine.images_of(HELPER_IMAGE, MADE_FROM).await? {
        match engine.remove_image(&tag).await {
            Ok(true) => ui::detail(format_args!("removed image {tag}")),
            Ok(false) => {}
            Err(error) if error.is_conflict() => ui::detail(format_args!("image `{tag}` stays: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// This very binary and its hash, for image `tag`.
async fn own(tag: &str) -> Result<(PathBuf, String)> {
    let failed = |source| LocalError::Tree { image: tag.to_owned(), source };
    let binary = std::env::var_os("MINI_EXE").map_or_else(std::env::current_exe, |e| Ok(e.into())).map_err(failed)?;
    let hashed = binary.clone();
    let from = blocking(move || sha256(&hashed)).await.map_err(failed)?;
    Ok((binary, from))
}

async fn make_own(engine: &Engine, tag: &str, binary: PathBuf, from: &str, again: bool) -> Result<bool> {
    let failed = |source| LocalError::Tree { image: tag.to_owned(), source };
    if !again && made_from(engine, tag).await?.as_deref() == Some(from) {
        return Ok(false);
    }
    let tree = blocking(move || own_tree(&binary)).await.map_err(failed)?;
    let changes = [
        "ENTRYPOINT [\"/maestro\", \"service\"]".to_owned(),
        "ENV PATH=/".to_owned(),
        format!("LABEL {MADE_FROM}={from}"),
    ];
    replace(engine, tag, &changes, tree).await?;
    Ok(true)
}

/// Imports `tree` as `tag`; the image that had the name before goes, unless something still runs from it.
async fn replace(engine: &Engine, tag: &str, changes: &[String], tree: Tree) -> Result<()> {
    let before = engine.image(tag).await?;
    let id = engine.import_tree(tag, changes, feed(move |to| tree.write(to))).await?;
    let Some(before) = before.filter(|before| before.id != id && before.tags.len() <= 1) else { return Ok(()) };
    match engine.remove_image(&before.id).await {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes sure that the public image is there: it was, it is pulled, or (where no registry has it) a stand-in is made
/// from Debian's packages.
///
/// # Errors
/// [`LocalError::NoRecipe`] with the registry's answer, [`LocalError::Tree`], and what the engine refuses.
pub(super) async fn ensure_public(engine: &Engine, image: &str, again: bool) -> Result<()> {
    if !again && engine.image(image).await?.is_some() {
        return Ok(());
    }
    let refused = match engine.pull_image(image, "", |_| ()).await {
        Ok(()) => {
            ui::note(format_args!("pulled {image}"));
            return Ok(());
        }
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => error,
    };
    let Some(recipe) = debian::recipe(image) else {
        return Err(LocalError::NoRecipe { image: image.to_owned(), why: refused.to_string() }.into());
    };
    ui::detail(format_args!("{refused}"));
    stand_in(engine, image, recipe).await?;
    ui::note(format_args!("made {image} from Debian's packages: no registry has it"));
    Ok(())
}

async fn stand_in(engine: &Engine, image: &str, recipe: &'static debian::Recipe) -> Result<()> {
    let failed = |source| LocalError::Tree { image: image.to_owned(), source };
    let staging = Staging::new().map_err(failed)?;
    let place = staging.0.clone();
    let tree = blocking(move || recipe.tree(&place)).await.map_err(failed)?;
    let changes = recipe.changes(&format!("{MADE_FROM}=debian"));
    replace(engine, image, &changes, tree).await
}

/// What the image `tag` says it was made from; `None` when it is absent or says nothing.
pub(super) async fn made_from(engine: &Engine, tag: &str) -> Result<Option<String>> {
    match engine.api().inspect_image(tag).await.map_err(|e| engine.fault(format!("look at image `{tag}`"), e)) {
        Ok(seen) => Ok(seen.config.and_then(|config| config.labels).and_then(|mut labels| labels.remove(MADE_FROM))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// This binary, with its libraries when it is a dynamic one, and a place for its sync file.
fn own_tree(binary: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    tree.program(binary, Path::new("/maestro"), None)?;
    tree.text("/etc/passwd", "root:x:0:0:root:/:/maestro\n", 0o644);
    tree.text("/etc/group", "root:x:0:\n", 0o644);
    tree.text("/etc/nsswitch.conf", "hosts: files dns\n", 0o644);
    Ok(tree)
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A directory for fetched packages that goes away with it.
struct Staging(PathBuf);

impl Staging {
    fn new() -> io::Result<Self> {
        let name = format!("maestro-packages-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Staging(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            ui::warn(format_args!("cannot remove `{}`: {error}", self.0.display()));
        }
    }
}
