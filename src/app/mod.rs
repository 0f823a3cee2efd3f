//! Applications. An app is a value: a row of facts in [`APPS`]; nothing branches on an app's name.

mod social_network;

use crate::trace::Shape;

/// Which side of the replication a service or an endpoint is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The writer's side (services named `*-eu`).
    Origin,
    /// The reader's side (services named `*-us`).
    Replica,
    /// Neither: administration, tracing, setup.
    Neutral,
}

/// A service of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its compose name.
    pub name: &'static str,
    /// Its side.
    pub side: Side,
    /// A setup job: it never ends; its open port 8000 is the sign that it is done, and it is not counted as a service.
    pub setup: bool,
}

/// The environment variable that turns lineage enforcement on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// The services that read it.
    pub services: &'static [&'static str],
    /// Its name.
    pub variable: &'static str,
    /// Value for [`crate::experiment::Variant::Baseline`].
    pub off: &'static str,
    /// Value for [`crate::experiment::Variant::Antipode`].
    pub on: &'static str,
}

/// A service reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The service.
    pub service: &'static str,
    /// Its published TCP port.
    pub port: u16,
}

/// An application as data.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// Its name on the command line and in paths.
    pub name: &'static str,
    /// One line for help.
    pub about: &'static str,
    /// All services.
    pub services: &'static [Service],
    /// Lineage enforcement on and off.
    pub toggle: Toggle,
    /// The origin's front end.
    pub origin: Door,
    /// The replica's front end.
    pub replica: Door,
    /// The trace query API.
    pub jaeger: Door,
    /// The service whose traces are gathered.
    pub traced_service: &'static str,
    /// The service whose incoming dependency edge counts the notifications.
    pub notified_service: &'static str,
    /// Which spans and tags make an observation.
    pub shape: Shape,
}

/// Every application maestro knows.
pub static APPS: &[App] = &[social_network::APP];

impl App {
    /// The app called `name`.
    pub fn find(name: &str) -> Option<&'static App> {
        APPS.iter().find(|app| app.name == name)
    }
}
