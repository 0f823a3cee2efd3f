//! How an app's images come to be, as data: where its sources are from, what is built of them in which order, and what
//! became of the third-party things that they name.

/// Where an app's sources are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// A git repository.
    pub repository: &'static str,
    /// The branch that the commit is on.
    pub branch: &'static str,
    /// The pinned commit.
    pub commit: &'static str,
    /// Where it is checked out, below the working root.
    pub checkout: &'static str,
    /// The app's folder inside it.
    pub folder: &'static str,
}

/// Who runs an image, and so who must be given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bundle {
    /// The machines of the application.
    Services,
    /// The machines that the load comes from.
    Clients,
    /// Only the machine that builds.
    Builder,
}

/// An image built from a folder of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRecipe {
    /// `name:tag`.
    pub tag: &'static str,
    /// The folder, relative to the app's.
    pub context: &'static str,
    /// The Dockerfile inside it.
    pub dockerfile: &'static str,
    /// Build arguments.
    pub args: &'static [(&'static str, &'static str)],
    /// Who runs it.
    pub bundle: Bundle,
}

/// Files of the source tree that a container of an image makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generator {
    /// What comes out, for messages.
    pub what: &'static str,
    /// The image that holds the tool.
    pub image: &'static str,
    /// Where the app's folder is mounted.
    pub mount: &'static str,
    /// The command.
    pub argv: &'static [&'static str],
    /// The folder that must be there afterwards, relative to the app's.
    pub makes: &'static str,
}

/// One entry of the ordered list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Build an image.
    Image(ImageRecipe),
    /// Run a generator.
    Generate(Generator),
}

/// What is done about something that the sources name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The compose file's image is replaced by a pinned one.
    Image {
        /// As the file has it.
        from: &'static str,
        /// Instead.
        to: &'static str,
    },
    /// A Dockerfile's base image is replaced on the way to the engine; the tree stays as it is.
    Base {
        /// The recipe's context.
        context: &'static str,
        /// As the file has it.
        from: &'static str,
        /// Instead.
        to: &'static str,
    },
    /// Text of a Dockerfile is replaced on the way to the engine; the tree stays as it is.
    Text {
        /// The recipe's context.
        context: &'static str,
        /// Any of these.
        from: &'static [&'static str],
        /// Instead.
        to: &'static str,
    },
    /// Nothing can be done here.
    None,
}

/// A third-party thing that has gone, moved, or floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub what: &'static str,
    /// The file that names it, relative to the app's folder.
    pub place: &'static str,
    /// What became of it.
    pub fate: &'static str,
    /// What is done about it.
    pub remedy: Remedy,
}

/// Everything about an app's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Where the sources are from; none for an app that travels in this binary.
    pub sources: Option<Sources>,
    /// What is built, in this order.
    pub recipes: &'static [Recipe],
    /// What became of what they name.
    pub upstreams: &'static [Upstream],
}

impl Images {
    /// Nothing to build and nothing to fetch.
    pub const NONE: Images = Images { sources: None, recipes: &[], upstreams: &[] };

    /// The recipes that build an image.
    pub fn built(&self) -> impl Iterator<Item = &'static ImageRecipe> + use<> {
        self.recipes.iter().filter_map(|recipe| match recipe {
            Recipe::Image(image) => Some(image),
            Recipe::Generate(_) => None,
        })
    }
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Remedy::Image { to, .. } => write!(f, "`{to}` is used instead"),
            Remedy::Base { to, .. } => write!(f, "built from `{to}` instead"),
            Remedy::Text { to, .. } => write!(f, "`{to}` is used instead"),
            Remedy::None => write!(f, "named only; `images.lock.yml` records what was got"),
        }
    }
}
