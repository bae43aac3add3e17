use proptest::prelude::*;
use serde_json::{Value, json};

use super::call;
use crate::testing::TestBed;

fn password(input: Value) -> Result<String, String> {
    let bed = TestBed::new();
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(call(&bed, "GetRandomPassword", input));
    let answer = answer.map_err(|e| e.code().to_owned())?;
    Ok(answer["RandomPassword"].as_str().unwrap().to_owned())
}

type IsOf = fn(char) -> bool;

/// The types of characters, with the member that rules each.
fn types() -> [(&'static str, IsOf); 5] {
    [
        ("ExcludeLowercase", |c| c.is_ascii_lowercase()),
        ("ExcludeUppercase", |c| c.is_ascii_uppercase()),
        ("ExcludeNumbers", |c| c.is_ascii_digit()),
        ("ExcludePunctuation", |c| c.is_ascii_punctuation()),
        ("IncludeSpace", |c| c == ' '),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_password_is_what_was_asked_for(
        switches in any::<[bool; 5]>(),
        each in any::<Option<bool>>(),
        length in prop_oneof![1_usize..6, 1_usize..80],
        excluded in "[a-fA-F0-4!-/ ]{0,8}",
    ) {
        let mut input = json!({
            "PasswordLength": length, "ExcludeCharacters": excluded,
            "RequireEachIncludedType": each,
        });
        for ((name, _), switch) in types().iter().zip(switches) {
            input[*name] = json!(switch);
        }
        let included: Vec<_> = types()
            .into_iter()
            .zip(switches)
            .filter(|((name, _), is_on)| (*name == "IncludeSpace") == *is_on)
            .map(|((_, is_of), _)| is_of)
            .filter(|is_of| {
                let left = |c: char| is_of(c) && !excluded.contains(c);
                (' '..='~').any(left)
            })
            .collect();
        let each = each.unwrap_or(true);
        let answer = password(input);
        if included.is_empty() || (each && included.len() > length) {
            let invalid = Err("InvalidParameterException".to_owned());
            prop_assert_eq!(answer, invalid);
            return Ok(());
        }
        let answer = answer.unwrap();
        prop_assert_eq!(answer.chars().count(), length);
        for c in answer.chars() {
            prop_assert!(included.iter().any(|is_of| is_of(c)), "{}", c);
            prop_assert!(!excluded.contains(c), "{}", c);
        }
        for is_of in &included {
            prop_assert!(!each || answer.chars().any(is_of), "{}", answer);
        }
    }
}

#[test]
fn passwords_have_a_default_and_bounds() {
    let plain = password(json!({})).unwrap();
    assert_eq!(plain.len(), 32);
    assert!(!plain.contains(' '));
    assert_ne!(plain, password(json!({})).unwrap());
    let longest = password(json!({"PasswordLength": 4096})).unwrap();
    assert_eq!(longest.len(), 4096);
    let invalid = Err("InvalidParameterException".to_owned());
    for odd in [
        json!({"PasswordLength": 0}),
        json!({"PasswordLength": -1}),
        json!({"PasswordLength": 4097}),
        json!({"PasswordLength": 3}),
        json!({
            "ExcludeLowercase": true, "ExcludeUppercase": true,
            "ExcludeNumbers": true, "ExcludePunctuation": true,
        }),
        json!({
            "ExcludeLowercase": true, "ExcludeUppercase": true,
            "ExcludePunctuation": true, "ExcludeCharacters": "0123456789",
        }),
    ] {
        assert_eq!(password(odd), invalid);
    }
}
