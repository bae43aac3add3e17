//! The rules for names, one per kind of name.

/// The longest name ECS takes, in characters.
pub const NAME_LENGTH_MAX: usize = 255;

/// Whether `text` can be the name of a cluster, a service, a family, a
/// container or a volume: 1 to 255 letters, digits, `_` and `-`.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether `text` can be the name of a port mapping: at most 64 lower-case
/// letters, digits, `_` and `-`, not beginning with `-`.
pub fn is_port_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'_' | b'-')
        })
}

/// Whether `text` can be the name of an attribute.
pub fn is_attribute_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'-' | b'_' | b'/' | b'\\' | b'.')
        })
}

/// Whether `text` can be the value of an attribute.
pub fn is_attribute_value(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.trim() == text
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.@/\\: ".contains(&b))
}

/// Whether `text` can be the name of a capacity provider that is created.
pub fn is_capacity_provider_name(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let reserved = ["aws", "ecs", "fargate"];
    is_name(text) && !reserved.iter().any(|word| lower.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_name("web_1-A") && is_name(&"a".repeat(255)));
        for bad in ["", "a b", "é", "a.b", "a/b"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(!is_name(&"a".repeat(256)));
    }

    #[test]
    fn names_of_ports() {
        assert!(is_port_name("http-80_x"));
        for bad in ["", "-http", "HTTP", "a.b", &"a".repeat(65)] {
            assert!(!is_port_name(bad), "{bad}");
        }
    }

    #[test]
    fn attributes() {
        assert!(is_attribute_name("ecs.capability/x\\y_z-1"));
        assert!(!is_attribute_name("a b") && !is_attribute_name(""));
        assert!(is_attribute_value("my stack@1:2/3\\4"));
        for bad in ["", " a", "a ", "a,b", "ü"] {
            assert!(!is_attribute_value(bad), "{bad}");
        }
    }

    #[test]
    fn capacity_providers() {
        assert!(is_capacity_provider_name("mine"));
        for bad in ["FARGATE", "fargate_x", "AWSome", "ecs1", ""] {
            assert!(!is_capacity_provider_name(bad), "{bad}");
        }
    }
}
