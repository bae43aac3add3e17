//! Secrets: values fetched from Secrets Manager and the Parameter Store
//! before anything else of the container, and given to it when it starts.
//!
//! They are in memory and nowhere else. After a restart of the agent they
//! are fetched again, should the container not have started yet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use minato_wire::secretsmanager::{
    GetSecretValueRequest, GetSecretValueResponse,
};
use minato_wire::ssm::{GetParametersRequest, GetParametersResult, Parameter};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{ContainerContext, Step, StepError};
use crate::api::{ApiCallError, ApiService, call};
use crate::backoff;
use crate::runtime::SecretEnv;
use crate::task::plan::{SecretPlan, SecretStore};
use crate::task::record::ContainerFacts;

/// Most names of one `GetParameters` (API reference).
const NAMES_MAX: usize = 10;
/// Calls that had no answer are repeated so often.
const ATTEMPTS: u32 = 5;
/// Waits between them: the first and the longest.
const WAITS: [Duration; 2] =
    [Duration::from_millis(200), Duration::from_secs(2)];

/// A container's secrets, fetched once.
#[derive(Clone, Default)]
pub struct SecretCell(Arc<OnceCell<SecretEnv>>);

impl fmt::Debug for SecretCell {
    // Never prints a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretCell").field(&self.0.initialized()).finish()
    }
}

pub(super) struct FetchSecrets;

impl Step<ContainerContext, ContainerFacts> for FetchSecrets {
    fn name(&self) -> &'static str {
        "secrets"
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { for_start(cx, facts).await.map(drop) })
    }

    fn down<'a>(
        &'a self,
        _cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What the start of a container needs; nothing where it has started, which
/// an agent finds that goes through the steps again.
pub(super) async fn for_start(
    cx: &ContainerContext,
    facts: &ContainerFacts,
) -> Result<SecretEnv, StepError> {
    match facts.started_at_ms {
        Some(_) => Ok(SecretEnv::default()),
        None => fetched(cx).await.cloned(),
    }
}

/// The container's secrets, fetched now if they were not.
pub(super) async fn fetched(
    cx: &ContainerContext,
) -> Result<&SecretEnv, StepError> {
    cx.secrets.0.get_or_try_init(|| fetch(cx)).await
}

async fn fetch(cx: &ContainerContext) -> Result<SecretEnv, StepError> {
    let mut variables = vec![];
    for secret in &cx.plan.secrets {
        if secret.store == SecretStore::SecretsManager {
            let value = of_secrets_manager(cx, secret).await;
            let value = value.map_err(|why| failed(cx, secret, &why))?;
            variables.push((secret.name.clone(), value));
        }
    }
    let mut by_region = BTreeMap::<&str, Vec<&SecretPlan>>::new();
    for secret in &cx.plan.secrets {
        if secret.store == SecretStore::ParameterStore {
            let region = region(cx, secret.region.as_deref());
            by_region.entry(region).or_default().push(secret);
        }
    }
    for secrets in by_region.into_values() {
        variables.extend(of_parameter_store(cx, &secrets).await?);
    }
    Ok(SecretEnv::new(variables))
}

/// A secret's own region, or else the agent's.
pub(super) fn region<'a>(
    cx: &'a ContainerContext,
    own: Option<&'a str>,
) -> &'a str {
    let own = own.filter(|region| !region.is_empty());
    own.unwrap_or(&cx.task.services.config.region)
}

/// Fargate's words for a secret that could not be had; none elsewhere.
pub(super) fn failed_on_fargate(
    cx: &ContainerContext,
    service: &str,
    why: &str,
) -> Option<StepError> {
    cx.task.plan.is_fargate().then(|| {
        StepError::new(
            "ResourceInitializationError",
            format!(
                "unable to pull secrets or registry auth: execution resource \
                 retrieval failed: unable to retrieve secret from {service}: \
                 {why}"
            ),
        )
    })
}

/// Asks Secrets Manager.
pub(super) async fn secret_value(
    cx: &ContainerContext,
    region: &str,
    request: &GetSecretValueRequest,
) -> Result<GetSecretValueResponse, ApiCallError> {
    let api = &*cx.task.services.api;
    let service = ApiService::SecretsManager;
    patiently(|| call(api, service, region, "GetSecretValue", request)).await
}

/// The words of ECS: Fargate's, or those of the agent on an instance.
fn failed(cx: &ContainerContext, secret: &SecretPlan, why: &str) -> StepError {
    let region = region(cx, secret.region.as_deref());
    let (service, from) = match secret.store {
        SecretStore::SecretsManager => {
            ("asm", format!("AWS Secrets Manager in region {region}"))
        }
        SecretStore::ParameterStore => {
            ("ssm", format!("SSM Parameter Store in {region}"))
        }
    };
    failed_on_fargate(cx, service, why).unwrap_or_else(|| {
        StepError::new(format!("Fetching secret data from {from}"), why)
    })
}

async fn of_secrets_manager(
    cx: &ContainerContext,
    secret: &SecretPlan,
) -> Result<String, String> {
    let wanted = Reference::of(&secret.value_from);
    let request = GetSecretValueRequest {
        secret_id: Some(wanted.id.into_owned()),
        version_id: wanted.version_id.map(str::to_owned),
        version_stage: wanted.version_stage.map(str::to_owned),
    };
    let region = region(cx, secret.region.as_deref());
    let answer = secret_value(cx, region, &request)
        .await
        .map_err(|error| format!("secret {}: {error}", secret.value_from))?;
    let Some(whole) = answer.secret_string else {
        return Err(format!(
            "secret {}: it is binary, and a variable is text",
            secret.value_from
        ));
    };
    let Some(key) = wanted.json_key else { return Ok(whole) };
    let document: Value = serde_json::from_str(&whole).map_err(|_| {
        // Not what the parser says: that could show the value.
        format!("secret {}: the value is not JSON", secret.value_from)
    })?;
    match document.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(format!(
            "retrieved secret from Secrets Manager did not contain json key \
             {key}"
        )),
    }
}

/// `arn:...:secret:NAME[:json-key:version-stage:version-id]`.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    id: Cow<'a, str>,
    json_key: Option<&'a str>,
    version_stage: Option<&'a str>,
    version_id: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn of(value_from: &'a str) -> Reference<'a> {
        /// Colons before the json key in an ARN.
        const ARN_PARTS: usize = 7;
        let parts: Vec<&str> = value_from.split(':').collect();
        let given =
            |at: usize| parts.get(at).copied().filter(|text| !text.is_empty());
        if parts.len() <= ARN_PARTS || parts[0] != "arn" {
            let (json_key, version_stage, version_id) = (None, None, None);
            let id = Cow::Borrowed(value_from);
            return Reference { id, json_key, version_stage, version_id };
        }
        Reference {
            id: Cow::Owned(parts[..ARN_PARTS].join(":")),
            json_key: given(ARN_PARTS),
            version_stage: given(ARN_PARTS + 1),
            version_id: given(ARN_PARTS + 2),
        }
    }
}

async fn of_parameter_store(
    cx: &ContainerContext,
    secrets: &[&SecretPlan],
) -> Result<Vec<(String, String)>, StepError> {
    let mut names: Vec<&str> =
        secrets.iter().map(|secret| secret.value_from.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut found: Vec<Parameter> = vec![];
    for names in names.chunks(NAMES_MAX) {
        let request = GetParametersRequest {
            names: Some(names.iter().map(|&name| name.to_owned()).collect()),
            with_decryption: Some(true),
        };
        let answer: GetParametersResult = patiently(|| {
            let services = &cx.task.services;
            let region = region(cx, secrets[0].region.as_deref());
            let service = ApiService::Ssm;
            call(&*services.api, service, region, "GetParameters", &request)
        })
        .await
        .map_err(|error| failed(cx, secrets[0], &error.to_string()))?;
        let invalid = answer.invalid_parameters.unwrap_or_default();
        if !invalid.is_empty() {
            let why = format!("invalid parameters: {}", invalid.join(", "));
            return Err(failed(cx, secrets[0], &why));
        }
        found.extend(answer.parameters.into_iter().flatten());
    }
    secrets
        .iter()
        .map(|secret| {
            let value = found.iter().find(|p| is_named(p, &secret.value_from));
            let value = value.and_then(|parameter| parameter.value.clone());
            let missing = || {
                let why = format!("invalid parameters: {}", secret.value_from);
                failed(cx, secret, &why)
            };
            Ok((secret.name.clone(), value.ok_or_else(missing)?))
        })
        .collect()
}

/// Whether a name or ARN, perhaps with a version or label, means it.
fn is_named(parameter: &Parameter, name: &str) -> bool {
    let selector = parameter.selector.as_deref().unwrap_or_default();
    let base = name.strip_suffix(selector).unwrap_or(name);
    [&parameter.name, &parameter.arn]
        .into_iter()
        .any(|known| known.as_deref() == Some(base))
}

/// Repeats a call that had no answer, or one that passes.
async fn patiently<T, F>(call: impl FnMut() -> F) -> Result<T, ApiCallError>
where
    F: Future<Output = Result<T, ApiCallError>>,
{
    let is_transient = ApiCallError::is_transient;
    backoff::patiently(ATTEMPTS, WAITS, is_transient, call).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_by_its_places() {
        let arn = "arn:aws:secretsmanager:us-east-1:1:secret:db-AbCdEf";
        let of = |rest: &str| {
            let text = format!("{arn}{rest}");
            let Reference { id, json_key, version_stage, version_id } =
                Reference::of(&text);
            assert_eq!(id, arn);
            [json_key, version_stage, version_id]
                .map(|part| part.unwrap_or_default().to_owned())
        };
        assert_eq!(of(""), ["", "", ""]);
        assert_eq!(of(":user::"), ["user", "", ""]);
        assert_eq!(of("::AWSPREVIOUS:"), ["", "AWSPREVIOUS", ""]);
        assert_eq!(of(":::some-id"), ["", "", "some-id"]);
        assert_eq!(of(":user:AWSPENDING:"), ["user", "AWSPENDING", ""]);
        assert_eq!(Reference::of("by-name").id, "by-name");
    }

    #[test]
    fn a_parameter_is_known_by_name_arn_and_selector() {
        let parameter = Parameter {
            name: Some("/app/url".into()),
            arn: Some("arn:aws:ssm:us-east-1:1:parameter/app/url".into()),
            selector: Some(":3".into()),
            ..Parameter::default()
        };
        for name in [
            "/app/url:3",
            "/app/url",
            "arn:aws:ssm:us-east-1:1:parameter/app/url:3",
        ] {
            assert!(is_named(&parameter, name), "{name}");
        }
        assert!(!is_named(&parameter, "/app/ur"));
    }
}
