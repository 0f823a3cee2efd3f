//! What every command for Google Cloud needs first: the site file, credentials, a connection, and who the caller is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Context;
use crate::cloud::label_value;
use crate::cloud::site::Site;
use crate::command::Selection;
use crate::error::{Plain, Result};
use crate::execute::docker::Login;
use crate::execute::gce::{Access, Gce, access_token};
use crate::experiment::TargetName;
use crate::store::{StoreError, parse_yaml, read_json, read_text};

/// Variable that names another base URL of the API (tests); no credentials are sent there.
const ENDPOINT: &str = "MAESTRO_GCE_ENDPOINT";
/// The site file, from the root.
const SITE: &str = "gcp/config.yml";
/// A service account's key, from the root.
pub(crate) const KEY: &str = "gcp/credentials.json";
/// The project that the shipped site file names until somebody changes it.
const UNCHANGED: &str = "change-me";
/// Longest wait for one operation of the API.
const PATIENCE: Duration = Duration::from_secs(600);

/// Reads the site file and the credentials and makes the client; nothing is sent yet.
///
/// # Errors
/// Exit code 2 when one of them cannot be used.
pub(crate) async fn open(context: &Context) -> Result<(Site, Gce)> {
    let site = site(context)?;
    let gce = connect(context, &site).await?;
    Ok((site, gce))
}

/// Reads the site file.
///
/// # Errors
/// Exit code 2 when it is not there or cannot be used.
pub(crate) fn site(context: &Context) -> Result<Site> {
    let path = context.store.resolve(SITE);
    let text = context.store.site_facts(TargetName::Gcp)?.ok_or_else(|| {
        Plain::usage(format!("no `{SITE}`")).with_hint("write one; its shortest form: `project_id: YOUR-PROJECT`")
    })?;
    let site: Site = parse_yaml(&path, &text)?;
    if site.project_id == UNCHANGED {
        let why = format!("`{SITE}`: project_id is still `{UNCHANGED}`");
        return Err(Plain::usage(why).with_hint("put your project's id there").into());
    }
    match site.problem() {
        Some(why) => Err(StoreError::Content { path, why }.into()),
        None => Ok(site),
    }
}

/// Makes the client of `site`'s project.
///
/// # Errors
/// Exit code 2 when the credentials cannot be used.
pub(crate) async fn connect(context: &Context, site: &Site) -> Result<Gce> {
    let endpoint = endpoint()?;
    let key = match read_json(&context.store.resolve(KEY)) {
        Ok(key) => Some(key),
        Err(StoreError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Gce::connect(&Access { project: site.project_id.clone(), endpoint, key, patience: PATIENCE }).await
}

/// Who pushes to the site's registry: the service account's key, else the application-default credentials; nobody where
/// another endpoint than Google's is used.
///
/// # Errors
/// Exit code 2 when the credentials cannot be used.
pub(crate) async fn registry_login(context: &Context) -> Result<Option<Login>> {
    if endpoint()?.is_some() {
        return Ok(None);
    }
    let login = |user: &str, secret| Some(Login { user: user.to_owned(), secret });
    match read_text(&context.store.resolve(KEY)) {
        Ok(key) => Ok(login("_json_key", key)),
        Err(StoreError::Missing(_)) => Ok(login("oauth2accesstoken", access_token().await?)),
        Err(error) => Err(error.into()),
    }
}

/// The base URL that tests use. Everything that is sent there, startup scripts and public keys among it, would be in the
/// hands of whoever answers: so only this machine may.
fn endpoint() -> Result<Option<String>> {
    let Some(endpoint) = std::env::var(ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
    if is_loopback(&endpoint) {
        return Ok(Some(endpoint));
    }
    let why =
        format!("{ENDPOINT}: `{}` is not `http://` and an address of this machine's loopback", endpoint.escape_debug());
    Err(Plain::usage(why).with_hint(format!("it is for tests; for Google's own API: unset {ENDPOINT}")).into())
}

/// Whether `url` is plain HTTP to an address, not a name, of the loopback.
fn is_loopback(url: &str) -> bool {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?', '#']).next());
    let Some(authority) = authority else { return false };
    match (authority.parse::<SocketAddr>(), authority.parse::<IpAddr>()) {
        (Ok(address), _) => address.ip().is_loopback(),
        (_, Ok(address)) => address.is_loopback(),
        _ => false,
    }
}

/// The caller, as the owner label has it: user and machine, so that two people called `root` are told apart.
pub(crate) fn owner() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|user| !user.is_empty());
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    label_value(&format!("{}-{node}", user.unwrap_or_else(|| "nobody".into())))
}

/// Refuses another target than Google Cloud for a command that only exists there.
///
/// # Errors
/// Exit code 2.
pub(crate) fn only(selection: &Selection, command: &str) -> Result<()> {
    match selection.target {
        None | Some(TargetName::Gcp) => Ok(()),
        Some(other) => {
            let why = format!("`{command}` is about Google Cloud, not about `--{other}`");
            Err(Plain::usage(why).with_hint(format!("maestro --gcp {command}")).into())
        }
    }
}
