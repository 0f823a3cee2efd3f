//! A host's Docker engine through the host's connection: its socket is opened by the SSH server, so nothing listens on
//! TCP and nothing but sshd is needed on the host.

use std::io;
use std::sync::Arc;

use super::Remote;
use crate::execute::docker::{Dial, DockerError, Engine, Wire};

/// Where engines listen.
const SOCKET: &str = "/var/run/docker.sock";

/// What gives a root-owned socket to a user who may use sudo but is not in the engine's group.
const RELAY: [&str; 6] = ["sudo", "-n", "--", "docker", "system", "dial-stdio"];

impl Remote {
    /// The host's engine. With `sudo`, through `sudo docker system dial-stdio`, for a user who may not open the socket.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn engine(&self, sudo: bool) -> Result<Engine, DockerError> {
        let remote = self.clone();
        let dial: Dial = Arc::new(move || {
            let remote = remote.clone();
            Box::pin(async move {
                let stream = match sudo {
                    false => remote.dial_unix(SOCKET).await,
                    true => remote.dial_command(&RELAY.map(str::to_owned)).await,
                };
                stream.map(|stream| Box::new(stream) as Box<dyn Wire>).map_err(io::Error::other)
            })
        });
        Engine::over(&format!("ssh://{}", self.name()), dial)
    }
}
