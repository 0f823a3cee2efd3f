//! `info` about containers of one engine: what runs, what it says, and the pages for people.

use super::Request;
use crate::Context;
use crate::app::{App, Console};
use crate::command::Current;
use crate::error::Result;
use crate::execute::docker::{Engine, LogRequest};
use crate::execute::local::{self, Running};
use crate::execute::until_interrupted;
use crate::store::{Deployment, read_text};
use crate::target::local::{PORTAINER_PASSWORD, project};
use crate::ui;

/// Pages of the monitoring that `run` may start beside an app.
const MONITORING: &[Console] = &[
    Console { title: "Portainer", service: "portainer", port: 9000, login: None },
    Console { title: "Prometheus", service: "prometheus", port: 9090, login: None },
    Console { title: "push gateway", service: "pushgateway", port: 9091, login: None },
];

/// `-ps` or `-logs`.
///
/// # Errors
/// When the engine cannot be asked, or there is no such service.
pub(super) async fn show(context: &Context, request: &Request, current: &Current) -> Result<()> {
    let engine = Engine::local()?;
    let project = project(current.app, &current.deployment);
    let Some(service) = &request.logs else {
        return show_running(context, &local::running(&engine, &project).await?);
    };
    let asked = LogRequest { follow: request.follow, ..LogRequest::default() };
    let services = [service.clone()];
    let showing = local::logs(&engine, &project, &services, asked, |_, _, line| ui::out(line.text));
    tokio::select! {
        shown = showing => shown,
        () = until_interrupted() => Ok(()),
    }
}

fn show_running(context: &Context, rows: &[Running]) -> Result<()> {
    let ports = |row: &Running| -> Vec<String> {
        row.ports.iter().map(|(host, inner, kind)| format!("{host}->{inner}/{kind}")).collect()
    };
    if context.json {
        let rows = rows.iter().map(|row| {
            serde_json::json!({
                "service": row.service, "container": row.container, "image": row.image,
                "state": row.state, "status": row.status, "ports": ports(row),
            })
        });
        ui::out(rows.collect::<serde_json::Value>());
        return Ok(());
    }
    if rows.is_empty() {
        ui::note("nothing runs");
        return Ok(());
    }
    let mut table = vec![["service", "state", "image", "ports"].map(str::to_owned).to_vec()];
    for row in rows {
        table.push(vec![row.service.clone(), row.status.clone(), row.image.clone(), ports(row).join(", ")]);
    }
    ui::out_raw(ui::table(&table));
    Ok(())
}

/// The published pages of what runs, with name and password where they ask for them.
pub(super) async fn show_consoles(context: &Context, deployment: &Deployment) {
    let Some(app) = App::find(&deployment.app).filter(|_| deployment.variant.is_some()) else { return };
    let seen = async {
        let engine = Engine::local()?;
        Ok::<_, crate::error::Error>((
            local::running(&engine, &project(app, deployment)).await?,
            local::host_of(engine.address()),
        ))
    };
    let (rows, host) = match seen.await {
        Ok(seen) => seen,
        Err(error) => return ui::warn(error),
    };
    for console in app.containers.consoles.iter().chain(MONITORING) {
        let row = rows.iter().find(|row| row.service == console.service);
        let port = row.and_then(|row| row.ports.iter().find(|(_, inner, _)| *inner == console.port));
        if let Some((port, ..)) = port {
            let login = login(context, deployment, console);
            ui::out(format_args!("  {:<12} http://{host}:{port}{login}", console.title));
        }
    }
}

fn login(context: &Context, deployment: &Deployment, console: &Console) -> String {
    if let Some((name, password)) = console.login {
        return format!("  ({name} / {password})");
    }
    if console.service != "portainer" {
        return String::new();
    }
    let dir = context.store.deploy_dir(deployment.target, &deployment.app, &deployment.tag);
    match read_text(&dir.join(PORTAINER_PASSWORD)) {
        Ok(password) => format!("  (admin / {password})"),
        Err(error) => format!("  (admin; {error})"),
    }
}
