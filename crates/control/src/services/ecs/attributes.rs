//! Attributes that users give container instances.

use minato_core::name::{is_attribute_name, is_attribute_value};
use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    Attribute, DeleteAttributesRequest, DeleteAttributesResponse,
    ListAttributesRequest, ListAttributesResponse, PutAttributesRequest,
    PutAttributesResponse, TargetType, error,
};

use super::container_instances::find;
use super::lookup;
use super::page::page;
use crate::context::{Context, Scope};
use crate::tables::ContainerInstance;

/// The most attributes of one call, and of one instance (service quotas).
const ATTRIBUTES_MAX: usize = 10;

/// The most entries of a page.
const PAGE_MAX: usize = 100;

fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

fn check_list(attributes: &[Attribute]) -> Result<(), ApiError> {
    if attributes.is_empty() {
        return Err(error::invalid_parameter_exception(
            "attributes can not be empty",
        ));
    }
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "attributes can not have more than {ATTRIBUTES_MAX} elements"
        )));
    }
    Ok(())
}

fn check(attribute: &Attribute) -> Result<(), ApiError> {
    let name = text(&attribute.name);
    if !is_attribute_name(name) {
        return Err(error::invalid_parameter_exception(format!(
            "Invalid attribute name: {name}"
        )));
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("ecs.") || lower.starts_with("com.amazonaws.ecs.") {
        return Err(error::invalid_parameter_exception(format!(
            "The attribute name {name} is reserved."
        )));
    }
    let value = attribute.value.as_deref();
    if value.is_some_and(|value| !is_attribute_value(value)) {
        return Err(error::invalid_parameter_exception(format!(
            "Invalid value of attribute {name}"
        )));
    }
    Ok(())
}

/// The instance that an attribute is of.
fn target(
    tx: &Tx,
    scope: &Scope,
    cluster: &str,
    attribute: &Attribute,
) -> Result<ContainerInstance, ApiError> {
    let given = text(&attribute.target_id);
    find(tx, scope, cluster, given)
        .filter(|row| row.status != "INACTIVE")
        .map(|row| ContainerInstance::clone(&row))
        .ok_or_else(|| {
            error::target_not_found_exception(format!("Could not find {given}"))
        })
}

/// An attribute as it is listed.
fn shown(row: &ContainerInstance, attribute: &Attribute) -> Attribute {
    Attribute {
        name: attribute.name.clone(),
        value: attribute.value.clone(),
        target_type: Some(TargetType::ContainerInstance),
        target_id: Some(row.arn()),
    }
}

pub(crate) async fn put_attributes(
    cx: &Context,
    scope: &Scope,
    input: PutAttributesRequest,
) -> Result<PutAttributesResponse, ApiError> {
    let given = input.attributes.unwrap_or_default();
    check_list(&given)?;
    given.iter().try_for_each(check)?;
    let scope = scope.clone();
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        let mut put = vec![];
        for attribute in given {
            let mut row = target(tx, &scope, &cluster.name, &attribute)?;
            row.custom_attributes.retain(|old| old.name != attribute.name);
            if row.custom_attributes.len() >= ATTRIBUTES_MAX {
                return Err(error::attribute_limit_exceeded_exception(
                    format!(
                        "A container instance can have at most \
                         {ATTRIBUTES_MAX} custom attributes."
                    ),
                ));
            }
            put.push(shown(&row, &attribute));
            row.custom_attributes.push(Attribute {
                name: attribute.name,
                value: attribute.value,
                ..Default::default()
            });
            row.version += 1;
            tx.put(row);
        }
        Ok(PutAttributesResponse { attributes: Some(put) })
    })
    .await
}

pub(crate) async fn delete_attributes(
    cx: &Context,
    scope: &Scope,
    input: DeleteAttributesRequest,
) -> Result<DeleteAttributesResponse, ApiError> {
    let given = input.attributes.unwrap_or_default();
    check_list(&given)?;
    let scope = scope.clone();
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        let mut deleted = vec![];
        for attribute in given {
            let mut row = target(tx, &scope, &cluster.name, &attribute)?;
            let before = row.custom_attributes.len();
            // With a value, only an attribute of that value is meant.
            row.custom_attributes.retain(|old| {
                old.name != attribute.name
                    || (attribute.value.is_some()
                        && old.value != attribute.value)
            });
            if row.custom_attributes.len() < before {
                deleted.push(shown(&row, &attribute));
                row.version += 1;
                tx.put(row);
            }
        }
        Ok(DeleteAttributesResponse { attributes: Some(deleted) })
    })
    .await
}

pub(crate) async fn list_attributes(
    cx: &Context,
    scope: &Scope,
    input: ListAttributesRequest,
) -> Result<ListAttributesResponse, ApiError> {
    if input.target_type != Some(TargetType::ContainerInstance) {
        return Err(error::invalid_parameter_exception(
            "targetType must be container-instance",
        ));
    }
    if input.attribute_value.is_some() && input.attribute_name.is_none() {
        return Err(error::invalid_parameter_exception(
            "attributeValue can only be given together with attributeName",
        ));
    }
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let within = Key::of([&scope.account, &scope.region, &cluster.name]);
    let mut all: Vec<(String, Attribute)> = vec![];
    for row in rows.scan::<ContainerInstance>(&within) {
        if row.status == "INACTIVE" {
            continue;
        }
        for attribute in row.attributes.iter().chain(&row.custom_attributes) {
            let name = text(&attribute.name);
            let named =
                input.attribute_name.as_deref().is_none_or(|n| n == name);
            let valued = input.attribute_value.is_none()
                || input.attribute_value == attribute.value;
            if named && valued {
                let key = format!("{}/{name}", row.id);
                all.push((key, shown(&row, attribute)));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let found = page(
        all.into_iter(),
        |(key, _)| key.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        PAGE_MAX,
    )?;
    Ok(ListAttributesResponse {
        attributes: Some(
            found.items.into_iter().map(|(_, attribute)| attribute).collect(),
        ),
        next_token: found.next_token,
    })
}
