//! The grammar: one struct per subcommand, as clap wants it. `mod.rs` turns these into requests.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

/// The applications, for help.
fn apps() -> String {
    let names: Vec<&str> = crate::app::APPS.iter().map(|app| app.name).collect();
    format!("Application: {} (default: the one deployed last on the target)", names.join(", "))
}

/// Builds, deploys, loads and measures the cross-service consistency of microservice benchmarks.
#[derive(Parser)]
#[command(
    name = "maestro",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("MAESTRO_REVISION"), ")"),
    disable_help_subcommand = true,
    override_usage = "maestro [--embedded | --local | --gsd | --gcp] [APP] <COMMAND> [OPTIONS]",
    after_help = "Start here:  maestro --embedded socialNetwork sweep --quick\n\
                  Long options may be written with one dash (-antipode, -config F)."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[arg(value_name = "APP", help = apps())]
    pub(super) app: Option<String>,
    #[command(subcommand)]
    pub(super) command: Option<Sub>,
}

#[derive(Args)]
pub(super) struct Globals {
    /// Run inside this process's machine: the built-in miniature
    #[arg(long, global = true, help_heading = "Target", conflicts_with_all = ["local", "gsd", "gcp"])]
    pub(super) embedded: bool,
    /// One Docker engine
    #[arg(long, global = true, help_heading = "Target", conflicts_with_all = ["gsd", "gcp"])]
    pub(super) local: bool,
    /// A cluster reached over SSH
    #[arg(long, global = true, help_heading = "Target", conflicts_with = "gcp")]
    pub(super) gsd: bool,
    /// Google Cloud
    #[arg(long, global = true, help_heading = "Target")]
    pub(super) gcp: bool,
    /// Working root with configs/, deploy/, gather/ and plots/ [default: nearest directory above with configs/]
    #[arg(long, global = true, env = "MAESTRO_ROOT", value_name = "DIR", help_heading = "Global")]
    pub(super) root: Option<PathBuf>,
    /// Print what would be done and change nothing
    #[arg(long, global = true, help_heading = "Global")]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long, short = 'y', global = true, help_heading = "Global")]
    pub(super) yes: bool,
    /// Print results as JSON
    #[arg(long, global = true, help_heading = "Global")]
    pub(super) json: bool,
    /// Say more (repeat for more)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global")]
    pub(super) verbose: u8,
    /// Say only warnings, errors and results
    #[arg(short, long, global = true, help_heading = "Global", conflicts_with = "verbose")]
    pub(super) quiet: bool,
}

#[derive(Subcommand)]
pub(super) enum Sub {
    /// Build or fetch the application's images
    Build(Build),
    /// Load images saved by `build --save`
    Load(Load),
    /// Prepare hosts and files for one placement
    Deploy(Deploy),
    /// Start the deployed application and wait until it answers
    Run(Run),
    /// Send an open-loop workload and record it
    Wkld(Wkld),
    /// Collect the traces of the last workload and analyse them
    Gather(Gather),
    /// Add delay to the replication between the post stores
    Delay(Delay),
    /// Stop and remove what this deployment started
    Clean(Clean),
    /// Show addresses, deployments and runs
    Info(Info),
    /// Open a shell on the deployment's hosts, or run a command on all of them
    Ssh(Ssh),
    /// Draw figures from run directories
    Plot(Plot),
    /// Run a matrix of workloads and draw what it gives
    Sweep(Sweep),
    /// Write one offline HTML file about runs
    Report(Report),
    /// Compare two runs or sets of runs
    Compare(Compare),
    /// Show one trace as a timeline
    Explain(Explain),
    /// Merge the histograms of several clients or runs exactly
    Merge(Merge),
    /// Re-run a published evaluation and judge its claims
    Reproduce(Reproduce),
    /// Pack runs, figures and conditions for an artifact repository, or verify such a pack
    Bundle(Bundle),
    /// Say what is present and what is missing for a target
    Doctor(Doctor),
    /// Fetch the pinned third-party sources
    Deps(Deps),
    /// Compare or create the cloud firewall rules
    Firewall(Firewall),
    /// List or delete expired and orphaned cloud resources
    Gc(Gc),
    /// Prolong the life of a deployment's machines
    Extend(Extend),
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to
        dir: PathBuf,
    },
    /// Serve the embedded miniature (started by `run`)
    #[command(hide = true)]
    EmbeddedServe(EmbeddedServe),
    /// Serve one role of socialNetworkMini (the command of its containers)
    #[command(hide = true)]
    Service(Service),
    /// Generate load described on stdin, write the result to stdout (started by `wkld` on client hosts)
    #[command(hide = true)]
    Worker,
    /// Do a part of `deploy` or `wkld` on a host (started there over SSH)
    #[command(hide = true)]
    Peer {
        /// The part and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Delay a container's traffic from inside its network namespace (started by `delay`)
    #[command(hide = true)]
    DelayHelper {
        /// The helper's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[derive(Args)]
pub(super) struct Build {
    /// Build every image anew
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Do not build images, only prepare the hosts (gsd, gcp)
    #[arg(long)]
    pub(super) skip_images: bool,
    /// Refuse images that differ from images.lock.yml
    #[arg(long)]
    pub(super) locked: bool,
    /// Also write the images as compressed archives into DIR
    #[arg(long, value_name = "DIR")]
    pub(super) save: Option<PathBuf>,
    /// The application's source tree [default: under deps/]
    #[arg(long, env = "MAESTRO_DSB", value_name = "DIR")]
    pub(super) app_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Load {
    /// The directory that `build --save` wrote
    pub(super) dir: PathBuf,
}

#[derive(Args)]
pub(super) struct Deploy {
    /// Placement file
    #[arg(long, value_name = "PATH")]
    pub(super) config: String,
    /// Name of the deployment [default: now, in UTC]
    #[arg(long)]
    pub(super) tag: Option<String>,
    /// Number of client hosts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) clients: u32,
    /// Take over a swarm that another deployment formed
    #[arg(long)]
    pub(super) force: bool,
    /// Refuse hosts whose key is not known yet
    #[arg(long)]
    pub(super) strict: bool,
    /// How services find each other [default: the placement's, else vip]
    #[arg(long, value_parser = ["vip", "dnsrr"])]
    pub(super) endpoint_mode: Option<String>,
    /// How ports are published [default: the placement's, else ingress]
    #[arg(long, value_parser = ["host", "ingress"])]
    pub(super) publish: Option<String>,
    /// The application's source tree [default: under deps/]
    #[arg(long, env = "MAESTRO_DSB", value_name = "DIR")]
    pub(super) app_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Run {
    /// Start Prometheus beside the application
    #[arg(long)]
    pub(super) prometheus: bool,
    /// Start Portainer beside the application
    #[arg(long)]
    pub(super) portainer: bool,
    /// Stay attached and show the logs (local)
    #[arg(long)]
    pub(super) attached: bool,
    /// Enforce lineage: the antipode variant
    #[arg(long)]
    pub(super) antipode: bool,
    /// Ports of origin, replica and trace API (embedded), or `auto`
    #[arg(long, value_name = "A,B,C|auto")]
    pub(super) ports: Option<String>,
    /// Publish ports on all addresses, not on the loopback only (local; containers that run already stay as they are)
    #[arg(long)]
    pub(super) open: bool,
    /// Longest wait for readiness, s
    #[arg(long, value_name = "S", default_value_t = 300.0, value_parser = positive)]
    pub(super) timeout: f64,
}

#[derive(Args)]
pub(super) struct Delay {
    /// Delay, ms
    #[arg(short, long, value_name = "MS", default_value_t = 100.0, allow_hyphen_values = true, value_parser = finite)]
    pub(super) delay: f64,
    /// Jitter, ms
    #[arg(short, long, value_name = "MS", default_value_t = 0.0, allow_hyphen_values = true, value_parser = finite)]
    pub(super) jitter: f64,
    /// Correlation of successive delays, %
    #[arg(short, long, value_name = "PERCENT", default_value_t = 0.0, allow_hyphen_values = true, value_parser = finite)]
    pub(super) correlation: f64,
    /// Distribution of the jitter
    #[arg(long = "dist", alias = "distribution", default_value = "uniform", value_parser = ["uniform", "normal", "pareto", "paretonormal"])]
    pub(super) distribution: String,
    /// Service whose data is delayed [default: the app's primary post store]
    #[arg(long, value_name = "SERVICE")]
    pub(super) from: Option<String>,
    /// Service that receives it [default: the app's replica post store]
    #[arg(long, value_name = "SERVICE")]
    pub(super) to: Option<String>,
    /// Delay both directions
    #[arg(long)]
    pub(super) both: bool,
    /// Share of packets lost, % (netem only)
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, allow_hyphen_values = true, value_parser = finite)]
    pub(super) loss: f64,
    /// Bandwidth limit, Mbit/s
    #[arg(long, value_name = "MBIT", allow_hyphen_values = true, value_parser = finite)]
    pub(super) rate: Option<f64>,
    /// Several pairs from a YAML file
    #[arg(long, value_name = "FILE")]
    pub(super) matrix: Option<PathBuf>,
    /// Changes over time from a YAML file
    #[arg(long, value_name = "FILE")]
    pub(super) schedule: Option<PathBuf>,
    /// How the delay is made
    #[arg(long, default_value = "auto", value_parser = ["auto", "netem", "proxy"])]
    pub(super) backend: String,
    /// The rule removes itself on the host after this time, s
    #[arg(long, value_name = "S", default_value_t = 7200.0, value_parser = positive)]
    pub(super) lease: f64,
    /// Seed of the jitter
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Remove the delay
    #[arg(long, conflicts_with_all = ["show", "matrix", "schedule"])]
    pub(super) off: bool,
    /// Show the delay in force and what it measures
    #[arg(long)]
    pub(super) show: bool,
}

#[derive(Args)]
pub(super) struct Wkld {
    /// Endpoint to drive
    #[arg(short = 'E', long = "endpoint", alias = "Endpoint", value_name = "NAME")]
    pub(super) endpoint: Option<String>,
    /// Client hosts to use (repeatable) [default: all]
    #[arg(short = 'N', long = "node", value_name = "HOST")]
    pub(super) nodes: Vec<String>,
    /// Connections per client
    #[arg(short, long, default_value_t = 1)]
    pub(super) connections: usize,
    /// Duration, s
    #[arg(short, long, value_name = "S", default_value_t = 1.0, allow_hyphen_values = true, value_parser = positive)]
    pub(super) duration: f64,
    /// Threads per client
    #[arg(short, long, default_value_t = 1)]
    pub(super) threads: usize,
    /// Offered rate over all clients, requests/s
    #[arg(short, long, allow_hyphen_values = true, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// First part cut from every series, s
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = not_negative)]
    pub(super) warmup: f64,
    /// Arrival process
    #[arg(long, default_value = "constant", value_parser = ["constant", "poisson"])]
    pub(super) arrivals: String,
    /// Piecewise rates: SECONDS:RATE[-RATE],... (`10:50-100,30:100`)
    #[arg(long, value_name = "PIECES")]
    pub(super) ramp: Option<String>,
    /// Seed of arrivals and bodies
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How exactly requests are sent on time
    #[arg(long, default_value = "exact", value_parser = ["exact", "coarse", "spin"])]
    pub(super) pace: String,
    /// Open up to this many connections when all are busy [default: never more than -c]
    #[arg(long, value_name = "N")]
    pub(super) max_connections: Option<usize>,
    /// A request without an answer after this time has failed, s
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = positive)]
    pub(super) timeout: f64,
    /// Longest wait for answers after the end, s
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = not_negative)]
    pub(super) drain: f64,
    /// First due instant, s since the epoch
    #[arg(long, value_name = "EPOCH", value_parser = positive)]
    pub(super) start_at: Option<f64>,
    /// wrk2 Lua script
    #[arg(long, value_name = "FILE")]
    pub(super) script: Option<PathBuf>,
    /// Arguments of the script
    #[arg(last = true)]
    pub(super) script_args: Vec<String>,
    /// Drive this URL instead of a deployment
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// With --url: directory for the measured files
    #[arg(long, value_name = "DIR", requires = "url")]
    pub(super) out: Option<PathBuf>,
    /// Trust the certificates in this PEM file, too
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Accept every certificate
    #[arg(long)]
    pub(super) insecure: bool,
    /// Share of composed posts whose visibility is probed from outside
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction)]
    pub(super) probe: f64,
    /// Search the highest rate that meets the objective
    #[arg(long)]
    pub(super) find_max: bool,
    /// The objective: `p99=500ms`
    #[arg(long, default_value = "p99=500ms")]
    pub(super) slo: String,
}

#[derive(Args)]
pub(super) struct Gather {
    /// Trace query API [default: the deployment's]
    #[arg(long, value_name = "URL")]
    pub(super) jaeger: Option<String>,
    /// Analyse saved responses (.json, .json.gz, .json.zst) instead
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) traces: Vec<PathBuf>,
    /// Saved /api/dependencies response
    #[arg(long, value_name = "FILE")]
    pub(super) deps: Option<PathBuf>,
    /// RabbitMQ management API to ask for notifications on their way [default: the deployment's]
    #[arg(long = "broker", value_name = "URL")]
    pub(super) brokers: Vec<String>,
    /// Run directory [default: the last workload's]
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,
    /// Service whose traces are read [default: the app's]
    #[arg(long)]
    pub(super) service: Option<String>,
    /// Longest wait for queue and spans to settle, s
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = not_negative)]
    pub(super) drain_timeout: f64,
    /// First part cut, s [default: the run's]
    #[arg(long, value_name = "S", value_parser = not_negative)]
    pub(super) warmup: Option<f64>,
}

#[derive(Args)]
pub(super) struct Clean {
    /// Also remove images (local), installed files (gsd) or the machines (gcp)
    #[arg(long)]
    pub(super) strong: bool,
    /// Restart the services empty instead of removing them
    #[arg(long, conflicts_with = "strong")]
    pub(super) restart: bool,
    /// With -strong on gcp: the deployment of this tag, found by its labels when no record of it is here
    #[arg(long, requires = "strong", value_name = "TAG")]
    pub(super) tag: Option<String>,
    /// With -strong on gcp: also machine images
    #[arg(long, requires = "strong")]
    pub(super) images: bool,
    /// With -strong on gcp: also the firewall rules
    #[arg(long, requires = "strong")]
    pub(super) firewall: bool,
}

#[derive(Args)]
pub(super) struct Info {
    /// Only the addresses
    #[arg(long)]
    pub(super) links: bool,
    /// The hosts and what is known about them
    #[arg(long, conflicts_with_all = ["links", "ps", "logs"])]
    pub(super) hosts: bool,
    /// The groups of hosts
    #[arg(long, conflicts_with_all = ["links", "ps", "logs", "hosts"])]
    pub(super) groups: bool,
    /// Only the services and their state
    #[arg(long)]
    pub(super) ps: bool,
    /// The log of SERVICE
    #[arg(long, value_name = "SERVICE")]
    pub(super) logs: Option<String>,
    /// Follow the log
    #[arg(long, requires = "logs")]
    pub(super) follow: bool,
}

#[derive(Args)]
pub(super) struct Ssh {
    /// Hosts by name
    #[arg(long, num_args = 1..)]
    pub(super) hosts: Vec<String>,
    /// Groups: manager, cluster, clients
    #[arg(long, num_args = 1..)]
    pub(super) groups: Vec<String>,
    /// Refuse hosts whose key is not known yet
    #[arg(long)]
    pub(super) strict: bool,
    /// Command to run on all of them
    #[arg(last = true)]
    pub(super) command: Vec<String>,
}

#[derive(Args)]
pub(super) struct Plot {
    /// YAML file: figure -> list of run directories; or a directory, for all the runs below it
    pub(super) config: PathBuf,
    /// Only these figures
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub(super) plots: Vec<String>,
    /// Also write the numbers behind the figures
    #[arg(long, value_name = "FILE.json")]
    pub(super) data: Option<PathBuf>,
    /// Formats
    #[arg(long, value_delimiter = ',', default_value = "svg,png", value_parser = ["svg", "png", "pdf", "csv", "pgf"])]
    pub(super) format: Vec<String>,
    /// Where to [default: plots/]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Sweep {
    /// Sweep file [default: the pre-populated SOSP'23 sweep]
    pub(super) file: Option<PathBuf>,
    /// Short form: seconds per run instead of minutes
    #[arg(long)]
    pub(super) quick: bool,
    /// Rounds per cell
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: Option<u32>,
    /// Add rounds until an interval is tight: "window.p90 ci < 5%"
    #[arg(long, value_name = "CONDITION")]
    pub(super) until: Option<String>,
    /// Name of the sweep; the same name resumes it
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Show how far it is
    #[arg(long)]
    pub(super) status: bool,
    /// Leave the deployment running at the end
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Args)]
pub(super) struct Report {
    /// Run directories, or one plot config
    #[arg(required = true)]
    pub(super) inputs: Vec<PathBuf>,
    /// The HTML file
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    pub(super) out: PathBuf,
}

#[derive(Args)]
pub(super) struct Compare {
    /// A run directory, a directory of runs, or a plot config
    pub(super) a: PathBuf,
    /// What it is compared with
    pub(super) b: PathBuf,
    /// Fail (exit 5) on a difference: "window.p90 > +10%" (repeatable)
    #[arg(long, value_name = "CONDITION")]
    pub(super) fail_if: Vec<String>,
    /// Output form
    #[arg(long, default_value = "text", value_parser = ["text", "json", "markdown"])]
    pub(super) format: String,
}

#[derive(Args)]
pub(super) struct Explain {
    /// Trace id or post id
    pub(super) id: String,
    /// Trace query API [default: the deployment's]
    #[arg(long, value_name = "URL")]
    pub(super) jaeger: Option<String>,
    /// Saved responses
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) traces: Vec<PathBuf>,
}

#[derive(Args)]
pub(super) struct Merge {
    /// Run directories or HDR interval logs
    #[arg(required = true)]
    pub(super) inputs: Vec<PathBuf>,
    /// Directory for the merged files
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Reproduce {
    /// Which evaluation
    #[arg(default_value = "sosp23")]
    pub(super) name: String,
    /// Short form: seconds per run instead of minutes
    #[arg(long)]
    pub(super) quick: bool,
    /// Rounds per cell
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: Option<u32>,
}

#[derive(Args)]
pub(super) struct Bundle {
    /// A sweep's directory, or a bundle to verify
    pub(super) dir: PathBuf,
    /// The archive [default: <name>.tar.zst]
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Check the sums, redraw the figures and compare
    #[arg(long)]
    pub(super) verify: bool,
}

#[derive(Args)]
pub(super) struct Doctor {
    /// The placement whose hosts are looked at, before anything is deployed
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<String>,
    /// The application's source tree [default: under deps/]
    #[arg(long, value_name = "DIR", env = "MAESTRO_DSB")]
    pub(super) app_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Deps {
    #[command(subcommand)]
    pub(super) action: DepsAction,
}

#[derive(Subcommand)]
pub(super) enum DepsAction {
    /// Fetch the pinned sources into deps/
    Fetch {
        /// Another place to fetch from
        #[arg(long, env = "MAESTRO_DEPS_URL", value_name = "URL")]
        url: Option<String>,
    },
}

#[derive(Args)]
pub(super) struct Firewall {
    /// `plan` compares, `apply` creates what is missing
    #[arg(value_parser = ["plan", "apply"])]
    pub(super) action: String,
    /// Open to every address, as the Python tool's documents say
    #[arg(long)]
    pub(super) open: bool,
}

#[derive(Args)]
pub(super) struct Gc {
    /// Only look; exit 5 when something is left
    #[arg(long)]
    pub(super) check: bool,
    /// Everything of yours, in use or not
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Args)]
pub(super) struct Extend {
    /// New life from now, hours
    #[arg(long, value_name = "HOURS", value_parser = positive)]
    pub(super) ttl: f64,
}

#[derive(Args)]
pub(super) struct EmbeddedServe {
    /// Placement file
    #[arg(long)]
    pub(super) config: PathBuf,
    /// Deployment directory
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Ports of origin, replica and trace API, or `auto`
    #[arg(long)]
    pub(super) ports: Option<String>,
    /// Lineage enforcement
    #[arg(long)]
    pub(super) antipode: bool,
    /// Application
    #[arg(long, default_value = "socialNetwork")]
    pub(super) app_name: String,
    /// Tag of the deployment
    #[arg(long, default_value = "")]
    pub(super) tag: String,
}

#[derive(Args)]
pub(super) struct Service {
    /// The role
    pub(super) role: String,
    /// The role's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
}

/// The highest rate that makes sense to ask for, requests/s.
const RATE_LIMIT: f64 = 10_000_000.0;

fn number(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|v| v.is_finite()).ok_or_else(|| "not a number".to_owned())
}

fn finite(text: &str) -> Result<f64, String> {
    number(text)
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text).and_then(|v| if v >= 0.0 { Ok(v) } else { Err("must not be negative".into()) })
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).and_then(|v| if v > 0.0 { Ok(v) } else { Err("must be greater than 0".into()) })
}

fn fraction(text: &str) -> Result<f64, String> {
    number(text).and_then(|v| if (0.0..=1.0).contains(&v) { Ok(v) } else { Err("must be within 0 and 1".into()) })
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = positive(text)?;
    if rate > RATE_LIMIT {
        return Err(format!("more than {RATE_LIMIT} requests/s is beyond any client"));
    }
    Ok(rate)
}
