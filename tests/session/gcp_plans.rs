//! What `deploy --dry-run` says about the documents' placements on Google Cloud, to the letter.

use std::path::Path;

use crate::harness::Session;

#[test]
fn the_documents_placements_are_planned_as_stored() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let session = Session::new();
    session.write("gcp/config.yml", "project_id: p\n");
    session.write("tree/docker-compose.yml", std::fs::read(fixtures.join("compose/social-network.yml")).unwrap());
    for name in ["us-eu", "us-sg"] {
        let config = format!("configs/gcp/socialNetwork/{name}.yml");
        let line = format!("--gcp socialNetwork deploy -config {config} -clients 1 --tag t --dry-run --app-dir tree");
        let done = session.ok(&line);
        let root = session.root().canonicalize().unwrap().display().to_string();
        let plan = done.stdout.replace(&root, "ROOT");
        let golden = fixtures.join(format!("gcp/{name}.plan.txt"));
        if std::env::var_os("MAESTRO_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &plan).unwrap();
        }
        assert_eq!(plan, std::fs::read_to_string(&golden).unwrap_or_default(), "differs from {}", golden.display());
        assert!(plan.starts_with("14 machines in project `p`"), "{plan}");
        assert!(!session.path("deploy").exists(), "nothing was written");
    }
}
