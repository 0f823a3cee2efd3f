//! Real hosts on one machine: containers, each with an sshd and a Docker engine of its own, on a network of their own.
//!
//! [`Lab::start`] builds them in a few seconds and [`Lab`] takes them down when it is dropped, after a panic too; what a
//! killed test left behind is removed by the next one. Without Docker (or root, or sshd) it prints why and gives `None`.

#![allow(dead_code, reason = "each test uses the part it needs")]

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Every object that a test makes on the machine's engine carries this label, with the test's process id.
const LABEL: &str = "maestro.test.hosts";

/// Longest wait for a host to be up.
const UP_LIMIT: Duration = Duration::from_secs(90);

/// All capabilities that the engine knows, except SYS_RESOURCE, which the machine may not have itself.
const CAPABILITIES: &str = "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH \
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN \
    NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE \
    SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM";

/// The first process of a host: sshd, and an engine that is started again whenever it ends.
const INIT: &str = r#"mount -o remount,rw /sys/fs/cgroup
mkdir -p /run/sshd /root/.ssh /home/lab/.ssh
[ -f /etc/ssh_host_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh_host_ed25519
[ -f /etc/ssh_host_rsa ] || ssh-keygen -q -t rsa -b 2048 -N '' -f /etc/ssh_host_rsa
for home in /root /home/lab; do echo "$AUTHORIZED_KEY" > $home/.ssh/authorized_keys; done
chmod -R go= /root/.ssh /home/lab/.ssh; chown -R lab:lab /home/lab
/usr/sbin/sshd $SSHD_OPTIONS
mount -o remount,size=64m /small 2>/dev/null
while :; do rm -f /run/docker.pid /run/docker/containerd/containerd.pid; dockerd >> /tmp/dockerd.log 2>&1; sleep 0.2; done"#;

const SSHD_OPTIONS: &str = "-f /dev/null -h /etc/ssh_host_ed25519 -h /etc/ssh_host_rsa -o UsePAM=no \
    -o PermitRootLogin=yes -o PidFile=/run/sshd.pid -o MaxSessions=10";

/// A group of hosts.
pub struct Lab {
    id: String,
    dir: tempfile::TempDir,
    hosts: Vec<Host>,
    _turn: File,
}

/// One host.
pub struct Host {
    /// Its name in the SSH configuration, which its operating system does not know.
    pub alias: String,
    /// The container that plays it.
    pub container: String,
    /// Its address on the lab's network.
    pub address: String,
}

static LABS: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Hosts with these names; `None`, and the reason on stderr, where they cannot be made.
    pub fn start(aliases: &[&str]) -> Option<Lab> {
        if let Err(why) = possible() {
            eprintln!("skipped: no test hosts here: {why}");
            return None;
        }
        let turn = take_turn();
        sweep();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let id = format!("maestro-lab-{}-{number}", std::process::id());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut lab = Lab { id, dir, hosts: Vec::new(), _turn: turn };
        lab.make_key("id");
        lab.make_image();
        let label = lab.label();
        docker(&["network", "create", "--label", &label, &lab.id]);
        docker(&["volume", "create", "--label", &label, &format!("{}-shared", lab.id)]);
        for alias in aliases {
            lab.run_host(alias);
        }
        for host in &mut lab.hosts {
            host.wait_up();
        }
        lab.write_ssh_config("");
        Some(lab)
    }

    fn label(&self) -> String {
        format!("{LABEL}={}", std::process::id())
    }

    /// Makes a key pair `name` and `name.pub` in the lab's directory.
    pub fn make_key(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]).arg(&path);
        let done = keygen.output().expect("ssh-keygen");
        assert!(done.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&done.stderr));
        path
    }

    fn make_image(&self) {
        let mut child = Command::new("docker")
            .args(["import", "--change", &format!("LABEL {}", self.label()), "-", &self.id])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker import");
        child.stdin.take().expect("a pipe").write_all(&base_tree()).expect("send the tree");
        assert!(child.wait().expect("docker import").success());
    }

    fn run_host(&mut self, alias: &str) {
        let container = format!("{}-{}", self.id, self.hosts.len() + 1);
        let label = self.label();
        let volume = format!("{container}-docker");
        docker(&["volume", "create", "--label", &label, &volume]);
        let key = std::fs::read_to_string(self.path("id.pub")).expect("the public key");
        let (key, sshd) = (format!("AUTHORIZED_KEY={}", key.trim()), format!("SSHD_OPTIONS={SSHD_OPTIONS}"));
        let volume = format!("{volume}:/var/lib/docker");
        let shared = format!("{}-shared:/shared", self.id);
        let mut args = vec!["run", "-d", "--name", &container, "--hostname", &container, "--label", &label];
        for capability in CAPABILITIES.split_whitespace() {
            args.extend(["--cap-add", capability]);
        }
        for option in ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"] {
            args.extend(["--security-opt", option]);
        }
        args.extend(["--device-cgroup-rule", "a *:* rwm", "--network", &self.id, "-v", &volume, "-v", &shared]);
        for share in [
            "/usr:/usr:ro",
            "/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "/etc/ssl:/etc/ssl:ro",
            "/etc/alternatives:/etc/alternatives:ro",
        ] {
            args.extend(["-v", share]);
        }
        args.extend(["--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec,mode=1777", "--tmpfs", "/small:exec,size=64m"]);
        args.extend(["-e", &key, "-e", &sshd, &self.id, "sh", "-c", INIT]);
        docker(&args);
        let address =
            docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &container]);
        self.hosts.push(Host { alias: alias.to_owned(), container, address });
    }

    /// Writes the SSH configuration of all hosts, `extra` before it.
    pub fn write_ssh_config(&self, extra: &str) -> PathBuf {
        let mut text = extra.to_owned();
        for host in &self.hosts {
            text.push_str(&format!("Host {}\n  HostName {}\n", host.alias, host.address));
        }
        text.push_str(&format!(
            "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
             GlobalKnownHostsFile none\n",
            self.path("id").display(),
            self.known_hosts().display()
        ));
        let path = self.ssh_config();
        std::fs::write(&path, text).expect("write the SSH configuration");
        path
    }

    /// The SSH configuration that names all hosts.
    pub fn ssh_config(&self) -> PathBuf {
        self.path("ssh_config")
    }

    /// The known-hosts file that it points to.
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// A path in the lab's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host called `alias`.
    pub fn host(&self, alias: &str) -> &Host {
        self.hosts.iter().find(|host| host.alias == alias).expect("a host of this lab")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in &self.hosts {
                let log = host.try_sh("tail -n 5 /tmp/dockerd.log").1;
                eprintln!("{} ({}): the end of its engine's log:\n{log}", host.alias, host.container);
            }
        }
        remove(&self.label());
    }
}

impl Host {
    /// Runs a script on the host as root, past its sshd, and gives its standard output.
    pub fn sh(&self, script: &str) -> String {
        let (code, out) = self.try_sh(script);
        assert_eq!(code, 0, "on {}: {script}\n{out}", self.alias);
        out
    }

    /// The same, with the exit code, whatever it is.
    pub fn try_sh(&self, script: &str) -> (i32, String) {
        let done = Command::new("docker").args(["exec", &self.container, "sh", "-c", script]).output().expect("docker");
        let mut text = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            text.push_str(&String::from_utf8_lossy(&done.stderr));
        }
        (done.status.code().unwrap_or(-1), text.trim().to_owned())
    }

    /// Ends the sshd with all its sessions; connections are refused until [`Host::start_sshd`].
    pub fn kill_sshd(&self) {
        self.try_sh("pkill -KILL -x sshd");
    }

    /// Ends the sessions; new connections are accepted.
    pub fn cut_connections(&self) {
        self.try_sh("for p in $(pgrep -x sshd); do [ $p = $(cat /run/sshd.pid) ] || kill -KILL $p; done");
    }

    /// Starts the sshd again.
    pub fn start_sshd(&self) {
        self.sh(&format!("/usr/sbin/sshd {SSHD_OPTIONS}"));
    }

    /// Gives the host another host key.
    pub fn swap_host_key(&self) {
        self.kill_sshd();
        self.sh("rm -f /etc/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh_host_ed25519; \
             ssh-keygen -q -t rsa -b 2048 -N '' -f /etc/ssh_host_rsa");
        self.start_sshd();
    }

    /// Takes the host off the network, as if its cable was pulled.
    pub fn unplug(&self) {
        self.sh("iptables -I INPUT -i eth0 -j DROP && iptables -I OUTPUT -o eth0 -j DROP");
    }

    /// Puts it back.
    pub fn plug(&self) {
        self.sh("iptables -D INPUT -i eth0 -j DROP && iptables -D OUTPUT -o eth0 -j DROP");
    }

    /// Restarts the host's engine and waits until it answers.
    pub fn restart_engine(&self) {
        self.sh("kill $(cat /run/docker.pid); while [ -e /proc/$(cat /run/docker.pid 2>/dev/null || echo none) ]; do sleep 0.1; done");
        self.wait_up();
    }

    /// The host loses its power: everything on it ends at once.
    pub fn power_off(&self) {
        docker(&["kill", &self.container]);
    }

    /// The host starts again, with its disk as it was and the address that it had.
    pub fn power_on(&self) {
        docker(&["start", &self.container]);
        self.wait_up();
    }

    fn wait_up(&self) {
        let deadline = Instant::now() + UP_LIMIT;
        loop {
            let engine = self.try_sh("docker info > /dev/null 2>&1").0 == 0;
            let sshd = std::net::TcpStream::connect((self.address.as_str(), 22)).is_ok();
            if engine && sshd {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "host {} is not up: engine {engine}, sshd {sshd}\n{}",
                self.alias,
                self.try_sh("tail -n 20 /tmp/dockerd.log").1
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Why hosts cannot be made here, if so.
fn possible() -> Result<(), String> {
    for program in ["/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/usr/sbin/dockerd"] {
        if !Path::new(program).exists() {
            return Err(format!("`{program}` is not installed"));
        }
    }
    let info = Command::new("docker").args(["info", "-f", "{{.ServerVersion}}"]).output();
    match info {
        Err(error) => Err(format!("cannot start `docker`: {error}")),
        Ok(done) if !done.status.success() => {
            let text = String::from_utf8_lossy(&done.stderr);
            Err(text.lines().next().unwrap_or("no Docker engine answers").to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// One lab at a time on a machine: each has several engines.
fn take_turn() -> File {
    let file = File::create(std::env::temp_dir().join("maestro-test-hosts.lock")).expect("the lock file");
    file.lock().expect("lock");
    file
}

/// Removes what tests left that did not live to do it themselves.
fn sweep() {
    let format = format!("{{{{.Label \"{LABEL}\"}}}}");
    let filter = format!("label={LABEL}");
    let mut owners: HashMap<String, ()> = HashMap::new();
    for kind in [["ps", "-a"].as_slice(), &["network", "ls"], &["volume", "ls"]] {
        let args = [kind, &["--filter", &filter, "--format", &format]].concat();
        owners.extend(docker(&args).lines().map(|pid| (pid.to_owned(), ())));
    }
    for pid in owners.keys().filter(|pid| !Path::new("/proc").join(pid).exists()) {
        remove(&format!("{LABEL}={pid}"));
    }
}

fn remove(label: &str) {
    let filter = format!("label={label}");
    let removals: [(&[&str], &[&str]); 4] = [
        (&["ps", "-aq"], &["rm", "-f", "-v"]),
        (&["network", "ls", "-q"], &["network", "rm"]),
        (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
        (&["images", "-q"], &["rmi", "-f"]),
    ];
    for (list, removal) in removals {
        let listed = Command::new("docker").args(list).args(["--filter", &filter]).output();
        let names = listed.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
        let names: Vec<&str> = names.split_whitespace().collect();
        if !names.is_empty() {
            let done = Command::new("docker").args(removal).args(names).output();
            if let Ok(done) = done
                && !done.status.success()
            {
                eprintln!("docker {}: {}", removal.join(" "), String::from_utf8_lossy(&done.stderr).trim());
            }
        }
    }
}

fn docker(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).output().expect("start docker");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "docker {}: {stderr}", args.join(" "));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// A tree that becomes a system with the machine's own /usr in it.
fn base_tree() -> Vec<u8> {
    let mut tree = tar::Builder::new(Vec::new());
    for (name, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/run", "/run")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tree.append_link(&mut header, name, target).expect("a link");
    }
    for dir in
        ["usr", "etc", "run", "tmp", "root", "proc", "sys", "dev", "small", "home/lab", "var/lib/docker", "var/log"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        tree.append_data(&mut header, format!("{dir}/"), std::io::empty()).expect("a directory");
    }
    let accounts = [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nlab:x:1000:1000::/home/lab:/bin/sh\n",
            0o644,
        ),
        ("etc/group", "root:x:0:\ndocker:x:999:\nlab:x:1000:\n", 0o644),
        ("etc/shadow", "root:*:1:0:99999:7:::\nsshd:!:1::::::\nlab:*:1:0:99999:7:::\n", 0o640),
    ];
    for (name, text, mode) in accounts {
        append(&mut tree, name, text.as_bytes(), mode);
    }
    for name in ["etc/nsswitch.conf", "etc/ld.so.cache", "etc/ld.so.conf"] {
        if let Ok(bytes) = std::fs::read(Path::new("/").join(name)) {
            append(&mut tree, name, &bytes, 0o644);
        }
    }
    tree.into_inner().expect("a finished tree")
}

fn append(tree: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tree.append_data(&mut header, name, bytes).expect("a file");
}
