//! The readers of placements and of a site's facts.

use maestro::app::APPS;
use maestro::experiment::TargetName;
use maestro::placement::Placement;
use maestro::target::gsd::inventory_of;

use super::{one_line, text, texts};

const TARGETS: [TargetName; 4] = [TargetName::Embedded, TargetName::Local, TargetName::Gsd, TargetName::Gcp];

const GSD: &str = include_str!("../../configs/gsd/socialNetwork/socialNetwork-gsd-20201115.yml");

/// Reads `data` as a placement of every app on every target.
pub fn check(data: &[u8]) {
    let text = text(data);
    for target in TARGETS {
        for app in APPS {
            match Placement::parse(target, app, "p.yml", &text) {
                Ok(placement) => placement.nodes.keys().for_each(|node| {
                    placement.services_on(node).for_each(|service| assert!(placement.machine_of(service).is_some()));
                }),
                Err(error) => one_line(error),
            }
        }
    }
}

/// Those that come with the program.
pub fn examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../configs/embedded/socialNetwork/us-eu.yml"),
        include_str!("../../configs/local/socialNetwork/debug.yml"),
        include_str!("../../configs/gcp/socialNetwork/us-eu.yml"),
        GSD,
        "replication_pair: US->EU\nservices: {a: n}\nmanager: m\nclients: [c]\nendpoint_mode: dnsrr\nports: host\n",
    ])
}

/// Reads `data` as the facts about a site with hosts.
pub fn site(data: &[u8]) {
    if let Err(error) = inventory_of(&APPS[0], "p.yml", GSD, Some(&text(data))) {
        super::line(&error.line());
    }
}

/// The file that comes with the program, and one with every key.
pub fn site_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../gsd/config.yml"),
        "ssh_config_filepath: ~/.ssh/config\ndefault_ssh_user: u\nnas_path: /nas\nsudo: true\n",
    ])
}
