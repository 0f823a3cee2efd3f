//! `info` about the embedded miniature: its one process and what that wrote.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use super::Request;
use crate::Context;
use crate::command::Current;
use crate::embedded::process::{LOG, is_alive};
use crate::error::{Exit, Plain, Result};
use crate::execute::until_interrupted;
use crate::store::MiniatureRecord;
use crate::ui;

/// What the process that plays every service is called.
const NAME: &str = "miniature";
/// Between two looks at a log that is followed.
const LOOK: Duration = Duration::from_millis(100);

/// `-ps` or `-logs`.
///
/// # Errors
/// Exit code 2 for a service other than [`NAME`]; what reading the deployment's files says.
pub(super) async fn show(context: &Context, request: &Request, current: &Current) -> Result<()> {
    let dir = context.store.deploy_dir(current.target, current.app.name, &current.deployment.tag);
    match &request.logs {
        None => show_process(context, MiniatureRecord::read(&dir)?.as_ref()),
        Some(service) if service != NAME => Err(Plain::usage(format!("no service `{service}` runs here"))
            .with_hint(format!("one process plays them all: {NAME}"))
            .into()),
        Some(_) => tokio::select! {
            shown = show_log(&dir, request.follow) => shown,
            () = until_interrupted() => Ok(()),
        },
    }
}

fn show_process(context: &Context, record: Option<&MiniatureRecord>) -> Result<()> {
    let state = |record| if is_alive(record) { "running" } else { "ended" };
    if context.json {
        let rows = record.map(|record| {
            serde_json::json!({
                "service": NAME, "pid": record.pid, "state": state(record), "variant": record.variant.to_string(),
                "urls": [record.origin_url, record.replica_url, record.jaeger_url],
            })
        });
        ui::out(rows.into_iter().collect::<serde_json::Value>());
        return Ok(());
    }
    let Some(record) = record else {
        ui::note("nothing runs");
        return Ok(());
    };
    let urls = [&record.origin_url, &record.replica_url, &record.jaeger_url].map(String::as_str).join(", ");
    let row = vec![NAME.to_owned(), state(record).to_owned(), record.pid.to_string(), record.variant.to_string(), urls];
    ui::out_raw(ui::table(&[["service", "state", "pid", "variant", "answers"].map(str::to_owned).to_vec(), row]));
    Ok(())
}

/// The log so far; with `follow` also what is added, until the process has ended.
async fn show_log(dir: &Path, follow: bool) -> Result<()> {
    let path = dir.join(LOG);
    let unreadable = |error| Plain::new(Exit::Usage, format!("`{}`: {error}", path.display()));
    let mut lines = BufReader::new(File::open(&path).map_err(unreadable)?);
    let mut line = String::new();
    loop {
        let alive = follow && MiniatureRecord::read(dir)?.is_some_and(|record| is_alive(&record));
        while lines.read_line(&mut line).map_err(unreadable)? > 0 {
            // A line that is not whole yet is shown when it is, or at the end.
            if alive && !line.ends_with('\n') {
                break;
            }
            ui::out(line.trim_end());
            line.clear();
        }
        if !alive {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
