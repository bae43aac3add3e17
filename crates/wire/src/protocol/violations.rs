//! How each service words what is wrong with an input.

use crate::ApiError;
use crate::model::{Operation, Protocol, Service};
use crate::validate::{Constraint, Found, Kind, Violation};

/// The error for an input that does not fit its shape.
pub fn refuse(
    service: &Service,
    operation: &Operation,
    violations: &[Violation],
) -> ApiError {
    let protocol = service.protocol;
    let wrong_type = violations.iter().find_map(|violation| {
        let Constraint::Type { expected, found } = violation.constraint else {
            return None;
        };
        Some((violation, expected, found))
    });
    if let (Some((violation, expected, found)), true) =
        (wrong_type, protocol != Protocol::Ec2Query)
    {
        return mistyped(protocol, violation, expected, found);
    }
    match (protocol, violations.first()) {
        (Protocol::Ec2Query, Some(violation)) => ec2(violation),
        (Protocol::AwsJson(_), Some(violation)) if service.name == "ecs" => {
            ecs(operation, violation, violations)
        }
        (Protocol::AwsJson(_), _) => {
            ApiError::new("InvalidParameterException", 400, listed(violations))
        }
        (Protocol::Query | Protocol::Ec2Query, _) => {
            ApiError::new("ValidationError", 400, listed(violations))
        }
    }
}

/// A value of another JSON type, in the words of AWS's JSON reader.
fn mistyped(
    protocol: Protocol,
    violation: &Violation,
    expected: Kind,
    found: Found,
) -> ApiError {
    if protocol == Protocol::Query {
        let path = capitalised(&violation.path);
        let value = violation.value.as_deref().unwrap_or_default();
        return ApiError::new(
            "MalformedInput",
            400,
            format!("Invalid value '{value}' for {path}"),
        );
    }
    let message = match (expected, found) {
        (_, Found::Object) => {
            "Start of structure or map found where not expected.".to_owned()
        }
        (_, Found::Array) => {
            "Start of list found where not expected.".to_owned()
        }
        (Kind::Structure, _) => "Expected null or a structure.".to_owned(),
        (Kind::List, _) => "Expected list or null".to_owned(),
        (expected, found) => {
            let found = match found {
                Found::String => "STRING_VALUE",
                Found::Number => "NUMBER_VALUE",
                Found::True => "TRUE_VALUE",
                Found::False => "FALSE_VALUE",
                Found::Object | Found::Array => "VALUE",
            };
            let article = if expected == Kind::Integer { "an" } else { "a" };
            let name = expected.name();
            format!("{found} can not be converted to {article} {name}")
        }
    };
    ApiError::new("SerializationException", 400, message)
}

/// ECS speaks in sentences: of the task definition as `ClientException`, of
/// everything else as `InvalidParameterException`.
fn ecs(
    operation: &Operation,
    violation: &Violation,
    violations: &[Violation],
) -> ApiError {
    let code = match operation.name {
        "RegisterTaskDefinition" | "RegisterDaemonTaskDefinition" => {
            "ClientException"
        }
        _ => "InvalidParameterException",
    };
    let member = violation.member();
    let message = match &violation.constraint {
        Constraint::Required if violation.is_top_level() => {
            format!("{} can not be blank.", capitalised(member))
        }
        Constraint::Required => {
            // The service calls a container definition a container.
            let owner = violation.owner.trim_end_matches("Definition");
            format!("{owner}.{member} should not be null or empty.")
        }
        Constraint::Enum(values) => {
            let subject = match (member, &violation.value) {
                ("name", Some(value)) => value.clone(),
                _ => in_words(member),
            };
            format!("{subject} should be one of [{}]", values.join(","))
        }
        Constraint::Type { .. }
        | Constraint::MinLength(_)
        | Constraint::MaxLength(_)
        | Constraint::Min(_)
        | Constraint::Max(_)
        | Constraint::Pattern(_) => listed(violations),
    };
    ApiError::new(code, 400, message)
}

fn ec2(violation: &Violation) -> ApiError {
    let name = capitalised(violation.member());
    match (&violation.constraint, &violation.value) {
        (Constraint::Required, _) | (_, None) => ApiError::new(
            "MissingParameter",
            400,
            format!("The request must contain the parameter {name}"),
        ),
        (_, Some(value)) => ApiError::new(
            "InvalidParameterValue",
            400,
            format!("Value ({value}) for parameter {name} is invalid."),
        ),
    }
}

/// "2 validation errors detected: Value '...' at '...' failed to ...".
fn listed(violations: &[Violation]) -> String {
    let count = violations.len();
    let noun = if count == 1 { "error" } else { "errors" };
    let each: Vec<String> = violations.iter().map(one).collect();
    format!("{count} validation {noun} detected: {}", each.join("; "))
}

fn one(violation: &Violation) -> String {
    let value = match &violation.value {
        Some(value) => format!("'{value}'"),
        None => "null".to_owned(),
    };
    let path = lower_camel(&violation.path);
    let must = must(&violation.constraint);
    format!("Value {value} at '{path}' failed to satisfy constraint: {must}")
}

fn must(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Required => "Member must not be null".to_owned(),
        Constraint::Enum(values) => format!(
            "Member must satisfy enum value set: [{}]",
            values.join(", ")
        ),
        Constraint::MinLength(min) => {
            format!("Member must have length greater than or equal to {min}")
        }
        Constraint::MaxLength(max) => {
            format!("Member must have length less than or equal to {max}")
        }
        Constraint::Min(min) => {
            format!("Member must have value greater than or equal to {min}")
        }
        Constraint::Max(max) => {
            format!("Member must have value less than or equal to {max}")
        }
        Constraint::Pattern(pattern) => {
            format!("Member must satisfy regular expression pattern: {pattern}")
        }
        Constraint::Type { expected, .. } => {
            format!("Member must be of type {}", expected.name())
        }
    }
}

fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// Every part of a path begun small, as AWS's validator writes them whatever
/// the model does.
fn lower_camel(path: &str) -> String {
    let mut starts = true;
    let mut text = String::with_capacity(path.len());
    for char in path.chars() {
        match starts {
            true => text.push(char.to_ascii_lowercase()),
            false => text.push(char),
        }
        starts = char == '.';
    }
    text
}

/// `launchType` as `launch type`.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        if char.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(char.to_ascii_lowercase());
    }
    words
}
