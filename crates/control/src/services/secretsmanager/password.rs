//! GetRandomPassword.

use aws_lc_rs::rand;
use minato_wire::ApiError;
use minato_wire::secretsmanager::{
    GetRandomPasswordRequest, GetRandomPasswordResponse, error,
};

use crate::context::{Context, Scope};

/// The default length (API reference).
const LENGTH: i64 = 32;
/// The longest (API reference).
const LENGTH_MAX: i64 = 4096;
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

pub(super) async fn get_random_password(
    _: &Context,
    _: &Scope,
    input: GetRandomPasswordRequest,
) -> Result<GetRandomPasswordResponse, ApiError> {
    let invalid = |text: &str| error::invalid_parameter_exception(text);
    let length = input.password_length.unwrap_or(LENGTH);
    if !(1..=LENGTH_MAX).contains(&length) {
        return Err(invalid("The password length must be from 1 to 4096."));
    }
    let length = usize::try_from(length).unwrap_or(1);
    let excluded = input.exclude_characters.unwrap_or_default();
    let kinds = [
        (input.exclude_lowercase, ('a'..='z').collect::<String>()),
        (input.exclude_uppercase, ('A'..='Z').collect()),
        (input.exclude_numbers, ('0'..='9').collect()),
        (input.exclude_punctuation, PUNCTUATION.to_owned()),
        (Some(!input.include_space.unwrap_or(false)), " ".to_owned()),
    ];
    let kinds: Vec<Vec<char>> = kinds
        .into_iter()
        .filter(|(without, _)| !without.unwrap_or(false))
        .map(|(_, kind)| {
            kind.chars().filter(|c| !excluded.contains(*c)).collect()
        })
        .filter(|kind: &Vec<char>| !kind.is_empty())
        .collect();
    let all = kinds.concat();
    if all.is_empty() {
        return Err(invalid("No characters are left to make a password of."));
    }
    let each = input.require_each_included_type.unwrap_or(true);
    if each && kinds.len() > length {
        return Err(invalid(
            "The password length is too short for one character of each \
             included type.",
        ));
    }
    let mut password: Vec<char> = vec![];
    if each {
        for kind in &kinds {
            password.push(kind[below(kind.len())?]);
        }
    }
    while password.len() < length {
        password.push(all[below(all.len())?]);
    }
    // The required ones must not stand in front.
    for at in (1..password.len()).rev() {
        password.swap(at, below(at + 1)?);
    }
    let random_password = Some(password.into_iter().collect());
    Ok(GetRandomPasswordResponse { random_password })
}

/// A random number below `end`, each as likely as the others.
fn below(end: usize) -> Result<usize, ApiError> {
    let end = u32::try_from(end).unwrap_or(u32::MAX).max(1);
    // Numbers from the last incomplete run of `end` are drawn again.
    let whole = u32::MAX - u32::MAX % end;
    loop {
        let mut bytes = [0; 4];
        rand::fill(&mut bytes).map_err(|_| {
            error::internal_service_error("An error occurred on the server.")
        })?;
        let number = u32::from_ne_bytes(bytes);
        if number < whole {
            return Ok(usize::try_from(number % end).unwrap_or_default());
        }
    }
}
