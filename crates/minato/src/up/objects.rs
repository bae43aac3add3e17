//! Where environment files are fetched from, and with which key.

use std::env::VarError;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use minato_agent::objects::S3Config;
use minato_client::Credentials;

use crate::args::UpArgs;

const KEY_ID_VARIABLE: &str = "MINATO_S3_ACCESS_KEY_ID";
const SECRET_VARIABLE: &str = "MINATO_S3_SECRET_ACCESS_KEY";

/// What the agent is to know of S3: nothing without an endpoint.
pub(super) fn config(args: &UpArgs) -> Result<Option<S3Config>> {
    let Some(endpoint) = args.s3.s3_endpoint.clone() else { return Ok(None) };
    let given = [variable(KEY_ID_VARIABLE)?, variable(SECRET_VARIABLE)?];
    let file = args.s3.s3_credentials_file.as_deref();
    let credentials = key(given, file)?;
    let region = args.s3.s3_region.as_ref().unwrap_or(&args.region).clone();
    Ok(Some(S3Config { endpoint, region, credentials }))
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(error @ VarError::NotUnicode(_)) => {
            Err(error).with_context(|| format!("the variable {name}"))
        }
    }
}

fn key(
    given: [Option<String>; 2],
    file: Option<&Path>,
) -> Result<Option<Credentials>> {
    match (given, file) {
        ([None, None], None) => Ok(None),
        ([None, None], Some(path)) => {
            let text = fs::read_to_string(path).with_context(|| {
                format!("could not read {}", path.display())
            })?;
            let key = parse(&text);
            let key = key.with_context(|| {
                format!("the key for S3 in {}", path.display())
            })?;
            Ok(Some(key))
        }
        ([Some(access_key_id), Some(secret_access_key)], None) => {
            Ok(Some(Credentials {
                access_key_id,
                secret_access_key,
                session_token: None,
            }))
        }
        ([Some(_), None] | [None, Some(_)], None) => bail!(
            "of {KEY_ID_VARIABLE} and {SECRET_VARIABLE} one is set and the \
             other is not"
        ),
        (_, Some(_)) => bail!(
            "the key for S3 is given twice: in the environment and as \
             --s3-credentials-file"
        ),
    }
}

/// Reads the first profile of a file such as `~/.aws/credentials`.
fn parse(text: &str) -> Result<Credentials> {
    let mut profiles = 0;
    let [mut id, mut secret, mut token] = [None, None, None];
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            profiles += 1;
        }
        if profiles > 1 {
            break;
        }
        if line.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = Some(value.trim().to_owned()).filter(|v| !v.is_empty());
        match name.trim() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    // Never a line of it: that could show the secret.
    Ok(Credentials {
        access_key_id: id.context("it has no aws_access_key_id")?,
        secret_access_key: secret.context("it has no aws_secret_access_key")?,
        session_token: token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_the_aws_cli_writes_it() {
        let text = "# mine\n[default]\naws_access_key_id = AKID\n\
                    aws_secret_access_key=a+b/c==\n\n\
                    [other]\naws_access_key_id = OTHER\n";
        let key = parse(text).unwrap();
        assert_eq!(key.access_key_id, "AKID");
        assert_eq!(key.secret_access_key, "a+b/c==");
        assert_eq!(key.session_token, None);
        let with_token = text.replace("# mine", "aws_session_token = t");
        let token = parse(&with_token).unwrap().session_token;
        assert_eq!(token.as_deref(), Some("t"));
        for half in ["", "aws_access_key_id = A", "hunter2"] {
            let error = format!("{:#}", parse(half).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_key_is_whole_and_given_once() {
        let some = |text: &str| Some(text.to_owned());
        assert!(key([None, None], None).unwrap().is_none());
        let of_environment = key([some("A"), some("S")], None).unwrap();
        assert_eq!(of_environment.unwrap().access_key_id, "A");
        for given in [[some("A"), None], [None, some("S")]] {
            assert!(key(given, None).is_err());
        }
        let none = Path::new("/no/such/file");
        assert!(key([some("A"), some("S")], Some(none)).is_err());
        let error = key([None, None], Some(none)).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"));
    }
}
