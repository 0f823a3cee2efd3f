//! What a role reads from its environment, and where it finds its peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::ServiceError;

/// Port of every service that is called by other services only.
pub(crate) const SERVICE_PORT: u16 = 9090;
/// Port of a Redis store.
pub(crate) const REDIS_PORT: u16 = 6379;
/// Port of a RabbitMQ broker.
pub(crate) const AMQP_PORT: u16 = 5672;
/// Port of a RabbitMQ broker's management API.
pub(crate) const MANAGEMENT_PORT: u16 = 15672;
/// Port of a front end inside its container.
pub(crate) const FRONT_END_PORT: u16 = 8080;
/// Port that a setup job opens when it is done.
pub(crate) const SETUP_PORT: u16 = 8000;
/// Port of the trace query API.
pub(crate) const QUERY_PORT: u16 = 16686;
/// Port on which spans are taken in (OTLP over HTTP, JSON).
pub(crate) const COLLECTOR_PORT: u16 = 4318;

/// The environment of a role.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    variables: BTreeMap<String, String>,
    book: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// [`ServiceError::Setting`] when `MAESTRO_ADDRESSES` cannot be understood.
    pub(crate) fn from_environment() -> Result<Self, ServiceError> {
        Settings::new(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// Settings from name-value pairs.
    ///
    /// # Errors
    /// As [`Settings::from_environment`].
    pub(crate) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ServiceError> {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let book = match variables.get("MAESTRO_ADDRESSES") {
            None => BTreeMap::new(),
            Some(text) => parse_book(text).map_err(|why| setting("MAESTRO_ADDRESSES", text, why))?,
        };
        Ok(Settings { variables, book })
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`ServiceError::Unset`].
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, ServiceError> {
        self.optional(name).ok_or(ServiceError::Unset(name))
    }

    /// The value of `name`, when it is set and not empty.
    pub(crate) fn optional(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether `ANTIPODE` asks for lineage enforcement. It must be set: a service that guesses its variant would
    /// spoil a run in silence.
    ///
    /// # Errors
    /// [`ServiceError::Unset`], or [`ServiceError::Setting`] for anything but `0` and `1`.
    pub(crate) fn antipode(&self) -> Result<bool, ServiceError> {
        match self.required("ANTIPODE")? {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(setting("ANTIPODE", other, "use 0 or 1")),
        }
    }

    /// The zone that the service stands in (`eu` or `us`).
    ///
    /// # Errors
    /// [`ServiceError::Unset`], or [`ServiceError::Setting`] for another zone.
    pub(crate) fn zone(&self) -> Result<Zone, ServiceError> {
        match self.required("ZONE")? {
            "eu" => Ok(Zone::Eu),
            "us" => Ok(Zone::Us),
            other => Err(setting("ZONE", other, "use eu or us")),
        }
    }

    /// A whole number, or `default` when `name` is not set.
    ///
    /// # Errors
    /// [`ServiceError::Setting`].
    pub(crate) fn number(&self, name: &'static str, default: u64) -> Result<u64, ServiceError> {
        let Some(text) = self.optional(name) else { return Ok(default) };
        text.parse().map_err(|_| setting(name, text, "use a whole number"))
    }

    /// Where to listen: `MAESTRO_LISTEN`, or all addresses at `port`.
    ///
    /// # Errors
    /// [`ServiceError::Setting`].
    pub(crate) fn listen(&self, port: u16) -> Result<SocketAddr, ServiceError> {
        let name = if port == COLLECTOR_PORT { "MAESTRO_LISTEN_COLLECTOR" } else { "MAESTRO_LISTEN" };
        let Some(text) = self.optional(name) else { return Ok(SocketAddr::from(([0, 0, 0, 0], port))) };
        text.parse().map_err(|_| setting(name, text, "use ADDRESS:PORT"))
    }

    /// `host:port` of `service`: its own name unless `MAESTRO_ADDRESSES` (`service:port=host:port,...`) says otherwise.
    pub(crate) fn address(&self, service: &str, port: u16) -> String {
        let name = format!("{service}:{port}");
        self.book.get(&name).cloned().unwrap_or(name)
    }

    /// The AMQP address of `broker`'s virtual host `/`.
    pub(crate) fn amqp(&self, broker: &str) -> String {
        let (user, password) = self.broker_login();
        let authority = self.address(broker, AMQP_PORT);
        format!("amqp://{}:{}@{authority}/%2f?heartbeat=10", escape(user), escape(password))
    }

    /// Name and password of the brokers' administrator.
    pub(crate) fn broker_login(&self) -> (&str, &str) {
        let user = self.optional("RABBITMQ_DEFAULT_USER").unwrap_or("admin");
        (user, self.optional("RABBITMQ_DEFAULT_PASS").unwrap_or("admin"))
    }
}

/// The side of a service, as its name says it (`-eu` writes, `-us` reads).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// The origin: posts are written here.
    Eu,
    /// The replica: notifications are handled here.
    Us,
}

impl Zone {
    /// `eu` or `us`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Zone::Eu => "eu",
            Zone::Us => "us",
        }
    }

    /// The Redis that holds this zone's copy of the posts.
    pub(crate) fn post_store(self) -> &'static str {
        match self {
            Zone::Eu => "post-storage-redis-eu",
            Zone::Us => "post-storage-redis-us",
        }
    }

    /// This zone's broker.
    pub(crate) fn broker(self) -> &'static str {
        match self {
            Zone::Eu => "write-home-timeline-rabbitmq-eu",
            Zone::Us => "write-home-timeline-rabbitmq-us",
        }
    }
}

fn setting(name: &'static str, value: &str, why: impl Into<String>) -> ServiceError {
    ServiceError::Setting { name, value: value.to_owned(), why: why.into() }
}

fn parse_book(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut book = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, address) =
            entry.split_once('=').ok_or_else(|| format!("`{entry}` is not SERVICE:PORT=HOST:PORT"))?;
        book.insert(name.trim().to_owned(), address.trim().to_owned());
    }
    Ok(book)
}

/// Percent-encodes what may not stand in the user part of an URI.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, ServiceError> {
        Settings::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn peers_are_found_by_name_unless_the_book_says_otherwise() {
        let settings = settings(&[("MAESTRO_ADDRESSES", "jaeger:4318=127.0.0.1:1, x:9090=h:2")]).unwrap();
        assert_eq!(settings.address("jaeger", COLLECTOR_PORT), "127.0.0.1:1");
        assert_eq!(settings.address("jaeger", QUERY_PORT), "jaeger:16686");
    }

    #[test]
    fn a_variant_is_never_guessed() {
        let error = settings(&[]).unwrap().antipode().unwrap_err();
        assert_eq!(error.to_string(), "`ANTIPODE` is not set");
        let error = settings(&[("ANTIPODE", "yes")]).unwrap().antipode().unwrap_err();
        assert_eq!(error.to_string(), "`ANTIPODE` is `yes`: use 0 or 1");
    }

    #[test]
    fn a_password_may_hold_any_character() {
        let settings = settings(&[("RABBITMQ_DEFAULT_PASS", "a/b@c")]).unwrap();
        assert_eq!(settings.amqp("rabbit"), "amqp://admin:a%2Fb%40c@rabbit:5672/%2f?heartbeat=10");
    }
}
