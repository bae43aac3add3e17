//! Variables that must not lie on a disk.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Environment variables of a container that are kept in memory only: they
/// come with its start, not with its specification.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEnv(Vec<(String, String)>);

impl SecretEnv {
    /// Variables by name.
    pub fn new(variables: Vec<(String, String)>) -> SecretEnv {
        SecretEnv(variables)
    }

    /// Sets them in a list of `NAME=value`, over those of the same name.
    pub(crate) fn set_in(&self, env: &mut Vec<String>) {
        for (name, value) in &self.0 {
            let is_it = |text: &String| {
                text.split_once('=').is_some_and(|(known, _)| known == name)
            };
            env.retain(|text| !is_it(text));
            env.push(format!("{name}={value}"));
        }
    }
}

impl fmt::Debug for SecretEnv {
    // Never prints a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_replace_what_has_their_name_and_do_not_show() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let secrets = SecretEnv::new(vec![of("B", "x=y"), of("C", "hidden")]);
        let mut env = ["A=1", "B=2", "BB=3", "B="].map(str::to_owned).to_vec();
        secrets.set_in(&mut env);
        assert_eq!(env, ["A=1", "BB=3", "B=x=y", "C=hidden"]);
        assert_eq!(format!("{secrets:?}"), r#"["B", "C"]"#);
    }
}
