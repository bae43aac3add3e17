//! Rules of the list of containers, their names, images and sizes.

use std::collections::BTreeSet;

use minato_wire::ecs::{ContainerDefinition, NetworkMode, TaskDefinition};

use super::{CONTAINERS_MAX, containers, name, text};
use crate::name::is_name;
use crate::rule::RuleError;

/// The longest image reference, without its digest.
const IMAGE_LENGTH_MAX: usize = 255;

/// Docker's most CPU shares.
const CPU_SHARES_MAX: i32 = 262_144;

fn names(definition: &TaskDefinition) -> Result<(), RuleError> {
    let mut names = BTreeSet::new();
    for container in containers(definition) {
        let name = name(container);
        if name.is_empty() {
            return Err(RuleError::client(
                "Container.name should not be null or empty.",
            ));
        }
        if !is_name(name) {
            return Err(RuleError::client(format!(
                "Container.name contains invalid characters: '{name}'."
            )));
        }
        if !names.insert(name) {
            return Err(RuleError::client(format!(
                "Container.name must be unique. '{name}' is used more than \
                 once."
            )));
        }
    }
    Ok(())
}

pub(super) fn list(definition: &TaskDefinition) -> Result<(), RuleError> {
    let containers = containers(definition);
    if containers.is_empty() {
        return Err(RuleError::client("Container list cannot be empty."));
    }
    if containers.len() > CONTAINERS_MAX {
        return Err(RuleError::client(format!(
            "Container list cannot have more than {CONTAINERS_MAX} \
             containers."
        )));
    }
    names(definition)?;
    for container in containers {
        image(container)?;
        settings(definition, container)?;
    }
    if containers.iter().all(|each| each.essential == Some(false)) {
        return Err(RuleError::client(
            "At least one container in the task definition must be \
             essential.",
        ));
    }
    Ok(())
}

fn image(container: &ContainerDefinition) -> Result<(), RuleError> {
    let image = text(&container.image);
    if image.is_empty() {
        return Err(RuleError::client(
            "Container.image should not be null or empty.",
        ));
    }
    let (reference, digest) = match image.split_once('@') {
        Some((reference, digest)) => (reference, Some(digest)),
        None => (image, None),
    };
    let digest_is_good = digest.is_none_or(|digest| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"-_:./#".contains(&b);
    if !reference.bytes().all(is_good) || reference.is_empty() {
        return Err(RuleError::client(
            "Container.image contains invalid characters.",
        ));
    }
    if reference.len() > IMAGE_LENGTH_MAX || !digest_is_good {
        return Err(RuleError::client(format!(
            "Container.image of container '{}' must have at most \
             {IMAGE_LENGTH_MAX} characters and a digest of the form \
             sha256:HEX.",
            name(container)
        )));
    }
    if let Some(credentials) = &container.repository_credentials
        && text(&credentials.credentials_parameter).is_empty()
    {
        return Err(RuleError::client(format!(
            "Invalid setting for container '{}'. \
             'repositoryCredentials.credentialsParameter' should not be null \
             or empty.",
            name(container)
        )));
    }
    Ok(())
}

fn settings(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
) -> Result<(), RuleError> {
    let awsvpc = definition.network_mode == Some(NetworkMode::Awsvpc);
    if awsvpc && container.hostname.is_some() {
        return Err(RuleError::client(
            "Hostname is not supported on container when networkMode=awsvpc.",
        ));
    }
    if awsvpc && !super::list(&container.extra_hosts).is_empty() {
        return Err(RuleError::client(
            "Extra hosts are not supported when networkMode=awsvpc.",
        ));
    }
    resolver(container)?;
    for entry in super::list(&container.extra_hosts) {
        let address = text(&entry.ip_address).parse::<std::net::IpAddr>();
        if !is_host_name(text(&entry.hostname)) || address.is_err() {
            return Err(RuleError::client(format!(
                "Invalid setting for container '{}'. Each of 'extraHosts' \
                 must have a hostname and an IP address.",
                name(container)
            )));
        }
    }
    let specs = super::list(&container.credential_specs);
    let spec_is_good = |spec: &String| {
        ["credentialspec:", "credentialspecdomainless:"]
            .iter()
            .any(|prefix| spec.starts_with(prefix))
    };
    if specs.len() > 1 || !specs.iter().all(spec_is_good) {
        return Err(RuleError::client(format!(
            "Invalid setting for container '{}'. 'credentialSpecs' must be \
             one of credentialspec:ARN or credentialspecdomainless:ARN.",
            name(container)
        )));
    }
    Ok(())
}

/// Docker takes addresses as name servers and names as search domains; the
/// texts become lines of the container's `/etc/resolv.conf`.
fn resolver(container: &ContainerDefinition) -> Result<(), RuleError> {
    let invalid = |setting: &str, given: &str, what: &str| {
        Err(RuleError::client(format!(
            "Invalid '{setting}' setting for container '{}'. '{given}' is \
             not {what}.",
            name(container)
        )))
    };
    for server in super::list(&container.dns_servers) {
        if server.parse::<std::net::IpAddr>().is_err() {
            return invalid("dnsServers", server, "an IP address");
        }
    }
    for domain in super::list(&container.dns_search_domains) {
        // A lone dot is Docker's way to ask for no search domain at all.
        if domain != "." && !is_host_name(domain) {
            return invalid("dnsSearchDomains", domain, "a domain");
        }
    }
    Ok(())
}

fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=253).contains(&name.len()) && name.bytes().all(plain)
}

pub(super) fn sizes(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        size(definition, container)?;
    }
    Ok(())
}

fn size(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
) -> Result<(), RuleError> {
    let name = name(container);
    let invalid = |setting: &str, why: &str| {
        Err(RuleError::client(format!(
            "Invalid '{setting}' setting for container '{name}'. {why}"
        )))
    };
    if !(0..=CPU_SHARES_MAX).contains(&container.cpu.unwrap_or(0)) {
        return invalid("cpu", "It must be between 0 and 262144.");
    }
    if container.memory.is_some_and(|memory| memory <= 0) {
        return invalid("memory", "It must be greater than 0.");
    }
    if container.memory_reservation.is_some_and(|memory| memory <= 0) {
        return invalid("memoryReservation", "It must be greater than 0.");
    }
    match (container.memory, container.memory_reservation) {
        (None, None) if definition.memory.is_none() => {
            Err(RuleError::client(format!(
                "Invalid setting for container '{name}'. At least one of \
                 'memory' or 'memoryReservation' must be specified."
            )))
        }
        (Some(hard), Some(soft)) if hard < soft => {
            invalid("memory", "It must not be less than 'memoryReservation'.")
        }
        _ => Ok(()),
    }
}
