//! Reading canonical bytes without making a [`super::Record`]: one pass that checks every byte, and
//! tells where the members stand that the log is searched by.

use super::member::Shape;
use super::{FORMAT, FORMER_FORMAT, Kind, MAX_LIST_ENTRIES, MAX_RECORD_BYTES, MAX_TEXT_BYTES, Member, RecordError};

/// Members of a record that the log is searched by. Texts are in their canonical form, with quotes
/// ([`super::canonical_text`]); two of them are equal exactly when the texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned<'b> {
    /// `device`
    pub device: Option<&'b [u8]>,
    /// `flow`
    pub flow: Option<&'b [u8]>,
    /// `id`
    pub id: Option<&'b [u8]>,
    /// `kind`
    pub kind: &'b [u8],
    /// `outcome`
    pub outcome: Option<&'b [u8]>,
    /// `passed`
    pub passed: Option<&'b [u8]>,
    /// `reason`
    pub reason: Option<&'b [u8]>,
    /// `resource`
    pub resource: Option<&'b [u8]>,
    /// `seq`
    pub seq: u64,
    /// `session`
    pub session: Option<&'b [u8]>,
    /// `source`
    pub source: &'b [u8],
    /// `time_us`
    pub time_us: u64,
    /// `user`
    pub user: Option<&'b [u8]>,
}

/// Checks that the bytes are exactly the canonical form of a record, as [`super::Record::from_canonical`] does,
/// at a tenth of its cost.
///
/// # Errors
/// [`RecordError::TooLong`], or [`RecordError::NotCanonical`] for everything else.
pub fn scan(bytes: &[u8]) -> Result<Scanned<'_>, RecordError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong { bytes: bytes.len() });
    }
    // What every text must be, looked at once for the whole: no bare control character, and UTF-8.
    if bytes.iter().fold(0, |bad: u8, byte| bad | u8::from(*byte < 0x20)) != 0 || std::str::from_utf8(bytes).is_err() {
        return Err(RecordError::NotCanonical);
    }
    members(bytes, |_, _| {}).ok_or(RecordError::NotCanonical)
}

/// Calls `each` for every text of a scanned record that is searched for words, in canonical form: a text in quotes, or
/// a list of them.
pub fn texts<'b>(bytes: &'b [u8], mut each: impl FnMut(&'b [u8])) {
    let _ = members(bytes, |member, value| {
        if is_searched(member) {
            each(value);
        }
    });
}

/// Members that are searched for words.
const fn is_searched(member: Member) -> bool {
    matches!(
        member,
        Member::Action
            | Member::Detail
            | Member::Device
            | Member::DeviceName
            | Member::DeviceOwner
            | Member::Host
            | Member::Ip
            | Member::Method
            | Member::Path
            | Member::Policies
            | Member::Reason
            | Member::Resource
            | Member::Target
            | Member::User
            | Member::Via
            | Member::Words
    )
}

fn members<'b>(bytes: &'b [u8], mut each: impl FnMut(Member, &'b [u8])) -> Option<Scanned<'b>> {
    let mut found = Scanned::default();
    let (mut has_seq, mut has_time, mut has_format) = (false, false, false);
    let mut is_newer = false;
    let mut rest = bytes.strip_prefix(b"{")?;
    let mut first = true;
    for member in Member::ALL {
        let opening = member.opening().as_bytes();
        let opening = if first { opening.get(1..)? } else { opening };
        // Most members are not this one, and most of those begin with another letter.
        let letter = if first { 1 } else { 2 };
        if rest.get(letter) != opening.get(letter) {
            continue;
        }
        let Some(value) = rest.strip_prefix(opening) else { continue };
        first = false;
        is_newer |= member.is_newer();
        let length = match member.shape() {
            Shape::Text => text(value, usize::MAX)?,
            Shape::Long => text(value, MAX_TEXT_BYTES)?,
            Shape::List => list(value, usize::MAX)?,
            Shape::Bounded => list(value, MAX_LIST_ENTRIES)?,
            Shape::Kind => kind(value)?,
            Shape::Number | Shape::Short | Shape::Format => {
                let (number, length) = number(value)?;
                match member {
                    Member::Seq => (found.seq, has_seq) = (number, true),
                    Member::TimeUs => (found.time_us, has_time) = (number, true),
                    _ if member.shape() == Shape::Short && number > u64::from(u16::MAX) => return None,
                    _ if member.shape() == Shape::Format => {
                        has_format = number == u64::from(FORMAT) || (number == u64::from(FORMER_FORMAT) && !is_newer);
                    }
                    _ => {}
                }
                length
            }
        };
        let (value, behind) = value.split_at_checked(length)?;
        each(*member, value);
        match member {
            Member::Device => found.device = Some(value),
            Member::Flow => found.flow = Some(value),
            Member::Id => found.id = Some(value),
            Member::Kind => found.kind = value,
            Member::Outcome => found.outcome = Some(value),
            Member::Passed => found.passed = Some(value),
            Member::Reason => found.reason = Some(value),
            Member::Resource => found.resource = Some(value),
            Member::Session => found.session = Some(value),
            Member::Source => found.source = value,
            Member::User => found.user = Some(value),
            _ => {}
        }
        rest = behind;
    }
    let whole = has_seq && has_time && has_format && !found.kind.is_empty() && !found.source.is_empty();
    (whole && rest == b"}").then_some(found)
}

/// Length of the text at the start, quotes included, when it is no longer than `most` bytes
/// without escapes.
fn text(bytes: &[u8], most: usize) -> Option<usize> {
    let mut at = 1;
    // Bytes that an escape takes beyond the one that it stands for.
    let mut extra = 0;
    if bytes.first() != Some(&b'"') {
        return None;
    }
    loop {
        at += plain(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => break,
            _ => {
                let length = escape(bytes.get(at + 1..)?)?;
                extra += length;
                at += 1 + length;
            }
        }
    }
    (at - 1 - extra <= most).then_some(at + 1)
}

/// How many bytes stand in front of the first quote or backslash, or the end.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let (eights, rest) = bytes.as_chunks::<8>();
    for (index, eight) in eights.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
        let hits = zero_in(word ^ (ONES * u64::from(b'"'))) | zero_in(word ^ (ONES * u64::from(b'\\')));
        if hits != 0 {
            // The lowest hit is exact; only those above one can be wrong.
            return index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|byte| *byte == b'"' || *byte == b'\\').unwrap_or(rest.len());
    eights.len() * 8 + tail
}

/// Length of the one way to escape a character, behind the backslash.
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Some(1),
        b'u' => {
            let [b'0', b'0', high, low] = *bytes.get(1..)?.first_chunk::<4>()? else { return None };
            let low = match low {
                b'0'..=b'9' => low - b'0',
                b'a'..=b'f' => low - b'a' + 10,
                _ => return None,
            };
            match (high, low) {
                // Those with an escape of their own.
                (b'0', 0x8 | 0x9 | 0xa | 0xc | 0xd) => None,
                (b'0' | b'1', _) => Some(5),
                _ => None,
            }
        }
        _ => None,
    }
}

fn list(bytes: &[u8], most: usize) -> Option<usize> {
    let mut opening = b'[';
    let (mut at, mut entries) = (0, 0);
    loop {
        match bytes.get(at)? {
            b']' if entries > 0 => return Some(at + 1),
            byte if *byte == opening && entries < most => {
                at += 1 + text(bytes.get(at + 1..)?, usize::MAX)?;
                entries += 1;
                opening = b',';
            }
            _ => return None,
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let length = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = bytes.get(..length)?;
    if length == 0 || (length > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    let push = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    Some((digits.iter().try_fold(0, push)?, length))
}

fn kind(bytes: &[u8]) -> Option<usize> {
    let word = bytes.strip_prefix(b"\"")?;
    let kind = Kind::ALL
        .iter()
        .find(|kind| word.strip_prefix(kind.as_str().as_bytes()).is_some_and(|behind| behind.first() == Some(&b'"')))?;
    Some(kind.as_str().len() + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_record, full};
    use super::super::{Record, canonical_text};
    use super::*;

    fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
        let (fast, slow) = (scan(bytes), Record::from_canonical(bytes));
        prop_assert_eq!(fast.is_ok(), slow.is_ok(), "{:?}", String::from_utf8_lossy(bytes));
        if let (Ok(fast), Ok(slow)) = (fast, slow) {
            let text = |text: &Option<String>| text.as_deref().map(canonical_text);
            prop_assert_eq!((fast.seq, fast.time_us), (slow.seq, slow.time_us));
            prop_assert_eq!(fast.source, &canonical_text(&slow.source));
            prop_assert_eq!(fast.kind, &canonical_text(slow.kind.as_str()));
            for (fast, slow) in [
                (fast.device, &slow.device),
                (fast.flow, &slow.flow),
                (fast.id, &slow.id),
                (fast.outcome, &slow.outcome),
                (fast.passed, &slow.passed),
                (fast.reason, &slow.reason),
                (fast.resource, &slow.resource),
                (fast.session, &slow.session),
                (fast.user, &slow.user),
            ] {
                prop_assert_eq!(fast.map(<[u8]>::to_vec), text(slow));
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn it_accepts_exactly_what_the_reader_accepts(
            record in any_record(),
            place in any::<prop::sample::Index>(),
            other in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            piece in prop::sample::select(vec![
                "\"", "\\", "\\u0009", "\\u001f", "\\u001F", "\\/", ",", "[]", "00", "0", ".0", "-1", " ", "null", "{", "é", "\u{7f}",
                ",\"path\":\"x\"", ",\"seq\":1", "18446744073709551616", "99999", "\\n",
            ]),
        ) {
            let bytes = record.to_canonical().unwrap();
            prop_assert!(scan(&bytes).is_ok());
            agree(&bytes)?;
            let (at, to) = (place.index(bytes.len()), other.index(bytes.len()));
            let mut changed = bytes.clone();
            changed[at] = byte;
            agree(&changed)?;
            let mut cut = bytes.clone();
            cut.drain(at.min(to)..at.max(to));
            agree(&cut)?;
            let mut longer = bytes.clone();
            longer.splice(at..at, piece.bytes());
            agree(&longer)?;
            agree(&bytes[..at])?;
        }

        #[test]
        fn it_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            agree(&bytes)?;
        }
    }

    #[test]
    fn every_byte_of_a_record_may_be_any_other() {
        let bytes = full().to_canonical().unwrap();
        for at in 0..bytes.len() {
            for byte in [0, b' ', b'"', b'\\', b'0', b'9', b',', b'}', b'z', 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                agree(&changed).unwrap();
            }
        }
    }
}
