//! Which services and operations are generated, and into which files.

/// The botocore release whose models are the contract.
pub(super) const BOTOCORE: &str = "1.43.11";

/// One service to generate.
pub(super) struct Selection {
    /// Botocore's folder and our module.
    pub(super) name: &'static str,
    /// Botocore's API version folder.
    pub(super) api_version: &'static str,
    /// Operations that get shapes; `None` means all.
    pub(super) serves: Option<&'static [&'static str]>,
    /// File names with the words that put an operation into them; the first
    /// match wins, the rest goes to the last.
    pub(super) files: &'static [(&'static str, &'static [&'static str])],
}

pub(super) const SERVICES: &[Selection] = &[
    Selection {
        name: "ecs",
        api_version: "2014-11-13",
        serves: None,
        files: &[
            ("daemon", &["Daemon"]),
            ("express", &["Express"]),
            ("agent", &["Submit", "DiscoverPoll", "UpdateContainerAgent"]),
            ("capacity_provider", &["CapacityProvider"]),
            ("cluster", &["Cluster"]),
            ("task_definition", &["TaskDefinition"]),
            ("task_set", &["TaskSet"]),
            ("service_deployment", &["ServiceDeployment", "ServiceRevision"]),
            ("service", &["Service"]),
            ("container_instance", &["ContainerInstance", "Attributes"]),
            ("account_setting", &["AccountSetting"]),
            ("task", &["Task", "ExecuteCommand"]),
            ("tag", &["Tag"]),
        ],
    },
    Selection {
        name: "logs",
        api_version: "2014-03-28",
        serves: Some(&[
            "CreateLogGroup",
            "CreateLogStream",
            "DeleteLogGroup",
            "DeleteLogStream",
            "DeleteRetentionPolicy",
            "DescribeLogGroups",
            "DescribeLogStreams",
            "FilterLogEvents",
            "GetLogEvents",
            "ListLogGroups",
            "ListTagsForResource",
            "ListTagsLogGroup",
            "PutLogEvents",
            "PutRetentionPolicy",
            "TagLogGroup",
            "TagResource",
            "UntagLogGroup",
            "UntagResource",
        ]),
        files: &[
            ("events", &["LogEvents"]),
            ("stream", &["LogStream"]),
            ("group", &["LogGroup", "Retention", "Tag"]),
        ],
    },
    Selection {
        name: "sts",
        api_version: "2011-06-15",
        serves: Some(&["AssumeRole", "GetCallerIdentity", "GetSessionToken"]),
        files: &[("identity", &[])],
    },
    Selection {
        name: "ec2",
        api_version: "2016-11-15",
        serves: Some(&[
            "DescribeAvailabilityZones",
            "DescribeNetworkInterfaces",
            "DescribeSecurityGroups",
            "DescribeSubnets",
            "DescribeVpcs",
        ]),
        files: &[("network", &[])],
    },
    Selection {
        name: "iam",
        api_version: "2010-05-08",
        serves: Some(&[
            "AttachRolePolicy",
            "CreatePolicy",
            "CreatePolicyVersion",
            "CreateRole",
            "DeletePolicy",
            "DeletePolicyVersion",
            "DeleteRole",
            "DeleteRolePolicy",
            "DetachRolePolicy",
            "GetPolicy",
            "GetPolicyVersion",
            "GetRole",
            "GetRolePolicy",
            "ListAttachedRolePolicies",
            "ListInstanceProfilesForRole",
            "ListPolicies",
            "ListPolicyVersions",
            "ListRolePolicies",
            "ListRoleTags",
            "ListRoles",
            "PutRolePolicy",
            "SetDefaultPolicyVersion",
            "TagRole",
            "UntagRole",
            "UpdateAssumeRolePolicy",
            "UpdateRole",
        ]),
        files: &[("role", &["Role"]), ("policy", &[])],
    },
    Selection {
        name: "secretsmanager",
        api_version: "2017-10-17",
        serves: None,
        files: &[
            ("policy", &["ResourcePolicy"]),
            ("replication", &["Replica"]),
            ("rotation", &["RotateSecret", "RandomPassword"]),
            ("value", &["SecretValue", "Version"]),
            ("secret", &[]),
        ],
    },
    Selection {
        name: "ssm",
        api_version: "2014-11-06",
        serves: Some(&[
            "AddTagsToResource",
            "DeleteParameter",
            "DeleteParameters",
            "DescribeParameters",
            "GetParameter",
            "GetParameterHistory",
            "GetParameters",
            "GetParametersByPath",
            "LabelParameterVersion",
            "ListTagsForResource",
            "PutParameter",
            "RemoveTagsFromResource",
            "UnlabelParameterVersion",
        ]),
        files: &[("tag", &["Tags"]), ("parameter", &[])],
    },
];
