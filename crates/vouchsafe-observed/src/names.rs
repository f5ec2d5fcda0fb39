//! Names in logs, and the users and resources that somebody says they are.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use vouchsafe_model::name::{NameError, ResourceName, UserName};

/// Most names.
const MAX_NAMES: usize = 200_000;

/// A mapping that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// It is no such TOML.
    #[error("{0}")]
    Toml(String),
    /// A name in it is no name.
    #[error("what `{key}` stands for can't be used")]
    Name {
        /// The name in logs.
        key: String,
        /// What is wrong.
        #[source]
        source: NameError,
    },
    /// A name stands for somebody and is to be passed over.
    #[error("`{key}` stands for `{name}` and is to be ignored, too")]
    Both {
        /// The name in logs.
        key: String,
        /// What it stands for.
        name: String,
    },
    /// There are too many.
    #[error("there are more than 200,000 names")]
    TooMany,
}

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesDoc {
    #[serde(default)]
    users: BTreeMap<String, String>,
    #[serde(default)]
    resources: BTreeMap<String, String>,
    #[serde(default)]
    ignore: IgnoreDoc,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IgnoreDoc {
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
}

/// Names in logs that aren't in a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    /// Nobody's.
    #[default]
    Unknown,
    /// The user of that very name, where it can be one. Somebody said so.
    TheSame,
}

/// Who and what names in logs are.
#[derive(Debug, Clone, Default)]
pub struct Names {
    users: HashMap<String, Option<UserName>>,
    resources: HashMap<String, Option<ResourceName>>,
    others: Others,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meant<N> {
    /// This.
    Known(N),
    /// Nobody said.
    Unknown,
    /// Somebody said that it is to be passed over.
    Ignored,
}

impl Names {
    /// No names, but what is said of others.
    #[must_use]
    pub fn only(others: Others) -> Self {
        Self { others, ..Self::default() }
    }

    /// Reads a mapping in TOML.
    ///
    /// # Errors
    /// [`NamesError`].
    pub fn parse(text: &str, others: Others) -> Result<Self, NamesError> {
        let NamesDoc { users, resources, ignore } =
            toml::from_str(text).map_err(|error| NamesError::Toml(error.to_string().trim_end().to_owned()))?;
        let IgnoreDoc { users: no_users, resources: no_resources } = ignore;
        if users.len() + resources.len() + no_users.len() + no_resources.len() > MAX_NAMES {
            return Err(NamesError::TooMany);
        }
        let users = table(users, no_users, UserName::parse)?;
        Ok(Self { users, resources: table(resources, no_resources, ResourceName::parse)?, others })
    }

    pub(crate) fn user(&self, name: &str) -> Meant<UserName> {
        match self.users.get(name) {
            Some(Some(user)) => Meant::Known(user.clone()),
            Some(None) => Meant::Ignored,
            None if self.others == Others::TheSame => UserName::parse(name).map_or(Meant::Unknown, Meant::Known),
            None => Meant::Unknown,
        }
    }

    pub(crate) fn resource(&self, place: &str) -> Meant<ResourceName> {
        match self.resources.get(place) {
            Some(Some(resource)) => Meant::Known(resource.clone()),
            Some(None) => Meant::Ignored,
            None => Meant::Unknown,
        }
    }
}

fn table<N: ToString>(
    known: BTreeMap<String, String>,
    ignored: Vec<String>,
    parse: impl Fn(&str) -> Result<N, NameError>,
) -> Result<HashMap<String, Option<N>>, NamesError> {
    let mut table = HashMap::new();
    for (key, name) in known {
        let name = parse(&name).map_err(|source| NamesError::Name { key: key.clone(), source })?;
        table.insert(key, Some(name));
    }
    for key in ignored {
        match table.get(&key) {
            Some(Some(name)) => return Err(NamesError::Both { name: name.to_string(), key }),
            Some(None) | None => drop(table.insert(key, None)),
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"
[users]
"alice@EXAMPLE.ORG" = "alice"
[resources]
"wiki.example.org" = "wiki"
[ignore]
users = ["nagios"]
"#;

    #[test]
    fn a_name_is_what_was_said_and_nothing_else() {
        let names = Names::parse(TEXT, Others::Unknown).expect("reads");
        let known = Meant::Known(UserName::parse("alice").expect("user"));
        assert_eq!(names.user("alice@EXAMPLE.ORG"), known);
        assert_eq!(names.user("nagios"), Meant::Ignored);
        for unknown in ["alice", "alice@example.org", "", "ALICE@EXAMPLE.ORG"] {
            assert_eq!(names.user(unknown), Meant::Unknown, "{unknown}");
        }
        assert_eq!(names.resource("wiki.example.org"), Meant::Known(ResourceName::parse("wiki").expect("resource")));
        assert_eq!(names.resource("wiki"), Meant::Unknown);
        let same = Names::parse(TEXT, Others::TheSame).expect("reads");
        assert_eq!(
            (same.user("alice"), same.user("nagios"), same.user("Alice")),
            (known, Meant::Ignored, Meant::Unknown)
        );
    }

    #[test]
    fn a_mapping_with_a_mistake_is_refused_with_its_place() {
        let wrong = |text: &str| Names::parse(text, Others::Unknown).expect_err("refused").to_string();
        assert!(wrong("[users]\n\"a\" = \"A\"").contains("`a`"));
        assert!(wrong("[users]\na = \"x\"\na = \"y\"").contains("line 3"));
        assert!(wrong("[user]\na = \"x\"").contains("unknown field `user`"));
        assert!(wrong("[resources]\na = \"console\"").contains("`a`"));
        assert!(wrong("[users]\na = \"x\"\n[ignore]\nusers = [\"a\"]").contains("ignored"));
    }

    proptest! {
        #[test]
        fn any_name_can_be_mapped(name in "\\PC{1,40}", user in "[a-z][a-z0-9.@+_-]{0,20}") {
            let doc = BTreeMap::from([("users", BTreeMap::from([(name.clone(), user.clone())]))]);
            let text = toml::to_string(&doc).expect("TOML");
            let names = Names::parse(&text, Others::Unknown).expect("reads");
            prop_assert_eq!(names.user(&name), Meant::Known(UserName::parse(&user).expect("user")));
        }
    }
}
