//! `images.lock.yml`: which images an app was last built and run with, to the digest.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::store::{FORMAT, StoreError, read_yaml, write_yaml};

/// How an image came to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// From a registry.
    Pulled,
    /// From a context.
    Built,
    /// Loaded, imported, or there already without a registry's digest.
    Loaded,
}

/// One image as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// How it came.
    pub kind: Kind,
    /// Digest of its configuration; the same on every engine that has exactly this image.
    pub id: String,
    /// Digest of its manifest, under which a registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// SHA-256 of the context that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Version of the file's form.
    pub format: u32,
    /// By app, by image.
    pub apps: IndexMap<String, IndexMap<String, Locked>>,
}

/// An image that is not what the lock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The image.
    pub image: String,
    /// What differs: `id`, `context`, `architecture`; empty when the lock does not name the image at all.
    pub what: &'static str,
    /// In the lock.
    pub locked: String,
    /// Found.
    pub found: String,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.what.is_empty() {
            return write!(f, "`{}` is not in the lock", self.image);
        }
        let Drift { image, what, locked, found } = self;
        write!(f, "`{image}` has the {what} {}, the lock says {}", short(found), short(locked))
    }
}

impl Drift {
    /// An image that the lock does not name.
    pub fn unknown(image: &str) -> Self {
        Drift { image: image.to_owned(), what: "", locked: String::new(), found: String::new() }
    }
}

/// `sha256:` and twelve digits: enough to tell two apart.
fn short(digest: &str) -> &str {
    // A damaged file may hold anything.
    if digest.starts_with("sha256:") { digest.get(..19).unwrap_or(digest) } else { digest }
}

impl Default for Lock {
    fn default() -> Self {
        Lock { format: FORMAT, apps: IndexMap::new() }
    }
}

impl Lock {
    /// The file at `path`; an empty lock when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or is of a newer form.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        match read_yaml::<Lock>(path) {
            Ok(lock) if lock.format > FORMAT => Err(StoreError::Content {
                path: path.to_owned(),
                why: format!("format {} is newer than this maestro knows ({FORMAT})", lock.format),
            }),
            Ok(lock) => Ok(lock),
            Err(StoreError::Missing(_)) => Ok(Lock::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes the file; images in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let mut sorted = self.clone();
        sorted.apps.sort_keys();
        sorted.apps.values_mut().for_each(IndexMap::sort_keys);
        write_yaml(path, &sorted)
    }

    /// The images of `app`.
    ///
    /// # Errors
    /// [`ImageError::NoLock`] when it names none; `path` is for the message.
    pub fn of(&self, app: &str, path: &Path) -> Result<&IndexMap<String, Locked>, ImageError> {
        let images = self.apps.get(app).filter(|images| !images.is_empty());
        images.ok_or_else(|| ImageError::NoLock(path.to_owned(), app.to_owned()))
    }
}

impl Locked {
    /// How `found` differs from this. An image built again of the same context has another id, and that is no drift.
    pub fn drift(&self, image: &str, found: &Locked) -> Option<Drift> {
        let same_context = self.context.is_some() && self.context == found.context;
        let compared = [
            ("architecture", &self.architecture, &found.architecture),
            ("id", &self.id, if same_context { &self.id } else { &found.id }),
        ];
        let (what, locked, found) = compared.into_iter().find(|(_, locked, found)| locked != found)?;
        Some(Drift { image: image.to_owned(), what, locked: locked.clone(), found: found.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(id: &str, context: Option<&str>) -> Locked {
        Locked {
            kind: Kind::Built,
            id: id.into(),
            digest: None,
            context: context.map(str::to_owned),
            architecture: "amd64".into(),
        }
    }

    #[test]
    fn any_text_can_be_shown_in_place_of_a_digest() {
        for (digest, shown) in [
            ("sha256:0123456789abcdef", "sha256:0123456789ab"),
            ("sha256:01", "sha256:01"),
            ("sha256:01234567890é", "sha256:01234567890é"),
            ("é", "é"),
        ] {
            assert_eq!(short(digest), shown);
        }
    }

    #[test]
    fn drift_is_another_image_but_not_another_build_of_the_same_context() {
        let before = locked("sha256:aaaaaaaaaaaaaaaaaaaaaaaa", Some("sha256:c"));
        assert_eq!(before.drift("x", &locked("sha256:b", Some("sha256:c"))), None);
        let drift = before.drift("x", &locked("sha256:bbbbbbbbbbbbbbbbbbbbbbbb", None)).unwrap();
        assert_eq!(drift.to_string(), "`x` has the id sha256:bbbbbbbbbbbb, the lock says sha256:aaaaaaaaaaaa");
        let other = Locked { architecture: "arm64".into(), ..before.clone() };
        assert_eq!(before.drift("x", &other).unwrap().what, "architecture");
    }

    #[test]
    fn the_file_is_sorted_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.lock.yml");
        assert_eq!(Lock::read(&path).unwrap(), Lock::default());
        let mut lock = Lock::default();
        let images = lock.apps.entry("app".into()).or_default();
        images.insert("z:1".into(), locked("sha256:1", None));
        images.insert("a:1".into(), locked("sha256:2", Some("sha256:3")));
        lock.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.find("a:1").unwrap() < text.find("z:1").unwrap(), "{text}");
        assert_eq!(Lock::read(&path).unwrap().apps["app"]["a:1"], lock.apps["app"]["a:1"]);
        std::fs::write(&path, text.replace("format: 1", "format: 9")).unwrap();
        assert!(Lock::read(&path).unwrap_err().to_string().contains("newer"));
        assert!(lock.of("other", &path).is_err());
    }
}
