//! AWS IAM: roles and policies as records.
//!
//! They are kept, checked for form and listed; nothing evaluates them yet.

mod attach;
mod common;
mod managed;
mod policies;
mod roles;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
mod versions;

pub(crate) use common::base32;
use minato_store::Tables;
use minato_wire::ApiError;

use super::operations;
use crate::coverage::Support;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    ApiError::new("InvalidAction", 400, message)
}

/// Why all other operations are refused.
pub(crate) const OTHERS: &str =
    "of IAM, Minato keeps roles and policies, which ECS tasks name";

const RECORD: Support = Support::Partial("kept, not evaluated");

operations! {
    served {
        "AttachRolePolicy", RECORD => attach::attach_role_policy;
        "CreatePolicy", RECORD => policies::create_policy;
        "CreatePolicyVersion", RECORD => versions::create_policy_version;
        "CreateRole", RECORD => roles::create_role;
        "DeletePolicy", Support::Full => policies::delete_policy;
        "DeletePolicyVersion", Support::Full => versions::delete_policy_version;
        "DeleteRole", Support::Full => roles::delete_role;
        "DeleteRolePolicy", Support::Full => attach::delete_role_policy;
        "DetachRolePolicy", Support::Full => attach::detach_role_policy;
        "GetPolicy", Support::Full => policies::get_policy;
        "GetPolicyVersion", Support::Partial("documents of few AWS managed policies") => versions::get_policy_version;
        "GetRole", Support::Full => roles::get_role;
        "GetRolePolicy", Support::Full => attach::get_role_policy;
        "ListAttachedRolePolicies", Support::Full => attach::list_attached_role_policies;
        "ListInstanceProfilesForRole", Support::Full => roles::list_instance_profiles_for_role;
        "ListPolicies", Support::Partial("lists few AWS managed policies") => policies::list_policies;
        "ListPolicyVersions", Support::Full => versions::list_policy_versions;
        "ListRolePolicies", Support::Full => attach::list_role_policies;
        "ListRoleTags", Support::Full => roles::list_role_tags;
        "ListRoles", Support::Full => roles::list_roles;
        "PutRolePolicy", RECORD => attach::put_role_policy;
        "SetDefaultPolicyVersion", RECORD => versions::set_default_policy_version;
        "TagRole", Support::Full => roles::tag_role;
        "UntagRole", Support::Full => roles::untag_role;
        "UpdateAssumeRolePolicy", RECORD => roles::update_assume_role_policy;
        "UpdateRole", Support::Full => roles::update_role;
    }
    refused {}
}

/// Adds IAM's tables.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables.with::<rows::RoleRow>().with::<rows::PolicyRow>()
}
