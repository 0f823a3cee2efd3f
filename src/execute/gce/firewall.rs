//! Firewall rules.

use google_cloud_compute_v1::model::{Firewall, firewall};
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;

use super::{Gce, GceError, Kind, Scope, last, pages, request_id, retry};
use crate::cloud::firewall::{Allowed, MADE_BY, Rule, parse_ports};

impl Gce {
    /// All firewall rules of the project.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn firewall_rules(&self) -> Result<Vec<Rule>, GceError> {
        pages(
            "listing firewall rules",
            |page| {
                let request = self.firewalls.list().set_project(&self.project).set_page_token(page);
                request.with_retry_policy(NeverRetry).send()
            },
            |list| (list.items.iter().map(rule_of).collect(), list.next_page_token),
        )
        .await
    }

    /// Creates a rule; one that is there already is left alone.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn ensure_firewall(&self, rule: &Rule) -> Result<(), GceError> {
        let what = format!("creating firewall rule `{}`", rule.name);
        let body = firewall_of(rule);
        let id = request_id();
        let done = retry(&what, || {
            let request = self.firewalls.insert().set_project(&self.project).set_body(body.clone()).set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        self.settle(&what, Scope::Global, done, Kind::AlreadyExists).await
    }

    /// Makes the rule of that name this one. Only for rules that are maestro's own.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn replace_firewall(&self, rule: &Rule) -> Result<(), GceError> {
        let what = format!("changing firewall rule `{}`", rule.name);
        let body = firewall_of(rule);
        let id = request_id();
        let operation = retry(&what, || {
            let request = self.firewalls.update().set_project(&self.project).set_firewall(&rule.name);
            let request = request.set_body(body.clone()).set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        self.finish(&what, &Scope::Global, operation).await
    }

    /// Deletes a rule; one that is gone already is fine.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn delete_firewall(&self, name: &str) -> Result<(), GceError> {
        let what = format!("deleting firewall rule `{name}`");
        let id = request_id();
        let done = retry(&what, || {
            let request = self.firewalls.delete().set_project(&self.project).set_firewall(name).set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        self.settle(&what, Scope::Global, done, Kind::NotFound).await
    }
}

fn firewall_of(rule: &Rule) -> Firewall {
    let allowed = rule.allowed.iter().map(|allowed| {
        let text = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
        firewall::Allowed::new().set_ip_protocol(&allowed.protocol).set_ports(allowed.ports.iter().map(text))
    });
    Firewall::new()
        .set_name(&rule.name)
        .set_description(MADE_BY)
        .set_network(format!("global/networks/{}", rule.network))
        .set_allowed(allowed)
        .set_source_ranges(rule.source_ranges.clone())
        .set_source_tags(rule.source_tags.clone())
        .set_target_tags(rule.target_tags.clone())
}

/// Reads a rule; one for outgoing traffic lets nothing in.
fn rule_of(rule: &Firewall) -> Rule {
    let allowed = rule.allowed.iter().map(|allowed| Allowed {
        protocol: allowed.ip_protocol.clone().unwrap_or_default(),
        ports: allowed.ports.iter().filter_map(|ports| parse_ports(ports).ok()).collect(),
    });
    let outgoing = rule.direction == Some(firewall::Direction::Egress);
    Rule {
        name: rule.name.clone().unwrap_or_default(),
        allowed: allowed.filter(|_| !outgoing).collect(),
        source_ranges: rule.source_ranges.clone(),
        source_tags: rule.source_tags.clone(),
        target_tags: rule.target_tags.clone(),
        disabled: rule.disabled.unwrap_or(false),
        network: last(rule.network.as_deref()),
        ours: rule.description.as_deref() == Some(MADE_BY),
    }
}
