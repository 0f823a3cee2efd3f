//! Where an app's source tree is.

use std::path::{Path, PathBuf};

use super::ImageError;
use crate::app::App;
use crate::store::Store;

/// The folder of `app`'s sources: `given` (the folder itself, or a checkout that holds it), else the checkout below the
/// root. `None` for an app that needs none.
///
/// # Errors
/// [`ImageError::NoSources`], whose hint names the command that gets them.
pub fn tree(store: &Store, app: &App, given: Option<&Path>) -> Result<Option<PathBuf>, ImageError> {
    let Some(sources) = app.images.sources else { return Ok(None) };
    let place = match given {
        Some(dir) => store.resolve(dir),
        None => store.resolve(sources.checkout),
    };
    let inside = place.join(sources.folder);
    // A checkout holds the app's folder; a folder named by hand may be it.
    let found = [inside, place.clone()].into_iter().find(|dir| is_app(dir));
    found.map(Some).ok_or(ImageError::NoSources { app: app.name, dir: place })
}

fn is_app(dir: &Path) -> bool {
    dir.join("docker-compose.yml").is_file()
}
