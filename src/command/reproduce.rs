//! `maestro reproduce`: a published evaluation, run again, with a judgement for each of its claims.

use crate::Context;
use crate::command::{Selection, sweep};
use crate::error::Result;
use crate::experiment::TargetName;
use crate::store::write_json;
use crate::sweep::{Claims, judge};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub name: String,
    pub quick: bool,
    pub rounds: Option<u32>,
}

/// Carries it out; without a target, on the miniature.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let (text, path) = context.store.read_config(&format!("configs/reproduce/{}.yml", request.name))?;
    let claims = Claims::parse(&path, &text)?;
    let target = request.selection.target.unwrap_or(TargetName::Embedded);
    let app = request.selection.app.or_else(|| crate::app::App::find("socialNetwork"));
    let form = if request.quick { "-quick" } else { "" };
    let asked = sweep::Request {
        selection: Selection { target: Some(target), app },
        file: Some(claims.sweep.clone().into()),
        quick: request.quick,
        rounds: request.rounds,
        until: None,
        name: Some(format!("{}{form}-{target}", claims.name)),
        status: false,
        keep: false,
    };
    sweep::run(context, asked.clone()).await?;
    if context.dry_run {
        return Ok(());
    }
    let (observed, dir) = sweep::observed(context, &asked)?;
    let mut rows = vec![["claim", "verdict", "measured"].map(str::to_owned).to_vec()];
    let mut record = Vec::new();
    for claim in &claims.claims {
        let (judgement, numbers) = judge(claim, &observed);
        record.push(serde_json::json!({
            "id": claim.id, "says": claim.says, "source": claim.source, "verdict": judgement.as_str(), "measured": numbers,
        }));
        rows.push(vec![claim.says.clone(), judgement.as_str().to_owned(), numbers]);
    }
    let value = serde_json::json!({"format": 1, "name": claims.name, "target": target, "claims": record});
    write_json(&dir.join("claims.json"), &value)?;
    if context.json {
        ui::out(value);
    } else {
        ui::out("");
        ui::out_raw(ui::table(&rows));
    }
    Ok(())
}
