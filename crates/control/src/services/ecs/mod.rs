//! Amazon ECS.

pub(crate) mod account_settings;
mod attributes;
pub(crate) mod capacity_providers;
pub(crate) mod clusters;
mod container_instances;
pub(crate) mod daemons;
pub(crate) mod lookup;
mod page;
mod register;
pub(crate) mod services;
mod tags;
pub(crate) mod task_definitions;
pub(crate) mod task_sets;
pub(crate) mod tasks;
pub(crate) mod view;

use minato_wire::ApiError;
use minato_wire::ecs::error;

use super::operations;
use crate::coverage::Support;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    error::unsupported_feature_exception(message)
}

const EXPRESS: &str = "Express services need load balancers";

const CLUSTER: Support = Support::Partial(
    "no Cloud Map namespaces, no managed storage with keys of its own; \
     kmsKeyId and the encryption flags of executeCommandConfiguration are \
     kept, and ExecuteCommand refuses them",
);
const VOLUMES: Support =
    Support::Partial("volumes neither encrypted nor of snapshots");

operations! {
    served {
        "CreateCapacityProvider", Support::Partial("Auto Scaling group providers are kept and used for placement, but nothing scales their groups; no managed instances") => capacity_providers::create_capacity_provider;
        "UpdateCapacityProvider", Support::Partial("as CreateCapacityProvider") => capacity_providers::update_capacity_provider;
        "DeleteCapacityProvider", Support::Full => capacity_providers::delete_capacity_provider;
        "DeleteAttributes", Support::Full => attributes::delete_attributes;
        "DeregisterContainerInstance", Support::Full => container_instances::deregister_container_instance;
        "DescribeCapacityProviders", Support::Full => capacity_providers::describe_capacity_providers;
        "DescribeContainerInstances", Support::Partial("no CONTAINER_INSTANCE_HEALTH") => container_instances::describe_container_instances;
        "ListAttributes", Support::Full => attributes::list_attributes;
        "ListContainerInstances", Support::Full => container_instances::list_container_instances;
        "ListTagsForResource", Support::Full => tags::list_tags_for_resource;
        "PutAttributes", Support::Full => attributes::put_attributes;
        "TagResource", Support::Full => tags::tag_resource;
        "UntagResource", Support::Full => tags::untag_resource;
        "UpdateContainerInstancesState", Support::Full => container_instances::update_container_instances_state;
        "CreateCluster", CLUSTER => clusters::create_cluster;
        "DeleteAccountSetting", Support::Full => account_settings::delete_account_setting;
        "DeleteCluster", Support::Full => clusters::delete_cluster;
        "DeleteTaskDefinitions", Support::Full => task_definitions::delete_task_definitions;
        "DeregisterTaskDefinition", Support::Full => task_definitions::deregister_task_definition;
        "DescribeClusters", Support::Full => clusters::describe_clusters;
        "DescribeTaskDefinition", Support::Full => task_definitions::describe_task_definition;
        "ListAccountSettings", Support::Full => account_settings::list_account_settings;
        "ListClusters", Support::Full => clusters::list_clusters;
        "ListTaskDefinitionFamilies", Support::Full => task_definitions::list_task_definition_families;
        "ListTaskDefinitions", Support::Full => task_definitions::list_task_definitions;
        "PutAccountSetting", Support::Full => account_settings::put_account_setting;
        "PutAccountSettingDefault", Support::Full => account_settings::put_account_setting_default;
        "PutClusterCapacityProviders", Support::Full => clusters::put_cluster_capacity_providers;
        "RegisterTaskDefinition", Support::Full => task_definitions::register_task_definition;
        "UpdateCluster", CLUSTER => clusters::update_cluster;
        "UpdateClusterSettings", Support::Full => clusters::update_cluster_settings;
        "DescribeTasks", Support::Full => tasks::describe_tasks;
        "DiscoverPollEndpoint", Support::Full => register::discover_poll_endpoint;
        "ExecuteCommand", Support::Partial("refused where the cluster has kmsKeyId, cloudWatchEncryptionEnabled or s3EncryptionEnabled: there is no KMS") => tasks::execute_command;
        "ListTasks", Support::Full => tasks::list_tasks;
        "RegisterContainerInstance", Support::Full => register::register_container_instance;
        "RunTask", VOLUMES => tasks::run_task;
        "StartTask", VOLUMES => tasks::start_task;
        "StopTask", Support::Full => tasks::stop_task;
        "SubmitAttachmentStateChanges", Support::Full => tasks::submit_attachment_state_changes;
        "SubmitContainerStateChange", Support::Full => tasks::submit_container_state_change;
        "SubmitTaskStateChange", Support::Full => tasks::submit_task_state_change;
        "CreateService", Support::Partial("no load balancers, Service Connect, service registries, alarms or hooks; volumes neither encrypted nor of snapshots; controllers ECS and EXTERNAL, strategy ROLLING") => services::create_service;
        "UpdateService", Support::Partial("as CreateService") => services::update_service;
        "DeleteService", Support::Full => services::delete_service;
        "DescribeServices", Support::Full => services::describe_services;
        "ListServices", Support::Full => services::list_services;
        "ListServicesByNamespace", Support::Partial("there are no Cloud Map namespaces") => services::list_services_by_namespace;
        "DescribeServiceDeployments", Support::Full => services::describe_service_deployments;
        "DescribeServiceRevisions", Support::Full => services::describe_service_revisions;
        "ListServiceDeployments", Support::Full => services::list_service_deployments;
        "StopServiceDeployment", Support::Full => services::stop_service_deployment;
        "ContinueServiceDeployment", Support::Partial("there are no lifecycle hooks, so no deployment ever waits") => services::continue_service_deployment;
        "CreateTaskSet", Support::Partial("no load balancers and service registries") => task_sets::create_task_set;
        "DeleteTaskSet", Support::Full => task_sets::delete_task_set;
        "DescribeTaskSets", Support::Full => task_sets::describe_task_sets;
        "UpdateServicePrimaryTaskSet", Support::Full => task_sets::update_service_primary_task_set;
        "UpdateTaskSet", Support::Full => task_sets::update_task_set;
        "CreateDaemon", Support::Partial("on capacity providers of Auto Scaling groups, for there are no managed instances; its tasks alone are replaced, not their instances; no alarms") => daemons::create_daemon;
        "DeleteDaemon", Support::Full => daemons::delete_daemon;
        "DeleteDaemonTaskDefinition", Support::Full => daemons::delete_daemon_task_definition;
        "DescribeDaemon", Support::Full => daemons::describe_daemon;
        "DescribeDaemonDeployments", Support::Full => daemons::describe_daemon_deployments;
        "DescribeDaemonRevisions", Support::Full => daemons::describe_daemon_revisions;
        "DescribeDaemonTaskDefinition", Support::Full => daemons::describe_daemon_task_definition;
        "ListDaemonDeployments", Support::Full => daemons::list_daemon_deployments;
        "ListDaemonTaskDefinitions", Support::Full => daemons::list_daemon_task_definitions;
        "ListDaemons", Support::Full => daemons::list_daemons;
        "RegisterDaemonTaskDefinition", Support::Full => daemons::register_daemon_task_definition;
        "UpdateDaemon", Support::Partial("as CreateDaemon") => daemons::update_daemon;
        "GetTaskProtection", Support::Full => services::get_task_protection;
        "UpdateTaskProtection", Support::Full => services::update_task_protection;
    }
    refused {
        "CreateExpressGatewayService": EXPRESS;
        "DeleteExpressGatewayService": EXPRESS;
        "DescribeExpressGatewayService": EXPRESS;
        "UpdateContainerAgent": "the agent is part of the binary and is updated with it";
        "UpdateExpressGatewayService": EXPRESS;
    }
}
