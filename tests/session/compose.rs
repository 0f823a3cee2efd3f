//! Compose files: what is read, what is refused and how it is said, what comes out again.

use std::path::Path;

use maestro::compose::{Condition, File, Loaded, MountKind, Protocol, PublishMode, Restart, Source, parse};

fn load(text: &str) -> Result<Loaded, String> {
    load_with(text, &|_| None)
}

fn load_with(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, String> {
    let read = |path: &Path| match path.to_str() {
        Some("/app/common.env") => Ok("A=file\nB=file\n".to_owned()),
        _ => Err(format!("no such file `{}`", path.display())),
    };
    let source = Source { name: "c.yml", directory: Path::new("/app"), variables, read: &read };
    parse(text, &source).map_err(|error| error.to_string())
}

/// The file of one service `web` with `lines` below it.
fn service(lines: &str) -> Result<Loaded, String> {
    load(&format!("services:\n  web:\n    image: i\n{lines}"))
}

fn reread(file: &File) -> File {
    let text = file.to_yaml();
    let source =
        Source { name: "again", directory: &file.directory, variables: &|_| None, read: &|_| Err("no".into()) };
    let again = parse(&text, &source).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.warnings, [], "{text}");
    again.file
}

#[test]
fn every_form_of_a_service_is_understood() {
    let text = r#"
version: "3.9"
x-common: &common
  restart: on-failure:3
  environment: {A: 1, B: null}
services:
  web:
    <<: *common
    image: "${REGISTRY:-docker.io}/web:${TAG}"
    command: serve --name "two words" $$HOME
    entrypoint: [/bin/tini, --]
    env_file: common.env
    environment:
      - B=list
      - HOST_ONLY
      - UNKNOWN
    ports: ["8082:8080", "127.0.0.1:53:53/udp", {target: 9090, published: "9091", mode: host}]
    volumes:
      - ./conf:/conf:ro
      - data:/data
      - /anonymous
      - {type: tmpfs, target: /ramdata, tmpfs: {size: 3000000000, mode: 0o1777}}
    tmpfs: /run:size=64m
    cap_add: [NET_ADMIN]
    hostname: web.local
    links: [db, "db:database"]
    depends_on: {db: {condition: service_healthy}}
    logging: {driver: none, options: {max-size: 10m}}
    healthcheck: {test: "curl -f localhost", interval: 1m30s, retries: 3}
    networks: {inner: {aliases: [www]}, default: null}
    ulimits: {nofile: 1024, nproc: {soft: 1, hard: 2}}
    deploy:
      replicas: 2
      endpoint_mode: dnsrr
      placement: {constraints: [node.labels.ssd == true]}
      resources: {limits: {cpus: "0.5", memory: 50M}}
      restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3}
  db: {image: "db", stop_grace_period: 1m}
networks: {inner: {driver: overlay, attachable: true}}
volumes: {data: }
"#;
    let variables = |name: &str| match name {
        "TAG" => Some("1.2".to_owned()),
        "HOST_ONLY" => Some("host".to_owned()),
        _ => None,
    };
    let loaded = load_with(text, &variables).unwrap();
    assert_eq!(loaded.warnings, []);
    let web = &loaded.file.services["web"];
    assert_eq!(web.image.as_deref(), Some("docker.io/web:1.2"));
    assert_eq!(web.command.as_deref().unwrap(), ["serve", "--name", "two words", "$HOME"]);
    assert_eq!(web.entrypoint.as_deref().unwrap(), ["/bin/tini", "--"]);
    let environment: Vec<_> = web.environment.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
    assert_eq!(environment, [("A", Some("file")), ("B", Some("list")), ("HOST_ONLY", Some("host")), ("UNKNOWN", None)]);
    assert_eq!(web.restart, Some(Restart::OnFailure(Some(3))));
    let ports: Vec<_> =
        web.ports.iter().map(|p| (p.host_ip.as_deref(), p.published, p.target, p.protocol, p.mode)).collect();
    assert_eq!(
        ports,
        [
            (None, Some(8082), 8080, Protocol::Tcp, None),
            (Some("127.0.0.1"), Some(53), 53, Protocol::Udp, None),
            (None, Some(9091), 9090, Protocol::Tcp, Some(PublishMode::Host)),
        ]
    );
    let kinds: Vec<_> = web.mounts.iter().map(|m| (m.target.as_str(), m.kind.clone(), m.read_only)).collect();
    assert_eq!(
        kinds,
        [
            ("/conf", MountKind::Bind { source: "./conf".into(), propagation: None }, true),
            ("/data", MountKind::Volume { name: Some("data".into()), no_copy: false }, false),
            ("/anonymous", MountKind::Volume { name: None, no_copy: false }, false),
            ("/ramdata", MountKind::Tmpfs { size: Some(3_000_000_000), mode: Some(0o1777) }, false),
            ("/run", MountKind::Tmpfs { size: Some(64 << 20), mode: None }, false),
        ]
    );
    assert_eq!(web.depends_on["db"], Condition::Healthy);
    assert_eq!(web.links, [("db".to_owned(), "db".to_owned()), ("db".to_owned(), "database".to_owned())]);
    assert_eq!(web.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "curl -f localhost"]);
    assert_eq!((web.deploy.replicas, web.deploy.resources.cpus_limit), (Some(2), Some(500_000_000)));
    assert_eq!(web.deploy.resources.memory_limit, Some(52_428_800));
    assert_eq!(loaded.file.host_path("./conf"), Path::new("/app/conf"));
    assert_eq!(loaded.file.waves().unwrap(), [vec!["db"], vec!["web"]]);
    assert_eq!(reread(&loaded.file), loaded.file);
}

#[test]
fn unknown_keys_are_named_with_path_and_line() {
    let loaded = load(
        "services:\n  web:\n    image: i\n    imagee: j\n    cpuset: 0\n    x-mine: 1\n    deploy:\n      replica: 2\nextra: 1\n",
    )
    .unwrap();
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 4: services.web.imagee: unknown key, it has no effect",
            "line 5: services.web.cpuset: not supported, it has no effect",
            "line 8: services.web.deploy.replica: unknown key, it has no effect",
            "line 9: extra: unknown key, it has no effect",
        ]
    );
}

#[test]
fn unset_variables_are_warned_about_and_demanded_ones_refused() {
    let loaded = load("services:\n  web:\n    image: i:${TAG}\n").unwrap();
    assert_eq!(
        loaded.warnings[0].to_string(),
        "line 3: services.web.image: the variable `TAG` is not set; an empty text takes its place"
    );
    assert_eq!(
        load("services:\n  web:\n    image: i:${TAG:?name a tag}\n").unwrap_err(),
        "`c.yml` line 3: services.web.image: the variable `TAG` must be set: name a tag"
    );
}

#[test]
fn what_cannot_be_used_is_said_with_its_place() {
    for (lines, expected) in [
        ("    ports: [\"80:\"]\n", "line 4: services.web.ports[0]: `` is not a port (1 to 65535) or a range of ports"),
        ("    ports: 80\n", "line 4: services.web.ports: a list is wanted here"),
        ("    image: j\n", "line 4: the key `image` is given twice (first on line 3)"),
        ("    volumes: [data:/data]\n", "line 4: services.web.volumes[0]: there is no volume `data` in this file"),
        ("    volumes: [./a:b]\n", "line 4: services.web.volumes[0]: `b` is no absolute path inside the container"),
        ("    depends_on: [db]\n", "line 4: services.web.depends_on[0]: there is no service `db` in this file"),
        ("    networks: [x]\n", "line 4: services.web.networks[0]: there is no network `x` in this file"),
        (
            "    restart: sometimes\n",
            "line 4: services.web.restart: `sometimes` is not one of no, always, unless-stopped, on-failure[:N]",
        ),
        ("    deploy: {mode: x}\n", "line 4: services.web.deploy.mode: `x` is not one of replicated, global"),
        ("    command: echo 'a\n", "line 4: services.web.command: a single quote is not closed in `echo 'a`"),
        ("    extends: {service: x}\n", "line 4: services.web.extends: services that extend others are not supported"),
        (
            "    healthcheck: {test: [curl]}\n",
            "line 4: services.web.healthcheck: a test's first word is NONE, CMD or CMD-SHELL",
        ),
        ("    volumes: [/a:/b, /c:/b]\n", "line 4: services.web.volumes[1]: something is mounted on `/b` already"),
    ] {
        assert_eq!(service(lines).unwrap_err(), format!("`c.yml` {expected}"));
    }
    for (text, expected) in [
        ("", "`c.yml`: the file is empty"),
        (
            "web:\n  image: i\n",
            "`c.yml`: no `services:`; the first form of compose files (before version 2) is not supported",
        ),
        (
            "version: '4'\nservices: {a: {image: i}}\n",
            "`c.yml` line 1: version: version `4` is not supported (2 to 2.4, 3 to 3.9, or none)",
        ),
        ("services:\n  web: {}\n", "`c.yml` line 2: services.web: neither `image` nor `build` is given"),
        ("services: {}\n", "`c.yml`: services: no service in it"),
        (
            "services:\n  \"a b\": {image: i}\n",
            "`c.yml` line 2: services.a b: `a b` cannot be a service's name (letters, digits, `-`, `_` and `.`, at most 63)",
        ),
        ("services: [\n", "`c.yml` line 1"),
    ] {
        let error = load(text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_circle_of_dependencies_is_named() {
    let text = "services:\n  a: {image: i, depends_on: [b]}\n  b: {image: i, links: [c]}\n  c: {image: i, network_mode: \"service:a\"}\n";
    let file = load(text).unwrap().file;
    assert_eq!(file.waves().unwrap_err(), "services wait for each other in a circle: a -> b -> c -> a");
}

#[test]
fn a_missing_env_file_is_an_error_unless_it_is_optional() {
    assert_eq!(
        service("    env_file: [gone.env]\n").unwrap_err(),
        "`c.yml` line 4: services.web.env_file[0]: no such file `/app/gone.env`"
    );
    assert!(service("    env_file: [{path: gone.env, required: false}]\n").is_ok());
}

fn fixture(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose").join(name);
    load(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_forms_of_the_benchmarks_load_and_come_out_again() {
    for (name, services, version) in
        [("social-network.yml", 42, "3.9"), ("hotel-reservation.yml", 19, "2.4"), ("media-microservices.yml", 34, "3")]
    {
        let loaded = fixture(name);
        assert_eq!(loaded.file.services.len(), services, "{name}");
        assert_eq!(loaded.file.version.as_deref(), Some(version));
        assert_eq!(loaded.warnings, [], "{name}");
        assert_eq!(reread(&loaded.file), loaded.file, "{name}");
    }
    let hotel = fixture("hotel-reservation.yml").file;
    let front = &hotel.services["frontend"];
    assert_eq!(front.environment["JAEGER_SAMPLE_RATIO"].as_deref(), Some("0.01"));
    assert_eq!(front.environment["TLS"], None);
    assert_eq!(front.build.as_ref().unwrap().context, ".");
    assert_eq!(hotel.services["memcached-rate"].deploy.resources.memory_limit, Some(256 << 20));
    assert_eq!(hotel.waves().unwrap().len(), 2);
    let media = fixture("media-microservices.yml").file;
    assert_eq!(media.services["dns-media"].network_mode.as_deref(), Some("bridge"));
    assert_eq!(media.services["plot-memcached"].command.as_deref().unwrap(), ["-m", "1024"]);
}

#[test]
fn the_social_network_is_read_as_it_is_described() {
    let file = fixture("social-network.yml").file;
    let published: Vec<u16> = file.services.values().flat_map(|s| &s.ports).filter_map(|p| p.published).collect();
    let mut sorted = published.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [1234, 4080, 5563, 5672, 5673, 8080, 8081, 8082, 15672, 15673, 16686]);
    let ramdata = |s: &&maestro::compose::Service| {
        s.mounts.iter().any(|m| m.kind == MountKind::Tmpfs { size: Some(3_000_000_000), mode: None })
    };
    assert_eq!(file.services.values().filter(ramdata).count(), 7);
    assert_eq!(file.services["nginx-thrift-us"].hostname.as_deref(), Some("nginx-thrift"));
    assert_eq!(file.services["xtrace-server"].logging.as_ref().unwrap().driver.as_deref(), Some("none"));
    let command = file.services["nginx-thrift"].command.as_deref().unwrap();
    assert_eq!(command.last().map(String::as_str), Some("daemon off;"));
    assert_eq!(file.images().len(), 13);
    assert_eq!(file.waves().unwrap()[1], ["home-timeline-redis-us"]);
}
