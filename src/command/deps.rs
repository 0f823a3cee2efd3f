//! `maestro deps fetch`: the pinned third-party sources, fetched when somebody asks for them and not before.

use crate::Context;
use crate::app::APPS;
use crate::command::Selection;
use crate::error::{Plain, Result};
use crate::execute::git::{self, Checkout};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub url: Option<String>,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let chosen = request.selection.app.map_or_else(|| APPS.iter().collect(), |app| vec![app]);
    let mut sources: Vec<_> = chosen.iter().filter_map(|app| app.images.sources).collect();
    sources.dedup_by_key(|sources| sources.checkout);
    if sources.is_empty() {
        return Err(Plain::usage("this app needs no sources: everything travels in this program").into());
    }
    let _lock = if context.dry_run { None } else { Some(context.store.lock("deps fetch")?) };
    for source in sources {
        let wanted = Checkout {
            root: context.store.root().to_owned(),
            path: source.checkout.to_owned(),
            url: source.repository.to_owned(),
            branch: source.branch.to_owned(),
            commit: source.commit.to_owned(),
            submodule: false,
        };
        let checkout = Checkout::resolve(wanted, request.url.as_deref()).await?;
        if context.dry_run {
            ui::out(&checkout);
            continue;
        }
        ui::note(format_args!("fetching {} from {}", checkout.path, checkout.url));
        let fetched = git::ensure(&checkout).await?;
        let short = &checkout.commit[..checkout.commit.len().min(12)];
        let already = if fetched { "" } else { " already" };
        ui::note(format_args!("{} is at {short}{already}", checkout.path));
    }
    Ok(())
}
