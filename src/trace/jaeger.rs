//! Jaeger's query API (v1 and v2 answer alike): traces by time window, notifications counted by dependency edges,
//! and the services it knows.

use std::time::Duration;

use serde::Deserialize;

use super::model::Trace;
use super::response::{ResponseError, Tally};
use super::{Shape, read_ahead};
use crate::error::{Exit, Fault};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest wait for the first byte of an answer: Jaeger collects it in memory before it sends anything.
const FIRST_BYTE: Duration = Duration::from_secs(120);

/// Longest silence inside an answer.
const IDLE: Duration = Duration::from_secs(30);

/// Attempts at one page, with growing pauses between them.
const ATTEMPTS: u32 = 3;

/// Traces asked for in one page; some trace stores refuse more.
const PAGE_LIMIT: u64 = 10_000;

/// Traces expected in one page, leaving room for what was not expected.
const PAGE_AIM: f64 = 5_000.0;

/// A trace this far outside the page it came in shows that the server does not look at `start` and `end`, us.
const FAR_OUTSIDE_US: i64 = 120_000_000;

/// How far back dependencies are counted: seven days, as the Python tool does.
const LOOKBACK_MS: i64 = 604_800_000;

/// Why the API was of no use.
#[derive(Debug, thiserror::Error)]
pub enum JaegerError {
    /// The address is not one.
    #[error("`{0}` is not a URL of a trace API")]
    Address(String),
    /// No connection, or no answer.
    #[error("no answer from the trace API at `{url}`: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the client library says.
        why: String,
    },
    /// An answer that says no.
    #[error("the trace API at `{url}` answered {status}{}", text(.message))]
    Refused {
        /// What was asked.
        url: String,
        /// The status code.
        status: u16,
        /// The server's words.
        message: Option<String>,
    },
    /// An answer that cannot be used.
    #[error("`{url}`: {source}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        source: ResponseError,
    },
}

impl Fault for JaegerError {
    fn exit(&self) -> Exit {
        match self {
            JaegerError::Address(_) => Exit::Usage,
            JaegerError::Unreachable { .. } => Exit::Unreachable,
            JaegerError::Refused { .. } | JaegerError::Answer { .. } => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            JaegerError::Address(_) => Some("an address looks like http://HOST:16686".into()),
            JaegerError::Unreachable { .. } => {
                Some("is the application running? name another address with --jaeger URL".into())
            }
            JaegerError::Refused { status: 404, .. } | JaegerError::Answer { source: ResponseError::Html, .. } => {
                Some("that is not Jaeger's query API; it usually listens at http://HOST:16686".into())
            }
            JaegerError::Refused { .. } | JaegerError::Answer { .. } => None,
        }
    }
}

fn text(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

/// A query API.
#[derive(Clone, Debug)]
pub struct Jaeger {
    base: String,
    agent: ureq::Agent,
}

/// Which traces are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    /// Traces with a span of this service.
    pub service: &'a str,
    /// That begin between these instants, us since the epoch; everything the server has when absent.
    pub window_us: Option<(i64, i64)>,
    /// How many there may be.
    pub expected: Option<u64>,
}

/// What reading pages came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetched {
    /// Counts over all pages.
    pub tally: Tally,
    /// Pages read.
    pub pages: u64,
}

impl Jaeger {
    /// The API at `base` (`http://host:16686`).
    ///
    /// # Errors
    /// [`JaegerError::Address`].
    pub fn new(base: &str) -> Result<Jaeger, JaegerError> {
        let base = base.trim().trim_end_matches('/').to_owned();
        let parsed: Option<ureq::http::Uri> = base.parse().ok();
        let usable = |uri: &ureq::http::Uri| uri.host().is_some_and(|host| !host.is_empty());
        let web = base.starts_with("http://") || base.starts_with("https://");
        let Some(uri) = parsed.filter(|uri| web && usable(uri)) else { return Err(JaegerError::Address(base)) };
        // Compressing costs more than a loopback or a local network does.
        let near = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]" | "::1"));
        let encoding = if near { "identity" } else { "gzip" };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(FIRST_BYTE))
            .accept_encoding(encoding)
            .input_buffer_size(256 << 10)
            .build()
            .new_agent();
        Ok(Jaeger { base, agent })
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Calls into `child` from other services in the last seven days, as Jaeger counts them; `None` without such
    /// an edge.
    ///
    /// # Errors
    /// [`JaegerError`].
    pub fn calls_into(&self, child: &str, now_ms: i64) -> Result<Option<u64>, JaegerError> {
        let url = format!("{}/api/dependencies?endTs={now_ms}&lookback={LOOKBACK_MS}", self.base);
        Ok(calls_into(&self.text(&url)?, child))
    }

    /// The services that have reported spans.
    ///
    /// # Errors
    /// [`JaegerError`].
    pub fn services(&self) -> Result<Vec<String>, JaegerError> {
        #[derive(Deserialize)]
        struct Services {
            data: Option<Vec<String>>,
        }
        let text = self.text(&format!("{}/api/services", self.base))?;
        let services: Option<Services> = serde_json::from_str(&text).ok();
        Ok(services.and_then(|services| services.data).unwrap_or_default())
    }

    /// Any small JSON document below the base address, `None` when there is none (404) or when it is not JSON.
    ///
    /// # Errors
    /// [`JaegerError::Unreachable`].
    pub fn document(&self, path: &str) -> Result<Option<serde_json::Value>, JaegerError> {
        match self.text(&format!("{}{path}", self.base)) {
            Ok(text) => Ok(serde_json::from_str(&text).ok()),
            Err(JaegerError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The traces of `service` in the last seven days that have a span with this tag.
    ///
    /// # Errors
    /// As [`Jaeger::document`].
    pub fn tagged(
        &self,
        service: &str,
        tag: &str,
        value: &str,
        now_us: i64,
    ) -> Result<Option<serde_json::Value>, JaegerError> {
        let tags = escape(&serde_json::json!({ tag: value }).to_string());
        let (service, start) = (escape(service), now_us - LOOKBACK_MS * 1000);
        self.document(&format!("/api/traces?service={service}&tags={tags}&start={start}&end={now_us}&limit=20"))
    }

    fn text(&self, url: &str) -> Result<String, JaegerError> {
        let unreachable = |error: ureq::Error| JaegerError::Unreachable { url: url.to_owned(), why: error.to_string() };
        let mut response = self.call(url)?;
        response.body_mut().read_to_string().map_err(unreachable)
    }

    /// Sends a request and refuses anything but 200.
    fn call(&self, url: &str) -> Result<ureq::http::Response<ureq::Body>, JaegerError> {
        let unreachable = |error: ureq::Error| JaegerError::Unreachable { url: url.to_owned(), why: error.to_string() };
        let mut response = self.agent.get(url).call().map_err(unreachable)?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let body = response.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
        Err(JaegerError::Refused { url: url.to_owned(), status, message: refusal(&body) })
    }

    /// Reads the wanted traces, page by page, into `traces` (also those outside the window, when the server sends
    /// them). Pages that fail are tried again; what came with a page that keeps failing is kept, and the tally says
    /// what was wrong.
    ///
    /// # Errors
    /// [`JaegerError`] when not even the first page could be read.
    pub fn read(&self, wanted: &Wanted<'_>, shape: &Shape, traces: &mut Vec<Trace>) -> Result<Fetched, JaegerError> {
        let mut fetched = Fetched::default();
        let mut open = pages(wanted);
        while let Some(page) = open.pop() {
            let before = traces.len();
            let got = match self.page(wanted.service, &page, shape, traces) {
                Ok(got) => got,
                Err(error) if fetched.pages == 0 => return Err(error),
                Err(error) => {
                    fetched.tally.damage.get_or_insert(format!("a page could not be read: {error}"));
                    continue;
                }
            };
            fetched.pages += 1;
            let full = got.tally.present >= page.limit;
            match page.window_us {
                Some((first, last)) if full && last > first && !got.far_outside => {
                    // There may be more than one page holds: read both halves instead.
                    traces.truncate(before);
                    let middle = first + (last - first) / 2;
                    open.push(Page { window_us: Some((middle + 1, last)), ..page });
                    open.push(Page { window_us: Some((first, middle)), ..page });
                    continue;
                }
                None if full => {
                    let limit = page.limit;
                    let full = format!("as many traces came as were asked for ({limit}): there may be more");
                    fetched.tally.damage.get_or_insert(full);
                }
                _ => {}
            }
            fetched.tally.add(&got.tally);
            if got.far_outside {
                // The server does not look at the window: this was everything it has.
                break;
            }
        }
        Ok(fetched)
    }

    /// One page, with a few attempts.
    fn page(&self, service: &str, page: &Page, shape: &Shape, traces: &mut Vec<Trace>) -> Result<Got, JaegerError> {
        // What the best failed attempt brought stays in `traces` until an attempt succeeds.
        let start = traces.len();
        let mut best: Option<Got> = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(200 << attempt));
            }
            let from = traces.len();
            let mut got = Got::default();
            let error = match self.attempt(service, page, shape, &mut got, traces) {
                Ok(()) => {
                    traces.drain(start..from);
                    return Ok(got);
                }
                Err(error) => error,
            };
            let better = got.tally.parsed > 0 && best.as_ref().is_none_or(|best| got.tally.parsed > best.tally.parsed);
            if better {
                traces.drain(start..from);
                got.tally.damage = Some(error.to_string());
                best = Some(got);
            } else {
                traces.truncate(from);
            }
            if (!error.may_pass() || attempt + 1 == ATTEMPTS) && best.is_none() {
                return Err(error);
            }
        }
        Ok(best.unwrap_or_default())
    }

    fn attempt(
        &self,
        service: &str,
        page: &Page,
        shape: &Shape,
        got: &mut Got,
        traces: &mut Vec<Trace>,
    ) -> Result<(), JaegerError> {
        let url = page.url(&self.base, service);
        let response = self.call(&url)?;
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let Got { tally, far_outside } = got;
        let done = read_ahead(body, IDLE, shape, tally, &mut |trace| {
            *far_outside |= page.is_far_outside(&trace);
            traces.push(trace);
        });
        done.map_err(|source| JaegerError::Answer { url: url.clone(), source })?;
        match &tally.server_error {
            Some(message) if tally.present == 0 => {
                Err(JaegerError::Refused { url, status: 200, message: Some(message.clone()) })
            }
            _ => Ok(()),
        }
    }
}

impl JaegerError {
    /// Whether another attempt may end better.
    fn may_pass(&self) -> bool {
        match self {
            JaegerError::Unreachable { .. } | JaegerError::Answer { source: ResponseError::Broken(..), .. } => true,
            JaegerError::Refused { status, .. } => *status >= 500,
            JaegerError::Address(_) | JaegerError::Answer { .. } => false,
        }
    }
}

/// What one page held.
#[derive(Default)]
struct Got {
    tally: Tally,
    far_outside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    window_us: Option<(i64, i64)>,
    limit: u64,
}

impl Page {
    fn url(&self, base: &str, service: &str) -> String {
        let window = match self.window_us {
            Some((first, last)) => format!("&start={first}&end={last}"),
            None => "&lookback=168h".to_owned(),
        };
        format!("{base}/api/traces?service={}&limit={}{window}", escape(service), self.limit)
    }

    fn is_far_outside(&self, trace: &Trace) -> bool {
        let Some((first, last)) = self.window_us else { return false };
        trace.about_us().is_some_and(|at| at < first - FAR_OUTSIDE_US || at > last + FAR_OUTSIDE_US)
    }
}

/// The pages of a wanted window, the first one last (they are taken from the end).
fn pages(wanted: &Wanted<'_>) -> Vec<Page> {
    let Some((first, last)) = wanted.window_us else {
        // Without a window there is one page; room for traces that hold no notification.
        let limit = wanted.expected.map_or(1_000_000, |expected| expected * 2 + PAGE_LIMIT);
        return vec![Page { window_us: None, limit }];
    };
    let parts = wanted.expected.map_or(1, |expected| (expected as f64 / PAGE_AIM).ceil().max(1.0) as i64);
    let length = (last - first) / parts + 1;
    let part = |index: i64| Page {
        window_us: Some((first + index * length, (first + (index + 1) * length - 1).min(last))),
        limit: PAGE_LIMIT,
    };
    (0..parts).rev().map(part).filter(|page| page.window_us.is_some_and(|(from, to)| from <= to)).collect()
}

/// Percent-encodes what is not plain in a query.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The server's own words in a refusal: Jaeger's `errors[0].msg`, or the first line of a short text.
fn refusal(body: &str) -> Option<String> {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    if let Some(message) = json.as_ref().and_then(|json| json["errors"][0]["msg"].as_str()) {
        return Some(message.replace('\n', " "));
    }
    let line = body.lines().next().unwrap_or_default().trim();
    (!line.is_empty() && line.len() <= 200 && !line.starts_with(['<', '{'])).then(|| line.to_owned())
}

/// The `callCount` of the first edge into `child` in an answer of `/api/dependencies`.
pub fn calls_into(answer: &str, child: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Dependencies {
        data: Option<Vec<Edge>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Edge {
        child: String,
        call_count: u64,
    }
    let dependencies: Dependencies = serde_json::from_str(answer).ok()?;
    dependencies.data?.into_iter().find(|edge| edge.child == child).map(|edge| edge.call_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_the_window_without_overlap() {
        for (first, last, expected) in [(0, 299_999_999, 30_000), (5, 5, 1), (10, 17, 1_000_000), (0, 999, 0)] {
            let wanted = Wanted { service: "s", window_us: Some((first, last)), expected: Some(expected) };
            let mut next = first;
            for page in pages(&wanted).iter().rev() {
                let (from, to) = page.window_us.unwrap();
                assert_eq!(from, next);
                assert!(to >= from);
                next = to + 1;
            }
            assert_eq!(next, last + 1);
        }
        assert_eq!(pages(&Wanted { service: "s", window_us: Some((0, 299_999_999)), expected: Some(30_000) }).len(), 6);
    }

    #[test]
    fn the_first_edge_into_the_service_counts() {
        let answer = r#"{"data":[{"parent":"a","child":"b","callCount":3},{"parent":"c","child":"b","callCount":9}]}"#;
        assert_eq!(calls_into(answer, "b"), Some(3));
        assert_eq!(calls_into(answer, "a"), None);
        assert_eq!(calls_into(r#"{"data":null}"#, "b"), None);
        assert_eq!(calls_into("<html>", "b"), None);
    }

    #[test]
    fn addresses_are_checked_before_use() {
        assert!(Jaeger::new("http://127.0.0.1:16686/").is_ok());
        for bad in ["", "127.0.0.1:16686", "ftp://x", "http://", "http://a b/"] {
            assert!(matches!(Jaeger::new(bad), Err(JaegerError::Address(_))), "{bad}");
        }
    }
}
