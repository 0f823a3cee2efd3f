//! The script that turns a fresh Debian machine into the base image: Docker, kernel settings that survive a restart, and
//! power off as the sign that it is done. No shell of ours watches it.

/// Kernel settings of the evaluation. Source: the Python tool's `base_vm.sh`, which set them until the next restart only.
const SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv4.tcp_synack_retries", "1"),
    ("net.ipv4.tcp_syn_retries", "1"),
    ("net.core.somaxconn", "4096"),
];

/// The startup script of the machine that is imaged. `images` are pulled when `registry` names where from.
pub fn base_image_script(images: &[String]) -> String {
    let mut script = String::from(
        "#!/bin/sh\n\
         # Leaves /var/lib/maestro/base-ok on success; the machine powers off either way.\n\
         trap 'poweroff' EXIT\n\
         set -eu\n\
         mkdir -p /var/lib/maestro\n\
         export DEBIAN_FRONTEND=noninteractive\n\
         apt-get update -qq\n\
         apt-get install -y -qq --no-install-recommends docker.io iptables iproute2 chrony ca-certificates zstd\n\
         cat > /etc/sysctl.d/90-maestro.conf <<'END'\n",
    );
    for (key, value) in SYSCTLS {
        script.push_str(&format!("{key} = {value}\n"));
    }
    script.push_str(
        "END\n\
         cat > /etc/systemd/system/maestro-thp.service <<'END'\n\
         [Unit]\n\
         Description=Transparent huge pages off\n\
         Before=docker.service\n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart=/bin/sh -c 'echo never > /sys/kernel/mm/transparent_hugepage/enabled; echo never > /sys/kernel/mm/transparent_hugepage/defrag'\n\
         [Install]\n\
         WantedBy=multi-user.target\n\
         END\n\
         systemctl enable maestro-thp.service docker.service\n\
         systemctl start docker.service\n",
    );
    for image in images {
        script.push_str(&format!("docker pull '{image}'\n"));
    }
    script.push_str("date -u +%s > /var/lib/maestro/base-ok\nsync\n");
    script
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_script_is_valid_shell_and_ends_in_power_off() {
        let script = super::base_image_script(&["redis:7".to_owned()]);
        assert!(script.contains("trap 'poweroff' EXIT"));
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(checked.success());
    }
}
