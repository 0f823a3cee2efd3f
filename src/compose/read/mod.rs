//! From located YAML to the typed file.

mod deploy;
mod fields;
mod mounts;
mod ports;
mod service;

use indexmap::IndexMap;

use super::model::{File, FileObject, Network, Volume};
use super::yaml::{Node, fail};
use super::{ComposeError, Source, Warning};
use fields::{Fields, Item};

type Result<T, E = ComposeError> = std::result::Result<T, E>;

/// What a name may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Network,
    Volume,
    Config,
    Secret,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Config => "config",
            Kind::Secret => "secret",
        }
    }
}

/// A name used somewhere, to be checked when everything has been read.
struct Reference {
    kind: Kind,
    name: String,
    line: usize,
    path: String,
}

/// Reads one file.
pub(super) struct Reader<'s> {
    source: &'s Source<'s>,
    warnings: Vec<Warning>,
    references: Vec<Reference>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source<'s>, warnings: Vec<Warning>) -> Self {
        Reader { source, warnings, references: Vec::new() }
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    fn warn(&mut self, item: &Item, what: impl Into<String>) {
        self.warnings.push(Warning { line: item.line(), path: item.path.clone(), what: what.into() });
    }

    fn refer(&mut self, kind: Kind, name: &str, at: &Item) {
        self.references.push(Reference { kind, name: name.to_owned(), line: at.line(), path: at.path.clone() });
    }

    pub(super) fn file(&mut self, root: Node) -> Result<File> {
        let mut top = Item::root(root).fields()?;
        let version = top.take("version").map(|item| version(&item)).transpose()?;
        let mut file =
            File { version, name: top.text("name")?, directory: self.source.directory.to_owned(), ..File::default() };
        let Some(services) = top.take("services") else {
            return Err(fail(
                0,
                "",
                "no `services:`; the first form of compose files (before version 2) is not supported",
            ));
        };
        for (name, item) in services.entries()? {
            check_name(&name, &item)?;
            let service = self.service(item)?;
            file.services.insert(name, service);
        }
        if file.services.is_empty() {
            return Err(fail(0, "services", "no service in it"));
        }
        file.networks = self.section(&mut top, "networks", Self::network)?;
        file.volumes = self.section(&mut top, "volumes", Self::volume)?;
        file.configs = self.section(&mut top, "configs", Self::file_object)?;
        file.secrets = self.section(&mut top, "secrets", Self::file_object)?;
        if let Some(include) = top.take("include") {
            return Err(include.fail("files that include others are not supported"));
        }
        top.finish(&mut self.warnings, &[]);
        self.check_references(&file)?;
        Ok(file)
    }

    fn section<T>(
        &mut self,
        top: &mut Fields,
        key: &str,
        read: impl Fn(&mut Self, Item) -> Result<T>,
    ) -> Result<IndexMap<String, T>> {
        let Some(section) = top.take(key) else { return Ok(IndexMap::new()) };
        section.entries()?.into_iter().map(|(name, item)| Ok((name, read(self, item)?))).collect()
    }

    fn check_references(&self, file: &File) -> Result<()> {
        for at in &self.references {
            let declared = match at.kind {
                Kind::Service => file.services.contains_key(&at.name),
                Kind::Network => at.name == "default" || file.networks.contains_key(&at.name),
                Kind::Volume => file.volumes.contains_key(&at.name),
                Kind::Config => file.configs.contains_key(&at.name),
                Kind::Secret => file.secrets.contains_key(&at.name),
            };
            if !declared {
                let why = format!("there is no {} `{}` in this file", at.kind.word(), at.name);
                return Err(fail(at.line, &at.path, why));
            }
        }
        Ok(())
    }

    fn network(&mut self, item: Item) -> Result<Network> {
        let mut fields = item.fields()?;
        let (external, named) = external(&mut fields)?;
        let mut network = Network {
            name: fields.text("name")?.or(named),
            external,
            driver: fields.text("driver")?,
            driver_opts: fields.labels("driver_opts")?,
            attachable: fields.flag("attachable")?.unwrap_or(false),
            internal: fields.flag("internal")?.unwrap_or(false),
            labels: fields.labels("labels")?,
            subnets: Vec::new(),
        };
        if let Some(ipam) = fields.take("ipam") {
            let mut ipam = ipam.fields()?;
            for pool in ipam.take("config").map(Item::list).transpose()?.unwrap_or_default() {
                let mut pool = pool.fields()?;
                let gateway = pool.text("gateway")?;
                network.subnets.extend(pool.text("subnet")?.map(|subnet| (subnet, gateway)));
                pool.finish(&mut self.warnings, &["ip_range", "aux_addresses"]);
            }
            ipam.finish(&mut self.warnings, &["driver", "options"]);
        }
        fields.finish(&mut self.warnings, &["enable_ipv6", "enable_ipv4"]);
        Ok(network)
    }

    fn volume(&mut self, item: Item) -> Result<Volume> {
        let mut fields = item.fields()?;
        let (external, named) = external(&mut fields)?;
        let volume = Volume {
            name: fields.text("name")?.or(named),
            external,
            driver: fields.text("driver")?,
            driver_opts: fields.labels("driver_opts")?,
            labels: fields.labels("labels")?,
        };
        fields.finish(&mut self.warnings, &[]);
        Ok(volume)
    }

    fn file_object(&mut self, item: Item) -> Result<FileObject> {
        let mut fields = item.clone().fields()?;
        let (external, named) = external(&mut fields)?;
        let mut object = FileObject {
            name: fields.text("name")?.or(named),
            external,
            file: fields.text("file")?,
            content: fields.text("content")?,
            labels: fields.labels("labels")?,
        };
        if let Some(variable) = fields.text("environment")? {
            object.content = Some((self.source.variables)(&variable).unwrap_or_default());
        }
        fields.finish(&mut self.warnings, &["template_driver"]);
        let given = usize::from(object.file.is_some()) + usize::from(object.content.is_some()) + usize::from(external);
        if given != 1 {
            return Err(item.fail("give one of `file`, `content`, `environment` and `external`"));
        }
        Ok(object)
    }
}

/// `external: true`, or the older `external: {name: x}`.
fn external(fields: &mut Fields) -> Result<(bool, Option<String>)> {
    let Some(item) = fields.take("external") else { return Ok((false, None)) };
    if item.is_map() {
        return Ok((true, item.fields()?.text("name")?));
    }
    Ok((item.flag()?, None))
}

fn version(item: &Item) -> Result<String> {
    let text = item.text()?;
    let minor = match text.split_once('.') {
        None => Some((text.as_str(), 0)),
        Some((major, minor)) => minor.parse::<u32>().ok().map(|minor| (major, minor)),
    };
    match minor {
        Some(("2", 0..=4)) | Some(("3", 0..=9)) => Ok(text),
        _ => Err(item.fail(format!("version `{text}` is not supported (2 to 2.4, 3 to 3.9, or none)"))),
    }
}

/// Names become host names, so they are held to what those may be.
fn check_name(name: &str, item: &Item) -> Result<()> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if name.is_empty() || name.len() > 63 || !plain || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(item.fail(format!(
            "`{}` cannot be a service's name (letters, digits, `-`, `_` and `.`, at most 63)",
            name.escape_debug()
        )));
    }
    Ok(())
}
