//! Which images an app needs, in which order they come to be.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Build, Context, Generate, ImageError, ImageStep, Locked, Replacement, bases, mangled};
use crate::app::{App, ImageRecipe, Recipe, Remedy};
use crate::compose::File;

/// What a person may ask of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Run every step of every build again.
    pub no_cache: bool,
    /// Where logs go.
    pub logs: PathBuf,
}

/// What is to be done about an app's images, and which they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Stages in order: what each achieves, and its step.
    pub stages: Vec<(String, ImageStep)>,
    /// Images of registries.
    pub public: Vec<String>,
    /// Images that are built.
    pub built: Vec<String>,
}

/// Replaces images of `file` by the pinned ones of the app's upstreams; returns what was replaced by what.
pub fn pin(app: &App, file: &mut File) -> Vec<(String, String)> {
    let mut pinned: Vec<(String, String)> = Vec::new();
    for service in file.services.values_mut() {
        let Some(image) = &mut service.image else { continue };
        let remedy = app.images.upstreams.iter().find_map(|upstream| match upstream.remedy {
            Remedy::Image { from, to } if same_image(from, image) => Some((from, to)),
            _ => None,
        });
        let Some((from, to)) = remedy else { continue };
        *image = to.to_owned();
        let pair = (from.to_owned(), to.to_owned());
        if !pinned.contains(&pair) {
            pinned.push(pair);
        }
    }
    pinned
}

/// `redis` and `redis:latest` are one image.
fn same_image(a: &str, b: &str) -> bool {
    let full = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or(name);
        if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
    };
    full(a) == full(b)
}

/// Everything that makes the images of `app` from the sources in `tree`, for the services of `file` (pinned already).
/// With a `lock`, images are held to it.
///
/// # Errors
/// [`ImageError::NoContext`], [`ImageError::Read`], [`ImageError::Pattern`].
pub fn plan(
    app: &App,
    tree: &Path,
    file: &File,
    lock: Option<&indexmap::IndexMap<String, Locked>>,
    order: &Order,
) -> Result<Plan, ImageError> {
    let mut steps = Vec::new();
    let mut base_images: Vec<String> = Vec::new();
    for recipe in app.images.recipes {
        match recipe {
            Recipe::Image(recipe) => {
                let (build, bases) = build(app, tree, recipe, lock, order)?;
                base_images.extend(bases);
                steps.push((format!("build {}", recipe.tag), ImageStep::EnsureBuilt(Box::new(build))));
            }
            Recipe::Generate(generator) => {
                let generate = Generate {
                    what: generator.what.to_owned(),
                    image: generator.image.to_owned(),
                    tree: tree.to_owned(),
                    mount: generator.mount.to_owned(),
                    argv: generator.argv.iter().map(|word| (*word).to_owned()).collect(),
                    makes: tree.join(generator.makes),
                    log: order.logs.join(format!("{}.log", mangled(generator.makes))),
                };
                steps.push((format!("generate {}", generator.what), ImageStep::EnsureGenerated(Box::new(generate))));
            }
        }
    }
    let built: Vec<String> = app.images.built().map(|recipe| recipe.tag.to_owned()).collect();
    let public = public(file, base_images, &built);
    let mut stages = Vec::new();
    if !public.is_empty() {
        let locked = |name: &String| (name.clone(), lock.and_then(|lock| lock.get(name).cloned()));
        let images = public.iter().map(locked).collect();
        stages.push(("have the public images".to_owned(), ImageStep::EnsurePulled { images }));
    }
    stages.extend(steps);
    Ok(Plan { stages, public, built })
}

/// What services run from and builds start from, and nobody here builds.
fn public(file: &File, bases: Vec<String>, built: &[String]) -> Vec<String> {
    let mut public: Vec<String> = Vec::new();
    for image in file.images().into_iter().map(str::to_owned).chain(bases) {
        let here = built.iter().chain(&public).any(|other| same_image(other, &image));
        if !here {
            public.push(image);
        }
    }
    public.sort();
    public
}

fn build(
    app: &App,
    tree: &Path,
    recipe: &ImageRecipe,
    lock: Option<&indexmap::IndexMap<String, Locked>>,
    order: &Order,
) -> Result<(Build, Vec<String>), ImageError> {
    let root = if recipe.context == "." { tree.to_owned() } else { tree.join(recipe.context) };
    let mut replacements = Vec::new();
    let mut words = Vec::new();
    for upstream in app.images.upstreams {
        if let Some(replacement) = Replacement::of(&upstream.remedy, recipe.context) {
            replacements.push(replacement);
            words.push(format!("{}: {}", upstream.what, upstream.remedy));
        }
    }
    let context = Context::open(recipe.tag, &root, recipe.dockerfile, replacements)?;
    let (dockerfile, counts) = context.dockerfile()?;
    let made = words.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    let args: HashMap<String, String> =
        recipe.args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let bases = bases(&dockerfile, &args);
    let mut args: Vec<(String, String)> = args.into_iter().collect();
    args.sort();
    let build = Build {
        tag: recipe.tag.to_owned(),
        root,
        context,
        dockerfile: recipe.dockerfile.to_owned(),
        args,
        remedies: made.map(|(word, _)| word).collect(),
        no_cache: order.no_cache,
        locked: lock.and_then(|lock| lock.get(recipe.tag).cloned()),
        log: order.logs.join(format!("{}.log", mangled(recipe.tag))),
    };
    Ok((build, bases))
}

impl Plan {
    /// All images, public ones first.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.public.iter().chain(&self.built).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_the_latest() {
        assert!(same_image("redis", "redis:latest") && same_image("a:5000/redis", "a:5000/redis:latest"));
        assert!(!same_image("redis:7", "redis") && !same_image("x/redis", "redis"));
    }
}
