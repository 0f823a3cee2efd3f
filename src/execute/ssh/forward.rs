//! A port of this machine that leads to one behind a host.

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Remote, SshError};

/// A local TCP port; connections to it come out on the other side until it is dropped.
#[derive(Debug)]
pub struct LocalPort {
    port: u16,
    accepting: JoinHandle<()>,
}

impl LocalPort {
    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for LocalPort {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Remote {
    /// Opens a port of this machine whose connections come out at `host:port` as this host sees it.
    ///
    /// # Errors
    /// [`SshError::System`] when no port can be opened here. That nobody listens there shows with each connection.
    pub async fn forward(&self, host: &str, port: u16) -> Result<LocalPort, SshError> {
        let failed = |error| SshError::system(self.name(), error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?.port();
        let (remote, host) = (self.clone(), host.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(remote.clone(), host.clone(), port, near));
            }
        });
        Ok(LocalPort { port: local, accepting })
    }
}

async fn carry(remote: Remote, host: String, port: u16, mut near: TcpStream) {
    match remote.dial_tcp(&host, port).await {
        Ok(mut far) => {
            if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
                tracing::debug!("{}: {host}:{port}: {error}", remote.name());
            }
        }
        // Whoever connected sees the connection end.
        Err(error) => tracing::debug!("{error}"),
    }
}
