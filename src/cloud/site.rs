//! `gcp/config.yml`: this lab's facts about Google Cloud. The Python tool's file with two keys is enough.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::price::Prices;

/// The site file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The project.
    pub project_id: String,
    /// Login on the machines.
    #[serde(default = "root")]
    pub default_ssh_user: String,
    /// Family of the public image that machines start from.
    #[serde(default = "debian")]
    pub image_family: String,
    /// Project of that family.
    #[serde(default = "debian_cloud")]
    pub image_project: String,
    /// Zone of the machine that `build` images.
    #[serde(default = "us_central")]
    pub build_zone: String,
    /// Longest time that making the base image may take, minutes.
    #[serde(default = "thirty")]
    pub build_minutes: f64,
    /// Artifact Registry repository (`REGION-docker.pkg.dev/PROJECT/REPOSITORY`); without it images travel over SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The VPC network.
    #[serde(default = "default_network")]
    pub network: String,
    /// Who may reach the machines from outside (CIDR); empty: only the caller's own address.
    #[serde(default)]
    pub source_ranges: Vec<String>,
    /// Machines delete themselves after this many hours.
    #[serde(default = "twelve")]
    pub ttl_hours: f64,
    /// Use spot machines.
    #[serde(default)]
    pub spot: bool,
    /// Boot disk, GB.
    #[serde(default = "fifty")]
    pub disk_gb: u32,
    /// Prices for the estimate; the built-in dated table when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

fn root() -> String {
    "root".into()
}
fn debian() -> String {
    "debian-12".into()
}
fn debian_cloud() -> String {
    "debian-cloud".into()
}
fn us_central() -> String {
    "us-central1-a".into()
}
fn default_network() -> String {
    "default".into()
}
fn thirty() -> f64 {
    30.0
}
fn twelve() -> f64 {
    12.0
}
fn fifty() -> u32 {
    50
}

impl Site {
    /// How long machines live. Compute Engine takes 30 s to 120 days as `maxRunDuration`.
    ///
    /// # Errors
    /// The reason when `ttl_hours` is outside that.
    pub fn ttl(&self) -> Result<Duration, String> {
        let ttl = Duration::try_from_secs_f64(self.ttl_hours * 3600.0).ok().filter(|ttl| is_time_limit(*ttl));
        ttl.ok_or_else(|| format!("ttl_hours: {} is outside 30 s .. 120 days", self.ttl_hours))
    }

    /// What is wrong with the file, if anything.
    pub fn problem(&self) -> Option<String> {
        let id = &self.project_id;
        let plain = id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | ':' | '.'));
        if id.is_empty() || !plain {
            return Some(format!("project_id: `{}` is not a project id", id.escape_debug()));
        }
        if let Some(range) = self.source_ranges.iter().find(|range| !is_cidr(range)) {
            return Some(format!("source_ranges: `{range}` is not of the form A.B.C.D/N"));
        }
        if !(0.0..=600.0).contains(&self.build_minutes) || self.build_minutes == 0.0 {
            return Some(format!("build_minutes: {} is outside 0 .. 600", self.build_minutes));
        }
        if let Some(registry) = self.registry.as_deref().filter(|registry| !is_registry(registry)) {
            return Some(format!("registry: `{}` is not of the form HOST/PROJECT/REPOSITORY", registry.escape_debug()));
        }
        self.ttl().err()
    }
}

/// Whether `text` can be a repository of a registry; it becomes part of a script.
fn is_registry(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
    text.contains('/') && !text.starts_with(['/', '-']) && text.chars().all(plain)
}

/// Whether Compute Engine takes it as `maxRunDuration`.
pub fn is_time_limit(ttl: Duration) -> bool {
    (Duration::from_secs(30)..=Duration::from_secs(120 * 86_400)).contains(&ttl)
}

/// Whether `text` is an address block: `192.0.2.0/24`, `2001:db8::/32`.
pub fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse::<std::net::IpAddr>(), length.parse::<u8>()) {
        (Ok(std::net::IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(std::net::IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_tools_two_keys_are_enough() {
        let site: Site = serde_saphyr::from_str("project_id: my-project\ndefault_ssh_user: ada\n").unwrap();
        assert_eq!((site.problem(), site.default_ssh_user.as_str()), (None, "ada"));
        assert_eq!(site.ttl().unwrap(), Duration::from_secs(12 * 3600));
    }

    #[test]
    fn nonsense_is_named() {
        let parse = |text: &str| serde_saphyr::from_str::<Site>(text).unwrap().problem().unwrap();
        assert!(parse("project_id: My Project\n").contains("project_id"));
        assert!(parse("project_id: p\nsource_ranges: [everywhere]\n").contains("everywhere"));
        assert!(parse("project_id: p\nttl_hours: 0\n").contains("ttl_hours"));
        assert!(parse("project_id: p\nbuild_minutes: 0\n").contains("build_minutes"));
        assert!(parse("project_id: p\nregistry: \"a/b'; reboot; '\"\n").contains("HOST/PROJECT/REPOSITORY"));
    }
}
