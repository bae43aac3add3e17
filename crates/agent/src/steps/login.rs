//! User and password for a private registry, from Secrets Manager.
//!
//! They are fetched right before the pull and forgotten after it. A restart
//! of the agent in between has them fetched again.

use std::fmt;

use minato_wire::secretsmanager::GetSecretValueRequest;
use serde::Deserialize;

use super::{ContainerContext, StepError, secrets};
use crate::runtime::RegistryLogin;

/// What the secret holds.
#[derive(Deserialize)]
struct Document {
    username: Option<String>,
    password: Option<String>,
}

/// The first half of a reason in the agent's words, and the second.
struct Failure {
    what: String,
    why: String,
}

impl Failure {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Failure {
        Failure { what: what.into(), why: why.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What to show the image's registry, if the container says so.
pub(super) async fn fetch(
    cx: &ContainerContext,
) -> Result<Option<RegistryLogin>, StepError> {
    let Some(login) = &cx.plan.registry_login else { return Ok(None) };
    let region = secrets::region(cx, login.region.as_deref());
    fetch_from(cx, region, &login.secret).await.map(Some).map_err(|failure| {
        let of_fargate =
            secrets::failed_on_fargate(cx, "asm", &failure.to_string());
        of_fargate.unwrap_or_else(|| StepError::new(failure.what, failure.why))
    })
}

async fn fetch_from(
    cx: &ContainerContext,
    region: &str,
    secret: &str,
) -> Result<RegistryLogin, Failure> {
    let request = GetSecretValueRequest {
        secret_id: Some(secret.to_owned()),
        ..GetSecretValueRequest::default()
    };
    let answer = secrets::secret_value(cx, region, &request).await;
    let answer = answer.map_err(|error| {
        let what = format!("asm fetching secret from the service for {secret}");
        Failure::new(what, error.to_string())
    })?;
    read(&answer.secret_string.unwrap_or_default())
}

fn read(text: &str) -> Result<RegistryLogin, Failure> {
    let of_data =
        |why: &str| Failure::new("asm fetching authorization data", why);
    if text.is_empty() {
        return Err(of_data("empty secrets value"));
    }
    // Not what the parser says: that could show the value.
    let document: Document = serde_json::from_str(text).map_err(|_| {
        of_data("unable to unmarshal secret value, invalid schema")
    })?;
    let given = |field: &str, value: Option<String>| {
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            let what = format!("asm fetching {field}");
            Failure::new(what, "AuthorizationData is malformed, empty field")
        })
    };
    Ok(RegistryLogin {
        username: given("username", document.username)?,
        password: given("password", document.password)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_holds_both_and_its_value_is_in_no_error() {
        let both = r#"{"username":"me","password":"pw","more":1}"#;
        let login = read(both).ok().unwrap();
        let (username, password) = ("me".into(), "pw".into());
        assert_eq!(login, RegistryLogin { username, password });
        let data = "asm fetching authorization data";
        let schema =
            format!("{data}: unable to unmarshal secret value, invalid schema");
        let empty = |field: &str| {
            format!(
                "asm fetching {field}: AuthorizationData is malformed, \
                     empty field"
            )
        };
        for (text, expected) in [
            ("", format!("{data}: empty secrets value")),
            ("hunter2", schema.clone()),
            (r#"{"username":"me","password":2}"#, schema),
            (r#"{"password":"pw"}"#, empty("username")),
            (r#"{"username":"me","password":""}"#, empty("password")),
            (r#"{"username":"me","password":null}"#, empty("password")),
        ] {
            let failure = read(text).err().unwrap();
            assert_eq!(failure.to_string(), expected, "{text}");
        }
    }
}
