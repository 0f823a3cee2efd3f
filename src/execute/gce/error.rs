//! What Compute Engine can answer instead of the thing asked for.
//!
//! The client library reports most failures with an unknown code, because Compute Engine's classic error bodies carry
//! no gRPC status: the HTTP status and the `reason` in the body decide here.

use google_cloud_gax::error::Error as ApiError;
use google_cloud_gax::error::rpc::StatusDetails;

use crate::error::{Exit, Fault};

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 404.
    NotFound,
    /// 409 `alreadyExists`.
    AlreadyExists,
    /// 401, or 403 without a reason that says more.
    Forbidden,
    /// 403 `quotaExceeded`, or an operation that ended in `QUOTA_EXCEEDED`.
    Quota,
    /// 403 or 429 `rateLimitExceeded`.
    RateLimited,
    /// The zone has no machine of this type to give.
    Stockout,
    /// 5xx.
    Unavailable,
    /// No answer at all.
    Unreachable,
    /// An answer that is not the API's.
    Protocol,
    /// 412: what was changed is not what was read any more.
    Outdated,
    /// Anything else the API refuses.
    Refused,
}

/// A failed call: what it was about, why, and the API's own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {message}")]
pub struct GceError {
    /// What was asked for, e.g. "creating machine `node01`".
    pub what: String,
    /// Why it failed.
    pub kind: Kind,
    /// The API's message, on one line.
    pub message: String,
}

impl Fault for GceError {
    fn exit(&self) -> Exit {
        match self.kind {
            Kind::Unreachable | Kind::Unavailable | Kind::Protocol | Kind::RateLimited => Exit::Unreachable,
            Kind::Forbidden => Exit::Usage,
            _ => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self.kind {
            Kind::Forbidden => "check gcp/credentials.json and the role in docs/gcp.md".into(),
            Kind::Quota => "ask for more quota in the cloud console, or use a smaller placement".into(),
            Kind::Stockout => "try again later, or place these machines in another zone".into(),
            Kind::Unreachable => "check the network and the proxy settings".into(),
            Kind::Protocol => "is there a proxy between this host and compute.googleapis.com?".into(),
            Kind::RateLimited | Kind::Unavailable => {
                "the API is overloaded; the same command goes on where it stopped".into()
            }
            Kind::NotFound | Kind::AlreadyExists | Kind::Outdated | Kind::Refused => return None,
        })
    }
}

impl GceError {
    /// From the client library's error.
    pub(super) fn from_api(what: &str, error: &ApiError) -> GceError {
        let (kind, message) = classify(error);
        GceError { what: what.to_owned(), kind, message: one_line(&message) }
    }

    /// From an operation that ended in an error: its first error's code and message.
    pub(super) fn from_operation(what: &str, code: &str, message: &str) -> GceError {
        let kind = match code {
            "QUOTA_EXCEEDED" => Kind::Quota,
            _ if code.contains("RESOURCE_POOL_EXHAUSTED") || code.contains("STOCKOUT") => Kind::Stockout,
            _ if code.contains("ALREADY_EXISTS") => Kind::AlreadyExists,
            _ if code.contains("NOT_FOUND") => Kind::NotFound,
            _ => Kind::Refused,
        };
        GceError { what: what.to_owned(), kind, message: one_line(&format!("{code}: {message}")) }
    }

    /// Whether it was refused because somebody else changed the thing in between.
    pub fn outdated(&self) -> bool {
        self.kind == Kind::Outdated
    }

    /// Whether trying again may help.
    pub fn passing(&self) -> bool {
        matches!(self.kind, Kind::RateLimited | Kind::Unavailable | Kind::Unreachable)
    }
}

fn classify(error: &ApiError) -> (Kind, String) {
    if error.is_connect() || error.is_timeout() || error.is_io() {
        return (Kind::Unreachable, innermost(error));
    }
    if error.is_authentication() {
        return (Kind::Forbidden, innermost(error));
    }
    if error.is_deserialization() {
        return (Kind::Protocol, "the answer is not the API's JSON".into());
    }
    let reason = reason(error);
    let message = match (error.status(), error.http_status_code()) {
        (Some(status), _) => status.message.clone(),
        (None, Some(code)) => format!("HTTP {code} with a body that is not the API's JSON"),
        (None, None) => innermost(error),
    };
    let kind = match (error.http_status_code(), reason) {
        (_, "quotaExceeded") => Kind::Quota,
        (_, "rateLimitExceeded" | "userRateLimitExceeded") | (Some(429), _) => Kind::RateLimited,
        (Some(500..=599), _) => Kind::Unavailable,
        (Some(_), _) if error.status().is_none() => Kind::Protocol,
        (Some(401 | 403), _) => Kind::Forbidden,
        (Some(404), _) => Kind::NotFound,
        (Some(409), _) => Kind::AlreadyExists,
        (Some(412), _) => Kind::Outdated,
        (Some(_), _) => Kind::Refused,
        (None, _) => Kind::Unreachable,
    };
    (kind, message)
}

/// The `reason` of the body's first error: what tells a spent quota from a missing permission (both are 403).
fn reason(error: &ApiError) -> &str {
    let details = error.status().map(|status| status.details.as_slice()).unwrap_or_default();
    let info = details.iter().find_map(|detail| match detail {
        StatusDetails::ErrorInfo(info) => Some(info.reason.as_str()),
        _ => None,
    });
    info.unwrap_or_default()
}

fn innermost(error: &ApiError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}
