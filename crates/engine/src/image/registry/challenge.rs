//! `WWW-Authenticate`: what a registry wants to see.

use hyper::{HeaderMap, header};

/// One challenge: a scheme in lower case, and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads all challenges of a response; what makes no sense is skipped.
pub(in crate::image) fn parse(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse_header)
        .collect()
}

/// Reads one header, which may hold several challenges:
/// `Bearer realm="..",scope="a,b", Basic realm=x`.
fn parse_header(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = vec![];
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let (word, after) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) => {
                let value = value.trim_start_matches([' ', '\t']);
                let (value, after) = parse_value(value);
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.push((word, value));
                }
                rest = after;
            }
            None => {
                challenges.push(Challenge { scheme: word, parameters: vec![] });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn docker_hubs_challenge_is_read() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push",error="insufficient_scope""#;
        let [bearer] = &parse_header(text)[..] else { panic!() };
        assert_eq!(bearer.scheme, "bearer");
        assert_eq!(bearer.get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(bearer.get("scope"), Some("repository:library/a:pull,push"));
        assert_eq!(bearer.get("error"), Some("insufficient_scope"));
        assert_eq!(bearer.get("none"), None);
    }

    #[test]
    fn several_challenges_in_one_header_are_told_apart() {
        let text = r#"Basic realm = "a \" b" , Bearer Realm=x, Negotiate"#;
        let found = parse_header(text);
        let schemes: Vec<&str> =
            found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer", "negotiate"]);
        assert_eq!(found[0].get("realm"), Some("a \" b"));
        assert_eq!(found[1].get("realm"), Some("x"));
    }

    proptest! {
        #[test]
        fn any_header_ends_without_panic(text in ".{0,200}") {
            parse_header(&text);
        }
    }
}
