//! What can go wrong with an engine, told apart so that each has one message and one next move.

use std::io;

use bollard::errors::Error as ApiError;

use crate::error::{Exit, Fault};

/// A failed conversation with an engine.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// `DOCKER_HOST` or a site's address is of a kind that is not supported.
    #[error("cannot use `{address}` as an engine's address: {why}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing answers.
    #[error("no Docker engine answers at `{address}` ({why})")]
    NoEngine {
        /// The engine's address.
        address: String,
        /// The system's word for it.
        why: String,
    },
    /// The socket is there but may not be opened.
    #[error("no permission to use the Docker engine at `{address}`")]
    NoPermission {
        /// The engine's address.
        address: String,
    },
    /// The engine speaks only API versions below what is needed.
    #[error("the Docker engine at `{address}` speaks API `{api}`, at least `{needed}` is needed")]
    TooOld {
        /// The engine's address.
        address: String,
        /// Its newest API version.
        api: String,
        /// The oldest that will do.
        needed: String,
    },
    /// The connection ended in the middle of an answer: the engine stopped or was restarted.
    #[error("the Docker engine at `{address}` went away while asked to {doing} ({why})")]
    Lost {
        /// The engine's address.
        address: String,
        /// What it was asked to do.
        doing: String,
        /// The transport's word for it.
        why: String,
    },
    /// No answer in time.
    #[error("the Docker engine at `{address}` did not answer when asked to {doing}")]
    Silent {
        /// The engine's address.
        address: String,
        /// What it was asked to do.
        doing: String,
    },
    /// The engine does not have the image.
    #[error("no image `{image}` on the engine at `{address}`")]
    NoImage {
        /// The image's name.
        image: String,
        /// The engine's address.
        address: String,
    },
    /// A port of the host is in use.
    #[error("port {port} of the engine's host is already in use; asked to {doing}")]
    PortTaken {
        /// The port.
        port: u16,
        /// What the engine was asked to do.
        doing: String,
    },
    /// What was named does not exist.
    #[error("cannot {doing}: {message}")]
    NotFound {
        /// What the engine was asked to do.
        doing: String,
        /// The engine's message.
        message: String,
    },
    /// It exists already, or is in a state that forbids the call.
    #[error("cannot {doing}: {message}")]
    Conflict {
        /// What the engine was asked to do.
        doing: String,
        /// The engine's message.
        message: String,
    },
    /// The engine is not a manager of a swarm, or is in one already.
    #[error("cannot {doing}: {message}")]
    Swarm {
        /// What the engine was asked to do.
        doing: String,
        /// The engine's message.
        message: String,
    },
    /// Anything else that the engine refused.
    #[error("cannot {doing}: {message}")]
    Refused {
        /// What the engine was asked to do.
        doing: String,
        /// HTTP status, 0 when the refusal came inside a stream.
        status: u16,
        /// The engine's message.
        message: String,
    },
    /// Feeding the engine (a context, a tar) failed on this side.
    #[error("cannot {doing}")]
    Feed {
        /// What the engine was asked to do.
        doing: String,
        /// Why the stream ended.
        source: io::Error,
    },
}

impl Fault for DockerError {
    fn exit(&self) -> Exit {
        match self {
            DockerError::Address { .. } => Exit::Usage,
            DockerError::NoEngine { .. }
            | DockerError::NoPermission { .. }
            | DockerError::TooOld { .. }
            | DockerError::Lost { .. }
            | DockerError::Silent { .. }
            | DockerError::PortTaken { .. } => Exit::Unreachable,
            DockerError::NoImage { .. }
            | DockerError::NotFound { .. }
            | DockerError::Conflict { .. }
            | DockerError::Swarm { .. }
            | DockerError::Refused { .. }
            | DockerError::Feed { .. } => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            DockerError::Address { .. } => "set DOCKER_HOST to unix:///path or tcp://host:port, or unset it".into(),
            DockerError::NoEngine { .. } => {
                "start it (`sudo systemctl start docker`), or point DOCKER_HOST at a running one".into()
            }
            DockerError::NoPermission { .. } => {
                "join the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again)".into()
            }
            DockerError::TooOld { .. } => "install Docker 20.10 or newer".into(),
            DockerError::Lost { .. } => "when the engine is back, run the same command again".into(),
            DockerError::Silent { .. } => "see whether the engine is overloaded (`docker info`), then try again".into(),
            DockerError::NoImage { .. } => "build and pull what the application needs with `maestro build`".into(),
            DockerError::PortTaken { port, .. } => {
                format!(
                    "see who has it with `ss -ltnp sport = :{port}` or `docker ps`, or choose others with `run --ports`"
                )
            }
            _ => return None,
        })
    }
}

impl DockerError {
    /// Whether what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, DockerError::NotFound { .. } | DockerError::NoImage { .. })
    }

    /// Whether the name is taken or the state forbids the call.
    pub fn is_conflict(&self) -> bool {
        matches!(self, DockerError::Conflict { .. })
    }

    /// Whether another try after the engine is back could succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, DockerError::Lost { .. } | DockerError::NoEngine { .. } | DockerError::Silent { .. })
    }

    /// What `error` means for the engine at `address` that was asked to do `doing`.
    pub(super) fn classify(address: &str, doing: String, error: ApiError) -> Self {
        let address = address.to_owned();
        match error {
            ApiError::DockerResponseServerError { status_code, message } => {
                DockerError::answered(address, doing, status_code, tidy(&message))
            }
            ApiError::DockerStreamError { error } => DockerError::answered(address, doing, 0, tidy(&error)),
            ApiError::DockerContainerWaitError { error, .. } => DockerError::answered(address, doing, 0, tidy(&error)),
            ApiError::RequestTimeoutError => DockerError::Silent { address, doing },
            ApiError::IOError { err } => DockerError::Lost { address, doing, why: err.to_string() },
            ApiError::HyperLegacyError { err } if err.is_connect() => DockerError::unreachable(address, &err),
            ApiError::HyperLegacyError { err } => DockerError::broken(address, doing, &err),
            ApiError::HyperResponseError { err } => DockerError::broken(address, doing, &err),
            other => DockerError::Refused { doing, status: 0, message: other.to_string() },
        }
    }

    /// The engine said no.
    fn answered(address: String, doing: String, status: u16, message: String) -> Self {
        if let Some(port) = taken_port(&message) {
            return DockerError::PortTaken { port, doing };
        }
        if let Some(image) = missing_image(&message) {
            return DockerError::NoImage { image, address };
        }
        let about_swarm = message.contains("part of a swarm") || message.contains("not a swarm manager");
        match status {
            503 | 406 if about_swarm => DockerError::Swarm { doing, message },
            404 => DockerError::NotFound { doing, message },
            409 => DockerError::Conflict { doing, message },
            _ => DockerError::Refused { doing, status, message },
        }
    }

    /// The connection could not be opened.
    fn unreachable(address: String, error: &(dyn std::error::Error + 'static)) -> Self {
        match io_cause(error) {
            Some(cause) if cause.kind() == io::ErrorKind::PermissionDenied => DockerError::NoPermission { address },
            Some(cause) => DockerError::NoEngine { address, why: plain(cause) },
            None => DockerError::NoEngine { address, why: root(error) },
        }
    }

    /// The connection was open and broke, or our own side of it failed.
    fn broken(address: String, doing: String, error: &(dyn std::error::Error + 'static)) -> Self {
        DockerError::Lost { address, doing, why: root(error) }
    }
}

fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause: Option<&'a (dyn std::error::Error + 'static)> = Some(error);
    let mut found = None;
    while let Some(here) = cause {
        found = here.downcast_ref::<io::Error>().or(found);
        cause = here.source();
    }
    found
}

/// The innermost message.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// `connection refused` rather than `Connection refused (os error 111)`.
fn plain(error: &io::Error) -> String {
    let text = error.get_ref().and_then(|inner| inner.source()).map_or_else(|| error.to_string(), ToString::to_string);
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The engine's message on one line, without the prefix that says who said it.
fn tidy(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("Error response from daemon: ").to_owned()
}

/// The port in `Bind for 0.0.0.0:8080 failed: port is already allocated` and
/// `listen tcp4 0.0.0.0:8080: bind: address already in use`.
fn taken_port(message: &str) -> Option<u16> {
    if !message.contains("port is already allocated") && !message.contains("address already in use") {
        return None;
    }
    message.split(|c: char| c.is_whitespace() || c == ',').find_map(|word| {
        let (_, port) = word.trim_end_matches(':').rsplit_once(':')?;
        port.parse().ok().filter(|port| *port > 0)
    })
}

/// The name in `No such image: x:latest` (create) and `reference does not exist`-like answers.
fn missing_image(message: &str) -> Option<String> {
    let (_, name) = message.split_once("No such image: ").or_else(|| message.split_once("no such image: "))?;
    Some(name.split_whitespace().next().unwrap_or(name).trim_end_matches(':').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> DockerError {
        let error = ApiError::DockerResponseServerError { status_code, message: message.to_owned() };
        DockerError::classify("unix:///x", "start container `web`".to_owned(), error)
    }

    #[test]
    fn a_taken_port_is_recognised_in_both_wordings() {
        for message in [
            "driver failed programming external connectivity on endpoint web (8c1f): Bind for 0.0.0.0:8080 failed: port is already allocated",
            "driver failed programming external connectivity on endpoint web (8c1f): Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use",
        ] {
            let error = answer(500, message);
            assert!(matches!(error, DockerError::PortTaken { port: 8080, .. }), "{error:?}");
            assert_eq!(error.exit(), Exit::Unreachable);
        }
    }

    #[test]
    fn a_missing_image_names_the_image_and_the_command() {
        let error = answer(404, "No such image: yg397/openresty-thrift:latest");
        assert_eq!(error.to_string(), "no image `yg397/openresty-thrift:latest` on the engine at `unix:///x`");
        assert!(error.hint().unwrap().contains("maestro build"));
    }

    #[test]
    fn states_are_told_from_refusals() {
        assert!(answer(404, "No such container: web").is_not_found());
        assert!(answer(409, "Conflict. The container name \"/web\" is already in use").is_conflict());
        assert!(matches!(answer(503, "This node is already part of a swarm."), DockerError::Swarm { .. }));
        assert!(
            matches!(answer(500, "disk\n on fire"), DockerError::Refused { message, .. } if message == "disk on fire")
        );
    }
}
