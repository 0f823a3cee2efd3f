//! The only module that knows clap: arguments become domain values here.
//!
//! Three spellings of the Python tools are accepted besides the usual ones: long options with one dash
//! (`-antipode`), the app before or after the target flag, and the names `plot` and `maestrina` for the binary.

mod args;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::args::{Cli, DepsAction, Globals, Sub};
use crate::Context;
use crate::app::App;
use crate::command::{self, Command, Selection};
use crate::error::{Exit, Plain, Result};
use crate::experiment::{TargetName, Variant};
use crate::store::{Store, StoreError};
use crate::ui;

/// What the arguments ask for.
pub(crate) enum Invocation {
    /// Help, version or completions were printed; nothing is left to do.
    Done,
    /// A command.
    Run(Box<Run>),
}

/// A parsed command with everything it needs.
pub(crate) struct Run {
    /// Root, dry run, yes, json.
    pub context: Context,
    /// Verbosity for `ui`.
    pub level: i8,
    /// The command.
    pub command: Command,
}

/// Parses the command line (the program's name first).
///
/// # Errors
/// Exit code 2, with one line that names the argument.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Invocation> {
    let args = spell_out(args);
    match Cli::try_parse_from(&args) {
        Ok(cli) => convert(cli),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            ui::out_raw(error.render().to_string());
            Ok(Invocation::Done)
        }
        Err(error) => Err(usage_error(&error, &args)),
    }
}

/// clap's message as one line; the usage it prints below is replaced by where to look.
fn usage_error(error: &clap::Error, args: &[OsString]) -> crate::error::Error {
    let text = error.render().to_string();
    let paragraph: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let message = paragraph.join(" ").trim_start_matches("error: ").to_owned();
    let known = Cli::command();
    let subcommand = args.iter().skip(1).filter_map(|a| a.to_str()).find(|a| known.find_subcommand(a).is_some());
    let help = subcommand.map_or_else(|| "maestro -h".to_owned(), |name| format!("maestro {name} -h"));
    Plain::usage(message).with_hint(format!("see `{help}`")).into()
}

/// Gives long options with one dash their second one and resolves the binary's other names.
fn spell_out(args: Vec<OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "maestro".into());
    let name = Path::new(&program).file_name().and_then(|n| n.to_str()).unwrap_or("maestro").to_owned();
    let rest: Vec<OsString> = args.collect();
    let mut spelled = vec![OsString::from("maestro")];
    match name.as_str() {
        "plot" => spelled.push("plot".into()),
        "maestrina" => {
            let targets = TargetName::ALL.map(|t| format!("--{t}"));
            if !rest.iter().any(|a| a.to_str().is_some_and(|a| targets.contains(&a.to_owned()))) {
                spelled.push("--gcp".into());
            }
            spelled.extend(["socialNetwork".into(), "sweep".into()]);
        }
        _ => {}
    }
    let known = long_options();
    let mut verbatim = false;
    for arg in rest {
        verbatim |= arg == "--";
        let dashed = (!verbatim).then(|| second_dash(&arg, &known)).flatten();
        spelled.push(dashed.unwrap_or(arg));
    }
    spelled
}

fn long_options() -> Vec<String> {
    let root = Cli::command();
    let options = |command: &clap::Command| -> Vec<String> {
        command
            .get_arguments()
            .flat_map(|a| a.get_long_and_visible_aliases().unwrap_or_default())
            .map(str::to_owned)
            .collect()
    };
    let mut names = options(&root);
    names.extend(root.get_subcommands().flat_map(options));
    names.push("distribution".into());
    names
}

fn second_dash(arg: &OsString, known: &[String]) -> Option<OsString> {
    let body = arg.to_str()?.strip_prefix('-')?;
    let name = body.split('=').next()?;
    (name.len() > 1 && known.iter().any(|k| k == name)).then(|| format!("--{body}").into())
}

fn convert(cli: Cli) -> Result<Invocation> {
    let level = if cli.globals.quiet { -1 } else { i8::try_from(cli.globals.verbose).unwrap_or(i8::MAX) };
    let selection = Selection { target: target(&cli.globals), app: app(cli.app.as_deref())? };
    let context = Context {
        store: Store::new(root(cli.globals.root)?),
        dry_run: cli.globals.dry_run,
        yes: cli.globals.yes,
        json: cli.globals.json,
    };
    let Some(sub) = cli.command else {
        return Err(Plain::usage("no command given").with_hint("see `maestro -h`").into());
    };
    let Some(command) = command(sub, selection)? else { return Ok(Invocation::Done) };
    Ok(Invocation::Run(Box::new(Run { context, level, command })))
}

fn target(globals: &Globals) -> Option<TargetName> {
    let flags = [globals.embedded, globals.local, globals.gsd, globals.gcp];
    TargetName::ALL.into_iter().zip(flags).find_map(|(target, set)| set.then_some(target))
}

fn app(name: Option<&str>) -> Result<Option<&'static App>> {
    let Some(name) = name else { return Ok(None) };
    App::find(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = crate::app::APPS.iter().map(|app| app.name).collect();
        Plain::usage(format!("unknown app or command `{name}`"))
            .with_hint(format!("apps: {}; commands: see `maestro -h`", known.join(", ")))
            .into()
    })
}

/// The root as given, else the nearest directory above with `configs/`, else the current one.
fn root(given: Option<PathBuf>) -> Result<PathBuf> {
    let here = std::env::current_dir()
        .map_err(|error| Plain::new(Exit::Unreachable, format!("cannot tell the current directory: {error}")))?;
    if let Some(root) = given {
        return Ok(here.join(root));
    }
    Ok(here.ancestors().find(|dir| dir.join("configs").is_dir()).unwrap_or(&here).to_owned())
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| Plain::usage(format!("a time of {value} s cannot be used: {error}")).into())
}

/// The request of a subcommand; `None` when there is nothing left to do.
fn command(sub: Sub, selection: Selection) -> Result<Option<Command>> {
    Ok(Some(match sub {
        Sub::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "maestro", &mut text);
            ui::out_raw(text);
            return Ok(None);
        }
        Sub::Man { dir } => {
            man_pages(&dir)?;
            return Ok(None);
        }
        Sub::Build(a) => Command::Build(build(a, selection)),
        Sub::Load(a) => Command::Load(command::load::Request { selection, dir: a.dir }),
        Sub::Deploy(a) => Command::Deploy(deploy(a, selection)),
        Sub::Run(a) => Command::Run(run(a, selection)?),
        Sub::Wkld(a) => Command::Wkld(Box::new(wkld(a, selection)?)),
        Sub::Gather(a) => Command::Gather(gather(a, selection)?),
        Sub::Delay(a) => Command::Delay(Box::new(delay(a, selection)?)),
        Sub::Clean(a) => Command::Clean(command::clean::Request {
            selection,
            strong: a.strong,
            tag: a.tag,
            restart: a.restart,
            images: a.images,
            firewall: a.firewall,
        }),
        Sub::Info(a) => Command::Info(command::info::Request {
            selection,
            links: a.links,
            hosts: a.hosts,
            groups: a.groups,
            ps: a.ps,
            logs: a.logs,
            follow: a.follow,
        }),
        Sub::Ssh(a) => Command::Ssh(command::ssh::Request {
            selection,
            hosts: a.hosts,
            groups: a.groups,
            strict: a.strict,
            command: a.command,
        }),
        Sub::Plot(a) => Command::Plot(command::plot::Request {
            config: a.config,
            plots: a.plots,
            data: a.data,
            formats: a.format,
            out: a.out,
        }),
        Sub::Sweep(a) => Command::Sweep(command::sweep::Request {
            selection,
            file: a.file,
            quick: a.quick,
            rounds: a.rounds,
            until: a.until,
            name: a.name,
            status: a.status,
            keep: a.keep,
        }),
        Sub::Report(a) => Command::Report(command::report::Request { inputs: a.inputs, out: a.out }),
        Sub::Compare(a) => {
            Command::Compare(command::compare::Request { a: a.a, b: a.b, fail_if: a.fail_if, format: a.format })
        }
        Sub::Explain(a) => {
            Command::Explain(command::explain::Request { selection, id: a.id, jaeger: a.jaeger, traces: a.traces })
        }
        Sub::Merge(a) => Command::Merge(command::merge::Request { inputs: a.inputs, out: a.out }),
        Sub::Reproduce(a) => Command::Reproduce(command::reproduce::Request {
            selection,
            name: a.name,
            quick: a.quick,
            rounds: a.rounds,
        }),
        Sub::Bundle(a) => Command::Bundle(command::bundle::Request { dir: a.dir, out: a.out, verify: a.verify }),
        Sub::Doctor(a) => Command::Doctor(command::doctor::Request { selection, config: a.config, app_dir: a.app_dir }),
        Sub::Deps(a) => match a.action {
            DepsAction::Fetch { url } => Command::Deps(command::deps::Request { selection, url }),
        },
        Sub::Firewall(a) => {
            Command::Firewall(command::firewall::Request { selection, apply: a.action == "apply", open: a.open })
        }
        Sub::Gc(a) => Command::Gc(command::gc::Request { selection, check: a.check, all: a.all }),
        Sub::Extend(a) => Command::Extend(command::extend::Request { selection, ttl: seconds(a.ttl * 3600.0)? }),
        Sub::EmbeddedServe(a) => Command::EmbeddedServe(command::embedded_serve::Request {
            config: a.config,
            dir: a.dir,
            ports: a.ports,
            variant: Variant::from_antipode(a.antipode),
            app: a.app_name,
            tag: a.tag,
        }),
        Sub::Service(a) => Command::Service(command::service::Request { role: a.role, args: a.args }),
        Sub::Worker => Command::Worker,
        Sub::DelayHelper { args } => Command::DelayHelper(args),
        Sub::Peer { args } => Command::Peer(args),
    }))
}

fn build(a: args::Build, selection: Selection) -> command::build::Request {
    command::build::Request {
        selection,
        no_cache: a.no_cache,
        skip_images: a.skip_images,
        locked: a.locked,
        save: a.save,
        app_dir: a.app_dir,
    }
}

fn deploy(a: args::Deploy, selection: Selection) -> command::deploy::Request {
    command::deploy::Request {
        selection,
        config: a.config,
        tag: a.tag,
        clients: a.clients,
        force: a.force,
        strict: a.strict,
        endpoint_mode: a.endpoint_mode,
        publish: a.publish,
        app_dir: a.app_dir,
    }
}

fn run(a: args::Run, selection: Selection) -> Result<command::run::Request> {
    Ok(command::run::Request {
        selection,
        variant: Variant::from_antipode(a.antipode),
        prometheus: a.prometheus,
        portainer: a.portainer,
        attached: a.attached,
        ports: a.ports,
        open: a.open,
        timeout: seconds(a.timeout)?,
    })
}

fn wkld(a: args::Wkld, selection: Selection) -> Result<command::wkld::Request> {
    Ok(command::wkld::Request {
        selection,
        endpoint: a.endpoint,
        nodes: a.nodes,
        connections: a.connections,
        duration: seconds(a.duration)?,
        threads: a.threads,
        rate: a.rate,
        warmup: seconds(a.warmup)?,
        arrivals: a.arrivals,
        ramp: a.ramp,
        seed: a.seed,
        pace: a.pace,
        max_connections: a.max_connections,
        timeout: seconds(a.timeout)?,
        drain: seconds(a.drain)?,
        start_at: a.start_at,
        script: a.script,
        script_args: a.script_args,
        url: a.url,
        out: a.out,
        ca: a.ca,
        insecure: a.insecure,
        probe: a.probe,
        find_max: a.find_max,
        slo: a.slo,
        round: 0,
    })
}

fn gather(a: args::Gather, selection: Selection) -> Result<command::gather::Request> {
    Ok(command::gather::Request {
        selection,
        jaeger: a.jaeger,
        traces: a.traces,
        deps: a.deps,
        brokers: a.brokers,
        run: a.run,
        service: a.service,
        drain_timeout: seconds(a.drain_timeout)?,
        warmup: a.warmup.map(seconds).transpose()?,
    })
}

fn delay(a: args::Delay, selection: Selection) -> Result<command::delay::Request> {
    Ok(command::delay::Request {
        selection,
        delay_ms: a.delay,
        jitter_ms: a.jitter,
        correlation_percent: a.correlation,
        distribution: a.distribution,
        from: a.from,
        to: a.to,
        both: a.both,
        loss_percent: a.loss,
        rate_mbit: a.rate,
        matrix: a.matrix,
        schedule: a.schedule,
        backend: a.backend,
        lease: seconds(a.lease)?,
        seed: a.seed,
        off: a.off,
        show: a.show,
    })
}

/// One manual page per command, as `maestro-<command>.1`, and `maestro.1`.
fn man_pages(dir: &Path) -> Result<()> {
    let failed = |source| StoreError::Write { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    Ok(clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let words = spell_out(line.split_whitespace().map(OsString::from).collect());
        words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn parsed(line: &str) -> Command {
        match parse(line.split_whitespace().map(OsString::from).collect()) {
            Ok(Invocation::Run(run)) => run.command,
            Ok(Invocation::Done) => panic!("`{line}` printed something"),
            Err(error) => panic!("`{line}`: {error}"),
        }
    }

    #[test]
    fn grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_dash_is_enough_for_a_long_option() {
        assert_eq!(
            spelled("maestro --gsd a deploy -config F -clients 1"),
            "maestro --gsd a deploy --config F --clients 1"
        );
        assert_eq!(spelled("maestro delay -d 5 -dist=normal -j 1"), "maestro delay -d 5 --dist=normal -j 1");
        assert_eq!(spelled("maestro ssh -- ls -hosts"), "maestro ssh -- ls -hosts");
    }

    #[test]
    fn old_names_of_the_binary_keep_their_meaning() {
        assert_eq!(spelled("/opt/plot c.yml"), "maestro plot c.yml");
        assert_eq!(spelled("maestrina"), "maestro --gcp socialNetwork sweep");
        assert_eq!(spelled("./maestrina --embedded"), "maestro socialNetwork sweep --embedded");
    }

    #[test]
    fn the_documented_lines_parse() {
        let deploy = parsed("maestro --gsd socialNetwork deploy -config F -clients 1");
        assert!(matches!(deploy, Command::Deploy(r) if r.config == "F" && r.selection.target == Some(TargetName::Gsd)));
        let run = parsed("maestro --gsd socialNetwork run -antipode");
        assert!(matches!(run, Command::Run(r) if r.variant == Variant::Antipode));
        let wkld = parsed("maestro --gcp socialNetwork wkld -E compose-post -d 300 -r 100 -c 4 -t 2");
        assert!(matches!(wkld, Command::Wkld(r) if r.rate == Some(100.0) && r.threads == 2 && r.connections == 4));
        assert!(matches!(parsed("maestro --gcp socialNetwork clean -strong"), Command::Clean(r) if r.strong));
        assert!(matches!(parsed("maestro --gcp socialNetwork clean -restart"), Command::Clean(r) if r.restart));
        assert!(matches!(parsed("maestro --gcp socialNetwork delay"), Command::Delay(r) if r.delay_ms == 100.0));
        assert!(matches!(parsed("maestro --gcp info"), Command::Info(r) if r.selection.app.is_none()));
        let plot = parsed("maestro plot CONFIG --plots throughput_latency_with_consistency_window");
        assert!(matches!(plot, Command::Plot(r) if r.plots == ["throughput_latency_with_consistency_window"]));
        assert!(matches!(parsed("maestro socialNetwork --local run"), Command::Run(r) if r.selection.app.is_some()));
    }

    #[test]
    fn bad_numbers_are_one_line() {
        for (line, needle) in [
            ("maestro --embedded socialNetwork wkld -E compose-post -r 0", "greater than 0"),
            ("maestro --embedded socialNetwork wkld -E compose-post -r -5", "greater than 0"),
            ("maestro --embedded socialNetwork wkld -E compose-post -r NaN", "not a number"),
            ("maestro --embedded socialNetwork wkld -E compose-post -r 1e12", "beyond any client"),
            ("maestro frobnicate", "unknown app or command `frobnicate`"),
        ] {
            let words = line.split_whitespace().map(OsString::from).collect();
            let error = parse(words).err().unwrap_or_else(|| panic!("`{line}` parsed"));
            assert!(error.line().contains(needle), "{line}: {error}");
            assert!(!error.line().contains('\n'));
            assert_eq!(error.exit_code(), Exit::Usage);
        }
    }
}
