//! Compose files as stacks of a swarm: what is rewritten, what is refused, and that it is what `docker stack deploy` makes.

use std::path::{Path, PathBuf};

use maestro::app::App;
use maestro::compose::{self, EndpointMode, File, PublishMode, Source};
use maestro::execute::docker::{Engine, spec, stack::ensure};
use maestro::experiment::{TargetName, Variant};
use maestro::placement::Placement;
use maestro::swarm::{Binds, Input, Options, SpecMountKind, Stack, StackStep, SwarmError, Tie, rewrite, stack};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn compose_file(text: &str) -> File {
    let directory = Path::new("/app/socialNetwork");
    let source = Source { name: "c.yml", directory, variables: &|_| None, read: &|_| Err("none".into()) };
    compose::parse(text, &source).unwrap().file
}

fn app() -> &'static App {
    App::find("socialNetwork").unwrap()
}

fn placement(name: &str, extra: &str) -> Placement {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/gcp/socialNetwork/{name}.yml"));
    let text = std::fs::read_to_string(path).unwrap() + extra;
    Placement::parse(TargetName::Gcp, app(), &format!("{name}.yml"), &text).unwrap()
}

fn options(variant: Variant) -> Options {
    Options::new("deathstarbench", "deathstarbench_network", variant)
}

fn make(file: &File, placement: &Placement, options: &Options) -> Result<Stack, SwarmError> {
    let read = |path: &Path| Ok(format!("content of {}", path.display()).into_bytes());
    stack(&Input { app: app(), file, file_name: "c.yml", placement, options, read: &read })
}

/// A file with every service of the placement, `lines` in one of them.
fn with_lines(service: &str, lines: &str) -> File {
    let text = fixture("social-network.yml");
    let at = format!("  {service}:\n");
    assert!(text.contains(&at));
    compose_file(&text.replace(&at, &format!("{at}{lines}")))
}

fn assert_same(found: &str, golden: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose").join(golden);
    if std::env::var_os("MAESTRO_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap_or_default(), "differs from {}", path.display());
}

#[test]
fn the_plan_of_all_42_services_is_stable() {
    let file = compose_file(&fixture("social-network.yml"));
    let made = make(&file, &placement("us-eu", ""), &options(Variant::Antipode)).unwrap();
    assert_eq!((made.services.len(), made.expected_tasks(app())), (42, 40));
    let mut lines = String::new();
    for (name, steps) in made.stages() {
        lines.push_str(&format!("{name}\n"));
        steps.iter().for_each(|step| lines.push_str(&format!("- {step}\n")));
    }
    for shipment in &made.shipments {
        lines.push_str(&format!("ship {} to {}\n", shipment.source.display(), shipment.nodes.join(", ")));
    }
    made.notes.iter().for_each(|note| lines.push_str(&format!("note {note}\n")));
    assert_same(&lines, "social-network.plan.txt");
}

#[test]
fn the_variant_is_set_where_it_is_read_and_nowhere_else() {
    let file = compose_file(&fixture("social-network.yml"));
    for (variant, value) in [(Variant::Baseline, "ANTIPODE=0"), (Variant::Antipode, "ANTIPODE=1")] {
        let made = make(&file, &placement("us-sg", ""), &options(variant)).unwrap();
        let set = made.services.iter().filter(|s| s.container.env.iter().any(|e| e == value));
        let names: Vec<&str> = set.map(|s| s.service.as_str()).collect();
        let mut expected = app().toggle.unwrap().services.to_vec();
        expected.sort_by_key(|name| file.services.get_index_of(*name));
        assert_eq!(names, expected);
    }
}

#[test]
fn the_node_of_another_cluster_is_replaced_and_other_constraints_stay() {
    let mut file = compose_file(&fixture("social-network.yml"));
    file.services["jaeger"].deploy.placement.constraints.insert(0, "node.labels.ssd == true".into());
    file.services["text-service"].deploy.placement.constraints.clear();
    let made = make(&file, &placement("us-eu", ""), &options(Variant::Baseline)).unwrap();
    let of = |name: &str| made.services.iter().find(|s| s.service == name).unwrap();
    assert_eq!(
        of("jaeger").placement.constraints,
        ["node.labels.ssd == true", "node.labels.maestro.node == admin-tracing"]
    );
    assert_eq!(of("text-service").placement.constraints, ["node.labels.maestro.node == compose-post"]);
    let by_host = Options { tie: Tie::Hostname, ..options(Variant::Baseline) };
    let made = make(&file, &placement("us-eu", ""), &by_host).unwrap();
    let text = made.services.iter().find(|s| s.service == "text-service").unwrap();
    assert_eq!(text.placement.constraints, ["node.hostname == compose-post.pluribus"]);
}

#[test]
fn services_missing_on_either_side_are_all_listed() {
    let mut file = compose_file(&fixture("social-network.yml"));
    for name in ["jaeger", "text-service"] {
        file.services.shift_remove(name);
    }
    for name in ["extra", "more"] {
        file.services.insert(name.into(), compose::Service { image: Some("i".into()), ..Default::default() });
    }
    let error = make(&file, &placement("us-eu", ""), &options(Variant::Baseline)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`us-eu.yml` does not place `extra`, `more` of `c.yml`; `us-eu.yml` places `text-service`, `jaeger`, \
         which `c.yml` does not have"
    );
}

#[test]
fn modes_come_from_the_command_line_then_the_placement_then_the_file() {
    let file = with_lines("jaeger", "    # nothing\n");
    let find = |made: &Stack| {
        let spec = made.services.iter().find(|s| s.service == "jaeger").unwrap().clone();
        (spec.endpoint_mode, spec.ports[0].mode)
    };
    let usual = make(&file, &placement("us-eu", ""), &options(Variant::Baseline)).unwrap();
    assert_eq!(find(&usual), (Some(EndpointMode::Vip), Some(PublishMode::Ingress)));
    let placed = make(&file, &placement("us-eu", "endpoint_mode: dnsrr\n"), &options(Variant::Baseline)).unwrap();
    assert_eq!(find(&placed), (Some(EndpointMode::Dnsrr), Some(PublishMode::Host)));
    let told = Options { endpoint_mode: Some(EndpointMode::Vip), ..options(Variant::Baseline) };
    let made = make(&file, &placement("us-eu", "endpoint_mode: dnsrr\nports: host\n"), &told).unwrap();
    assert_eq!(find(&made), (Some(EndpointMode::Vip), Some(PublishMode::Host)));

    let clash = placement("us-eu", "endpoint_mode: dnsrr\nports: ingress\n");
    let error = make(&file, &clash, &options(Variant::Baseline)).unwrap_err().to_string();
    assert!(error.starts_with("`write-home-timeline-rabbitmq-eu` cannot publish port 5672 through the routing mesh"));
    assert_eq!(error.matches("cannot publish").count(), 11, "every port is named: {error}");
}

#[test]
fn ports_that_collide_are_named_with_their_services() {
    let text = fixture("social-network.yml").replace("8082:8080", "8080:8080");
    let file = compose_file(&text);
    let error = make(&file, &placement("us-eu", ""), &options(Variant::Baseline)).unwrap_err();
    assert_eq!(error.to_string(), "`nginx-thrift` and `nginx-thrift-us` both publish port 8080/tcp");
    // On nodes of their own, and without the mesh, each may have it.
    assert!(make(&file, &placement("us-eu", "ports: host\n"), &options(Variant::Baseline)).is_ok());
    let error = make(&file, &placement("singlenode", "ports: host\n"), &options(Variant::Baseline)).unwrap_err();
    assert_eq!(error.to_string(), "`nginx-thrift` and `nginx-thrift-us` both publish port 8080/tcp on `node01`");
}

#[test]
fn binds_are_shipped_to_the_nodes_that_need_them() {
    let file = compose_file(&fixture("social-network.yml"));
    let shipped = Options { binds: Binds::Shipped("/srv/x".into()), ..options(Variant::Baseline) };
    let made = make(&file, &placement("us-eu", ""), &shipped).unwrap();
    let pages = made.shipments.iter().find(|s| s.source.ends_with("nginx-web-server/pages")).unwrap();
    assert_eq!(pages.target, Path::new("/srv/x/nginx-web-server/pages"));
    assert_eq!(pages.nodes, ["frontend-eu", "frontend-us"]);
    let spec = made.services.iter().find(|s| s.service == "nginx-thrift-us").unwrap();
    let sources: Vec<PathBuf> = spec
        .container
        .mounts
        .iter()
        .filter_map(|m| if let SpecMountKind::Bind { source, .. } = &m.kind { Some(source.clone()) } else { None })
        .collect();
    assert_eq!(sources[4], Path::new("/srv/x/gen-lua"));
}

#[test]
fn configs_are_named_after_their_content_and_the_rewritten_file_reads_back() {
    let text = fixture("social-network.yml") + "configs: {tuning: {content: a}, other: {file: ./o.conf}}\n";
    let text =
        text.replace("  jaeger:\n", "  jaeger:\n    configs: [tuning, {source: other, target: /etc/o, mode: 0400}]\n");
    let file = compose_file(&text);
    let (placement, options) = (placement("us-eu", ""), options(Variant::Baseline));
    let made = make(&file, &placement, &options).unwrap();
    assert_eq!(made.configs[0].name, "deathstarbench_tuning_ca978112");
    let jaeger = made.services.iter().find(|s| s.service == "jaeger").unwrap();
    let uses: Vec<_> = jaeger.container.configs.iter().map(|c| (c.target.as_str(), c.mode)).collect();
    assert_eq!(uses, [("/tuning", 0o444), ("/etc/o", 0o400)]);
    let input = Input {
        app: app(),
        file: &file,
        file_name: "c",
        placement: &placement,
        options: &options,
        read: &|_| Ok(vec![]),
    };
    let rewritten = rewrite(&input).unwrap();
    let again = compose_file(&rewritten.to_yaml());
    assert_eq!(again, rewritten);
}

/// What `docker service inspect` shows of the services that `docker stack deploy` makes of the rewritten file
/// (Docker CLI 28.2.2, engine 20.10.24; defaults that the engine fills in taken out) is what is sent from here.
#[test]
fn services_are_what_docker_stack_deploy_makes_of_the_same_file() {
    let file = compose_file(&fixture("social-network.yml"));
    let made = make(&file, &placement("us-eu", ""), &options(Variant::Antipode)).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&fixture("social-network.stack.json")).unwrap();
    assert_eq!(golden.as_object().unwrap().len(), 42);
    let ids = spec::Ids::default();
    for service in &made.services {
        let mut ours = serde_json::to_value(spec::service(service, &ids)).unwrap();
        // The engine shows its default policy as one that was given.
        let policy = &mut ours["TaskTemplate"]["RestartPolicy"];
        if normal(policy.clone()) == serde_json::json!({"Condition": "any"}) {
            *policy = serde_json::Value::Null;
        }
        let ours = normal(ours);
        assert_eq!(ours, normal(golden[&service.name].clone()), "{}", service.name);
    }
}

/// Without nulls, empty things and zeroes, keys sorted.
fn normal(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::Bool(b) => !b,
    };
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(k, v)| (k, normal(v))).collect();
            entries.retain(|(_, v)| !empty(v));
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        other => other,
    }
}

/// On a manager named by `MAESTRO_TEST_MANAGER` (`tcp://host:port`): made twice, seen by the CLI, gone without a trace.
#[tokio::test]
async fn a_stack_made_twice_is_a_stack_to_the_docker_cli_and_leaves_nothing() {
    let Ok(address) = std::env::var("MAESTRO_TEST_MANAGER") else {
        eprintln!("skipped a_stack_made_twice: MAESTRO_TEST_MANAGER names no manager to try it on");
        return;
    };
    let engine = Engine::at(&address).unwrap();
    let file = compose_file(&fixture("social-network.yml"));
    let made = make(&file, &placement("us-eu", ""), &options(Variant::Antipode)).unwrap();
    let request = maestro::swarm::NetworkSpec {
        name: "deathstarbench_network".into(),
        driver: "overlay".into(),
        attachable: true,
        ..Default::default()
    };
    engine.ensure_network(spec::network(&request)).await.unwrap();
    for _ in 0..2 {
        for (_, steps) in made.stages() {
            for step in &steps {
                ensure(&engine, step).await.unwrap();
            }
        }
    }
    let label = [(maestro::swarm::NAMESPACE, "deathstarbench")];
    let seen = engine.list_services(&label).await.unwrap();
    assert_eq!((seen.len(), seen.iter().map(|s| s.wanted).sum::<u64>()), (42, 42));
    let docker = |args: &[&str]| {
        let done = std::process::Command::new("docker").arg("-H").arg(&address).args(args).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    assert_eq!(docker(&["stack", "ls", "--format", "{{.Name}} {{.Services}}"]), "deathstarbench 42\n");
    assert_eq!(docker(&["stack", "services", "-q", "deathstarbench"]).lines().count(), 42);
    assert!(docker(&["stack", "ps", "deathstarbench"]).contains("deathstarbench_jaeger.1"));

    let gone = StackStep::EnsureGone { stack: "deathstarbench".into() };
    ensure(&engine, &gone).await.unwrap();
    ensure(&engine, &gone).await.unwrap();
    assert!(engine.list_services(&label).await.unwrap().is_empty());
    assert!(engine.remove_network("deathstarbench_network").await.unwrap());
}
