//! Changes to machines that are there: labels, time limits, stop and start; and what they write on their console.

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_compute_v1::model::{Duration as ApiDuration, Instance, InstancesSetLabelsRequest, Scheduling};
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;

use super::{Gce, GceError, Scope, request_id, retry};

/// How often labels are set again when somebody else changed them in between.
const LABEL_ATTEMPTS: u32 = 5;

impl Gce {
    /// Sets labels of a machine and leaves its others as they are.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn add_labels(&self, zone: &str, name: &str, labels: &BTreeMap<String, String>) -> Result<(), GceError> {
        let what = format!("labelling machine `{name}` in {zone}");
        let mut attempt = 1;
        loop {
            let found = self.instance(zone, name).await?;
            let mut all = found.labels;
            all.extend(labels.clone());
            let body = InstancesSetLabelsRequest::new()
                .set_labels(all)
                .set_or_clear_label_fingerprint(found.label_fingerprint);
            let id = request_id();
            let done = retry(&what, || {
                let request = self.instances.set_labels().set_project(&self.project).set_zone(zone).set_instance(name);
                let request = request.set_body(body.clone()).set_request_id(&id);
                async move { request.with_retry_policy(NeverRetry).send().await }
            })
            .await;
            match done {
                Ok(operation) => return self.finish(&what, &Scope::Zone(zone), operation).await,
                Err(error) if error.outdated() && attempt < LABEL_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives a stopped machine a new time limit, counted from its next start. Compute Engine refuses it of one that runs.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn set_time_limit(&self, zone: &str, name: &str, max_run: Duration) -> Result<(), GceError> {
        let what = format!("setting the time limit of machine `{name}` in {zone}");
        let seconds = i64::try_from(max_run.as_secs()).unwrap_or(i64::MAX);
        let limit = ApiDuration::new().set_seconds(seconds);
        let before = self.instance(zone, name).await?.scheduling.unwrap_or_default();
        let body: Scheduling = before.set_max_run_duration(limit);
        let id = request_id();
        let operation = retry(&what, || {
            let request = self.instances.set_scheduling().set_project(&self.project).set_zone(zone).set_instance(name);
            let request = request.set_body(body.clone()).set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        self.finish(&what, &Scope::Zone(zone), operation).await
    }

    /// Stops a machine and waits until it has stopped; its disk and its internal address stay.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn stop_vm(&self, zone: &str, name: &str) -> Result<(), GceError> {
        let what = format!("stopping machine `{name}` in {zone}");
        let id = request_id();
        let operation = retry(&what, || {
            let request = self.instances.stop().set_project(&self.project).set_zone(zone).set_instance(name);
            let request = request.set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        self.finish(&what, &Scope::Zone(zone), operation).await
    }

    /// Starts a stopped machine; its external address may be another one then.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn start_vm(&self, zone: &str, name: &str) -> Result<(), GceError> {
        let what = format!("starting machine `{name}` in {zone}");
        let id = request_id();
        let operation = retry(&what, || {
            let request = self.instances.start().set_project(&self.project).set_zone(zone).set_instance(name);
            let request = request.set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        self.finish(&what, &Scope::Zone(zone), operation).await
    }

    /// What a machine wrote on its serial console; Compute Engine keeps the last megabyte while it runs.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn console(&self, zone: &str, name: &str) -> Result<String, GceError> {
        let what = format!("reading the console of machine `{name}` in {zone}");
        let output = retry(&what, || {
            let request = self.instances.get_serial_port_output().set_project(&self.project).set_zone(zone);
            let request = request.set_instance(name);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await?;
        Ok(output.contents.unwrap_or_default())
    }

    async fn instance(&self, zone: &str, name: &str) -> Result<Instance, GceError> {
        let what = format!("looking up machine `{name}` in {zone}");
        retry(&what, || {
            let request = self.instances.get().set_project(&self.project).set_zone(zone).set_instance(name);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await
    }
}
