//! A registry on a port of its own: what an engine needs to pull and push, and nothing else. Engines take `127.0.0.1:PORT/...`
//! without TLS.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{Response, StatusCode, header};
use axum::routing::{get, patch, post};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[derive(Default)]
struct Content {
    /// By `name:reference`: (media type, bytes).
    manifests: HashMap<String, (String, Vec<u8>)>,
    blobs: HashMap<String, Vec<u8>>,
    /// Blobs that were asked for: what was really pulled.
    pulled: Vec<String>,
    /// Blobs on their way in.
    uploads: HashMap<String, Vec<u8>>,
}

/// A running registry; it ends with the test's process.
pub struct Registry {
    pub port: u16,
    content: Arc<Mutex<Content>>,
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Registry {
    pub fn start() -> Registry {
        let content = Arc::new(Mutex::new(Content::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let port = listener.local_addr().expect("an address").port();
        let served = Arc::clone(&content);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let app = Router::new()
                    .route("/v2/", get(|| async { "{}" }))
                    .route("/v2/{owner}/{name}/manifests/{reference}", get(manifest).put(put_manifest))
                    .route("/v2/{owner}/{name}/blobs/{digest}", get(blob))
                    .route("/v2/{owner}/{name}/blobs/uploads/", post(begin))
                    .route("/v2/{owner}/{name}/blobs/uploads/{id}", patch(append).put(finish))
                    .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
                    .with_state(served);
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, app).await.expect("serve");
            });
        });
        Registry { port, content }
    }

    /// Adds an image of one layer and returns its full name and its manifest's digest.
    pub fn add(&self, name: &str, tag: &str, architecture: &str, tree: &[u8]) -> (String, String) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tree).expect("compress");
        let layer = gzip.finish().expect("compress");
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(tree)]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "a test"}],
            "created": "2024-01-01T00:00:00Z",
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": digest(&config)},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": layer.len(), "digest": digest(&layer)}],
        });
        let manifest = manifest.to_string().into_bytes();
        let manifest_digest = digest(&manifest);
        let mut content = self.content.lock().expect("the content");
        content.blobs.insert(digest(&config), config);
        content.blobs.insert(digest(&layer), layer);
        for reference in [tag, manifest_digest.as_str()] {
            content.manifests.insert(format!("{name}:{reference}"), (MANIFEST.to_owned(), manifest.clone()));
        }
        (format!("127.0.0.1:{}/{name}:{tag}", self.port), manifest_digest)
    }

    /// The digest of the configuration of the image that is there under this name and tag.
    pub fn id_of(&self, name: &str, tag: &str) -> Option<String> {
        let content = self.content.lock().expect("the content");
        let (_, manifest) = content.manifests.get(&format!("{name}:{tag}"))?;
        let manifest: serde_json::Value = serde_json::from_slice(manifest).expect("a manifest");
        let blobs = manifest["layers"].as_array()?.iter().chain([&manifest["config"]]);
        let there =
            blobs.into_iter().all(|blob| content.blobs.contains_key(blob["digest"].as_str().unwrap_or_default()));
        there.then(|| manifest["config"]["digest"].as_str().map(str::to_owned))?
    }

    /// How many layers and configurations were fetched so far.
    pub fn fetched(&self) -> usize {
        self.content.lock().expect("the content").pulled.len()
    }
}

type Shared = State<Arc<Mutex<Content>>>;

async fn manifest(
    State(content): Shared,
    Path((owner, name, reference)): Path<(String, String, String)>,
) -> Response<Body> {
    let content = content.lock().expect("the content");
    match content.manifests.get(&format!("{owner}/{name}:{reference}")) {
        Some((kind, bytes)) => Response::builder()
            .header(header::CONTENT_TYPE, kind)
            .header("docker-content-digest", digest(bytes))
            .body(Body::from(bytes.clone()))
            .expect("an answer"),
        None => unknown(),
    }
}

async fn blob(State(content): Shared, Path((_, _, wanted)): Path<(String, String, String)>) -> Response<Body> {
    let mut content = content.lock().expect("the content");
    match content.blobs.get(&wanted).cloned() {
        Some(bytes) => {
            content.pulled.push(wanted);
            Response::new(Body::from(bytes))
        }
        None => unknown(),
    }
}

async fn begin(State(content): Shared, Path((owner, name)): Path<(String, String)>) -> Response<Body> {
    let mut content = content.lock().expect("the content");
    let id = format!("upload-{}", content.uploads.len());
    content.uploads.insert(id.clone(), Vec::new());
    accepted(StatusCode::ACCEPTED, &format!("/v2/{owner}/{name}/blobs/uploads/{id}"))
}

async fn append(
    State(content): Shared,
    Path((owner, name, id)): Path<(String, String, String)>,
    body: Bytes,
) -> Response<Body> {
    let mut content = content.lock().expect("the content");
    let upload = content.uploads.entry(id.clone()).or_default();
    upload.extend_from_slice(&body);
    // The engine takes from it how much has arrived: the last byte's place.
    let answer = accepted(StatusCode::ACCEPTED, &format!("/v2/{owner}/{name}/blobs/uploads/{id}"));
    ranged(answer, upload.len().saturating_sub(1))
}

async fn finish(
    State(content): Shared,
    Path((owner, name, id)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response<Body> {
    let mut content = content.lock().expect("the content");
    let mut bytes = content.uploads.insert(id, Vec::new()).unwrap_or_default();
    bytes.extend_from_slice(&body);
    let seen = digest(&bytes);
    assert_eq!(Some(&seen), query.get("digest"), "a blob is what it says");
    content.blobs.insert(seen.clone(), bytes);
    accepted(StatusCode::CREATED, &format!("/v2/{owner}/{name}/blobs/{seen}"))
}

async fn put_manifest(
    State(content): Shared,
    Path((owner, name, reference)): Path<(String, String, String)>,
    body: Bytes,
) -> Response<Body> {
    let manifest = (MANIFEST.to_owned(), body.to_vec());
    content.lock().expect("the content").manifests.insert(format!("{owner}/{name}:{reference}"), manifest);
    accepted(StatusCode::CREATED, &format!("/v2/{owner}/{name}/manifests/{}", digest(&body)))
}

fn accepted(status: StatusCode, location: &str) -> Response<Body> {
    let answer = Response::builder().status(status).header(header::LOCATION, location);
    let digest = location.rsplit('/').next().unwrap_or_default();
    ranged(answer.header("docker-content-digest", digest).body(Body::empty()).expect("an answer"), 0)
}

fn ranged(mut answer: Response<Body>, last: usize) -> Response<Body> {
    answer.headers_mut().insert(header::RANGE, format!("0-{last}").parse().expect("a header's value"));
    answer
}

fn unknown() -> Response<Body> {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    Response::builder().status(StatusCode::NOT_FOUND).body(Body::from(body)).expect("an answer")
}
