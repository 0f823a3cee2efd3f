//! Compute Engine through Google's own client: machines, images, firewall rules, operations.
//!
//! Every call that creates something carries a request id, so repeating it after a lost answer does nothing twice; every
//! operation is waited for with a deadline and its own error is looked at (the library reports a failed operation as a
//! success).

mod change;
mod error;
mod firewall;
mod guest;
mod images;
mod key;
mod own_address;
mod provision;
mod vm;

use std::future::Future;
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::{Builder as AdcBuilder, Credentials, anonymous, service_account};
use google_cloud_compute_v1::client::{Disks, Firewalls, GlobalOperations, Images, Instances, Regions, ZoneOperations};
use google_cloud_compute_v1::model::Operation;
use google_cloud_compute_v1::model::operation::Status;
use google_cloud_gax::error::Error as ApiError;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;
use rand::RngExt;

use crate::error::{Plain, Result};

pub use error::{GceError, Kind};
pub use images::{Disk, Image};
pub use own_address::own_address;
pub use provision::{Cloud, of_deployment};
pub use vm::{Vm, VmSpec, VmState};

/// How often a passing failure is tried again, and how long at first (doubled each time, with jitter).
const ATTEMPTS: u32 = 8;
/// The same when nobody answers at all: a missing network does not come back within seconds.
const ATTEMPTS_UNREACHABLE: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A connection to one project.
#[derive(Clone, Debug)]
pub struct Gce {
    /// The project.
    pub project: String,
    instances: Instances,
    disks: Disks,
    images: Images,
    firewalls: Firewalls,
    regions: Regions,
    zone_operations: ZoneOperations,
    global_operations: GlobalOperations,
    endpoint: Option<String>,
    patience: Duration,
}

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct Access {
    /// The project.
    pub project: String,
    /// Another base URL (tests); no credentials are sent there.
    pub endpoint: Option<String>,
    /// A service account's key, JSON; application-default credentials when absent.
    pub key: Option<serde_json::Value>,
    /// Longest wait for one operation.
    pub patience: Duration,
}

/// Where an operation lives.
enum Scope<'a> {
    Zone(&'a str),
    Global,
}

macro_rules! client {
    ($client:ident, $access:expr, $credentials:expr) => {{
        let mut builder = $client::builder().with_credentials($credentials.clone());
        if let Some(endpoint) = &$access.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        builder.build().await.map_err(|error| {
            Plain::new(crate::error::Exit::Unreachable, format!("cannot make the Compute Engine client: {error}"))
        })?
    }};
}

impl Gce {
    /// Makes the clients; nothing is sent yet.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub async fn connect(access: &Access) -> Result<Gce> {
        let credentials = credentials(access)?;
        Ok(Gce {
            project: access.project.clone(),
            instances: client!(Instances, access, credentials),
            disks: client!(Disks, access, credentials),
            images: client!(Images, access, credentials),
            firewalls: client!(Firewalls, access, credentials),
            regions: client!(Regions, access, credentials),
            zone_operations: client!(ZoneOperations, access, credentials),
            global_operations: client!(GlobalOperations, access, credentials),
            endpoint: access.endpoint.clone(),
            patience: access.patience,
        })
    }

    /// Another base URL than Google's, when one is used.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// A region's quotas: metric (`CPUS`, `IN_USE_ADDRESSES`) -> (limit, usage).
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn quotas(&self, region: &str) -> Result<Vec<(String, f64, f64)>, GceError> {
        let what = format!("reading the quotas of region `{region}`");
        let found = retry(&what, || {
            let request = self.regions.get().set_project(&self.project).set_region(region);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        let row = |q: google_cloud_compute_v1::model::Quota| {
            let metric = q.metric?.name()?.to_owned();
            Some((metric, q.limit.unwrap_or(0.0), q.usage.unwrap_or(0.0)))
        };
        Ok(found.quotas.into_iter().filter_map(row).collect())
    }

    /// Waits for an operation's end; an error of the kind `fine` counts as done.
    async fn settle(
        &self,
        what: &str,
        scope: Scope<'_>,
        started: Result<Operation, GceError>,
        fine: Kind,
    ) -> Result<(), GceError> {
        let ended = match started {
            Ok(operation) => self.finish(what, &scope, operation).await,
            Err(error) => Err(error),
        };
        match ended {
            Err(error) if error.kind == fine => Ok(()),
            other => other,
        }
    }

    /// Waits until `operation` is done and looks at its error.
    async fn finish(&self, what: &str, scope: &Scope<'_>, mut operation: Operation) -> Result<(), GceError> {
        let start = Instant::now();
        let name = operation.name.clone().unwrap_or_default();
        while operation.status != Some(Status::Done) {
            if start.elapsed() > self.patience {
                let message = format!(
                    "operation `{name}` not done after {} s; last seen: {} %",
                    self.patience.as_secs(),
                    operation.progress.unwrap_or(0)
                );
                return Err(GceError { what: what.to_owned(), kind: Kind::Refused, message });
            }
            operation = self.wait_once(what, scope, &name).await?;
        }
        let failed = operation.error.as_ref().and_then(|error| error.errors.first());
        match failed {
            None => Ok(()),
            Some(first) => Err(GceError::from_operation(
                what,
                first.code.as_deref().unwrap_or_default(),
                first.message.as_deref().unwrap_or_default(),
            )),
        }
    }

    /// One long poll of an operation: the server answers when it is done, or after some time.
    async fn wait_once(&self, what: &str, scope: &Scope<'_>, name: &str) -> Result<Operation, GceError> {
        retry(what, || async move {
            match scope {
                Scope::Zone(zone) => {
                    let wait =
                        self.zone_operations.wait().set_project(&self.project).set_zone(*zone).set_operation(name);
                    wait.with_retry_policy(NeverRetry).send().await
                }
                Scope::Global => {
                    let wait = self.global_operations.wait().set_project(&self.project).set_operation(name);
                    wait.with_retry_policy(NeverRetry).send().await
                }
            }
        })
        .await
    }
}

/// A short-lived token of the application-default credentials, for registries.
///
/// # Errors
/// When there are none that can be used.
pub async fn access_token() -> Result<String> {
    let unusable = |error: String| Plain::usage(format!("no token for the registry: {error}"));
    let credentials = AdcBuilder::default().build_access_token_credentials();
    let credentials = credentials.map_err(|error| unusable(error.to_string()))?;
    Ok(credentials.access_token().await.map_err(|error| unusable(error.to_string()))?.token)
}

fn credentials(access: &Access) -> Result<Credentials> {
    let unusable = |error: String| {
        Plain::usage(format!("the Google Cloud credentials cannot be used: {error}"))
            .with_hint("put a service account's key into gcp/credentials.json, or set GOOGLE_APPLICATION_CREDENTIALS")
    };
    if access.endpoint.is_some() {
        return Ok(anonymous::Builder::new().build());
    }
    let made = match &access.key {
        Some(key) => service_account::Builder::new(key.clone()).build(),
        None => AdcBuilder::default().build(),
    };
    made.map_err(|error| unusable(error.to_string()).into())
}

/// Calls `call` until it succeeds or fails for good; passing failures are tried again with growing, jittered pauses.
async fn retry<T, F, Fut>(what: &str, mut call: F) -> Result<T, GceError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ApiError>>,
{
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => GceError::from_api(what, &error),
        };
        let limit = if error.kind == Kind::Unreachable { ATTEMPTS_UNREACHABLE } else { ATTEMPTS };
        if !error.passing() || attempt >= limit {
            return Err(error);
        }
        tracing::debug!(what, attempt, %error, "trying again");
        let share = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(pause.mul_f64(share)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        attempt += 1;
    }
}

/// Every item of a list that comes in pages; `take` splits an answer into its items and the token of the next page.
async fn pages<T, L, F, Fut>(
    what: &str,
    call: F,
    take: impl Fn(L) -> (Vec<T>, Option<String>),
) -> Result<Vec<T>, GceError>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<L, ApiError>>,
{
    let mut all = Vec::new();
    let mut page = String::new();
    loop {
        let (items, next) = take(retry(what, || call(page.clone())).await?);
        all.extend(items);
        match next.filter(|token| !token.is_empty()) {
            Some(token) => page = token,
            None => return Ok(all),
        }
    }
}

/// The last part of a resource's address.
fn last(url: Option<&str>) -> String {
    url.and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned()
}

/// A random UUID (version 4), the form Compute Engine asks of request ids.
fn request_id() -> String {
    let n: u128 = rand::rng().random();
    let n = (n & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
