//! A stack as steps of a plan.

use std::fmt;

use super::{FileSpec, NetworkSpec, ServiceSpec, Stack};

/// One state of a stack to ensure, on a manager's engine.
#[derive(Clone, Debug, PartialEq)]
pub enum StackStep {
    /// The network exists.
    EnsureNetwork(NetworkSpec),
    /// The config exists.
    EnsureConfig(FileSpec),
    /// The secret exists.
    EnsureSecret(FileSpec),
    /// The service exists and is exactly as described.
    EnsureService(Box<ServiceSpec>),
    /// Nothing of the stack but these services is left.
    EnsureOnly {
        /// The stack.
        stack: String,
        /// Full names of the services that stay.
        services: Vec<String>,
    },
    /// Nothing of the stack is left: services first, then what they used.
    EnsureGone {
        /// The stack.
        stack: String,
    },
}

impl Stack {
    /// The stages that bring an engine from nothing, or from an older form of the stack, to this one.
    pub fn stages(&self) -> Vec<(&'static str, Vec<StackStep>)> {
        let networks = self.networks.iter().cloned().map(StackStep::EnsureNetwork).collect();
        let configs = self.configs.iter().cloned().map(StackStep::EnsureConfig);
        let secrets = self.secrets.iter().cloned().map(StackStep::EnsureSecret);
        let services = self.services.iter().cloned().map(|spec| StackStep::EnsureService(Box::new(spec)));
        let names = self.services.iter().map(|spec| spec.name.clone()).collect();
        let stages: [(&'static str, Vec<StackStep>); 4] = [
            ("make the networks", networks),
            ("make the configs and secrets", configs.chain(secrets).collect()),
            ("remove services that are gone from the file", vec![self.only(names)]),
            ("make or update the services", services.collect()),
        ];
        stages.into_iter().filter(|(_, steps)| !steps.is_empty()).collect()
    }

    fn only(&self, services: Vec<String>) -> StackStep {
        StackStep::EnsureOnly { stack: self.name.clone(), services }
    }
}

impl fmt::Display for StackStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StackStep::EnsureNetwork(network) => write!(f, "EnsureNetwork {} ({})", network.name, network.driver),
            StackStep::EnsureConfig(file) => write!(f, "EnsureConfig {} ({} bytes)", file.name, file.content.len()),
            // The length of a secret says something about it.
            StackStep::EnsureSecret(file) => write!(f, "EnsureSecret {}", file.name),
            StackStep::EnsureService(spec) => write!(f, "EnsureService {spec}"),
            StackStep::EnsureOnly { stack, services } => {
                write!(f, "EnsureOnly {} of stack {stack}", crate::ui::count(services.len(), "service"))
            }
            StackStep::EnsureGone { stack } => write!(f, "EnsureGone stack {stack}"),
        }
    }
}
