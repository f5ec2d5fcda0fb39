//! Whether something still is what somebody read: entity tags, and conditions on them (RFC 9110 §8.8.3 and §13.1).
//!
//! Two administrators who look at the same resource and change it one after the other would undo each other's work without
//! noticing. Whoever sends the tag of what she read with her change is told instead.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use vouchsafe_wire::ticket::hex;

/// Most tags that one condition names.
const MOST_TAGS: usize = 16;

/// It isn't what was read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no longer what was read: somebody changed it meanwhile")]
pub(crate) struct Moved;

/// What to do about that.
pub(crate) const HINT_MOVED: &str = "read it again, and make the change to what is there now; nothing was changed";

/// The tag of these bytes, a strong one.
pub(crate) fn tag_of(bytes: &[u8]) -> String {
    let sum = hex(digest(&SHA256, bytes).as_ref());
    format!("\"{}\"", sum.get(..32).unwrap_or_default())
}

/// What must be so for a change to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing.
    #[default]
    Nothing,
    /// There must be something: `*`.
    Exists,
    /// It must be one of these.
    Is(Vec<String>),
}

impl Precondition {
    /// Reads the value of `If-Match` or `If-None-Match`; nothing, when it is none. Weak tags are kept as they are: they are
    /// nothing's strong tag.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        if value.trim() == "*" {
            return Some(Self::Exists);
        }
        let is_tag = |tag: &str| {
            let inner = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            inner.is_some_and(|inner| inner.bytes().all(|byte| byte != b'"' && byte > b' ' && byte < 0x7f))
        };
        let tags: Vec<String> = value.split(',').map(|tag| tag.trim().to_owned()).collect();
        (tags.len() <= MOST_TAGS && tags.iter().all(|tag| is_tag(tag))).then_some(Self::Is(tags))
    }

    /// Passes when what there is now is as the condition wants it.
    ///
    /// # Errors
    /// [`Moved`], when it isn't.
    pub(crate) fn check(&self, now: Option<&impl Serialize>) -> Result<(), Moved> {
        let met = match (self, now) {
            (Self::Nothing, _) | (Self::Exists, Some(_)) => true,
            (Self::Exists | Self::Is(_), None) => false,
            (Self::Is(_), Some(now)) => serde_json::to_vec(now).is_ok_and(|bytes| self.names(&tag_of(&bytes))),
        };
        if met { Ok(()) } else { Err(Moved) }
    }

    /// Whether it names this tag. `*` names every one.
    pub(crate) fn names(&self, tag: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Exists => true,
            Self::Is(tags) => tags.iter().any(|named| named == tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_met_by_what_was_read_alone() {
        let tag = tag_of(br#"{"a":1}"#);
        let (same, other) = (serde_json::json!({"a": 1}), serde_json::json!({"a": 2}));
        let condition = Precondition::parse(&format!("\"x\", {tag}")).unwrap();
        assert_eq!(condition.check(Some(&same)), Ok(()));
        assert_eq!(condition.check(Some(&other)), Err(Moved));
        assert_eq!(condition.check(None::<&()>), Err(Moved));
        let weak = Precondition::parse(&format!("W/{tag}")).unwrap();
        assert_eq!(weak.check(Some(&same)), Err(Moved), "a weak tag promises too little");
        assert_eq!(Precondition::parse("*").unwrap().check(Some(&other)), Ok(()));
        assert_eq!(Precondition::parse("*").unwrap().check(None::<&()>), Err(Moved));
        assert_eq!(Precondition::Nothing.check(None::<&()>), Ok(()));
    }

    #[test]
    fn what_is_no_list_of_tags_is_not_read_as_one() {
        for wrong in ["", "x", "\"x", "\"x\" \"y\"", "\"x\",", "*, \"x\"", "\"a\u{7f}\"", &"\"x\",".repeat(20)] {
            assert_eq!(Precondition::parse(wrong), None, "{wrong}");
        }
    }
}
