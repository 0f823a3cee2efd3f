//! The wrapper around the engine's API, against a real engine.

use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest, PortBinding};
use futures_util::TryStreamExt;
use maestro::error::{Exit, Fault};
use maestro::execute::docker::{BuildEvent, BuildImage, DockerError, Engine, Stream};

use crate::docker::{Made, Sweep, busybox, engine, shell_image, stream, unique};

fn body(image: &str, argv: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(argv.iter().map(|word| (*word).to_owned()).collect()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_missing_engine_is_named_with_the_next_move() {
    let engine = Engine::at("unix:///nowhere/docker.sock").unwrap();
    let error = engine.version().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no Docker engine answers at `unix:///nowhere/docker.sock` (no such file or directory)"
    );
    assert_eq!(error.exit(), Exit::Unreachable);
    assert!(error.hint().unwrap().contains("DOCKER_HOST"));
}

#[tokio::test]
async fn an_engine_that_hangs_up_is_lost_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let error = Engine::at(&path.display().to_string()).unwrap().info().await.unwrap_err();
    assert!(matches!(error, DockerError::Lost { .. }), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_container_runs_speaks_and_leaves_its_exit_code() {
    let Some(engine) = engine("a_container_runs").await else { return };
    let Some(shell) = busybox("a_container_runs") else { return };
    let (image, name) = (format!("{}:t", unique("run")), unique("run"));
    let _sweep = Sweep(vec![Made::Container(name.clone()), Made::Image(image.clone())]);
    shell_image(&engine, &image, &shell).await;

    let script = "echo out; echo err >&2; sleep 0.2; exit 3";
    engine.create_container(&name, body(&image, &["/bin/sh", "-c", script])).await.unwrap();
    let taken = engine.create_container(&name, body(&image, &["/bin/true"])).await.unwrap_err();
    assert!(taken.is_conflict(), "{taken:?}");
    engine.start_container(&name).await.unwrap();
    assert_eq!(engine.wait_container(&name).await.unwrap(), 3);
    let lines = engine.last_log_lines(&name, 10).await.unwrap();
    let find = |stream: Stream| lines.iter().find(|line| line.stream == stream).map(|line| line.text.as_str());
    assert_eq!((find(Stream::Out), find(Stream::Err)), (Some("out"), Some("err")));
    let state = engine.container_state(&name).await.unwrap().unwrap();
    assert_eq!((state.status.as_str(), state.exit_code, state.running), ("exited", 3, false));
    assert!(engine.remove_container(&name).await.unwrap());
    assert!(!engine.remove_container(&name).await.unwrap());
    assert!(engine.container_state(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn a_command_inside_a_container_keeps_its_outputs_apart() {
    let Some(engine) = engine("a_command_inside").await else { return };
    let Some(shell) = busybox("a_command_inside") else { return };
    let (image, name) = (format!("{}:t", unique("exec")), unique("exec"));
    let _sweep = Sweep(vec![Made::Container(name.clone()), Made::Image(image.clone())]);
    shell_image(&engine, &image, &shell).await;
    engine.create_container(&name, body(&image, &["/bin/sleep", "60"])).await.unwrap();
    let early = engine.exec(&name, &["/bin/true"]).await.unwrap_err();
    assert!(early.is_conflict(), "{early:?}");
    engine.start_container(&name).await.unwrap();
    engine.start_container(&name).await.unwrap();
    let argv = ["/bin/sh", "-c", "echo \"$WORD\"; echo bad >&2; exit 7"];
    let done = engine.exec_with(&name, &argv, &["WORD=a b".to_owned()]).await.unwrap();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "a b\n", "bad\n"));
    engine.stop_container(&name, 0).await.unwrap();
    engine.stop_container(&name, 0).await.unwrap();
}

#[tokio::test]
async fn missing_images_and_taken_ports_are_told_apart() {
    let Some(engine) = engine("missing_images").await else { return };
    let Some(shell) = busybox("missing_images") else { return };
    let missing = engine.create_container(&unique("no"), body("maestro-test/none:1", &["x"])).await.unwrap_err();
    assert!(matches!(&missing, DockerError::NoImage { image, .. } if image == "maestro-test/none:1"), "{missing:?}");
    assert!(engine.image("maestro-test/none:1").await.unwrap().is_none());

    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (image, name) = (format!("{}:t", unique("port")), unique("port"));
    let _sweep = Sweep(vec![Made::Container(name.clone()), Made::Image(image.clone())]);
    shell_image(&engine, &image, &shell).await;
    let binding = PortBinding { host_ip: None, host_port: Some(port.to_string()) };
    let host =
        HostConfig { port_bindings: Some([("80/tcp".to_owned(), Some(vec![binding]))].into()), ..Default::default() };
    let exposed = Some(vec!["80/tcp".to_owned()]);
    let wanted =
        ContainerCreateBody { host_config: Some(host), exposed_ports: exposed, ..body(&image, &["/bin/sleep", "60"]) };
    engine.create_container(&name, wanted).await.unwrap();
    let error = engine.start_container(&name).await.unwrap_err();
    assert!(matches!(error, DockerError::PortTaken { port: p, .. } if p == port), "{error:?}");
}

#[tokio::test]
async fn images_are_built_saved_removed_and_loaded_again_with_the_same_id() {
    let Some(engine) = engine("images_are_built").await else { return };
    let Some(shell) = busybox("images_are_built") else { return };
    let (base, tag) = (format!("{}:t", unique("base")), format!("{}:t", unique("built")));
    let _sweep = Sweep(vec![Made::Image(tag.clone()), Made::Image(base.clone())]);
    shell_image(&engine, &base, &shell).await;

    let dockerfile = format!("FROM {base}\nARG WORD\nRUN [\"/bin/sh\", \"-c\", \"echo said $WORD\"]\nENV A=b\n");
    let mut context = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    context.append_data(&mut header, "sub/Dockerfile", dockerfile.as_bytes()).unwrap();
    let context = context.into_inner().unwrap();
    let request = BuildImage {
        tag: tag.clone(),
        dockerfile: "sub/Dockerfile".into(),
        args: [("WORD".to_owned(), "hello".to_owned())].into(),
        ..BuildImage::default()
    };
    let mut events = Vec::new();
    let id = engine.build_image(&request, stream(context), |event| events.push(event)).await.unwrap();
    let steps: Vec<_> = events
        .iter()
        .filter_map(|e| if let BuildEvent::Step { number, of, .. } = e { Some((*number, *of)) } else { None })
        .collect();
    assert_eq!(steps, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    assert!(events.iter().any(|e| matches!(e, BuildEvent::Output(text) if text.contains("said hello"))), "{events:?}");
    let facts = engine.image(&tag).await.unwrap().unwrap();
    assert_eq!((facts.id.as_str(), facts.os.as_str()), (id.as_str(), "linux"));

    let saved: Vec<bytes::Bytes> = engine.save_images(&[tag.as_str()]).try_collect().await.unwrap();
    assert!(engine.remove_image(&tag).await.unwrap());
    assert!(!engine.remove_image(&tag).await.unwrap());
    let loaded = engine.load_images("a saved image", futures_util::stream::iter(saved.into_iter().map(Ok))).await;
    assert_eq!(loaded.unwrap().join(" "), tag);
    assert_eq!(engine.image(&tag).await.unwrap().unwrap().id, id);

    let broken =
        engine.import_tree(&tag, &[], futures_util::stream::iter([Err(std::io::Error::other("disk on fire"))]));
    assert!(broken.await.is_err());
}

#[tokio::test]
async fn a_failing_build_step_says_what_the_step_said() {
    let Some(engine) = engine("a_failing_build").await else { return };
    let tag = format!("{}:t", unique("fails"));
    let mut context = tar::Builder::new(Vec::new());
    let dockerfile = b"FROM scratch\nCOPY nothing /\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    context.append_data(&mut header, "Dockerfile", &dockerfile[..]).unwrap();
    let request = BuildImage { tag: tag.clone(), dockerfile: "Dockerfile".into(), ..BuildImage::default() };
    let error = engine.build_image(&request, stream(context.into_inner().unwrap()), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert_eq!(error.exit(), Exit::StepFailed);
}

#[tokio::test]
async fn networks_and_volumes_are_found_by_label_and_removed_once() {
    let Some(engine) = engine("networks_and_volumes").await else { return };
    let name = unique("net");
    let labels = [("maestro.test".to_owned(), name.clone())];
    let _sweep = Sweep(vec![Made::Network(name.clone()), Made::Volume(name.clone())]);
    let request = NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".into()),
        labels: Some(labels.clone().into()),
        ..Default::default()
    };
    let (id, created) = engine.ensure_network(request.clone()).await.unwrap();
    assert!(created);
    assert_eq!(engine.ensure_network(request).await.unwrap(), (id.clone(), false));
    let found = engine.list_networks(&[("maestro.test", name.as_str())]).await.unwrap();
    assert_eq!(found.iter().map(|n| n.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    assert!(engine.remove_network(&name).await.unwrap() && !engine.remove_network(&name).await.unwrap());

    let volume = bollard::models::VolumeCreateRequest {
        name: Some(name.clone()),
        labels: Some(labels.into()),
        ..Default::default()
    };
    engine.ensure_volume(volume).await.unwrap();
    assert_eq!(engine.list_volumes(&[("maestro.test", name.as_str())]).await.unwrap().join(" "), name);
    assert!(engine.remove_volume(&name).await.unwrap() && !engine.remove_volume(&name).await.unwrap());
}
