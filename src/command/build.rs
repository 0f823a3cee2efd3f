//! `maestro build`: the images of an app on this machine's engine, locked to the digest, saved where asked for.

use std::path::PathBuf;

use indexmap::IndexMap;

use crate::Context;
use crate::app::{App, Bundle};
use crate::command::base_image::BaseImage;
use crate::command::{Selection, compose_file};
use crate::compose::File;
use crate::error::{Plain, Result};
use crate::execute::docker::{self, Engine};
use crate::execute::{Live, carry_out};
use crate::experiment::TargetName;
use crate::images::{self, Drift, ImageError, Lock, Locked, Order};
use crate::local;
use crate::plan::{Plan, Step};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub no_cache: bool,
    pub skip_images: bool,
    pub locked: bool,
    pub save: Option<PathBuf>,
    pub app_dir: Option<PathBuf>,
}

/// What is to be done, and about which images.
struct Work {
    plan: Plan,
    /// Every image that the app is built from and runs from.
    images: Vec<String>,
    /// Those of them that other machines need.
    shipped: Vec<String>,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = request.selection.target()?;
    if target == TargetName::Embedded {
        return Err(Plain::usage("`--embedded` needs no images: the miniature is this program").into());
    }
    let app = request.selection.app(&context.store.read_state(target)?)?;
    let file = compose_file::of_app(context, app, request.app_dir.as_deref())?;
    let path = context.store.images_lock();
    let lock = Lock::read(&path)?;
    let locked = if request.locked { Some(lock.of(app.name, &path)?) } else { None };
    let work = work(context, &request, app, &file, locked)?;
    let base = if target == TargetName::Gcp { Some(BaseImage::of(context, &work.shipped)?) } else { None };
    if let Some(locked) = locked {
        not_locked(&work.images, locked)?;
    }
    if context.dry_run {
        print_plan(&work, &request);
        base.iter().for_each(|base| ui::out_raw(base.to_string()));
        return Ok(());
    }
    let _lock = context.store.lock("build")?;
    if let (Some(base), true) = (&base, request.skip_images) {
        return base.make(context).await;
    }
    if !request.skip_images {
        carry_out(&Live, &work.plan).await?;
    }
    let engine = Engine::local()?;
    let found = facts(&engine, &work.images).await?;
    match locked {
        Some(locked) => check(locked, &found)?,
        None => record(context, lock, app, &found)?,
    }
    ui::note(format_args!("{} has its {}", app.name, ui::count(found.len(), "image")));
    if let Some(dir) = &request.save {
        save(&engine, app, &work.shipped, &context.store.resolve(dir)).await?;
    }
    match base {
        Some(base) => base.make(context).await,
        None => Ok(()),
    }
}

fn work(
    context: &Context,
    request: &Request,
    app: &'static App,
    file: &File,
    locked: Option<&IndexMap<String, Locked>>,
) -> Result<Work> {
    let of_services: Vec<String> = file.images().into_iter().map(str::to_owned).collect();
    if let Some(own) = app.containers.own_image {
        let plan = local::build(app, file, own, request.no_cache);
        return Ok(Work { plan, images: of_services.clone(), shipped: of_services });
    }
    let tree = images::tree(&context.store, app, request.app_dir.as_deref())?;
    let tree = tree.unwrap_or_else(|| context.store.root().to_owned());
    let order = Order { no_cache: request.no_cache, logs: context.store.build_logs(app.name) };
    let made = images::plan(app, &tree, file, locked, &order)?;
    let images = made.images().map(str::to_owned).collect();
    let mut shipped = of_services;
    for recipe in app.images.built().filter(|recipe| recipe.bundle != Bundle::Builder) {
        if !shipped.iter().any(|image| image == recipe.tag) {
            shipped.push(recipe.tag.to_owned());
        }
    }
    let mut plan = Plan::new(format!("build the images of {}", app.name));
    for (name, step) in made.stages {
        plan = plan.stage(name, vec![Step::Image(step)]);
    }
    Ok(Work { plan, images, shipped })
}

fn print_plan(work: &Work, request: &Request) {
    if !request.skip_images {
        ui::out_raw(work.plan.to_string());
    }
    if let Some(dir) = &request.save {
        ui::out(format_args!("save {} to {}", ui::count(work.shipped.len(), "image"), dir.display()));
    }
}

/// Refuses images that the lock does not name.
fn not_locked(images: &[String], locked: &IndexMap<String, Locked>) -> Result<(), ImageError> {
    let absent = images.iter().filter(|image| !locked.contains_key(*image));
    let drifts: Vec<Drift> = absent.map(|image| Drift::unknown(image)).collect();
    if drifts.is_empty() { Ok(()) } else { Err(ImageError::Drift(drifts)) }
}

/// What the engine has under each name; all that it lacks are named at once.
async fn facts(engine: &Engine, images: &[String]) -> Result<IndexMap<String, Locked>> {
    let (mut found, mut missing) = (IndexMap::new(), Vec::new());
    for image in images {
        match docker::build::locked(engine, image).await {
            Ok(locked) => {
                found.insert(image.clone(), locked);
            }
            Err(error) if error.is_not_found() => missing.push((image.clone(), "not built".to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(ImageError::Unavailable(missing).into()) }
}

/// Refuses what differs from the lock.
fn check(locked: &IndexMap<String, Locked>, found: &IndexMap<String, Locked>) -> Result<(), ImageError> {
    let drift = |(image, found): (&String, &Locked)| locked.get(image).and_then(|locked| locked.drift(image, found));
    let drifts: Vec<Drift> = found.iter().filter_map(drift).collect();
    if drifts.is_empty() { Ok(()) } else { Err(ImageError::Drift(drifts)) }
}

/// Writes what was found into the lock.
fn record(context: &Context, mut lock: Lock, app: &App, found: &IndexMap<String, Locked>) -> Result<()> {
    lock.apps.insert(app.name.to_owned(), found.clone());
    lock.write(&context.store.images_lock())?;
    Ok(())
}

async fn save(engine: &Engine, app: &App, images: &[String], dir: &std::path::Path) -> Result<()> {
    let bundle = docker::bundle::save(engine, app.name, images, dir).await?;
    let bytes: u64 = bundle.images.iter().map(|entry| entry.bytes).sum();
    let count = ui::count(bundle.images.len(), "image");
    ui::note(format_args!("saved {count} to {} ({} MB)", dir.display(), bytes >> 20));
    Ok(())
}
