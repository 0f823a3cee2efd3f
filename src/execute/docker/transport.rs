//! Streams to an engine: one way for sockets of this machine, TCP, and channels through other hosts.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::DockerError;

/// A stream that carries an engine's HTTP.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Opens one stream to an engine per call.
pub type Dial = Arc<dyn Fn() -> Dialled + Send + Sync>;

/// A stream being opened.
pub type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

const UNIX_DEFAULT: &str = "/var/run/docker.sock";
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// `DOCKER_HOST`, else the system's socket, else (when only that one exists) the user's rootless socket.
pub(super) fn default_address() -> String {
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.is_empty()
    {
        return host;
    }
    let rootless = std::env::var("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("docker.sock"));
    match rootless {
        Ok(path) if !Path::new(UNIX_DEFAULT).exists() && path.exists() => format!("unix://{}", path.display()),
        _ => format!("unix://{UNIX_DEFAULT}"),
    }
}

/// A connector for `unix:///path`, `tcp://host:port`, `http://host:port` or an absolute path.
///
/// # Errors
/// [`DockerError::Address`] for anything else.
pub fn dial(address: &str) -> Result<Dial, DockerError> {
    let unusable = |why: &str| DockerError::Address { address: address.to_owned(), why: why.to_owned() };
    if let Some(path) = address.strip_prefix("unix://").or(address.starts_with('/').then_some(address)) {
        let path = PathBuf::from(path);
        return Ok(Arc::new(move || {
            let path = path.clone();
            Box::pin(async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Wire>) })
        }));
    }
    let Some(host) = address.strip_prefix("tcp://").or(address.strip_prefix("http://")) else {
        return Err(unusable("only unix:// and tcp:// can be reached from here"));
    };
    let host = host.trim_end_matches('/').to_owned();
    if !host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok()) {
        return Err(unusable("a tcp:// address needs host and port"));
    }
    Ok(Arc::new(move || {
        let host = host.clone();
        Box::pin(async move {
            let connecting = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(host)).await;
            let stream = connecting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }))
}

/// A client whose every connection comes from `dial`.
///
/// # Errors
/// Whatever the library's constructor refuses.
pub(super) fn client(dial: Dial, limit: Duration) -> Result<Docker, bollard::errors::Error> {
    let client = Arc::new(Client::builder(TokioExecutor::new()).build(Connector(dial)));
    let send = move |request: BollardRequest| {
        let client = Arc::clone(&client);
        Box::pin(async move { client.request(request).await.map_err(bollard::errors::Error::from) })
    };
    Docker::connect_with_custom_transport(send, Some("http://docker"), limit.as_secs(), API_DEFAULT_VERSION)
}

#[derive(Clone)]
struct Connector(Dial);

impl tower_service::Service<hyper::Uri> for Connector {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let opening = (self.0)();
        Box::pin(async move { Ok(Socket(TokioIo::new(opening.await?))) })
    }
}

/// A [`Wire`] in the clothes that hyper wants.
struct Socket(TokioIo<Box<dyn Wire>>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_used_are_named() {
        for (address, word) in [("ssh://host", "unix://"), ("tcp://host", "port"), ("npipe://x", "unix://")] {
            let error = dial(address).err().expect("refused");
            assert!(error.to_string().contains(address) && error.to_string().contains(word), "{error}");
        }
        assert!(dial("unix:///run/x.sock").is_ok() && dial("/run/x.sock").is_ok() && dial("tcp://[::1]:2375").is_ok());
    }
}
