//! Pushing an image to a registry.

use bollard::auth::DockerCredentials;
use bollard::query_parameters::PushImageOptions;
use futures_util::StreamExt;

use super::images::split_tag;
use super::{DockerError, Engine};

/// Who pushes.
#[derive(Clone)]
pub struct Login {
    /// User; `_json_key` for a service account's key, `oauth2accesstoken` for a token.
    pub user: String,
    /// The key or the token.
    pub secret: String,
}

impl Engine {
    /// Pushes `name`, a tag that the engine has.
    ///
    /// # Errors
    /// What the registry refuses; [`DockerError::Lost`].
    pub async fn push_image(&self, name: &str, login: Option<&Login>) -> Result<(), DockerError> {
        let (repo, tag) = split_tag(name);
        let options = PushImageOptions { tag: Some(tag.to_owned()), ..Default::default() };
        let credentials = login.map(|login| DockerCredentials {
            username: Some(login.user.clone()),
            password: Some(login.secret.clone()),
            ..Default::default()
        });
        let mut answers = std::pin::pin!(self.api.push_image(repo, Some(options), credentials.or_else(anonymous)));
        while let Some(answer) = answers.next().await {
            answer.map_err(|e| self.fault(format!("push image `{name}`"), e))?;
        }
        Ok(())
    }
}

/// Engines want a header even where nobody has to say who they are.
fn anonymous() -> Option<DockerCredentials> {
    Some(DockerCredentials::default())
}
