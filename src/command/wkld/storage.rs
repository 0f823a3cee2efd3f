//! How much the run's posts take in the store, for `info.yml`, where the store can be asked.

use serde::Serialize;

use crate::command::Current;
use crate::embedded::client::{Client, StoreSize};
use crate::error::Result;
use crate::experiment::TargetName;
use crate::store::{RunDir, write_yaml};

/// The store before the run.
pub(super) struct Storage {
    client: Client,
    before: StoreSize,
}

/// The Python tool's keys; whole bytes, of this run's posts alone.
#[derive(Serialize)]
struct Sizes {
    total_post_storage_size_bytes: u64,
    avg_post_storage_size_bytes: u64,
}

impl Storage {
    /// Asks the store before the run; `None` where it cannot be asked from here.
    ///
    /// # Errors
    /// When it should answer and does not.
    pub(super) fn before(current: &Current) -> Result<Option<Self>> {
        let deployment = &current.deployment;
        if deployment.target != TargetName::Embedded || deployment.pid.is_none() {
            return Ok(None);
        }
        let Some(url) = &deployment.jaeger_url else { return Ok(None) };
        let client = Client::of_admin(url);
        let before = client.store_size()?;
        Ok(Some(Storage { client, before }))
    }

    /// Asks again and writes what the run added into its `info.yml`.
    ///
    /// # Errors
    /// When the store does not answer, or the file cannot be written.
    pub(super) fn after(&self, dir: &RunDir) -> Result<()> {
        let (before, after) = (&self.before, self.client.store_size()?);
        let posts = after.posts.saturating_sub(before.posts);
        let documents = after.document_bytes - before.document_bytes;
        let sizes = Sizes {
            total_post_storage_size_bytes: (after.total_bytes - before.total_bytes).max(0.0) as u64,
            avg_post_storage_size_bytes: if posts == 0 { 0 } else { (documents / posts as f64).max(0.0) as u64 },
        };
        Ok(write_yaml(&dir.file("info.yml"), &sizes)?)
    }
}
