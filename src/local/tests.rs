//! What a compose file becomes, seen from the plan.

use super::*;
use crate::compose::Source;

fn parse(text: &str) -> compose::File {
    let source = Source {
        name: "docker-compose.yml",
        directory: Path::new("/apps/mini"),
        variables: &|_| None,
        read: &|_| Err("no".into()),
    };
    compose::parse(text, &source).unwrap().file
}

fn mini() -> (&'static App, compose::File) {
    let app = App::find("socialNetworkMini").unwrap();
    let crate::app::ComposeFile::Shipped(text) = app.containers.compose else { panic!("it is shipped") };
    (app, parse(text))
}

fn plan(file: &compose::File, variant: Variant, ports: Ports) -> Result<Plan, LocalPlanError> {
    let project = Project { name: "p", app: mini().0, tag: "t", dir: Path::new("/deploy/t") };
    run(&project, file, &RunOrder { variant, ports, open: false, timeout: Duration::from_secs(60) })
}

fn containers(plan: &Plan) -> Vec<(usize, &ContainerSpec)> {
    let stages = plan.stages.iter().enumerate();
    let specs = stages.flat_map(|(index, stage)| stage.steps.iter().map(move |step| (index, step)));
    specs
        .filter_map(|(index, step)| match step {
            Step::Container(ContainerStep::EnsureContainer(spec)) => Some((index, &**spec)),
            _ => None,
        })
        .collect()
}

fn hash<'a>(plan: &'a Plan, service: &str) -> &'a str {
    let found = containers(plan).into_iter().find(|(_, spec)| spec.service == service);
    &found.unwrap().1.labels[CONFIG_HASH]
}

#[test]
fn the_miniatures_compose_file_has_every_service_of_the_app() {
    let (app, file) = mini();
    check(app, &file).unwrap();
    assert_eq!(file.services.len(), app.services.len());
}

#[test]
fn missing_services_are_named_all_at_once() {
    let (app, mut file) = mini();
    file.services.shift_remove("jaeger");
    file.services.shift_remove("nginx-thrift");
    let error = check(app, &file).unwrap_err();
    assert_eq!(error.to_string(), "the compose file of `socialNetworkMini` has no service `nginx-thrift`, `jaeger`");
}

#[test]
fn what_a_service_needs_starts_in_an_earlier_wave() {
    let (_, file) = mini();
    let plan = plan(&file, Variant::Baseline, Ports::AsWritten).unwrap();
    let containers = containers(&plan);
    assert_eq!(containers.len(), file.services.len());
    let stage = |name: &str| containers.iter().find(|(_, spec)| spec.service == name).unwrap().0;
    for (name, service) in &file.services {
        for needed in service.depends_on.keys() {
            assert!(stage(needed) < stage(name), "{needed} before {name}");
        }
    }
}

#[test]
fn the_other_variant_changes_exactly_what_the_toggle_touches() {
    let (app, file) = mini();
    let baseline = plan(&file, Variant::Baseline, Ports::AsWritten).unwrap();
    let antipode = plan(&file, Variant::Antipode, Ports::AsWritten).unwrap();
    for service in file.services.keys() {
        let same = hash(&baseline, service) == hash(&antipode, service);
        assert_eq!(same, app.toggled(service, Variant::Antipode).is_none(), "{service}");
    }
    assert_eq!(baseline.stages.len(), antipode.stages.len());
}

#[test]
fn ports_are_the_files_any_or_given() {
    let (_, file) = mini();
    let published = |ports: Ports| -> Vec<(String, Option<u16>)> {
        let plan = plan(&file, Variant::Baseline, ports).unwrap();
        let specs = containers(&plan).into_iter().map(|(_, spec)| spec.clone());
        specs
            .flat_map(|spec| spec.config.ports.into_iter().map(move |port| (spec.service.clone(), port.published)))
            .collect()
    };
    let doors = |ports: [Option<u16>; 3]| {
        let brokers = ["write-home-timeline-rabbitmq-eu", "write-home-timeline-rabbitmq-us"].map(|name| (name, None));
        let doors = ["jaeger", "nginx-thrift", "nginx-thrift-us"].into_iter().zip(ports);
        brokers.into_iter().chain(doors).map(|(name, port)| (name.to_owned(), port)).collect::<Vec<_>>()
    };
    assert_eq!(published(Ports::AsWritten), doors([Some(16686), Some(8080), Some(8082)]));
    assert_eq!(published(Ports::Auto), doors([None; 3]));
    assert_eq!(published(Ports::Given(vec![1, 2, 3])), doors([Some(3), Some(1), Some(2)]));
    assert_eq!(Ports::parse(Some("1, 2,3")), Ok(Ports::Given(vec![1, 2, 3])));
    assert_eq!(Ports::parse(Some("auto")), Ok(Ports::Auto));
    assert_eq!(Ports::parse(Some("1,2")), Ok(Ports::Given(vec![1, 2])), "one front end");
    let mut two_doors = file.clone();
    let refused = set_ports(mini().0, &mut two_doors, &Ports::Given(vec![1, 2])).unwrap_err().to_string();
    let said = "`socialNetworkMini` has 3 doors (`nginx-thrift`, `nginx-thrift-us`, `jaeger`), and 2 ports are given";
    assert_eq!(refused, said);
    for bad in ["", "1", "1,1,2", "0,1,2", "a,b,c", "1,2,3,4", "70000,1,2"] {
        assert!(Ports::parse(Some(bad)).is_err(), "{bad}");
    }
}

#[test]
fn everything_carries_composes_labels_and_ours() {
    let (_, file) = mini();
    let plan = plan(&file, Variant::Baseline, Ports::AsWritten).unwrap();
    for (_, spec) in containers(&plan) {
        for (key, value) in [
            (TOOL, "maestro"),
            (DEPLOYMENT, "p"),
            ("com.docker.compose.project", "p"),
            ("com.docker.compose.oneoff", "False"),
            ("com.docker.compose.project.working_dir", "/deploy/t"),
            (SERVICE, spec.service.as_str()),
        ] {
            assert_eq!(spec.labels.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(spec.name, format!("p-{}-1", spec.service));
        assert_eq!(spec.networks[0].name, "p_default");
        assert_eq!(spec.networks[0].aliases[0], spec.service);
    }
}

#[test]
fn projects_of_equal_tags_do_not_meet() {
    assert_eq!(project_name("socialNetworkMini", "2026.A", "0a1b2c"), "socialnetworkmini-2026_a-0a1b2c");
    assert_eq!(project_name("x", "t", ""), "x-t");
}

#[test]
fn sources_of_mounts_are_absolute_or_names_on_the_engine() {
    let (_, mut file) = mini();
    let more = parse(
        "services:\n  store:\n    image: x\n    volumes: [./conf:/conf:ro, data:/data, outside:/o]\n    \
         configs: [{source: c, target: /etc/c}]\n\
         volumes: {data: {}, outside: {external: true}}\nconfigs: {c: {file: ./c.conf}}\n",
    );
    file.services.extend(more.services);
    file.volumes.extend(more.volumes);
    file.configs.extend(more.configs);
    file.directory = more.directory;
    let plan = plan(&file, Variant::Baseline, Ports::AsWritten).unwrap();
    let spec = containers(&plan).into_iter().find(|(_, spec)| spec.service == "store").unwrap().1;
    let sources: Vec<String> = spec
        .config
        .mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => source.clone(),
            MountKind::Volume { name, .. } => name.clone().unwrap(),
            MountKind::Tmpfs { .. } => String::new(),
        })
        .collect();
    assert_eq!(sources, ["/apps/mini/conf", "p_data", "outside", "/apps/mini/c.conf"]);
    assert!(plan.to_string().contains("EnsureVolume p_data") && !plan.to_string().contains("EnsureVolume outside"));
}

#[test]
fn what_cannot_run_is_refused() {
    let (_, mut file) = mini();
    file.services["jaeger"].image = None;
    assert_eq!(plan(&file, Variant::Baseline, Ports::AsWritten).unwrap_err(), LocalPlanError::NoImage("jaeger".into()));
    let (_, mut file) = mini();
    file.services["jaeger"].depends_on.insert("nginx-thrift".into(), compose::Condition::Started);
    file.services["nginx-thrift"].depends_on.insert("jaeger".into(), compose::Condition::Started);
    let error = plan(&file, Variant::Baseline, Ports::AsWritten).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}

#[test]
fn ports_are_bound_to_this_machine_unless_the_file_or_the_run_says_otherwise() {
    let (app, mut file) = mini();
    file.services["jaeger"].ports[0].host_ip = Some("10.0.0.7".into());
    let addresses = |open: bool| {
        let project = Project { name: "p", app, tag: "t", dir: Path::new("/deploy/t") };
        let timeout = Duration::from_secs(60);
        let order = RunOrder { variant: Variant::Baseline, ports: Ports::Auto, open, timeout };
        let plan = run(&project, &file, &order).unwrap();
        let ports = containers(&plan).into_iter().flat_map(|(_, spec)| spec.config.ports.clone());
        ports.map(|port| port.host_ip.unwrap_or_default()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(addresses(false), ["10.0.0.7", "127.0.0.1"]);
    assert_eq!(addresses(true), ["", "10.0.0.7"]);
}
