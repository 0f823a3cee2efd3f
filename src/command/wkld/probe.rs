//! The consistency probe's door to the application: registering its readers and reading their timelines.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::steps;
use crate::app::{App, Probe, Sight};
use crate::error::{Plain, Result};
use crate::wkld::WkldError;
use crate::wkld::probe::{Listening, Look, ProbeReport, Probing, Seen, follow, prepare};

/// How long a probed write is waited for.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long one read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The app's probe for an endpoint.
///
/// # Errors
/// Exit code 2 when the endpoint's writes cannot be probed.
pub(super) fn of(app: &'static App, endpoint: &str) -> Result<&'static Probe> {
    app.probe.filter(|probe| probe.endpoint == endpoint).ok_or_else(|| {
        let hint = app.probe.map_or_else(
            || format!("`{}` has no probe", app.name),
            |probe| format!("--probe works with -E {}", probe.endpoint),
        );
        Plain::usage(format!("the writes of `{endpoint}` cannot be probed")).with_hint(hint).into()
    })
}

/// Registers the readers.
pub(super) fn set_up(probe: &Probe, origin: &str, replica: &str) -> std::result::Result<(), WkldError> {
    steps::prepare(origin, replica, &(probe.setup)(probe.readers)).map_err(|error| WkldError::Unusable(error.line()))
}

/// What the sources need, and the probe's end.
pub(super) fn begin(probe: &'static Probe, fraction: f64) -> (Probing, Listening) {
    prepare(fraction, probe.readers, probe.key, Arc::new(probe.write))
}

/// Starts the probe's thread.
pub(super) fn start(probe: &'static Probe, replica: &str, listening: Listening) -> JoinHandle<ProbeReport> {
    let replica = replica.to_owned();
    std::thread::spawn(move || follow(listening, look(probe, replica), DEADLINE.as_nanos() as u64))
}

fn look(probe: &'static Probe, replica: String) -> Look {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(READ_TIMEOUT)).build().into();
    Box::new(move |reader, key| {
        let url = format!("{replica}{}", (probe.read)(reader));
        let Ok(mut answer) = agent.get(&url).call() else { return Seen::Failed };
        let Ok(body) = answer.body_mut().read_to_string() else { return Seen::Failed };
        match (probe.sight)(answer.status().as_u16(), &body, key) {
            Sight::Visible => Seen::Visible,
            Sight::Absent => Seen::Absent,
            Sight::Incomplete => Seen::Incomplete,
            Sight::Failed => Seen::Failed,
        }
    })
}
