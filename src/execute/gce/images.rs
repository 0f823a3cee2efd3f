//! Images and disks.

use std::collections::BTreeMap;

use google_cloud_compute_v1::model;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;

use super::{Gce, GceError, Kind, Scope, last, pages, request_id, retry};
use crate::cloud::{MAESTRO, Ownership, TOOL};

/// An image of maestro's that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// The family of which machines start from the newest.
    pub family: Option<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What it takes in store, bytes.
    pub bytes: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A disk of maestro's that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// Zone.
    pub zone: String,
    /// Size, GB.
    pub gigabytes: i64,
    /// A machine has it.
    pub attached: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// Whose it is; `None` when it is not maestro's.
    pub fn ownership(&self) -> Option<Ownership> {
        Ownership::from_labels(|key| self.labels.get(key).map(String::as_str))
    }
}

impl Disk {
    /// Whose it is; `None` when it is not maestro's.
    pub fn ownership(&self) -> Option<Ownership> {
        Ownership::from_labels(|key| self.labels.get(key).map(String::as_str))
    }
}

impl Gce {
    /// The newest image of a family, as the path that machines start from.
    ///
    /// # Errors
    /// [`GceError`]; [`Kind::NotFound`] when the family is not served any more.
    pub async fn image_from_family(&self, project: &str, family: &str) -> Result<String, GceError> {
        let what = format!("looking up image family `{family}` of `{project}`");
        let image = retry(&what, || {
            let request = self.images.get_from_family().set_project(project).set_family(family);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        let name = image.name.unwrap_or_default();
        Ok(format!("projects/{project}/global/images/{name}"))
    }

    /// Whether the project has an image of that name.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn image_exists(&self, name: &str) -> Result<bool, GceError> {
        let what = format!("looking up image `{name}`");
        let found = retry(&what, || {
            let request = self.images.get().set_project(&self.project).set_image(name);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        match found {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes image `name` of `family` from the boot disk of the stopped machine `disk` in `zone`.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn ensure_image(
        &self,
        name: &str,
        family: &str,
        (zone, disk): (&str, &str),
        labels: &BTreeMap<String, String>,
    ) -> Result<(), GceError> {
        let what = format!("creating image `{name}`");
        let body = model::Image::new()
            .set_name(name)
            .set_family(family)
            .set_source_disk(format!("projects/{}/zones/{zone}/disks/{disk}", self.project))
            .set_labels(labels.clone());
        let id = request_id();
        let done = retry(&what, || {
            let request = self.images.insert().set_project(&self.project).set_body(body.clone()).set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        self.settle(&what, Scope::Global, done, Kind::AlreadyExists).await
    }

    /// All images of maestro in the project, by name.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn own_images(&self) -> Result<Vec<Image>, GceError> {
        let filter = format!("labels.{TOOL}={MAESTRO}");
        let mut images = pages(
            "listing images",
            |page| {
                let request = self.images.list().set_project(&self.project).set_filter(&filter).set_page_token(page);
                request.with_retry_policy(NeverRetry).send()
            },
            |list| (list.items.into_iter().map(image_of).collect(), list.next_page_token),
        )
        .await?;
        images.sort_by(|a: &Image, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// All disks of maestro in all zones, by name.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn own_disks(&self) -> Result<Vec<Disk>, GceError> {
        let filter = format!("labels.{TOOL}={MAESTRO}");
        let mut disks = pages(
            "listing disks",
            |page| {
                let request = self.disks.aggregated_list().set_project(&self.project).set_filter(&filter);
                request.set_page_token(page).with_retry_policy(NeverRetry).send()
            },
            |list| {
                let disks = list.items.into_values().flat_map(|scoped| scoped.disks).map(disk_of);
                (disks.collect(), list.next_page_token)
            },
        )
        .await?;
        disks.sort_by(|a: &Disk, b| a.name.cmp(&b.name));
        Ok(disks)
    }

    /// Deletes a disk; one that is gone already is fine.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn delete_disk(&self, zone: &str, name: &str) -> Result<(), GceError> {
        let what = format!("deleting disk `{name}` in {zone}");
        let id = request_id();
        let done = retry(&what, || {
            let request = self.disks.delete().set_project(&self.project).set_zone(zone).set_disk(name);
            let request = request.set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        self.settle(&what, Scope::Zone(zone), done, Kind::NotFound).await
    }

    /// Deletes an image; one that is gone already is fine.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn delete_image(&self, name: &str) -> Result<(), GceError> {
        let what = format!("deleting image `{name}`");
        let id = request_id();
        let done = retry(&what, || {
            let request = self.images.delete().set_project(&self.project).set_image(name).set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        self.settle(&what, Scope::Global, done, Kind::NotFound).await
    }
}

fn image_of(image: model::Image) -> Image {
    Image {
        name: image.name.unwrap_or_default(),
        family: image.family,
        created: image.creation_timestamp.unwrap_or_default(),
        bytes: image.archive_size_bytes.unwrap_or(0),
        labels: image.labels.into_iter().collect(),
    }
}

fn disk_of(disk: model::Disk) -> Disk {
    Disk {
        name: disk.name.unwrap_or_default(),
        zone: last(disk.zone.as_deref()),
        gigabytes: disk.size_gb.unwrap_or(0),
        attached: !disk.users.is_empty(),
        labels: disk.labels.into_iter().collect(),
    }
}
