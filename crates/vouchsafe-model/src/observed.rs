//! What people really did: accesses that went on, counted by who did what to which resource.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::name::{ResourceName, UserName};
use crate::subject::Grade;

/// Accesses of one user to one resource by one action.
///
/// The groups of the user aren't part of it: those of now are what counts for a policy of tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Who.
    pub user: UserName,
    /// For what. Our own console is never among it.
    pub resource: ResourceName,
    /// To do what.
    pub action: Action,
    /// How often, at least once.
    pub count: u64,
    /// The first time, unix seconds.
    pub first: u64,
    /// The last time, unix seconds.
    pub last: u64,
    /// The weakest grade of device that it came from; absent where that isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "grade")]
    #[schemars(with = "Option<String>")]
    pub grade: Option<Grade>,
    /// Where it was seen.
    pub source: Source,
}

/// Where accesses were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Our own audit log.
    Audit,
    /// nginx's access log.
    Nginx,
    /// Apache's access log.
    Apache,
    /// HAProxy's HTTP log.
    Haproxy,
    /// PostgreSQL's CSV log.
    Postgres,
    /// The log of OpenSSH's server.
    Sshd,
}

impl Source {
    /// The word in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Audit => "audit",
            Source::Nginx => "nginx",
            Source::Apache => "apache",
            Source::Haproxy => "haproxy",
            Source::Postgres => "postgres",
            Source::Sshd => "sshd",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

mod grade {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::subject::Grade;

    #[expect(clippy::ref_option, reason = "serde's form")]
    pub(super) fn serialize<S: Serializer>(grade: &Option<Grade>, serializer: S) -> Result<S::Ok, S::Error> {
        match grade {
            Some(grade) => serializer.serialize_str(grade.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Grade>, D::Error> {
        let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom("a grade is none, software, hardware or hardware-attested");
        Grade::from_word(&word).map(Some).ok_or_else(unknown)
    }
}

/// Accesses together: one entry for each user, resource, action and source, up to a limit.
#[derive(Debug, Clone)]
pub struct Tally {
    seen: BTreeMap<(UserName, ResourceName, Action, Source), Observed>,
    most: usize,
    beyond: u64,
}

impl Tally {
    /// An empty one that keeps at most that many entries.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { seen: BTreeMap::new(), most, beyond: 0 }
    }

    /// Adds accesses.
    pub fn add(&mut self, one: Observed) {
        let key = (one.user.clone(), one.resource.clone(), one.action, one.source);
        let full = self.seen.len() >= self.most;
        match self.seen.get_mut(&key) {
            Some(known) => {
                known.count = known.count.saturating_add(one.count);
                known.first = known.first.min(one.first);
                known.last = known.last.max(one.last);
                // What isn't known of one isn't known of all.
                known.grade = known.grade.zip(one.grade).map(|(known, new)| known.min(new));
            }
            None if full => self.beyond = self.beyond.saturating_add(one.count),
            None => drop(self.seen.insert(key, one)),
        }
    }

    /// Accesses that no entry was left for.
    #[must_use]
    pub const fn beyond(&self) -> u64 {
        self.beyond
    }

    /// What was added, by user, resource, action and source.
    #[must_use]
    pub fn into_observed(self) -> Vec<Observed> {
        self.seen.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(user: &str, count: u64, at: u64, grade: Option<Grade>) -> Observed {
        Observed {
            user: UserName::parse(user).expect("user"),
            resource: ResourceName::parse("wiki").expect("resource"),
            action: Action::HttpRead,
            count,
            first: at,
            last: at,
            grade,
            source: Source::Nginx,
        }
    }

    #[test]
    fn accesses_of_one_kind_become_one_and_the_weakest_device_counts() {
        let mut tally = Tally::new(2);
        tally.add(seen("ann", 2, 50, Some(Grade::Hardware)));
        tally.add(seen("ann", 1, 10, Some(Grade::Software)));
        tally.add(seen("bob", 1, 20, Some(Grade::Hardware)));
        tally.add(seen("bob", 1, 30, None));
        tally.add(seen("eve", 4, 30, None));
        assert_eq!(tally.beyond(), 4);
        let all = tally.into_observed();
        let told: Vec<_> =
            all.iter().map(|one| (one.user.as_str(), one.count, one.first, one.last, one.grade)).collect();
        assert_eq!(told, [("ann", 3, 10, 50, Some(Grade::Software)), ("bob", 2, 20, 30, None)]);
    }

    #[test]
    fn it_is_written_and_read_back_and_what_is_unknown_is_refused() {
        for one in [seen("ann", 2, 50, Some(Grade::HardwareAttested)), seen("ann", 2, 50, None)] {
            let text = serde_json::to_string(&one).expect("JSON");
            assert_eq!(serde_json::from_str::<Observed>(&text).expect("reads"), one);
        }
        let good =
            r#"{"user":"ann","resource":"wiki","action":"http:read","count":1,"first":1,"last":1,"source":"sshd"}"#;
        assert!(serde_json::from_str::<Observed>(good).is_ok());
        for (from, to) in [
            ("\"ann\"", "\"Ann\""),
            ("\"wiki\"", "\"console\""),
            ("http:read", "http:fly"),
            ("sshd", "guess"),
            ("\"count\":1", "\"count\":1,\"grade\":\"good\""),
            ("\"count\":1", "\"count\":1,\"more\":1"),
            ("\"count\":1", "\"count\":-1"),
        ] {
            assert!(serde_json::from_str::<Observed>(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
