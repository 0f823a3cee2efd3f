//! What an engine would refuse late, or worse, accept: found before anything is made.

use indexmap::IndexMap;

use super::{ServiceSpec, Stack, SwarmError};
use crate::compose::{EndpointMode, Port, PublishMode};

/// Names that resolve to tasks exclude the routing mesh; a port is published once per stack (mesh) or per node (host).
pub(super) fn ports(stack: &Stack) -> Result<(), SwarmError> {
    let mut problems = Vec::new();
    let mut taken: IndexMap<(String, u16, &str), &str> = IndexMap::new();
    for spec in &stack.services {
        for port in &spec.ports {
            let mesh = port.mode != Some(PublishMode::Host);
            if mesh && spec.endpoint_mode == Some(EndpointMode::Dnsrr) {
                problems.push(format!(
                    "`{}` cannot publish port {} through the routing mesh while names resolve as dnsrr (use `ports: host`)",
                    spec.service, port.target
                ));
            }
            let Some(place) = place(spec, port, mesh) else { continue };
            let (published, word) = (place.1, port.protocol.as_str());
            if let Some(other) = taken.insert((place.0.clone(), published, word), &spec.service) {
                let on = if mesh { String::new() } else { format!(" on `{}`", place.0) };
                problems.push(format!("`{other}` and `{}` both publish port {published}/{word}{on}", spec.service));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(SwarmError::Impossible(problems)) }
}

/// Where the port is published: nowhere in particular (mesh) or on a node.
fn place(spec: &ServiceSpec, port: &Port, mesh: bool) -> Option<(String, u16)> {
    let published = port.published?;
    Some((if mesh { String::new() } else { spec.node.clone() }, published))
}
