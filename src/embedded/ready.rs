//! Readiness: setup first, then the file that says so, then (with a fault) the services that are late.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use super::miniature::Miniature;
use crate::store::{StoreError, write_atomic};

/// The ready file's name inside the deployment directory, and what it says.
const FILE: (&str, &[u8]) = ("dockerize.sync", b"DONE\n");

/// How far the start has come.
#[derive(Debug, Default)]
pub struct Readiness {
    done: AtomicBool,
}

impl Readiness {
    /// Whether setup is done and the file is written.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Carries the start to its end: setup (which a fault can delay), the setup port, the file.
    ///
    /// # Errors
    /// When the file cannot be written or the setup port cannot be bound.
    pub async fn reach(&self, mini: &Miniature, dir: &Path) -> Result<Option<TcpListener>, StoreError> {
        let faults = mini.faults.get();
        if faults.setup_delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(faults.setup_delay_ms)).await;
        }
        let setup = match mini.config.ports.setup {
            Some(port) => Some(bind_setup(port, dir).await?),
            None => None,
        };
        mini.ready_us.store(mini.clock.now_us() + faults.late_ready_ms * 1000, Ordering::SeqCst);
        write_atomic(&file(dir), FILE.1)?;
        self.done.store(true, Ordering::SeqCst);
        Ok(setup)
    }
}

async fn bind_setup(port: u16, dir: &Path) -> Result<TcpListener, StoreError> {
    let failed = |source| StoreError::Write { path: dir.join(format!("setup port {port}")), source };
    TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await.map_err(failed)
}

/// The ready file of the deployment in `dir`.
pub fn file(dir: &Path) -> PathBuf {
    dir.join(FILE.0)
}
