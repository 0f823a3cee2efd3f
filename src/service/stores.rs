//! Connections to the Redis stores.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::ServiceError;
use super::settings::{REDIS_PORT, Settings};

/// Longest wait for a store's answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A connection to the Redis `store` that is made at first use and made again after it broke. Commands of many tasks
/// share it.
///
/// # Errors
/// [`ServiceError::Store`] for an address that cannot be used.
pub(crate) fn open(settings: &Settings, store: &str) -> Result<ConnectionManager, ServiceError> {
    let failed = |source| ServiceError::Store { store: store.to_owned(), source };
    let address = settings.address(store, REDIS_PORT);
    let client = redis::Client::open(format!("redis://{address}/")).map_err(failed)?;
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER))
        .set_connection_timeout(Some(ANSWER))
        .set_number_of_retries(2);
    ConnectionManager::new_lazy_with_config(client, config).map_err(failed)
}
