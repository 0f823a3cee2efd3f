//! Images in a folder: one compressed tar each, and an index that says what each must be.

use serde::{Deserialize, Serialize};

/// The index's file name.
pub const INDEX: &str = "images.yml";

/// The index of a folder of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Version of the file's form.
    pub format: u32,
    /// The app they belong to.
    pub app: String,
    /// The images.
    pub images: Vec<BundleEntry>,
}

/// One image of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleEntry {
    /// `name:tag`.
    pub image: String,
    /// Its file.
    pub file: String,
    /// Digest of its configuration, which the engine must report after loading.
    pub id: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// The image's name as a file name: `:`, `/` and `-` become `_`.
pub fn mangled(image: &str) -> String {
    image.replace([':', '/', '-', '@'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mangled_as_they_always_were() {
        assert_eq!(mangled("yg397/openresty-thrift:latest"), "yg397_openresty_thrift_latest");
        assert_eq!(mangled("mongodb-delayed:4.4.6"), "mongodb_delayed_4.4.6");
    }
}
