//! Images: look at, build from a context, import a tree, pull, save, load, tag, remove.

use std::collections::HashMap;
use std::io;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::{
    BuildImageOptions, CreateImageOptions, ImportImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{DockerError, Engine};

/// What an engine says about an image it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Digest of its configuration (`sha256:...`): the same wherever the image was loaded, pulled or built.
    pub id: String,
    /// Digests under which registries know it (`name@sha256:...`); empty for what was only built or loaded.
    pub repo_digests: Vec<String>,
    /// `name:tag`s it has on this engine.
    pub tags: Vec<String>,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `linux`, ...
    pub os: String,
    /// Size of all layers, bytes.
    pub size: u64,
    /// Labels of its configuration.
    pub labels: HashMap<String, String>,
}

/// What a registry says about an image before it is pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteImage {
    /// Digest of its manifest (`sha256:...`).
    pub digest: String,
    /// `(os, architecture)` of everything behind the name.
    pub platforms: Vec<(String, String)>,
}

/// An image to be built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildImage {
    /// `name:tag` of the result.
    pub tag: String,
    /// Path of the Dockerfile inside the context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: HashMap<String, String>,
    /// Stage to stop at; empty for the last.
    pub target: String,
    /// Labels of the result.
    pub labels: HashMap<String, String>,
    /// Run every step again.
    pub no_cache: bool,
}

/// What a build says on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// `Step number/of : instruction`.
    Step {
        /// Counted from 1.
        number: u32,
        /// How many there are.
        of: u32,
        /// The Dockerfile's line.
        instruction: String,
    },
    /// A piece of output, with its line ends.
    Output(String),
    /// A base image is being pulled.
    Layer(LayerProgress),
    /// The result's id (`sha256:...`).
    Built(String),
}

/// Progress of one layer of a pull or a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerProgress {
    /// Short id of the layer, or the image's name for messages about the whole.
    pub layer: String,
    /// `Downloading`, `Extracting`, `Pull complete`, ...
    pub status: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all; 0 while unknown.
    pub total: u64,
}

impl Engine {
    /// The image called `name` (a tag, digest or id), if the engine has it.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn image(&self, name: &str) -> Result<Option<ImageFacts>, DockerError> {
        match self.api.inspect_image(name).await.map_err(|e| self.fault(format!("look at image `{name}`"), e)) {
            Ok(seen) => Ok(Some(ImageFacts {
                id: seen.id.unwrap_or_default(),
                repo_digests: seen.repo_digests.unwrap_or_default(),
                tags: seen.repo_tags.unwrap_or_default(),
                architecture: seen.architecture.unwrap_or_default(),
                os: seen.os.unwrap_or_default(),
                size: u64::try_from(seen.size.unwrap_or_default()).unwrap_or(0),
                labels: seen.config.and_then(|config| config.labels).unwrap_or_default(),
            })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The names of the images of `repository` that carry `label`, sorted.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn images_of(&self, repository: &str, label: &str) -> Result<Vec<String>, DockerError> {
        let filters = [("reference", repository), ("label", label)];
        let filters = filters.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        let options = ListImagesOptions { filters: Some(HashMap::from(filters)), ..Default::default() };
        let listed = self.api.list_images(Some(options)).await.map_err(|e| self.fault("list images", e))?;
        let mut names: Vec<String> = listed.into_iter().flat_map(|image| image.repo_tags).collect();
        names.retain(|name| split_tag(name).0 == repository);
        names.sort_unstable();
        Ok(names)
    }

    /// What the registry says about `name`, without pulling anything.
    ///
    /// # Errors
    /// [`DockerError::Refused`] or [`DockerError::NotFound`] when no registry answers for it.
    pub async fn remote_image(&self, name: &str) -> Result<RemoteImage, DockerError> {
        let seen = self.api.inspect_registry_image(name, None).await;
        let seen = seen.map_err(|e| self.fault(format!("ask the registry about `{name}`"), e))?;
        let platform = |p: bollard::models::OciPlatform| (p.os.unwrap_or_default(), p.architecture.unwrap_or_default());
        Ok(RemoteImage {
            digest: seen.descriptor.digest.unwrap_or_default(),
            platforms: seen.platforms.into_iter().map(platform).filter(|(_, arch)| !arch.is_empty()).collect(),
        })
    }

    /// Builds an image from `context`, a tar stream, and returns its id.
    ///
    /// # Errors
    /// [`DockerError::Refused`] with the failing step's message; [`DockerError::Lost`].
    pub async fn build_image<S>(
        &self,
        request: &BuildImage,
        context: S,
        mut on_event: impl FnMut(BuildEvent),
    ) -> Result<String, DockerError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let doing = || format!("build image `{}`", request.tag);
        let options = BuildImageOptions {
            dockerfile: request.dockerfile.clone(),
            t: Some(request.tag.clone()),
            buildargs: Some(request.args.clone()),
            labels: Some(request.labels.clone()),
            target: request.target.clone(),
            nocache: request.no_cache,
            forcerm: true,
            ..Default::default()
        };
        let client = self.patient();
        let mut answers = std::pin::pin!(client.build_image(options, None, Some(bollard::body_try_stream(context))));
        let mut id = String::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|e| self.fault(doing(), e))?;
            if let Some(error) = answer.error_detail.and_then(|detail| detail.message) {
                return Err(self.fault(doing(), bollard::errors::Error::DockerStreamError { error }));
            }
            for event in build_events(answer.stream, answer.status, answer.id, answer.progress_detail, answer.aux) {
                if let BuildEvent::Built(built) = &event {
                    id.clone_from(built);
                }
                on_event(event);
            }
        }
        if id.is_empty() {
            // Engines that name the result only in their text.
            id = self.image(&request.tag).await?.map(|image| image.id).unwrap_or_default();
        }
        Ok(id)
    }

    /// Makes an image of one layer from `tree`, the tar of a file system. `changes` are Dockerfile instructions
    /// (`ENTRYPOINT ["/maestro"]`). Returns its id.
    ///
    /// # Errors
    /// What the engine refuses; [`DockerError::Lost`].
    pub async fn import_tree<S>(&self, tag: &str, changes: &[String], tree: S) -> Result<String, DockerError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let (repo, version) = split_tag(tag);
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(repo.to_owned()),
            tag: Some(version.to_owned()),
            changes: changes.to_vec(),
            ..Default::default()
        };
        let doing = || format!("import image `{tag}`");
        let body = bollard::body_try_stream(tree);
        let mut answers = std::pin::pin!(self.patient().create_image(Some(options), Some(body), None));
        while let Some(answer) = answers.next().await {
            answer.map_err(|e| self.fault(doing(), e))?;
        }
        let made = self.image(tag).await?;
        made.map(|image| image.id)
            .ok_or_else(|| DockerError::NoImage { image: tag.into(), address: self.address.clone() })
    }

    /// Pulls `name` (with tag or digest); `platform` is `os/arch` or empty for the engine's own.
    ///
    /// # Errors
    /// What the registry or the engine refuses; [`DockerError::Lost`].
    pub async fn pull_image(
        &self,
        name: &str,
        platform: &str,
        mut on_progress: impl FnMut(LayerProgress),
    ) -> Result<(), DockerError> {
        let (repo, tag) = split_tag(name);
        let by_digest = name.contains('@');
        let options = CreateImageOptions {
            from_image: Some(if by_digest { name } else { repo }.to_owned()),
            tag: (!by_digest).then(|| tag.to_owned()),
            platform: platform.to_owned(),
            ..Default::default()
        };
        let mut answers = std::pin::pin!(self.api.create_image(Some(options), None, None));
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|e| self.fault(format!("pull image `{name}`"), e))?;
            on_progress(pull_progress(answer));
        }
        Ok(())
    }

    /// Everything of the images `names` as one tar.
    pub fn save_images(&self, names: &[&str]) -> impl Stream<Item = Result<Bytes, DockerError>> + Send + 'static {
        let client = self.patient();
        let engine = self.clone();
        let doing = format!("save {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "));
        let pieces = match names {
            [one] => client.export_image(one).boxed(),
            many => client.export_images(many).boxed(),
        };
        pieces.map(move |piece| piece.map_err(|e| engine.fault(doing.clone(), e)))
    }

    /// Loads a tar made by [`Engine::save_images`]; returns what the engine says it loaded (names or ids).
    ///
    /// # Errors
    /// What the engine refuses; [`DockerError::Lost`].
    pub async fn load_images<S>(&self, what: &str, tar: S) -> Result<Vec<String>, DockerError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let options = ImportImageOptions { quiet: true, platform: None };
        let mut answers = std::pin::pin!(self.patient().import_image_stream(options, tar, None));
        let mut loaded = Vec::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|e| self.fault(format!("load {what}"), e))?;
            let text = answer.stream.unwrap_or_default();
            let names = text.lines().filter_map(|line| line.split_once(": "));
            loaded.extend(
                names.filter(|(said, _)| said.starts_with("Loaded image")).map(|(_, name)| name.trim().to_owned()),
            );
        }
        Ok(loaded)
    }

    /// Gives `source` the further name `tag`.
    ///
    /// # Errors
    /// [`DockerError::NoImage`].
    pub async fn tag_image(&self, source: &str, tag: &str) -> Result<(), DockerError> {
        let (repo, version) = split_tag(tag);
        let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(version.to_owned()) };
        let tagged = self.api.tag_image(source, Some(options)).await;
        tagged.map_err(|e| self.fault(format!("tag image `{source}` as `{tag}`"), e))
    }

    /// Removes the name `name` and, when it was the last one, the image. Returns false when there was none.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] while a container uses it.
    pub async fn remove_image(&self, name: &str) -> Result<bool, DockerError> {
        let options = RemoveImageOptions { force: false, noprune: false, platforms: None };
        let removed = self.api.remove_image(name, Some(options), None).await;
        match removed.map_err(|e| self.fault(format!("remove image `{name}`"), e)) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// `(repository, tag)`; the tag of a name without one is `latest`. A port in the registry's name is not a tag.
pub(crate) fn split_tag(name: &str) -> (&str, &str) {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (name, "latest"),
    }
}

fn build_events(
    stream: Option<String>,
    status: Option<String>,
    layer: Option<String>,
    detail: Option<bollard::models::ProgressDetail>,
    aux: Option<bollard::models::ImageId>,
) -> Vec<BuildEvent> {
    let mut events = Vec::new();
    if let Some(text) = stream {
        events.push(step(&text).unwrap_or(BuildEvent::Output(text)));
    }
    if let Some(status) = status {
        events.push(BuildEvent::Layer(layer_progress(layer, status, detail)));
    }
    if let Some(id) = aux.and_then(|aux| aux.id) {
        events.push(BuildEvent::Built(id));
    }
    events
}

/// `Step 3/12 : RUN make` as a step.
fn step(text: &str) -> Option<BuildEvent> {
    let (numbers, instruction) = text.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, of) = numbers.split_once('/')?;
    let instruction = instruction.trim_end().to_owned();
    Some(BuildEvent::Step { number: number.parse().ok()?, of: of.parse().ok()?, instruction })
}

fn pull_progress(answer: CreateImageInfo) -> LayerProgress {
    layer_progress(answer.id, answer.status.unwrap_or_default(), answer.progress_detail)
}

fn layer_progress(
    layer: Option<String>,
    status: String,
    detail: Option<bollard::models::ProgressDetail>,
) -> LayerProgress {
    let bytes = |n: Option<i64>| u64::try_from(n.unwrap_or(0)).unwrap_or(0);
    let (current, total) = detail.map_or((0, 0), |d| (bytes(d.current), bytes(d.total)));
    LayerProgress { layer: layer.unwrap_or_default(), status, current, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_split_off_names_but_ports_are_not() {
        assert_eq!(split_tag("mongo:4.4.6"), ("mongo", "4.4.6"));
        assert_eq!(split_tag("redis"), ("redis", "latest"));
        assert_eq!(split_tag("localhost:5000/x/redis"), ("localhost:5000/x/redis", "latest"));
        assert_eq!(split_tag("localhost:5000/redis:7"), ("localhost:5000/redis", "7"));
        assert_eq!(split_tag("redis:7@sha256:abc"), ("redis", "7"));
    }

    #[test]
    fn steps_are_told_from_output() {
        let expected = BuildEvent::Step { number: 3, of: 12, instruction: "RUN make : all".into() };
        assert_eq!(step("Step 3/12 : RUN make : all\n"), Some(expected));
        assert_eq!(step("Step by step : no"), None);
        assert_eq!(step(" ---> 0123\n"), None);
    }
}
