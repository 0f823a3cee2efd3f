//! The compose file as a swarm is to see it: one network for all, a constraint to the placed node, the variant.

use indexmap::IndexMap;

use super::{Input, SwarmError, Tie};
use crate::compose::{Attachment, EndpointMode, File, Network, PublishMode, Service};

/// `input.file` with the network, constraints, environment, endpoint and publish modes of this deployment. Other
/// constraints, environment and settings stay.
///
/// # Errors
/// [`SwarmError::Mismatch`], [`SwarmError::Toggle`].
pub fn rewrite(input: &Input<'_>) -> Result<File, SwarmError> {
    check_services(input)?;
    let mut file = input.file.clone();
    for (name, service) in &mut file.services {
        join(service, input);
        tie(name, service, input);
        modes(service, input);
    }
    toggle(&mut file, input)?;
    let shared = Network { name: Some(input.options.network.clone()), external: true, ..Network::default() };
    file.networks.insert(input.options.network.clone(), shared);
    file.version = Some("3.9".to_owned());
    file.name = None;
    Ok(file)
}

/// A placement without services is one machine's: nothing to compare.
fn check_services(input: &Input<'_>) -> Result<(), SwarmError> {
    let placed = &input.placement.services;
    if placed.is_empty() {
        return Ok(());
    }
    let unplaced: Vec<String> =
        input.file.services.keys().filter(|name| !placed.contains_key(*name)).cloned().collect();
    let unknown: Vec<String> = placed.keys().filter(|name| !input.file.services.contains_key(*name)).cloned().collect();
    if unplaced.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    let (file, placement) = (input.file_name.to_owned(), input.placement.file.clone());
    Err(SwarmError::Mismatch { file, placement, unplaced, unknown })
}

/// Adds the shared network. A service that names no networks leaves the stack's default one for it.
fn join(service: &mut Service, input: &Input<'_>) {
    if service.network_mode.is_none() {
        service.networks.insert(input.options.network.clone(), Attachment::default());
    }
}

/// Replaces what the file says about single nodes by the placement; other constraints stay.
fn tie(name: &str, service: &mut Service, input: &Input<'_>) {
    let Some(machine) = input.placement.machine_of(name) else { return };
    let constraints = &mut service.deploy.placement.constraints;
    constraints.retain(|constraint| !names_a_node(constraint));
    constraints.push(match input.options.tie {
        Tie::Label => format!("node.labels.{} == {}", super::NODE_LABEL, machine.name),
        Tie::Hostname => format!("node.hostname == {}", machine.hostname),
    });
}

/// `node.hostname == x` and `node.id == x`, which only another cluster's file can mean.
fn names_a_node(constraint: &str) -> bool {
    let Some((key, _)) = constraint.split_once("==") else { return false };
    let own_label = format!("node.labels.{}", super::NODE_LABEL);
    [own_label.as_str(), "node.hostname", "node.id"].contains(&key.trim())
}

/// The command line comes before the placement, the placement before the file. Names that resolve to tasks exclude the
/// routing mesh, so ports are then published by the node that runs the task.
fn modes(service: &mut Service, input: &Input<'_>) {
    let endpoint = input.options.endpoint_mode.or(input.placement.endpoint_mode).or(service.deploy.endpoint_mode);
    service.deploy.endpoint_mode = endpoint;
    let wanted = input.options.publish.or(input.placement.ports);
    let usual = if endpoint == Some(EndpointMode::Dnsrr) { PublishMode::Host } else { PublishMode::Ingress };
    for port in &mut service.ports {
        port.mode = Some(wanted.or(port.mode).unwrap_or(usual));
    }
}

fn toggle(file: &mut File, input: &Input<'_>) -> Result<(), SwarmError> {
    let Some(toggle) = &input.app.toggle else { return Ok(()) };
    let absent: Vec<String> = toggle
        .services
        .iter()
        .filter(|name| !file.services.contains_key(**name))
        .map(|name| format!("`{name}`"))
        .collect();
    if !absent.is_empty() {
        let file = input.file_name.to_owned();
        return Err(SwarmError::Toggle { file, variable: toggle.variable, services: absent });
    }
    for (name, service) in &mut file.services {
        if let Some((variable, value)) = input.app.toggled(name, input.options.variant) {
            let environment: &mut IndexMap<String, Option<String>> = &mut service.environment;
            environment.insert(variable.to_owned(), Some(value.to_owned()));
        }
    }
    Ok(())
}
