//! What handlers of several services share.

use serde::Serialize;

/// The output of an operation that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Empty {}

/// The partition that a region belongs to.
pub(crate) fn partition_of(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

/// An ARN of Amazon ECS: `rest` is what follows the account.
pub(crate) fn ecs_arn(region: &str, account: &str, rest: &str) -> String {
    format!("arn:{}:ecs:{region}:{account}:{rest}", partition_of(region))
}

/// The ARN of an account's root, for a caller in a region.
pub(crate) fn root_arn(region: &str, account: &str) -> String {
    format!("arn:{}:iam::{account}:root", partition_of(region))
}

/// Hides a place in a list in a paging token, so that nobody builds on it.
pub(crate) fn seal_token(place: &str) -> String {
    place.bytes().map(|byte| format!("{:02x}", byte ^ MASK)).collect()
}

/// The place in a token; `None` if it is none of ours.
pub(crate) fn open_token(token: &str) -> Option<String> {
    if !token.len().is_multiple_of(2) || !token.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..token.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(token.get(at..at + 2)?, 16).ok())
        .map(|byte| byte.map(|byte| byte ^ MASK))
        .collect();
    String::from_utf8(bytes?).ok()
}

const MASK: u8 = 0x5a;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_open_to_what_was_sealed(place in ".*") {
            prop_assert_eq!(open_token(&seal_token(&place)), Some(place));
        }

        #[test]
        fn no_token_panics(token in "\\PC*") {
            let _ = open_token(&token);
        }
    }
}
