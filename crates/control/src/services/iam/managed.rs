//! Policies that AWS keeps, found by ARN.

/// An AWS managed policy whose document we carry.
pub(super) struct Managed {
    pub(super) name: &'static str,
    /// `/` or `/service-role/`.
    pub(super) path: &'static str,
    pub(super) document: &'static str,
}

/// The ones that ECS's own guides tell users to attach, and the one that
/// everybody attaches in anger.
pub(super) const MANAGED: &[Managed] = &[
    Managed {
        name: "AdministratorAccess",
        path: "/",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
    },
    Managed {
        name: "AmazonECSTaskExecutionRolePolicy",
        path: "/service-role/",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:BatchGetImage","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    },
];

/// The path and name in the ARN of an AWS managed policy. AWS has more than
/// a thousand; any well-formed one counts as existing.
pub(super) fn parse(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let is_aws = parts.next() == Some("arn")
        && parts.next().is_some_and(|partition| partition.starts_with("aws"))
        && parts.next() == Some("iam")
        && parts.next() == Some("")
        && parts.next() == Some("aws");
    let resource = parts.next()?.strip_prefix("policy")?;
    let (path, name) = resource.split_at(resource.rfind('/')? + 1);
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c));
    (is_aws && is_name && path.starts_with('/')).then_some((path, name))
}

/// The document of a policy, if we carry it.
pub(super) fn find(path: &str, name: &str) -> Option<&'static Managed> {
    MANAGED.iter().find(|policy| policy.path == path && policy.name == name)
}

/// An id in IAM's form that depends on the name only.
pub(super) fn id_of(name: &str) -> String {
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_013b)
    });
    super::common::unique_id("ANPA", hash)
}
