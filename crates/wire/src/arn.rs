//! Amazon Resource Names: parsed once at the edge, formatted in one place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest ARN taken; the documented limit of IAM and CloudWatch Logs.
pub const MAX_LENGTH: usize = 2048;

/// `arn:partition:service:region:account:resource`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    text: String,
    /// Where the service, region, account and resource begin in `text`.
    starts: [usize; 4],
}

/// A text that is no ARN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ARN")]
pub struct NotAnArn;

impl Arn {
    /// Puts an ARN together.
    pub fn new(
        partition: &str,
        service: &str,
        region: &str,
        account: &str,
        resource: &str,
    ) -> Arn {
        let service_at = "arn:".len() + partition.len() + 1;
        let region_at = service_at + service.len() + 1;
        let account_at = region_at + region.len() + 1;
        let resource_at = account_at + account.len() + 1;
        Arn {
            text: format!(
                "arn:{partition}:{service}:{region}:{account}:{resource}"
            ),
            starts: [service_at, region_at, account_at, resource_at],
        }
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `aws`, `aws-cn` and so on.
    pub fn partition(&self) -> &str {
        &self.text["arn:".len()..self.starts[0] - 1]
    }

    /// Such as `ecs`.
    pub fn service(&self) -> &str {
        &self.text[self.starts[0]..self.starts[1] - 1]
    }

    /// The region; empty for global services.
    pub fn region(&self) -> &str {
        &self.text[self.starts[1]..self.starts[2] - 1]
    }

    /// The account; empty for a few services.
    pub fn account(&self) -> &str {
        &self.text[self.starts[2]..self.starts[3] - 1]
    }

    /// All after the account, such as `task/default/0123...`.
    pub fn resource(&self) -> &str {
        &self.text[self.starts[3]..]
    }

    /// The resource's type and the rest, divided by its first `/` or `:`.
    pub fn resource_parts(&self) -> (&str, &str) {
        match self.resource().split_once(['/', ':']) {
            Some(parts) => parts,
            None => ("", self.resource()),
        }
    }
}

impl FromStr for Arn {
    type Err = NotAnArn;

    fn from_str(text: &str) -> Result<Arn, NotAnArn> {
        if text.len() > MAX_LENGTH {
            return Err(NotAnArn);
        }
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or(NotAnArn);
        let (head, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        let is_arn = head == "arn"
            && !partition.is_empty()
            && !service.is_empty()
            && !resource.is_empty();
        if !is_arn {
            return Err(NotAnArn);
        }
        Ok(Arn::new(partition, service, region, account, resource))
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for Arn {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl From<Arn> for String {
    fn from(arn: Arn) -> String {
        arn.text
    }
}

impl Serialize for Arn {
    fn serialize<S: Serializer>(
        &self,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Arn {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arn, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The partition that a region belongs to.
pub fn partition(region: &str) -> &'static str {
    const BY_PREFIX: &[(&str, &str)] = &[
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    BY_PREFIX
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map_or("aws", |(_, partition)| partition)
}

/// An account in a region: what most ARNs begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The region.
    pub region: &'a str,
    /// The 12-digit account.
    pub account: &'a str,
}

impl<'a> Place<'a> {
    /// An account in a region.
    pub const fn new(region: &'a str, account: &'a str) -> Place<'a> {
        Place { region, account }
    }

    fn regional(self, service: &str, resource: &str) -> Arn {
        let Place { region, account } = self;
        Arn::new(partition(region), service, region, account, resource)
    }

    fn global(self, service: &str, resource: &str) -> Arn {
        Arn::new(partition(self.region), service, "", self.account, resource)
    }

    /// An ECS resource of any kind.
    pub fn ecs(self, resource: &str) -> Arn {
        self.regional("ecs", resource)
    }

    /// A cluster.
    pub fn cluster(self, name: &str) -> Arn {
        self.ecs(&format!("cluster/{name}"))
    }

    /// A task, by its 32 hexadecimal digits.
    pub fn task(self, cluster: &str, id: &str) -> Arn {
        self.ecs(&format!("task/{cluster}/{id}"))
    }

    /// A container of a task; its own id has dashes.
    pub fn container(self, cluster: &str, task: &str, id: &str) -> Arn {
        self.ecs(&format!("container/{cluster}/{task}/{id}"))
    }

    /// A container instance, by its 32 hexadecimal digits.
    pub fn container_instance(self, cluster: &str, id: &str) -> Arn {
        self.ecs(&format!("container-instance/{cluster}/{id}"))
    }

    /// A task definition.
    pub fn task_definition(self, family: &str, revision: i32) -> Arn {
        self.ecs(&format!("task-definition/{family}:{revision}"))
    }

    /// A service.
    pub fn service(self, cluster: &str, name: &str) -> Arn {
        self.ecs(&format!("service/{cluster}/{name}"))
    }

    /// A capacity provider.
    pub fn capacity_provider(self, name: &str) -> Arn {
        self.ecs(&format!("capacity-provider/{name}"))
    }

    /// An attachment, by its UUID.
    pub fn attachment(self, id: &str) -> Arn {
        self.ecs(&format!("attachment/{id}"))
    }

    /// An EC2 resource, such as `subnet` and `subnet-0123`.
    pub fn ec2(self, kind: &str, id: &str) -> Arn {
        self.regional("ec2", &format!("{kind}/{id}"))
    }

    /// A log group.
    pub fn log_group(self, name: &str) -> Arn {
        self.regional("logs", &format!("log-group:{name}"))
    }

    /// A log stream.
    pub fn log_stream(self, group: &str, name: &str) -> Arn {
        let resource = format!("log-group:{group}:log-stream:{name}");
        self.regional("logs", &resource)
    }

    /// The account's root user.
    pub fn root(self) -> Arn {
        self.global("iam", "root")
    }

    /// An IAM role; `path` begins and ends with a slash.
    pub fn role(self, path: &str, name: &str) -> Arn {
        self.global("iam", &format!("role{path}{name}"))
    }

    /// An IAM user; `path` begins and ends with a slash.
    pub fn user(self, path: &str, name: &str) -> Arn {
        self.global("iam", &format!("user{path}{name}"))
    }

    /// An IAM policy; `path` begins and ends with a slash.
    pub fn policy(self, path: &str, name: &str) -> Arn {
        self.global("iam", &format!("policy{path}{name}"))
    }

    /// A session of an assumed role.
    pub fn assumed_role(self, role: &str, session: &str) -> Arn {
        self.global("sts", &format!("assumed-role/{role}/{session}"))
    }
}

/// The last part of an identifier that is a name, an id or an ARN, as ECS
/// takes it for services, clusters and container instances.
pub fn last_part(identifier: &str) -> &str {
    identifier.rsplit_once('/').map_or(identifier, |(_, last)| last)
}

/// A UUID or 32 hexadecimal digits, as 32 lower-case digits.
pub fn hex_id(text: &str) -> Option<String> {
    let digits = match text.len() {
        32 => text.to_owned(),
        36 => {
            let is_dash = |at: &usize| text.as_bytes()[*at] == b'-';
            if ![8, 13, 18, 23].iter().all(is_dash) {
                return None;
            }
            text.replace('-', "")
        }
        _ => return None,
    };
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits.len() == 32 && is_hex).then(|| digits.to_ascii_lowercase())
}

/// What a caller said to name a task or a container instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdReference {
    /// The 32 hexadecimal digits.
    pub id: String,
    /// The cluster, where a long ARN names it.
    pub cluster: Option<String>,
    /// The ARN, where it was one.
    pub arn: Option<Arn>,
}

impl IdReference {
    /// Reads an id, a UUID, or an ARN of the kind given (`task`,
    /// `container-instance`), long or short.
    pub fn parse(kind: &str, text: &str) -> Option<IdReference> {
        if let Some(id) = hex_id(text) {
            return Some(IdReference { id, cluster: None, arn: None });
        }
        let arn: Arn = text.parse().ok()?;
        let (found, rest) = arn.resource().split_once('/')?;
        if arn.service() != "ecs" || found != kind {
            return None;
        }
        let (cluster, id) = match rest.split_once('/') {
            Some((cluster, id)) => (Some(cluster.to_owned()), id),
            None => (None, rest),
        };
        Some(IdReference { id: hex_id(id)?, cluster, arn: Some(arn) })
    }
}

/// What a caller said to name a task definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinitionReference {
    /// The family.
    pub family: String,
    /// The text after the colon, not yet a number: what is wrong with it is
    /// the operation's to say.
    pub revision: Option<String>,
    /// The ARN, where it was one.
    pub arn: Option<Arn>,
}

impl TaskDefinitionReference {
    /// Reads `family`, `family:revision` or an ARN with either.
    pub fn parse(text: &str) -> Option<TaskDefinitionReference> {
        let arn = match text.starts_with("arn:") {
            true => Some(text.parse::<Arn>().ok()?),
            false => None,
        };
        let name = match &arn {
            Some(arn) if arn.service() == "ecs" => {
                arn.resource().strip_prefix("task-definition/")?
            }
            Some(_) => return None,
            None => text,
        };
        let (family, revision) = match name.split_once(':') {
            Some((family, revision)) => (family, Some(revision.to_owned())),
            None => (name, None),
        };
        if family.is_empty() || family.contains('/') {
            return None;
        }
        Some(TaskDefinitionReference {
            family: family.to_owned(),
            revision,
            arn,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Place<'_> = Place::new("us-east-1", "123456789012");

    #[test]
    fn an_arn_gives_back_its_parts() {
        let text = "arn:aws:ecs:us-east-1:123456789012:task/default/0a";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn, HERE.task("default", "0a"));
        assert_eq!(arn.partition(), "aws");
        assert_eq!(arn.service(), "ecs");
        assert_eq!(arn.region(), "us-east-1");
        assert_eq!(arn.account(), "123456789012");
        assert_eq!(arn.resource_parts(), ("task", "default/0a"));
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn constructors_write_the_documented_forms() {
        for (arn, expected) in [
            (HERE.cluster("c"), "ecs:us-east-1:123456789012:cluster/c"),
            (
                HERE.container("c", "t", "u"),
                "ecs:us-east-1:123456789012:container/c/t/u",
            ),
            (
                HERE.container_instance("c", "i"),
                "ecs:us-east-1:123456789012:container-instance/c/i",
            ),
            (
                HERE.task_definition("f", 3),
                "ecs:us-east-1:123456789012:task-definition/f:3",
            ),
            (HERE.service("c", "s"), "ecs:us-east-1:123456789012:service/c/s"),
            (
                HERE.capacity_provider("FARGATE"),
                "ecs:us-east-1:123456789012:capacity-provider/FARGATE",
            ),
            (HERE.attachment("u"), "ecs:us-east-1:123456789012:attachment/u"),
            (HERE.log_group("/g"), "logs:us-east-1:123456789012:log-group:/g"),
            (
                HERE.log_stream("/g", "s"),
                "logs:us-east-1:123456789012:log-group:/g:log-stream:s",
            ),
            (HERE.root(), "iam::123456789012:root"),
            (HERE.role("/a/", "r"), "iam::123456789012:role/a/r"),
            (HERE.user("/", "u"), "iam::123456789012:user/u"),
            (HERE.policy("/", "p"), "iam::123456789012:policy/p"),
            (HERE.assumed_role("r", "s"), "sts::123456789012:assumed-role/r/s"),
            (
                HERE.ec2("subnet", "subnet-1"),
                "ec2:us-east-1:123456789012:subnet/subnet-1",
            ),
        ] {
            assert_eq!(arn.as_str(), format!("arn:aws:{expected}"));
            assert_eq!(arn.as_str().parse::<Arn>(), Ok(arn.clone()));
        }
    }

    #[test]
    fn partitions_follow_the_region() {
        assert_eq!(partition("cn-north-1"), "aws-cn");
        assert_eq!(partition("us-gov-west-1"), "aws-us-gov");
        assert_eq!(partition("us-isob-east-1"), "aws-iso-b");
        assert_eq!(partition("eu-central-1"), "aws");
        let place = Place::new("cn-north-1", "1");
        assert_eq!(place.root().as_str(), "arn:aws-cn:iam::1:root");
    }

    #[test]
    fn what_is_no_arn_is_refused() {
        for text in ["", "arn", "arn:aws:ecs:r:a", "arn:aws:ecs:r:a:", "x:y"] {
            assert_eq!(text.parse::<Arn>(), Err(NotAnArn), "{text}");
        }
        let long = format!("arn:aws:ecs:::{}", "x".repeat(MAX_LENGTH));
        assert!(long.parse::<Arn>().is_err());
    }

    #[test]
    fn ids_are_read_in_every_form() {
        let id = "0123456789abcdef0123456789abcdef";
        let uuid = "01234567-89AB-CDEF-0123-456789ABCDEF";
        let long = HERE.task("c", id);
        let short = HERE.ecs(&format!("task/{uuid}"));
        for text in [id, uuid, long.as_str(), short.as_str()] {
            let read = IdReference::parse("task", text).unwrap();
            assert_eq!(read.id, id, "{text}");
        }
        let read = IdReference::parse("task", long.as_str()).unwrap();
        assert_eq!(read.cluster.as_deref(), Some("c"));
        let other = HERE.container_instance("c", id);
        assert_eq!(IdReference::parse("task", other.as_str()), None);
        assert_eq!(IdReference::parse("task", "web"), None);
        assert_eq!(IdReference::parse("task", &id[1..]), None);
    }

    #[test]
    fn task_definitions_are_read_in_every_form() {
        let read = |text: &str| {
            let read = TaskDefinitionReference::parse(text)?;
            Some((read.family, read.revision))
        };
        let family = || "web".to_owned();
        assert_eq!(read("web"), Some((family(), None)));
        assert_eq!(read("web:7"), Some((family(), Some("7".into()))));
        let arn = HERE.task_definition("web", 7);
        assert_eq!(read(arn.as_str()), Some((family(), Some("7".into()))));
        assert_eq!(read("arn:aws:ecs:r:a:cluster/web"), None);
        assert_eq!(read(":7"), None);
        assert_eq!(read("a/b:1"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_arns_round_trip(text in ".{0,80}") {
            if let Ok(arn) = text.parse::<Arn>() {
                prop_assert_eq!(arn.as_str(), text.as_str());
                let _ = (arn.partition(), arn.service(), arn.region());
                let _ = (arn.account(), arn.resource_parts());
            }
            let _ = hex_id(&text);
            let _ = IdReference::parse("task", &text);
            let _ = TaskDefinitionReference::parse(&text);
        }
    }
}
