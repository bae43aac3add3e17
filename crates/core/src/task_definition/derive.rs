//! What ECS derives from a definition: `compatibilities` and
//! `requiresAttributes`.

use std::collections::BTreeSet;

use minato_wire::ecs::{
    Attribute, Compatibility, ContainerDefinition, EFSAuthorizationConfigIAM,
    FirelensConfigurationType, LogConfiguration, LogDriver, NetworkMode,
    Secret, TaskDefinition,
};

use super::{containers, launch, list, text};

/// The launch types that can run the definition.
///
/// `MANAGED_INSTANCES` is listed only where it was asked for: newer accounts
/// see it everywhere, and clients that know three values should not trip.
pub fn compatibilities(definition: &TaskDefinition) -> Vec<Compatibility> {
    let required = list(&definition.requires_compatibilities);
    [
        Compatibility::External,
        Compatibility::Ec2,
        Compatibility::ManagedInstances,
        Compatibility::Fargate,
    ]
    .into_iter()
    .filter(|launch| launch::runs_on(definition, *launch).is_ok())
    .filter(|launch| {
        *launch != Compatibility::ManagedInstances || required.contains(launch)
    })
    .collect()
}

/// Whether an image is in a private ECR registry:
/// `ACCOUNT.dkr.ecr.REGION.amazonaws.com/...`.
pub fn is_ecr_image(image: &str) -> bool {
    let host = image.split('/').next().unwrap_or_default();
    host.contains(".dkr.ecr.") && host.contains(".amazonaws.com")
}

/// The names, each once.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn ecs(&mut self, name: &str) {
        self.0.insert(format!("ecs.capability.{name}"));
    }

    fn amazon(&mut self, name: &str) {
        self.0.insert(format!("com.amazonaws.ecs.capability.{name}"));
    }

    fn api(&mut self, version: &str) {
        self.amazon(&format!("docker-remote-api.{version}"));
    }
}

/// The attributes a container instance must have to run the definition.
pub fn requires_attributes(definition: &TaskDefinition) -> Vec<Attribute> {
    let mut names = Names::default();
    of_task(definition, &mut names);
    of_volumes(definition, &mut names);
    for container in containers(definition) {
        of_container(definition, container, &mut names);
        of_secrets(
            list(&container.secrets),
            "environment-variables",
            &mut names,
        );
        if let Some(log) = &container.log_configuration {
            of_log(definition, log, &mut names);
        }
        of_firelens(container, &mut names);
    }
    names
        .0
        .into_iter()
        .map(|name| Attribute { name: Some(name), ..Attribute::default() })
        .collect()
}

fn of_task(definition: &TaskDefinition, names: &mut Names) {
    let mode = definition.network_mode;
    if mode == Some(NetworkMode::Awsvpc) {
        names.ecs("task-eni");
        names.api("1.18");
    }
    if !text(&definition.task_role_arn).is_empty() {
        names.amazon(if mode == Some(NetworkMode::Host) {
            "task-iam-role-network-host"
        } else {
            "task-iam-role"
        });
    }
    // A task that may go to Fargate has sizes there anyway; the attribute is
    // what an EC2 instance needs.
    if definition.cpu.is_some() || definition.memory.is_some() {
        let fargate = list(&definition.requires_compatibilities)
            .contains(&Compatibility::Fargate);
        if !fargate {
            names.ecs("task-cpu-mem-limit");
        }
    }
    if definition.pid_mode.is_some() || definition.ipc_mode.is_some() {
        names.ecs("pid-ipc-namespace-sharing");
    }
    if definition.proxy_configuration.is_some() {
        names.ecs("aws-appmesh");
    }
    if definition.enable_fault_injection == Some(true) {
        names.ecs("fault-injection");
    }
    if definition.ephemeral_storage.is_some() {
        names.ecs("extensible-ephemeral-storage");
    }
    if !list(&definition.inference_accelerators).is_empty() {
        names.ecs("task-eia");
    }
}

fn of_volumes(definition: &TaskDefinition, names: &mut Names) {
    for volume in list(&definition.volumes) {
        if let Some(docker) = &volume.docker_volume_configuration {
            let driver = Some(text(&docker.driver))
                .filter(|driver| !driver.is_empty())
                .unwrap_or("local");
            names.ecs(&format!("docker-plugin.{driver}"));
            names.api("1.25");
        }
        if let Some(efs) = &volume.efs_volume_configuration {
            let authorization = efs.authorization_config.as_ref();
            let with_auth = authorization.is_some_and(|config| {
                !text(&config.access_point_id).is_empty()
                    || config.iam == Some(EFSAuthorizationConfigIAM::Enabled)
            });
            names.ecs(if with_auth { "efsAuth" } else { "efs" });
            names.api("1.25");
        }
        if volume.fsx_windows_file_server_volume_configuration.is_some() {
            names.ecs("fsxWindowsFileServer");
        }
        if volume.s3files_volume_configuration.is_some() {
            names.ecs("storage.s3-files");
        }
        if volume.configured_at_launch == Some(true) {
            names.ecs("storage.ebs-task-volume-attach");
        }
    }
}

fn of_container(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
    names: &mut Names,
) {
    if is_ecr_image(text(&container.image)) {
        names.amazon("ecr-auth");
        names.api("1.19");
        if !text(&definition.execution_role_arn).is_empty() {
            names.ecs("execution-role-ecr-pull");
            names.api("1.29");
        }
    }
    if container.privileged == Some(true) {
        names.amazon("privileged-container");
    }
    for option in list(&container.docker_security_options) {
        if option.starts_with("label") {
            names.amazon("selinux");
        } else if option.starts_with("apparmor") {
            names.amazon("apparmor");
        }
    }
    if container.health_check.is_some() {
        names.ecs("container-health-check");
        names.api("1.24");
    }
    if !list(&container.depends_on).is_empty() {
        names.ecs("container-ordering");
    }
    if container.repository_credentials.is_some() {
        names.ecs("private-registry-authentication.secretsmanager");
    }
    if !list(&container.environment_files).is_empty() {
        names.ecs("env-files.s3");
    }
    let ranges = list(&container.port_mappings)
        .iter()
        .any(|mapping| mapping.container_port_range.is_some());
    if ranges {
        names.ecs("network.container-port-range");
    }
    let restarts = container.restart_policy.as_ref();
    if restarts.is_some_and(|policy| policy.enabled == Some(true)) {
        names.ecs("container-restart-policy");
    }
    for spec in list(&container.credential_specs) {
        names.ecs(if spec.starts_with("credentialspecdomainless:") {
            "gmsa-domainless"
        } else {
            "gmsa"
        });
    }
    of_linux(container, names);
}

fn of_linux(container: &ContainerDefinition, names: &mut Names) {
    let Some(parameters) = &container.linux_parameters else {
        return;
    };
    if parameters.init_process_enabled == Some(true) {
        names.api("1.25");
    }
    if !list(&parameters.tmpfs).is_empty()
        || parameters.shared_memory_size.is_some()
    {
        names.api("1.22");
    }
}

fn of_secrets(secrets: &[Secret], target: &str, names: &mut Names) {
    for secret in secrets {
        let from = text(&secret.value_from);
        let arn = from.split(':').nth(2).unwrap_or_default();
        let store = if arn == "secretsmanager" { "asm" } else { "ssm" };
        names.ecs(&format!("secrets.{store}.{target}"));
    }
}

fn of_log(
    definition: &TaskDefinition,
    log: &LogConfiguration,
    names: &mut Names,
) {
    let Some(driver) = log.log_driver else {
        return;
    };
    names.amazon(&format!("logging-driver.{driver}"));
    of_secrets(list(&log.secret_options), "bootstrap.log-driver", names);
    match driver {
        LogDriver::Awslogs => {
            names.api("1.19");
            if !text(&definition.execution_role_arn).is_empty() {
                names.ecs("execution-role-awslogs");
                names.api("1.29");
            }
        }
        LogDriver::Awsfirelens => {
            let limited = log.options.as_ref().is_some_and(|options| {
                options.contains_key("log-driver-buffer-limit")
            });
            if limited {
                names.ecs("logging-driver.awsfirelens.log-driver-buffer-limit");
            }
        }
        LogDriver::Splunk => names.api("1.22"),
        LogDriver::JsonFile
        | LogDriver::Syslog
        | LogDriver::Journald
        | LogDriver::Gelf
        | LogDriver::Fluentd => {}
    }
}

fn of_firelens(container: &ContainerDefinition, names: &mut Names) {
    let Some(config) = &container.firelens_configuration else {
        return;
    };
    match config.r#type {
        Some(FirelensConfigurationType::Fluentd) => {
            names.ecs("firelens.fluentd");
        }
        Some(FirelensConfigurationType::Fluentbit) => {
            names.ecs("firelens.fluentbit");
        }
        None => {}
    }
    let kind = config
        .options
        .as_ref()
        .and_then(|options| options.get("config-file-type"));
    if let Some(kind) = kind {
        names.ecs(&format!("firelens.options.config.{kind}"));
    }
}
