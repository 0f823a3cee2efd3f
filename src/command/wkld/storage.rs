//! How much the run's posts take in the store, for `info.yml`, where the store can be asked.

use serde::Serialize;

use crate::Context;
use crate::app::{PostSizes, StoreSizes};
use crate::command::{self, Current};
use crate::delay::attach::Place;
use crate::embedded::client::Client;
use crate::error::Result;
use crate::execute::local::post_sizes;
use crate::store::{RunDir, write_yaml};
use crate::target::Runtime;
use crate::ui;

/// The store before the run.
pub(super) struct Storage {
    store: Store,
    before: StoreSizes,
}

/// Where the posts are.
enum Store {
    /// In the miniature's process.
    Process(Client),
    /// In a container, of which these are the host and the engine.
    Container(&'static PostSizes, Box<Place>),
}

/// The Python tool's keys; whole bytes, of this run's posts alone.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Sizes {
    total_post_storage_size_bytes: u64,
    avg_post_storage_size_bytes: u64,
}

impl Storage {
    /// Asks the store before the run; `None`, and a warning, where it does not answer: a load can do without.
    pub(super) async fn before(context: &Context, current: &Current) -> Option<Self> {
        let asked = async {
            let Some(store) = Store::of(context, current).await? else { return Ok(None) };
            let before = store.sizes().await?;
            Ok(Some(Storage { store, before }))
        };
        asked.await.unwrap_or_else(unknown)
    }

    /// Asks again and writes what the run added into its `info.yml`; a warning where the store answers no more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) async fn after(&self, dir: &RunDir) -> Result<()> {
        let Some(after) = self.store.sizes().await.map_or_else(unknown, Some) else { return Ok(()) };
        Ok(write_yaml(&dir.file("info.yml"), &added(&self.before, &after))?)
    }
}

fn unknown<T>(error: crate::error::Error) -> Option<T> {
    ui::warn(format_args!("`info.yml` will not tell how much the posts take: {error}"));
    None
}

impl Store {
    async fn of(context: &Context, current: &Current) -> Result<Option<Self>> {
        if command::target_named(current.target)?.runtime() == Runtime::InProcess {
            let url = current.deployment.jaeger_url.as_ref().filter(|_| current.deployment.pid.is_some());
            return Ok(url.map(|url| Store::Process(Client::of_admin(url))));
        }
        let Some(replication) = &current.app.replication else { return Ok(None) };
        let ask = &replication.post_sizes;
        let sites = command::delay::sites(context, current).await?;
        let place = command::delay::find(current, &sites, ask.service).await?;
        Ok(Some(Store::Container(ask, Box::new(place))))
    }

    async fn sizes(&self) -> Result<StoreSizes> {
        match self {
            Store::Process(client) => {
                let size = tokio::task::block_in_place(|| client.store_size())?;
                let (total_bytes, document_bytes) = (size.total_bytes as u64, size.document_bytes as u64);
                Ok(StoreSizes { posts: size.posts, total_bytes, document_bytes })
            }
            Store::Container(ask, place) => post_sizes(&place.engine, &place.container, ask).await,
        }
    }
}

/// What the run added to the store.
fn added(before: &StoreSizes, after: &StoreSizes) -> Sizes {
    let documents = after.document_bytes.saturating_sub(before.document_bytes);
    Sizes {
        total_post_storage_size_bytes: after.total_bytes.saturating_sub(before.total_bytes),
        avg_post_storage_size_bytes: documents.checked_div(after.posts.saturating_sub(before.posts)).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_run_added_counts() {
        let before = StoreSizes { posts: 10, total_bytes: 5000, document_bytes: 3000 };
        let after = StoreSizes { posts: 14, total_bytes: 7400, document_bytes: 4203 };
        let sizes = Sizes { total_post_storage_size_bytes: 2400, avg_post_storage_size_bytes: 300 };
        assert_eq!(added(&before, &after), sizes);
        let none = Sizes { total_post_storage_size_bytes: 0, avg_post_storage_size_bytes: 0 };
        assert_eq!(added(&before, &before), none);
        assert_eq!(added(&after, &before), none, "a store that was emptied meanwhile");
    }
}
