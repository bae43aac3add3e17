//! What crosses the wire: shapes, codecs and signatures of the AWS APIs that
//! Minato serves, and the messages between the control plane and its agents.
//!
//! Nothing here reads a clock, a socket or a file. A request becomes a
//! validated document and then a typed shape; an answer goes the other way.

pub mod acs;
pub mod arn;
pub mod blob;
pub mod ec2;
pub mod ecs;
pub mod error;
pub mod event_stream;
pub mod frame;
pub mod iam;
pub mod logs;
pub mod minato;
pub mod model;
pub mod protocol;
pub mod secretsmanager;
pub mod sigv4;
pub mod ssm;
pub mod ssm_channel;
pub mod sts;
pub mod tcs;
pub mod text;
pub mod timestamp;
pub mod validate;

pub use blob::Blob;
pub use error::ApiError;
pub use timestamp::Timestamp;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_sorted_so_that_lookup_finds_each() {
        for service in [
            &ecs::SERVICE,
            &logs::SERVICE,
            &sts::SERVICE,
            &ec2::SERVICE,
            &iam::SERVICE,
            &secretsmanager::SERVICE,
            &ssm::SERVICE,
            &minato::SERVICE,
        ] {
            for operation in service.operations {
                let found = service.operation(operation.name);
                assert!(found.is_some(), "{} {}", service.name, operation.name);
            }
            assert!(service.operation("NoSuchOperation").is_none());
        }
        assert_eq!(ecs::SERVICE.operation_names().count(), 77);
    }

    #[test]
    fn a_typed_shape_uses_the_wire_names() {
        let json = r#"{"cluster":"c","launchType":"FARGATE","count":2}"#;
        let request: ecs::RunTaskRequest = serde_json::from_str(json).unwrap();
        assert_eq!(request.launch_type, Some(ecs::LaunchType::Fargate));
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
    }
}
