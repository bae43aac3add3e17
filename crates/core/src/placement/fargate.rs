//! Fargate sees no instances: a task that fits nowhere has one failure.

use minato_wire::ecs::Failure;

use super::{Reason, Refusal};

/// ECS's words for a Fargate task that fits nowhere.
pub const FARGATE_CAPACITY: &str = "Capacity is unavailable at this time. \
    Please try again later or in a different availability zone";

/// The one failure of a Fargate placement whose candidates were all refused.
///
/// A capability that every host lacks is named, for waiting would not help.
pub fn fargate_failure(refusals: &[Refusal]) -> Failure {
    let lacking =
        refusals.iter().find(|refusal| refusal.reason == Reason::Attribute);
    // The most hopeful refusal tells most.
    let resource = refusals.iter().find(|refusal| refusal.reason.is_resource());
    let (reason, told) = match (resource, lacking) {
        (None, Some(lacking)) => (lacking.reason.as_str(), Some(lacking)),
        (resource, _) => (FARGATE_CAPACITY, resource.or(refusals.first())),
    };
    Failure {
        arn: None,
        reason: Some(reason.to_owned()),
        detail: told.map(|refusal| {
            if refusal.reason == Reason::Attribute {
                refusal.detail.clone()
            } else {
                format!("{}: {}", refusal.reason, refusal.detail)
            }
        }),
    }
}
