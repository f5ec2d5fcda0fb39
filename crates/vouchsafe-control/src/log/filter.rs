//! What records are looked for.

use vouchsafe_wire::audit::{Scanned, Words, canonical_text};

use super::block::{Block, Field};

/// What to look for; all given members must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) user: Option<String>,
    /// Id of the device.
    pub(crate) device: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) passed: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) reason: Option<String>,
    /// Id of a decision, flow or session.
    pub(crate) id: Option<String>,
    /// Words that it has.
    pub(crate) text: Option<Words>,
    pub(crate) since_us: Option<u64>,
    pub(crate) until_us: Option<u64>,
}

/// A filter in the form that records are compared with.
pub(super) struct Needle {
    values: Vec<(Field, Vec<u8>, u64)>,
    words: Option<Words>,
    since_us: u64,
    until_us: u64,
}

impl Needle {
    pub(super) fn new(filter: &Filter) -> Self {
        let Filter { user, device, resource, outcome, passed, kind, reason, id, text, since_us, until_us } = filter;
        let id_field = match id.as_deref().and_then(|id| id.split('_').next()) {
            Some("flw") => Field::Flow,
            Some("ses") => Field::Session,
            Some(_) | None => Field::Id,
        };
        // Those that say most come first.
        let given = [
            (id_field, id),
            (Field::Device, device),
            (Field::User, user),
            (Field::Passed, passed),
            (Field::Resource, resource),
            (Field::Reason, reason),
            (Field::Kind, kind),
            (Field::Outcome, outcome),
        ];
        let values = given.into_iter().filter_map(|(field, value)| {
            let value = canonical_text(value.as_deref()?);
            let hash = field.hash(&value);
            Some((field, value, hash))
        });
        Self {
            values: values.collect(),
            words: text.clone(),
            since_us: since_us.unwrap_or(0),
            until_us: until_us.unwrap_or(u64::MAX),
        }
    }

    pub(super) fn may_be_in(&self, block: &Block) -> bool {
        block.times.1 >= self.since_us
            && block.times.0 < self.until_us
            && self.values.iter().all(|(_, _, hash)| block.may_hold(*hash))
    }

    /// Whether a record is looked for; `payload` are its canonical bytes.
    pub(super) fn is(&self, record: &Scanned<'_>, payload: &[u8]) -> bool {
        (self.since_us..self.until_us).contains(&record.time_us)
            && self.values.iter().all(|(field, value, _)| field.of(record) == Some(value))
            && self.words.as_ref().is_none_or(|words| words.are_in(payload))
    }
}
