//! What the answer to a request says that was denied, and went on by the `warn` mode of its resource: a field that
//! programs read (`docs/spec/api.md`).
//!
//! It is an item of RFC 9651: `no_permit;until="2026-12-31T18:00:00Z";owner="alice";decision="dec_…"`.

use std::fmt;
use std::time::SystemTime;

use vouchsafe_model::decision::Reason;
use vouchsafe_model::id::DecisionId;
use vouchsafe_model::moment;
use vouchsafe_model::name::UserName;

use crate::resource::second_text;

/// The field of the answer.
pub const WOULD_DENY_HEADER: &str = "x-vouchsafe-would-deny";
/// Longest value that is read, bytes.
const MAX_BYTES: usize = 512;

/// That a request went on, and will not for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldDeny {
    /// Why it is denied.
    pub reason: Reason,
    /// From then on the denial stands.
    pub until: SystemTime,
    /// Who answers for the resource.
    pub owner: UserName,
    /// The decision, to be quoted.
    pub decision: DecisionId,
}

impl WouldDeny {
    /// Reads the field. `None` when it is anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        if value.len() > MAX_BYTES {
            return None;
        }
        let (reason, rest) = value.split_once(";until=\"")?;
        let (until, rest) = rest.split_once("\";owner=\"")?;
        let (owner, rest) = rest.split_once("\";decision=\"")?;
        Some(Self {
            reason: Reason::from_code(reason)?,
            until: moment::parse_rfc3339(until)?,
            owner: UserName::parse(owner).ok()?,
            decision: rest.strip_suffix('"')?.parse().ok()?,
        })
    }

    /// The end in words that people read: `2026-12-31 18:00 UTC`.
    #[must_use]
    pub fn until_words(&self) -> String {
        let text = second_text(self.until).unwrap_or_default();
        let (day, time) = text.split_once('T').unwrap_or_default();
        format!("{day} {} UTC", time.get(..5).unwrap_or_default())
    }
}

impl fmt::Display for WouldDeny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, until, owner, decision } = self;
        let until = second_text(*until).ok_or(fmt::Error)?;
        write!(f, "{};until=\"{until}\";owner=\"{owner}\";decision=\"{decision}\"", reason.code())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const VALUE: &str =
        "no_permit;until=\"2026-12-31T18:00:00Z\";owner=\"alice\";decision=\"dec_00000000000000000000000004\"";

    #[test]
    fn it_is_read_as_it_is_written() {
        let read = WouldDeny::parse(VALUE).unwrap();
        assert_eq!(read.reason, Reason::NoPermit);
        assert_eq!(read.until, SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_740_000));
        assert_eq!((read.owner.as_str(), read.until_words().as_str()), ("alice", "2026-12-31 18:00 UTC"));
        assert_eq!(read.to_string(), VALUE);
    }

    #[test]
    fn what_is_anything_else_is_not_told() {
        for other in [
            "",
            "no_permit",
            &VALUE.replace("no_permit", "because"),
            &VALUE.replace("alice", "al\u{1b}[31mice"),
            &VALUE.replace("alice", "a\";x=\"b"),
            &VALUE.replace("2026", "later"),
            &VALUE.replace("dec_", "usr_"),
            &format!("{VALUE};further=1"),
            &"a".repeat(10_000),
        ] {
            assert_eq!(WouldDeny::parse(other), None, "{other}");
        }
    }
}
