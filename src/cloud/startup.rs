//! The script that turns a fresh Debian machine into the base image: Docker, kernel settings that survive a restart, and
//! power off as the sign that all of it is done. No shell of ours watches it: it says on the console how far it is, and a
//! machine on which something failed stays up so that its console can be read.

/// Family of the machine images that `build` makes and `deploy` starts from.
pub const BASE_FAMILY: &str = "maestro-base";

/// What the script's lines on the console begin with.
const MARK: &str = "maestro-base: ";
/// What its last line begins with when it failed.
const FAILED: &str = "failed";

/// Kernel settings of the evaluation. Source: the Python tool's `base_vm.sh`, which set them until the next restart only.
const SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv4.tcp_synack_retries", "1"),
    ("net.ipv4.tcp_syn_retries", "1"),
    ("net.core.somaxconn", "4096"),
];

/// An image to have on the machine before anybody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preload {
    /// Its name at the registry.
    pub remote: String,
    /// Its name here.
    pub name: String,
}

const HEAD: &str = r#"#!/bin/sh
set -eu
at() { step=$1; echo "maestro-base: $1" > /dev/ttyS0; }
ended() { code=$?; [ "$code" -eq 0 ] || echo "maestro-base: failed ($code): $step" > /dev/ttyS0; }
trap ended EXIT
at 'installing packages'
mkdir -p /var/lib/maestro
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends docker.io iptables iproute2 chrony ca-certificates curl zstd
at 'setting the kernel up'
cat > /etc/sysctl.d/90-maestro.conf <<'END'
"#;

const SERVICES: &str = r"END
cat > /etc/systemd/system/maestro-thp.service <<'END'
[Unit]
Description=Transparent huge pages off
Before=docker.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo never > /sys/kernel/mm/transparent_hugepage/enabled; echo never > /sys/kernel/mm/transparent_hugepage/defrag'
[Install]
WantedBy=multi-user.target
END
systemctl enable maestro-thp.service docker.service
at 'letting root in by key'
mkdir -p /etc/ssh/sshd_config.d
echo 'PermitRootLogin prohibit-password' > /etc/ssh/sshd_config.d/10-maestro.conf
systemctl start docker.service
";

/// The machine's own service account opens the registry; its token never leaves the machine.
const LOGIN: &str = r#"at 'opening the registry'
token=$(curl -fsS -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
"#;

/// What machines made from the image must not have in common: the engine's identity, the machine's.
const TAIL: &str = r"at 'tidying up'
systemctl stop docker.socket docker.service
rm -f /var/lib/docker/engine-id /etc/docker/key.json
apt-get clean
: > /etc/machine-id
date -u +%s > /var/lib/maestro/base-ok
at 'done'
sync
poweroff
";

/// The startup script of the machine that is imaged, which fetches `images` from `registry`.
pub fn base_image_script(registry: Option<&str>, images: &[Preload]) -> String {
    let mut script = String::from(HEAD);
    for (key, value) in SYSCTLS {
        script.push_str(&format!("{key} = {value}\n"));
    }
    script.push_str(SERVICES);
    if let (Some(registry), false) = (registry, images.is_empty()) {
        let host = registry.split('/').next().unwrap_or(registry);
        script.push_str(LOGIN);
        script.push_str(&format!(
            "printf %s \"$token\" | docker login -u oauth2accesstoken --password-stdin 'https://{host}' > /dev/null\n"
        ));
        for image in images {
            let Preload { remote, name } = image;
            script.push_str(&format!(
                "at 'fetching {name}'\ndocker pull -q '{remote}'\ndocker tag '{remote}' '{name}'\n"
            ));
        }
        script.push_str(&format!("docker logout 'https://{host}' > /dev/null\n"));
    }
    script.push_str(TAIL);
    script
}

/// The name that `image` has at `registry`: its own below it, without the registry that it came from.
pub fn remote_name(registry: &str, image: &str) -> String {
    let name = match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) => rest,
        _ => image,
    };
    format!("{}/{}", registry.trim_end_matches('/'), name.replace("@sha256:", ":sha256-"))
}

/// What the script said last on the console: how far it is, or, as the error, what failed.
///
/// # Errors
/// The failed step.
pub fn progress(console: &str) -> Result<Option<String>, String> {
    let said = console.lines().rev().find_map(|line| line.split_once(MARK)).map(|(_, said)| said.trim().to_owned());
    match said {
        Some(said) if said.starts_with(FAILED) => Err(said),
        said => Ok(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preload() -> Vec<Preload> {
        let registry = "europe-west3-docker.pkg.dev/p/dsb";
        let images = ["redis:7", "yg397/social-network-microservices:antipode"];
        images.map(|name| Preload { remote: remote_name(registry, name), name: name.into() }).into()
    }

    fn shell(script: &str) -> std::process::Output {
        std::process::Command::new("sh").args(["-c", script]).output().unwrap()
    }

    #[test]
    fn the_script_is_valid_shell_and_ends_in_power_off() {
        let script = base_image_script(Some("europe-west3-docker.pkg.dev/p/dsb"), &preload());
        assert!(std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap().success());
        assert!(script.ends_with("sync\npoweroff\n"));
        assert!(script.contains("net.core.somaxconn = 4096\n"));
        assert!(script.contains("docker pull -q 'europe-west3-docker.pkg.dev/p/dsb/redis:7'\n"));
        assert!(!base_image_script(None, &preload()).contains("docker login"));
    }

    #[test]
    fn a_step_that_fails_is_said_and_the_machine_stays_up() {
        let folder = tempfile::tempdir().unwrap();
        let console = folder.path().join("console");
        let start = HEAD.split("at 'installing packages'").next().unwrap();
        let start = start.replace("/dev/ttyS0", &format!("'{}'", console.display())).replace("> '", ">> '");
        let done = shell(&format!("{start}at 'first'\ntrue\nat 'second'\nfalse\nat 'third'\necho poweroff"));
        assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(1), b"".as_slice()));
        let said = std::fs::read_to_string(console).unwrap();
        assert_eq!(progress(&said), Err("failed (1): second".to_owned()));
    }

    #[test]
    fn the_console_tells_how_far_it_is() {
        assert_eq!(progress(""), Ok(None));
        let console = "[ 3.1] kernel\nmaestro-base: installing packages\r\n[ 9.2] startup-script: Reading lists\r\n";
        assert_eq!(progress(console), Ok(Some("installing packages".to_owned())));
    }

    #[test]
    fn the_token_is_read_from_the_metadata_servers_answer() {
        let sed = LOGIN.split("| ").nth(1).unwrap().trim_end().trim_end_matches(')');
        let answer = r#"{"access_token":"ya29.c.x_Y-z","expires_in":3599,"token_type":"Bearer"}"#;
        assert_eq!(shell(&format!("printf %s '{answer}' | {sed}")).stdout, b"ya29.c.x_Y-z".as_slice());
    }

    #[test]
    fn names_move_below_the_registry() {
        let registry = "r-docker.pkg.dev/p/dsb/";
        assert_eq!(remote_name(registry, "quay.io/a/b:1"), "r-docker.pkg.dev/p/dsb/a/b:1");
        assert_eq!(remote_name(registry, "yg397/x:antipode"), "r-docker.pkg.dev/p/dsb/yg397/x:antipode");
        assert_eq!(remote_name(registry, "redis@sha256:ab"), "r-docker.pkg.dev/p/dsb/redis:sha256-ab");
    }
}
