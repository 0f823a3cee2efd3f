//! The body of the background process: binds the ports, says where it is, serves until it is told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::admin::{self, Admin};
use super::config::{Config, Ports};
use super::control::LinkControl;
use super::http;
use super::miniature::Miniature;
use super::process;
use super::ready::{self, Readiness};
use super::truth::{self, Truth};
use crate::app::App;
use crate::error::{Exit, Fault};
use crate::experiment::Variant;
use crate::store::{MiniatureRecord, StoreError};

/// Why the miniature cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port is taken, or may not be used.
    #[error("cannot listen on 127.0.0.1:{port}{}", holder.as_ref().map(|h| format!(" (held by {h})")).unwrap_or_default())]
    Bind {
        /// The port.
        port: u16,
        /// Who holds it, when that can be told.
        holder: Option<String>,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the deployment.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process cannot find out about itself, or a server ended.
    #[error("the miniature cannot serve")]
    System(#[source] std::io::Error),
}

impl Fault for ServeError {
    fn exit(&self) -> Exit {
        match self {
            ServeError::Store(error) => error.exit(),
            ServeError::Bind { .. } | ServeError::System(_) => Exit::Unreachable,
        }
    }
}

/// What to serve, and where its files are.
#[derive(Clone, Debug)]
pub struct Service {
    /// The miniature's parameters; the ports are part of them.
    pub config: Config,
    /// Baseline or antipode.
    pub variant: Variant,
    /// The application it plays.
    pub app: &'static App,
    /// The deployment's tag.
    pub tag: String,
    /// The deployment's directory.
    pub dir: PathBuf,
}

/// A served miniature.
pub struct Serving {
    /// Where everything is.
    pub record: MiniatureRecord,
    /// The miniature itself.
    pub mini: Arc<Miniature>,
    dir: PathBuf,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

struct Listeners {
    origin: TcpListener,
    replica: TcpListener,
    jaeger: TcpListener,
}

/// Serves until `/maestro/stop`, SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`] when it cannot start, or its files cannot be removed.
pub async fn serve(service: Service) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::System)?;
    let serving = start(service).await?;
    let mut stop = serving.stop.subscribe();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    serving.end().await
}

/// Binds the ports, starts everything and writes the process's record into the deployment's directory.
///
/// # Errors
/// [`ServeError`].
pub async fn start(service: Service) -> Result<Serving, ServeError> {
    let listeners = bind(service.config.ports).await?;
    let record = record(&service, &listeners)?;
    let truth = start_truth(&service.dir)?;
    let mini = Miniature::new(service.config, service.variant, truth);
    let mut tasks = mini.start();
    let (stop, _) = watch::channel(false);
    let readiness = Arc::new(Readiness::default());
    let admin = Admin {
        mini: mini.clone(),
        app: service.app,
        tag: service.tag,
        truth: service.dir.join(truth::FILE),
        link: Arc::new(LinkControl::new(mini.clone())),
        readiness: readiness.clone(),
        stop: stop.clone(),
    };
    spawn_server(&mut tasks, listeners.origin, http::router(mini.clone()), &stop);
    spawn_server(&mut tasks, listeners.replica, http::router(mini.clone()), &stop);
    spawn_server(&mut tasks, listeners.jaeger, admin::router(admin), &stop);
    record.write(&service.dir)?;
    let (late, dir) = (mini.clone(), service.dir.clone());
    tasks.spawn(async move {
        match readiness.reach(&late, &dir).await {
            Ok(Some(setup)) => serve_setup(setup).await,
            Ok(None) => {}
            Err(error) => tracing::error!("not ready: {error}"),
        }
    });
    Ok(Serving { record, mini, dir: service.dir, stop, tasks })
}

impl Serving {
    /// Stops: no new connections, then everything else, then its files.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub async fn end(mut self) -> Result<(), ServeError> {
        self.stop.send_replace(true);
        // The answer to `stop` itself is on its way; nothing else is waited for.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        MiniatureRecord::remove(&self.dir)?;
        let file = ready::file(&self.dir);
        match std::fs::remove_file(&file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::Write { path: file, source }.into())
            }
            _ => Ok(()),
        }
    }
}

async fn bind(ports: Ports) -> Result<Listeners, ServeError> {
    Ok(Listeners {
        origin: bind_one(ports.origin).await?,
        replica: bind_one(ports.replica).await?,
        jaeger: bind_one(ports.jaeger).await?,
    })
}

async fn bind_one(port: u16) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Bind { port, holder: process::port_holder(port).map(|h| h.to_string()), source };
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(failed)
}

fn record(service: &Service, listeners: &Listeners) -> Result<MiniatureRecord, ServeError> {
    let url = |listener: &TcpListener| -> Result<String, ServeError> {
        Ok(format!("http://{}", listener.local_addr().map_err(ServeError::System)?))
    };
    let pid = std::process::id();
    Ok(MiniatureRecord {
        format: MiniatureRecord::FORMAT,
        pid,
        start_ticks: process::start_ticks(pid).unwrap_or(0),
        app: service.app.name.to_owned(),
        tag: service.tag.clone(),
        variant: service.variant,
        origin_url: url(&listeners.origin)?,
        replica_url: url(&listeners.replica)?,
        jaeger_url: url(&listeners.jaeger)?,
    })
}

/// A fresh log; the one of the miniature before is kept under another name until the next start.
fn start_truth(dir: &Path) -> Result<Truth, ServeError> {
    let path = dir.join(truth::FILE);
    let failed = |source| ServeError::Store(StoreError::Write { path: path.clone(), source });
    match std::fs::rename(&path, dir.join("truth.before.csv")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    Truth::create(&path).map_err(failed)
}

fn spawn_server(tasks: &mut JoinSet<()>, listener: TcpListener, router: Router, stop: &watch::Sender<bool>) {
    let mut stopped = stop.subscribe();
    let ended = stop.clone();
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("cannot send small packets at once: {error}");
        }
    });
    tasks.spawn(async move {
        let graceful = async move {
            // The sender lives as long as the miniature: an error means that it has gone, too.
            stopped.wait_for(|stop| *stop).await.ok();
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(graceful).await {
            tracing::error!("a front end ended: {error}");
        }
        ended.send_replace(true);
    });
}

/// The setup jobs serve a directory; what counts is that the port is open.
async fn serve_setup(listener: TcpListener) {
    let router = Router::new().fallback(|| async { "DONE\n" });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("the setup port closed: {error}");
    }
}
