//! PutParameter: a new parameter or a new version of one.

use std::collections::BTreeMap;

use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ssm::{
    ParameterTier, ParameterType, PutParameterRequest, PutParameterResult,
    error,
};
use regex::{Regex, RegexBuilder};

use super::rows::{self, ParameterRow, ParameterVersion};
use super::{invalid, names, not_sealed, tags};
use crate::context::{Context, Scope};
use crate::seal::SealKey;

/// Bytes of a value in the standard tier, 4 KB (API reference, PutParameter).
const MAX_STANDARD_VALUE: usize = 4096;
/// Bytes of a value in the advanced tier, 8 KB (likewise).
const MAX_ADVANCED_VALUE: usize = 8192;
/// Standard parameters of an account in a region (likewise).
const MAX_STANDARD: usize = 10_000;
/// Advanced parameters of an account in a region (likewise).
const MAX_ADVANCED: usize = 100_000;
/// Versions kept of a parameter, the newest among them (likewise,
/// ParameterMaxVersionLimitExceeded).
const MAX_VERSIONS: usize = 100;
/// Bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The key of those who name none.
const DEFAULT_KEY: &str = "alias/aws/ssm";
/// The only data type served.
const TEXT: &str = "text";

pub(super) async fn put_parameter(
    cx: &Context,
    scope: &Scope,
    input: PutParameterRequest,
) -> Result<PutParameterResult, ApiError> {
    let put = Put::of(scope, input)?;
    let scope = scope.clone();
    // The version, which the value is sealed for, is known only within.
    let seal_key = cx.config.seal_key.clone();
    cx.transact(move |tx| put.apply(tx, &scope, &seal_key)).await
}

/// A request, checked as far as it can be without the parameter. It has no
/// `Debug`, because it has the value.
struct Put {
    name: String,
    value: String,
    r#type: Option<ParameterType>,
    tier: Option<ParameterTier>,
    description: Option<String>,
    allowed_pattern: Option<String>,
    key_id: Option<String>,
    overwrite: bool,
    tags: BTreeMap<String, String>,
}

impl Put {
    fn of(scope: &Scope, input: PutParameterRequest) -> Result<Put, ApiError> {
        let name = input.name.unwrap_or_default();
        let name = names::new_name(scope, &name)?;
        refuse_unserved(input.policies.as_deref(), input.data_type.as_deref())?;
        let overwrite = input.overwrite.unwrap_or(false);
        let given = input.tags.unwrap_or_default();
        if overwrite && !given.is_empty() {
            return Err(invalid(
                "Invalid request: tags and overwrite can't be used together. \
                 To create a parameter with tags, please remove overwrite \
                 flag. To update tags for an existing parameter, please use \
                 AddTagsToResource or RemoveTagsFromResource.",
            ));
        }
        let mut tags = BTreeMap::new();
        tags::add(&mut tags, given)?;
        let value = input.value.unwrap_or_default();
        check_value(&value)?;
        if let Some(pattern) = input.allowed_pattern.as_deref() {
            check_pattern(pattern, &value)?;
        }
        Ok(Put {
            name,
            value,
            r#type: input.r#type,
            tier: input.tier,
            description: input.description,
            allowed_pattern: input.allowed_pattern,
            key_id: input.key_id,
            overwrite,
            tags,
        })
    }

    fn apply(
        self,
        tx: &mut Tx,
        scope: &Scope,
        seal_key: &SealKey,
    ) -> Result<PutParameterResult, ApiError> {
        let Scope { account, region, .. } = scope;
        let key_of = |name: &str| ParameterRow::key_of(account, region, name);
        let old = tx.get::<ParameterRow>(&key_of(&self.name));
        let other = names::other_spelling(&self.name);
        let has_other = other
            .is_some_and(|name| tx.contains::<ParameterRow>(&key_of(&name)));
        if has_other || (old.is_some() && !self.overwrite) {
            return Err(error::parameter_already_exists(
                "The parameter already exists. To overwrite this value, set \
                 the overwrite option in the request to true.",
            ));
        }
        let last = old.as_ref().map(|row| &row.newest);
        let newest = self.version(tx, scope, seal_key, last)?;
        let result = PutParameterResult {
            version: Some(newest.number),
            tier: Some(newest.tier),
        };
        let row = match old {
            Some(row) => renewed(ParameterRow::clone(&row), newest)?,
            None => ParameterRow {
                account: account.clone(),
                region: region.clone(),
                name: self.name,
                created_at: scope.now,
                tags: self.tags,
                older: vec![],
                newest,
            },
        };
        tx.put(row);
        Ok(result)
    }

    /// The version that comes after `last`, or the first.
    fn version(
        &self,
        tx: &Tx,
        scope: &Scope,
        seal_key: &SealKey,
        last: Option<&ParameterVersion>,
    ) -> Result<ParameterVersion, ApiError> {
        let r#type = self.settled_type(last)?;
        let tier = self.settled_tier(tx, scope, last)?;
        // What an update does not mention stays.
        let description = self
            .description
            .clone()
            .or_else(|| last.and_then(|last| last.description.clone()));
        let allowed_pattern = match (&self.allowed_pattern, last) {
            (Some(pattern), _) => Some(pattern.clone()),
            (None, Some(ParameterVersion { allowed_pattern, .. })) => {
                if let Some(pattern) = allowed_pattern {
                    check_pattern(pattern, &self.value)?;
                }
                allowed_pattern.clone()
            }
            (None, None) => None,
        };
        let number = last.map_or(1, |last| last.number.saturating_add(1));
        let arn = rows::arn(&scope.account, &scope.region, &self.name);
        let value = seal_key
            .seal(&rows::place(&arn, number), self.value.as_bytes())
            .map_err(|e| not_sealed(&e))?;
        Ok(ParameterVersion {
            number,
            r#type,
            value,
            description: description.filter(|text| !text.is_empty()),
            allowed_pattern: allowed_pattern.filter(|text| !text.is_empty()),
            tier,
            key_id: self.settled_key(r#type)?,
            data_type: TEXT.to_owned(),
            labels: vec![],
            modified_at: scope.now,
            modified_by: scope.caller.arn.clone(),
        })
    }

    fn settled_type(
        &self,
        last: Option<&ParameterVersion>,
    ) -> Result<ParameterType, ApiError> {
        match (self.r#type, last.map(|last| last.r#type)) {
            (Some(asked), Some(had)) if asked != had => {
                Err(error::hierarchy_type_mismatch_exception(format!(
                    "Parameter Store doesn't support changing a parameter \
                     type: {} is a {had}. You must create a new, unique \
                     parameter.",
                    self.name
                )))
            }
            (_, Some(had)) => Ok(had),
            (Some(asked), None) => Ok(asked),
            (None, None) => Err(invalid(
                "A parameter type is required when you create a parameter.",
            )),
        }
    }

    fn settled_key(
        &self,
        r#type: ParameterType,
    ) -> Result<Option<String>, ApiError> {
        match (r#type, &self.key_id) {
            (ParameterType::SecureString, Some(key)) => Ok(Some(key.clone())),
            (ParameterType::SecureString, None) => {
                Ok(Some(DEFAULT_KEY.to_owned()))
            }
            (ParameterType::String | ParameterType::StringList, None) => {
                Ok(None)
            }
            (ParameterType::String | ParameterType::StringList, Some(_)) => {
                Err(invalid(
                    "KeyId is required for SecureString type parameter only.",
                ))
            }
        }
    }

    /// The tier that the version gets, in which there is room for it.
    fn settled_tier(
        &self,
        tx: &Tx,
        scope: &Scope,
        last: Option<&ParameterVersion>,
    ) -> Result<ParameterTier, ApiError> {
        use ParameterTier::{Advanced, IntelligentTiering, Standard};
        let had = last.map(|last| last.tier);
        let is_long = self.value.len() > MAX_STANDARD_VALUE;
        let tier = match (self.tier, had) {
            (Some(Standard), Some(Advanced)) => return Err(no_way_back()),
            (None | Some(Advanced | IntelligentTiering), Some(Advanced))
            | (Some(Advanced), None | Some(Standard | IntelligentTiering)) => {
                Advanced
            }
            (
                None | Some(Standard),
                None | Some(Standard | IntelligentTiering),
            ) => Standard,
            (
                Some(IntelligentTiering),
                None | Some(Standard | IntelligentTiering),
            ) => {
                let is_full = had.is_none() && is_full(tx, scope, Standard);
                if is_long || is_full { Advanced } else { Standard }
            }
        };
        check_size(tier, self.value.len())?;
        if had != Some(tier) && is_full(tx, scope, tier) {
            return Err(error::parameter_limit_exceeded(
                "You have exceeded the number of parameters for this Amazon \
                 Web Services account. Delete one or more parameters and try \
                 again.",
            ));
        }
        Ok(tier)
    }
}

/// A parameter with one more version, and the oldest gone if there are too
/// many.
fn renewed(
    mut row: ParameterRow,
    newest: ParameterVersion,
) -> Result<ParameterRow, ApiError> {
    row.older.push(std::mem::replace(&mut row.newest, newest));
    if row.older.len() < MAX_VERSIONS {
        return Ok(row);
    }
    let oldest = row.older.remove(0);
    if oldest.labels.is_empty() {
        return Ok(row);
    }
    Err(error::parameter_max_version_limit_exceeded(format!(
        "You attempted to create a new version of {} by calling the \
         PutParameter API with the overwrite flag. Version {}, the oldest \
         version, can't be deleted because it has a label associated with \
         it. Move the label to another version of the parameter, and try \
         again.",
        row.name, oldest.number
    )))
}

/// Refuses what Minato does not serve of the operation.
fn refuse_unserved(
    policies: Option<&str>,
    data_type: Option<&str>,
) -> Result<(), ApiError> {
    // An empty list removes policies, and there are none.
    if policies.is_some_and(|policies| policies.trim() != "[]") {
        return Err(error::invalid_policy_type_exception(
            "Minato does not serve parameter policies.",
        ));
    }
    match data_type {
        None | Some("" | TEXT) => Ok(()),
        Some(other) => Err(invalid(format!(
            "Minato does not serve parameters of data type {other}."
        ))),
    }
}

fn check_value(value: &str) -> Result<(), ApiError> {
    if value.is_empty() {
        return Err(invalid(
            "1 validation error detected: Value at 'value' failed to satisfy \
             constraint: Member must have length greater than or equal to 1",
        ));
    }
    let nests =
        value.split_once("{{").is_some_and(|(_, rest)| rest.contains("}}"));
    if nests {
        return Err(invalid(
            "Parameter value can't nest another parameter. Do not use \
             \"{{}}\" in the value.",
        ));
    }
    Ok(())
}

/// Checks a value, whole, against a pattern; an empty one allows everything.
fn check_pattern(pattern: &str, value: &str) -> Result<(), ApiError> {
    if pattern.is_empty() {
        return Ok(());
    }
    let compile = |pattern: &str| -> Result<Regex, ApiError> {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(MAX_PATTERN_BYTES).build().map_err(|_| {
            error::invalid_allowed_pattern_exception(format!(
                "The regular expression is not valid or has more than \
                 Minato serves: {pattern}"
            ))
        })
    };
    // By itself first: `a)|(?:b` is no pattern.
    compile(pattern)?;
    if compile(&format!(r"\A(?:{pattern})\z"))?.is_match(value) {
        return Ok(());
    }
    Err(error::parameter_pattern_mismatch_exception(format!(
        "Parameter value, cannot be validated against allowedPattern: \
         {pattern}"
    )))
}

fn check_size(tier: ParameterTier, length: usize) -> Result<(), ApiError> {
    match tier {
        ParameterTier::Standard if length > MAX_STANDARD_VALUE => {
            Err(invalid(format!(
                "Standard tier parameters support a maximum parameter value \
                 of {MAX_STANDARD_VALUE} characters. To create a larger \
                 parameter value, upgrade the parameter to use the \
                 advanced-parameter tier. For more information, see \
                 https://docs.aws.amazon.com/systems-manager/latest/userguide/\
                 parameter-store-advanced-parameters.html"
            )))
        }
        ParameterTier::Advanced if length > MAX_ADVANCED_VALUE => {
            Err(invalid(format!(
                "Advanced tier parameters support a maximum parameter value \
                 of {MAX_ADVANCED_VALUE} characters."
            )))
        }
        ParameterTier::Standard
        | ParameterTier::Advanced
        | ParameterTier::IntelligentTiering => Ok(()),
    }
}

fn no_way_back() -> ApiError {
    invalid(
        "This parameter uses the advanced-parameter tier. You can't \
         downgrade a parameter from the advanced-parameter tier to the \
         standard-parameter tier. If necessary, you can delete the advanced \
         parameter and recreate it as a standard parameter.",
    )
}

/// Whether an account has as many parameters of a tier in a region as it may.
fn is_full(tx: &Tx, scope: &Scope, tier: ParameterTier) -> bool {
    let most = match tier {
        ParameterTier::Advanced => MAX_ADVANCED,
        ParameterTier::Standard | ParameterTier::IntelligentTiering => {
            MAX_STANDARD
        }
    };
    // Counts only where the table has that many at all.
    let prefix = ParameterRow::prefix_of(&scope.account, &scope.region);
    tx.count::<ParameterRow>() >= most
        && tx
            .scan::<ParameterRow>(&prefix)
            .filter(|row| row.newest.tier == tier)
            .count()
            >= most
}
