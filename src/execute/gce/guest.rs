//! What a machine tells about itself over the API: the SSH host keys that its guest agent published at its first start.

use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;

use super::{Gce, GceError, Kind, retry};

/// Where Google's guest agent writes host keys when `enable-guest-attributes` is on.
/// Source: Compute Engine documentation, "Storing host keys by enabling guest attributes".
const HOST_KEYS: &str = "hostkeys/";

impl Gce {
    /// The SSH host keys of a machine, kind and key; none until it has published them.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn host_keys(&self, zone: &str, name: &str) -> Result<Vec<(String, String)>, GceError> {
        let what = format!("reading the host keys of machine `{name}` in {zone}");
        let found = retry(&what, || {
            let request = self.instances.get_guest_attributes().set_project(&self.project).set_zone(zone);
            let request = request.set_instance(name).set_query_path(HOST_KEYS);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.kind == Kind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let items = found.query_value.map(|value| value.items).unwrap_or_default();
        let keys = items.into_iter().filter_map(|item| {
            let (kind, key) = (item.key?, item.value?);
            // They become lines of a file.
            let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
            (plain(&kind) && plain(key.trim())).then(|| (kind, key.trim().to_owned()))
        });
        Ok(keys.collect())
    }
}
