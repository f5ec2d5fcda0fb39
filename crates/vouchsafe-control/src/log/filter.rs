//! What records are looked for.

use vouchsafe_wire::audit::{Scanned, Words, canonical_text};

use super::bits::Bits;
use super::block::{Block, Field};
use super::terms::{Open, Terms, Unusable, value_key};

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

    /// Whether values or words are asked for.
    pub(super) fn asks_for_more_than_time(&self) -> bool {
        !self.values.is_empty() || self.words.is_some()
    }

    /// Which records of a segment match, by its terms.
    pub(super) fn among(&self, terms: &Terms, open: &mut Open<'_>) -> Result<Among, Unusable> {
        let (earliest, latest) = terms.times;
        let times = self.since_us..self.until_us;
        if latest < times.start || earliest >= times.end {
            return Ok(Among::These(Bits::none(terms.size)));
        }
        let mut wanted = Vec::new();
        for (field, value, _) in &self.values {
            wanted.push(open.value(&value_key(*field, value))?);
        }
        for word in self.words.iter().flat_map(Words::iter) {
            wanted.push(open.words(word)?);
        }
        // The rarest first: most of the others need not be read.
        wanted.sort_by_key(|found| found.count);
        let mut among: Option<Bits> = None;
        for found in &wanted {
            match &mut among {
                _ if found.count == 0 => return Ok(Among::These(Bits::none(terms.size))),
                None => among = Some(open.records(found)?),
                Some(among) if among.is_empty() => break,
                Some(among) => among.keep(&open.records(found)?),
            }
        }
        if times.contains(&earliest) && times.contains(&latest) {
            return Ok(among.map_or(Among::All, Among::These));
        }
        let mut among = among.unwrap_or_else(|| Bits::all(terms.size));
        if !among.is_empty() {
            for (time, number) in open.times()?.iter().zip(0..) {
                if !times.contains(time) {
                    among.remove(number);
                }
            }
        }
        Ok(Among::These(among))
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

/// Records of a segment.
pub(super) enum Among {
    /// Every one.
    All,
    /// Those.
    These(Bits),
}
