//! A running Minato, as the commands reach it: over HTTP, signed with the
//! root key of its data directory.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use minato_client::{
    ApiClient, CallError, Credentials, Endpoint, HttpTransport,
};
use minato_wire::{ecs, logs, minato};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::home::{Home, Running};
use crate::machine::SystemClock;

/// Shortest beginning of a task id that is looked up: shorter ones are typed
/// by accident.
const ID_MIN: usize = 3;

/// The API of a running Minato.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: ApiClient,
    /// The process behind it.
    pub(crate) running: Running,
}

impl Api {
    /// Connects to the Minato of a home.
    pub(crate) fn of(home: &Home) -> Result<Api> {
        let running = home.running()?;
        let keys = home.existing_keys()?;
        let client = ApiClient::new(
            HttpTransport::new(),
            Endpoint::parse(&running.endpoint())?,
            Credentials {
                access_key_id: keys.root.access_key_id,
                secret_access_key: keys.root.secret_access_key,
                session_token: None,
            },
            &running.region,
            Arc::new(SystemClock),
        );
        Ok(Api { client, running })
    }

    /// Calls ECS.
    pub(crate) async fn ecs<I, O>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O>
    where
        I: Serialize + Sync,
        O: DeserializeOwned,
    {
        let called = self.client.call(&ecs::SERVICE, operation, input).await;
        called.map_err(plain)
    }

    /// Calls Minato's own API.
    pub(crate) async fn minato<I, O>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O>
    where
        I: Serialize + Sync,
        O: DeserializeOwned,
    {
        let called = self.client.call(&minato::SERVICE, operation, input).await;
        called.map_err(plain)
    }

    /// Calls CloudWatch Logs.
    pub(crate) async fn logs<I, O>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, CallError>
    where
        I: Serialize + Sync,
        O: DeserializeOwned,
    {
        self.client.call(&logs::SERVICE, operation, input).await
    }

    /// Names of all clusters.
    pub(crate) async fn clusters(&self) -> Result<Vec<String>> {
        let mut arns = vec![];
        let mut next_token = None;
        loop {
            let page: ecs::ListClustersResponse = self
                .ecs(
                    "ListClusters",
                    &ecs::ListClustersRequest {
                        next_token,
                        ..Default::default()
                    },
                )
                .await?;
            arns.extend(page.cluster_arns.unwrap_or_default());
            next_token = page.next_token;
            if next_token.is_none() {
                return Ok(arns);
            }
        }
    }

    /// Tasks of all clusters; stopped ones too if `all`.
    pub(crate) async fn tasks(&self, all: bool) -> Result<Vec<ecs::Task>> {
        let mut tasks = vec![];
        for cluster in self.clusters().await? {
            let mut arns =
                self.list(&cluster, ecs::DesiredStatus::Running).await?;
            if all {
                let stopped = ecs::DesiredStatus::Stopped;
                arns.extend(self.list(&cluster, stopped).await?);
            }
            for batch in arns.chunks(100) {
                tasks.extend(self.describe(&cluster, batch).await?);
            }
        }
        tasks.sort_by_key(|task| task.created_at);
        Ok(tasks)
    }

    async fn list(
        &self,
        cluster: &str,
        desired: ecs::DesiredStatus,
    ) -> Result<Vec<String>> {
        let mut arns = vec![];
        let mut next_token = None;
        loop {
            let page: ecs::ListTasksResponse = self
                .ecs(
                    "ListTasks",
                    &ecs::ListTasksRequest {
                        cluster: Some(cluster.to_owned()),
                        desired_status: Some(desired),
                        next_token,
                        ..Default::default()
                    },
                )
                .await?;
            arns.extend(page.task_arns.unwrap_or_default());
            next_token = page.next_token;
            if next_token.is_none() {
                return Ok(arns);
            }
        }
    }

    /// Describes tasks of one cluster.
    pub(crate) async fn describe(
        &self,
        cluster: &str,
        tasks: &[String],
    ) -> Result<Vec<ecs::Task>> {
        if tasks.is_empty() {
            return Ok(vec![]);
        }
        let found: ecs::DescribeTasksResponse = self
            .ecs(
                "DescribeTasks",
                &ecs::DescribeTasksRequest {
                    cluster: Some(cluster.to_owned()),
                    tasks: Some(tasks.to_vec()),
                    ..Default::default()
                },
            )
            .await?;
        Ok(found.tasks.unwrap_or_default())
    }

    /// The one task that an id, the beginning of one, or an ARN means.
    pub(crate) async fn find(&self, given: &str) -> Result<ecs::Task> {
        let id = given.rsplit('/').next().unwrap_or(given);
        if id.len() < ID_MIN {
            bail!("{given:?} is too short to name a task");
        }
        let mut found: Vec<ecs::Task> = self
            .tasks(true)
            .await?
            .into_iter()
            .filter(|task| id_of(task).starts_with(id))
            .collect();
        match found.len() {
            0 => {
                bail!("there is no task {given}; `minato ps --all` lists them")
            }
            1 => found.pop().context("one task was found"),
            many => {
                bail!("{many} tasks begin with {given}; give more of the id")
            }
        }
    }

    /// The services that a name or an ARN means, of all clusters.
    pub(crate) async fn services(
        &self,
        given: &str,
    ) -> Result<Vec<ecs::Service>> {
        let name = given.rsplit('/').next().unwrap_or(given);
        let mut services = vec![];
        for cluster in self.clusters().await? {
            let found: ecs::DescribeServicesResponse = self
                .ecs(
                    "DescribeServices",
                    &ecs::DescribeServicesRequest {
                        cluster: Some(cluster),
                        services: Some(vec![name.to_owned()]),
                        ..Default::default()
                    },
                )
                .await?;
            services.extend(found.services.unwrap_or_default());
        }
        if given.starts_with("arn:") {
            services.retain(|one| one.service_arn.as_deref() == Some(given));
        }
        Ok(services)
    }

    /// The definition of a task.
    pub(crate) async fn definition(
        &self,
        task: &ecs::Task,
    ) -> Result<ecs::TaskDefinition> {
        let described: ecs::DescribeTaskDefinitionResponse = self
            .ecs(
                "DescribeTaskDefinition",
                &ecs::DescribeTaskDefinitionRequest {
                    task_definition: task.task_definition_arn.clone(),
                    ..Default::default()
                },
            )
            .await?;
        described.task_definition.context("the answer holds no definition")
    }

    /// Decides that a task stops.
    pub(crate) async fn stop(
        &self,
        task: &ecs::Task,
        reason: Option<String>,
    ) -> Result<()> {
        let _: ecs::StopTaskResponse = self
            .ecs(
                "StopTask",
                &ecs::StopTaskRequest {
                    cluster: task.cluster_arn.clone(),
                    task: task.task_arn.clone(),
                    reason,
                },
            )
            .await?;
        Ok(())
    }
}

/// What the API said, without the chain of a transport around it.
fn plain(error: CallError) -> anyhow::Error {
    if let CallError::Api(error) = error {
        return anyhow::anyhow!("{}: {}", error.code(), error.message());
    }
    anyhow::Error::new(error)
}

/// The id of a task.
pub(crate) fn id_of(task: &ecs::Task) -> &str {
    let arn = task.task_arn.as_deref().unwrap_or_default();
    arn.rsplit('/').next().unwrap_or_default()
}

/// The address of a task with a network interface of its own.
pub(crate) fn address_of(task: &ecs::Task) -> Option<&str> {
    task.containers
        .iter()
        .flatten()
        .flat_map(|container| container.network_interfaces.iter().flatten())
        .find_map(|interface| interface.private_ipv4_address.as_deref())
}

/// Runs a command's future.
pub(crate) fn block_on<T>(
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(future)
}
