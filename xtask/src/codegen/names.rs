//! Rust names for the model's names.

/// Words that cannot be a field name as they stand.
const KEYWORDS: &[&str] = &[
    "as", "async", "box", "const", "dyn", "enum", "fn", "for", "if", "impl",
    "in", "let", "loop", "match", "mod", "move", "mut", "override", "pub",
    "ref", "return", "static", "struct", "trait", "type", "use", "virtual",
    "where", "while", "yield",
];

/// `privateIPv4Address` becomes `private_ipv4_address`.
pub(super) fn snake(name: &str) -> String {
    let name = name.replace("IPv4", "Ipv4").replace("IPv6", "Ipv6");
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(index + 1);
        let starts_word = letter.is_uppercase()
            && before.is_some_and(|before| {
                !before.is_uppercase()
                    || after.is_some_and(|after| after.is_lowercase())
            });
        if starts_word && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase().map(|letter| match letter {
            '-' | '.' => '_',
            letter => letter,
        }));
    }
    snake
}

/// A field name for a member.
pub(super) fn field(name: &str) -> String {
    let snake = snake(name);
    if KEYWORDS.contains(&snake.as_str()) {
        format!("r#{snake}")
    } else {
        snake
    }
}

/// `FARGATE_SPOT` becomes `FargateSpot`, `json-file` becomes `JsonFile`.
pub(super) fn variant(value: &str) -> String {
    let mut name = String::new();
    for word in value.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        let is_shouted = word.chars().all(|l| !l.is_ascii_lowercase());
        for (index, letter) in word.chars().enumerate() {
            match index {
                0 => name.push(letter.to_ascii_uppercase()),
                _ if is_shouted => name.push(letter.to_ascii_lowercase()),
                _ => name.push(letter),
            }
        }
    }
    match name.chars().next() {
        None => "Empty".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("V{name}"),
        Some(_) if name == "Self" => "SelfValue".to_owned(),
        Some(_) => name,
    }
}

/// A type name for a shape.
pub(super) fn type_name(shape: &str) -> String {
    let mut letters = shape.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_snake_case() {
        for (wire, rust) in [
            ("taskDefinitionArn", "task_definition_arn"),
            ("privateIPv4Address", "private_ipv4_address"),
            ("VpcId", "vpc_id"),
            ("type", "r#type"),
            ("enableECSManagedTags", "enable_ecs_managed_tags"),
            ("kmsKeyId", "kms_key_id"),
        ] {
            assert_eq!(field(wire), rust);
        }
    }

    #[test]
    fn variants_are_pascal_case() {
        for (wire, rust) in [
            ("FARGATE_SPOT", "FargateSpot"),
            ("json-file", "JsonFile"),
            ("containerInsights", "ContainerInsights"),
            ("X86_64", "X8664"),
            ("1", "V1"),
        ] {
            assert_eq!(variant(wire), rust);
        }
    }
}
