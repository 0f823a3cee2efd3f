//! A host's Docker engine through the host's connection: its socket is opened by the SSH server, so nothing listens on
//! TCP and nothing but sshd is needed on the host.

use std::io;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::Remote;
use crate::execute::docker::{Dial, DockerError, Engine, Wire};

/// Where engines listen.
const SOCKET: &str = "/var/run/docker.sock";

/// What gives a root-owned socket to a user who may use sudo but is not in the engine's group.
const RELAY: [&str; 6] = ["sudo", "-n", "--", "docker", "system", "dial-stdio"];

/// Relays at once: with the commands of a host they stay below the ten sessions that sshd allows on a connection. Who
/// finds all of them busy waits for one.
const RELAYS: usize = 3;

impl Remote {
    /// The host's engine. With `sudo`, through `sudo docker system dial-stdio`, for a user who may not open the socket.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn engine(&self, sudo: bool) -> Result<Engine, DockerError> {
        let remote = self.clone();
        let relays = Arc::new(Semaphore::new(RELAYS));
        let dial: Dial = Arc::new(move || {
            let (remote, relays) = (remote.clone(), Arc::clone(&relays));
            Box::pin(async move {
                let stream = match sudo {
                    false => remote.dial_unix(SOCKET).await.map_err(io::Error::other)?,
                    true => relay(&remote, relays).await?,
                };
                Ok(Box::new(stream) as Box<dyn Wire>)
            })
        });
        Engine::over(&format!("ssh://{}", self.name()), dial)
    }
}

/// A stream to the engine through a command, which is one of `relays` for as long as the stream is open.
async fn relay(remote: &Remote, relays: Arc<Semaphore>) -> io::Result<UnixStream> {
    let permit = relays.acquire_owned().await.map_err(io::Error::other)?;
    let mut far = remote.dial_command(&RELAY.map(str::to_owned)).await.map_err(io::Error::other)?;
    let (near, mut ours) = UnixStream::pair()?;
    tokio::spawn(async move {
        // How it ended shows on the near side.
        drop(tokio::io::copy_bidirectional(&mut ours, &mut far).await);
        drop(permit);
    });
    Ok(near)
}
