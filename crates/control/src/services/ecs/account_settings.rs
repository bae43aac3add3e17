//! Account settings: the account's defaults and what principals override.

use minato_store::{Key, Snapshot, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    DeleteAccountSettingRequest, DeleteAccountSettingResponse,
    ListAccountSettingsRequest, ListAccountSettingsResponse,
    PutAccountSettingDefaultRequest, PutAccountSettingDefaultResponse,
    PutAccountSettingRequest, PutAccountSettingResponse, Setting, SettingName,
    SettingType, error,
};

use super::lookup::Read;
use super::page::page;
use crate::context::{Context, Scope};
use crate::services::root_arn;
use crate::tables::AccountSetting;

/// The most settings of a page (API reference, ListAccountSettings).
const PAGE_MAX: usize = 10;

/// The values of a setting; the first is what holds where nobody said
/// anything.
fn values(name: SettingName) -> &'static [&'static str] {
    match name {
        // The long formats are the only ones since 2021.
        SettingName::ServiceLongArnFormat
        | SettingName::TaskLongArnFormat
        | SettingName::ContainerInstanceLongArnFormat => &["enabled"],
        SettingName::AwsvpcTrunking
        | SettingName::FargateFIPSMode
        | SettingName::FargateEventWindows => &["disabled", "enabled"],
        // On in all regions where it was not switched off (developer guide,
        // "Amazon ECS account settings").
        SettingName::DualStackIPv6 => &["enabled", "disabled"],
        SettingName::ContainerInsights => &["disabled", "enabled", "enhanced"],
        SettingName::TagResourceAuthorization => &["on", "off"],
        SettingName::FargateTaskRetirementWaitPeriod => &["7", "0", "14"],
        // AWS's to set; nobody watches tasks here.
        SettingName::GuardDutyActivate => &["off"],
        SettingName::DefaultLogDriverMode => &["non-blocking", "blocking"],
    }
}

fn kind(name: SettingName) -> SettingType {
    if name == SettingName::GuardDutyActivate {
        SettingType::AwsManaged
    } else {
        SettingType::User
    }
}

fn wanted_name(name: Option<SettingName>) -> Result<SettingName, ApiError> {
    name.ok_or_else(|| {
        let names: Vec<&str> =
            SettingName::ALL.iter().map(|name| name.as_str()).collect();
        error::invalid_parameter_exception(format!(
            "null should be one of [{}]",
            names.join(",")
        ))
    })
}

fn check(name: SettingName, value: &str) -> Result<(), ApiError> {
    if kind(name) == SettingType::AwsManaged {
        return Err(error::invalid_parameter_exception(format!(
            "The setting {name} is managed by AWS and cannot be changed."
        )));
    }
    let allowed = values(name);
    if !allowed.contains(&value) {
        return Err(error::invalid_parameter_exception(format!(
            "Setting value {value} is invalid for {name}. It should be one \
             of [{}].",
            allowed.join(",")
        )));
    }
    Ok(())
}

fn root(scope: &Scope) -> String {
    root_arn(&scope.region, &scope.account)
}

/// The principal of a row: the root's settings are the account's defaults.
fn row_principal<'a>(scope: &Scope, arn: &'a str) -> &'a str {
    if arn == root(scope) { "" } else { arn }
}

fn key(scope: &Scope, principal: &str, name: SettingName) -> Key {
    Key::of([&scope.account, &scope.region, principal, name.as_str()])
}

/// What holds for a principal: its own setting, the account's default, or
/// ECS's.
fn effective(
    rows: &impl Read,
    scope: &Scope,
    principal: &str,
    name: SettingName,
) -> String {
    let read = |principal: &str| {
        rows.row::<AccountSetting>(&key(scope, principal, name))
            .map(|row| row.value.clone())
    };
    read(row_principal(scope, principal))
        .or_else(|| read(""))
        .unwrap_or_else(|| values(name)[0].to_owned())
}

/// The `containerInsights` setting of clusters that the caller creates.
pub(super) fn container_insights(rows: &Tx, scope: &Scope) -> String {
    let caller = &scope.caller.arn;
    effective(rows, scope, caller, SettingName::ContainerInsights)
}

/// The `dualStackIPv6` setting of tasks that a principal starts, or a service
/// that it created.
pub(crate) fn dual_stack(
    rows: &impl Read,
    scope: &Scope,
    principal: &str,
) -> bool {
    let name = SettingName::DualStackIPv6;
    effective(rows, scope, principal, name) == "enabled"
}

fn setting(name: SettingName, value: String, principal: String) -> Setting {
    Setting {
        name: Some(name),
        value: Some(value),
        principal_arn: Some(principal),
        r#type: Some(kind(name)),
    }
}

async fn put(
    cx: &Context,
    scope: &Scope,
    name: Option<SettingName>,
    value: Option<String>,
    principal: String,
) -> Result<Setting, ApiError> {
    let name = wanted_name(name)?;
    let value = value.unwrap_or_default();
    check(name, &value)?;
    let row = AccountSetting {
        account: scope.account.clone(),
        region: scope.region.clone(),
        principal: row_principal(scope, &principal).to_owned(),
        name: name.as_str().to_owned(),
        value: value.clone(),
    };
    cx.transact(move |tx| {
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(setting(name, value, principal))
}

/// The principal named, who must be of the caller's account.
fn principal(scope: &Scope, arn: Option<String>) -> Result<String, ApiError> {
    let Some(arn) = arn else { return Ok(scope.caller.arn.clone()) };
    let account = arn.split(':').nth(4);
    if !arn.starts_with("arn:") || account != Some(scope.account.as_str()) {
        return Err(error::invalid_parameter_exception(format!(
            "Invalid principal ARN: {arn}"
        )));
    }
    Ok(arn)
}

pub(crate) async fn put_account_setting(
    cx: &Context,
    scope: &Scope,
    input: PutAccountSettingRequest,
) -> Result<PutAccountSettingResponse, ApiError> {
    let principal = principal(scope, input.principal_arn)?;
    let setting = put(cx, scope, input.name, input.value, principal).await?;
    Ok(PutAccountSettingResponse { setting: Some(setting) })
}

pub(crate) async fn put_account_setting_default(
    cx: &Context,
    scope: &Scope,
    input: PutAccountSettingDefaultRequest,
) -> Result<PutAccountSettingDefaultResponse, ApiError> {
    let root = root(scope);
    let setting = put(cx, scope, input.name, input.value, root).await?;
    Ok(PutAccountSettingDefaultResponse { setting: Some(setting) })
}

pub(crate) async fn delete_account_setting(
    cx: &Context,
    scope: &Scope,
    input: DeleteAccountSettingRequest,
) -> Result<DeleteAccountSettingResponse, ApiError> {
    let name = wanted_name(input.name)?;
    let principal = principal(scope, input.principal_arn)?;
    let scope = scope.clone();
    let setting = cx
        .transact(move |tx| {
            let row_principal = row_principal(&scope, &principal);
            tx.delete::<AccountSetting>(&key(&scope, row_principal, name));
            let value = effective(tx, &scope, &principal, name);
            Ok(setting(name, value, principal))
        })
        .await?;
    Ok(DeleteAccountSettingResponse { setting: Some(setting) })
}

pub(crate) async fn list_account_settings(
    cx: &Context,
    scope: &Scope,
    input: ListAccountSettingsRequest,
) -> Result<ListAccountSettingsResponse, ApiError> {
    if input.value.is_some() && input.name.is_none() {
        return Err(error::invalid_parameter_exception(
            "A setting value can only be given together with a name.",
        ));
    }
    let principal = principal(scope, input.principal_arn)?;
    let rows = cx.snapshot();
    let is_effective = input.effective_settings == Some(true);
    let mut names = SettingName::ALL.to_vec();
    names.sort_unstable_by_key(|name| name.as_str());
    let settings = names
        .into_iter()
        .filter(|name| input.name.is_none_or(|wanted| wanted == *name))
        .filter_map(|name| {
            let value = if is_effective {
                Some(effective(&rows, scope, &principal, name))
            } else {
                own(&rows, scope, &principal, name)
            };
            Some(setting(name, value?, principal.clone()))
        })
        .filter(|setting| {
            input.value.is_none() || setting.value == input.value
        });
    let found = page(
        settings,
        |setting| setting.name.map_or("", SettingName::as_str),
        input.max_results,
        input.next_token.as_deref(),
        PAGE_MAX,
    )?;
    Ok(ListAccountSettingsResponse {
        settings: Some(found.items),
        next_token: found.next_token,
    })
}

/// What the principal set itself.
fn own(
    rows: &Snapshot,
    scope: &Scope,
    principal: &str,
    name: SettingName,
) -> Option<String> {
    let principal = row_principal(scope, principal);
    rows.get::<AccountSetting>(&key(scope, principal, name))
        .map(|row| row.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ACCOUNT, TestBed};

    fn put_input(name: SettingName, value: &str) -> PutAccountSettingRequest {
        PutAccountSettingRequest {
            name: Some(name),
            value: Some(value.to_owned()),
            principal_arn: None,
        }
    }

    async fn effective_of(
        bed: &TestBed,
        scope: &Scope,
        name: SettingName,
    ) -> String {
        let input = ListAccountSettingsRequest {
            name: Some(name),
            effective_settings: Some(true),
            ..Default::default()
        };
        let listed = list_account_settings(&bed.cx, scope, input).await;
        listed.unwrap().settings.unwrap()[0].value.clone().unwrap()
    }

    fn user(bed: &TestBed) -> Scope {
        let mut scope = bed.scope();
        scope.caller.arn = format!("arn:aws:iam::{ACCOUNT}:user/ann");
        scope
    }

    #[tokio::test]
    async fn a_principal_overrides_the_account_and_the_account_ecs() {
        let bed = TestBed::new();
        let (root, user) = (bed.scope(), user(&bed));
        let name = SettingName::ContainerInsights;
        assert_eq!(effective_of(&bed, &user, name).await, "disabled");
        let input = PutAccountSettingDefaultRequest {
            name: Some(name),
            value: Some("enabled".into()),
        };
        put_account_setting_default(&bed.cx, &root, input).await.unwrap();
        assert_eq!(effective_of(&bed, &user, name).await, "enabled");
        put_account_setting(&bed.cx, &user, put_input(name, "enhanced"))
            .await
            .unwrap();
        assert_eq!(effective_of(&bed, &user, name).await, "enhanced");
        assert_eq!(effective_of(&bed, &root, name).await, "enabled");
        let input = DeleteAccountSettingRequest {
            name: Some(name),
            principal_arn: None,
        };
        let deleted = delete_account_setting(&bed.cx, &user, input).await;
        let left = deleted.unwrap().setting.unwrap();
        assert_eq!(left.value.as_deref(), Some("enabled"));
    }

    #[tokio::test]
    async fn lists_are_of_what_was_set_or_of_what_holds() {
        let bed = TestBed::new();
        let user = user(&bed);
        let list = |effective, token| ListAccountSettingsRequest {
            effective_settings: Some(effective),
            next_token: token,
            ..Default::default()
        };
        let own = list_account_settings(&bed.cx, &user, list(false, None));
        assert!(own.await.unwrap().settings.unwrap().is_empty());
        let first = list_account_settings(&bed.cx, &user, list(true, None));
        let first = first.await.unwrap();
        assert_eq!(first.settings.unwrap().len(), 10);
        let rest = list(true, first.next_token);
        let rest = list_account_settings(&bed.cx, &user, rest).await.unwrap();
        assert_eq!(rest.settings.unwrap().len(), SettingName::ALL.len() - 10);
        assert_eq!(rest.next_token, None);
    }

    #[tokio::test]
    async fn wrong_values_are_refused() {
        let bed = TestBed::new();
        let scope = bed.scope();
        for (name, value) in [
            (SettingName::TaskLongArnFormat, "disabled"),
            (SettingName::GuardDutyActivate, "on"),
            (SettingName::ContainerInsights, "yes"),
            (SettingName::FargateTaskRetirementWaitPeriod, "3"),
        ] {
            let input = put_input(name, value);
            let refused = put_account_setting(&bed.cx, &scope, input).await;
            let code = refused.unwrap_err().code().to_owned();
            assert_eq!(code, "InvalidParameterException", "{name}");
        }
        let elsewhere = PutAccountSettingRequest {
            principal_arn: Some("arn:aws:iam::111111111111:user/x".into()),
            ..put_input(SettingName::ContainerInsights, "enabled")
        };
        let refused = put_account_setting(&bed.cx, &scope, elsewhere).await;
        assert!(refused.is_err());
        let value_alone = ListAccountSettingsRequest {
            value: Some("enabled".into()),
            ..Default::default()
        };
        let refused = list_account_settings(&bed.cx, &scope, value_alone);
        assert!(refused.await.is_err());
    }
}
