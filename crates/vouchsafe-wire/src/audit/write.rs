//! Writing records: straight into canonical bytes, without a tree in between.

use super::member::Shape;
use super::{ELLIPSIS, FORMAT, Kind, MAX_LIST_ENTRIES, MAX_RECORD_BYTES, MAX_TEXT_BYTES, Member, Record, RecordError};
use crate::spool::{HEADER_BYTES, frame_header};

/// Writes the members of one record, in the order of their names.
///
/// Long texts and lists are cut to their own limits, as [`Record::to_canonical`] does it.
pub struct Members<'o> {
    out: &'o mut Vec<u8>,
    /// Nothing stands behind the brace yet.
    empty: bool,
    /// The last member, to hold the order.
    last: Option<Member>,
}

impl<'o> Members<'o> {
    /// Begins a record behind what `out` holds.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true, last: None }
    }

    fn name(&mut self, member: Member) {
        debug_assert!(self.last < Some(member), "{member:?} stands behind {:?}", self.last);
        self.last = Some(member);
        let opening = member.opening().as_bytes();
        let opening = if self.empty { opening.get(1..).unwrap_or_default() } else { opening };
        self.empty = false;
        self.out.extend_from_slice(opening);
    }

    /// A text.
    pub fn text(&mut self, member: Member, text: &str) {
        self.name(member);
        match member.shape() {
            Shape::Long if text.len() > MAX_TEXT_BYTES => {
                let mut cut = text.to_owned();
                super::cut(&mut cut, MAX_TEXT_BYTES);
                push_text(self.out, &cut);
            }
            _ => push_text(self.out, text),
        }
    }

    /// A text, absent when there is none.
    pub fn maybe_text(&mut self, member: Member, text: Option<&str>) {
        if let Some(text) = text {
            self.text(member, text);
        }
    }

    /// A number.
    pub fn number(&mut self, member: Member, number: u64) {
        self.name(member);
        push_number(self.out, number);
    }

    /// A number, absent when there is none.
    pub fn maybe_number(&mut self, member: Member, number: Option<u64>) {
        if let Some(number) = number {
            self.number(member, number);
        }
    }

    /// A list of texts, absent when it is empty.
    pub fn list<'t>(&mut self, member: Member, list: impl IntoIterator<Item = &'t str>) {
        let most = if member.shape() == Shape::Bounded { MAX_LIST_ENTRIES } else { usize::MAX };
        let mut list = list.into_iter().take(most).peekable();
        if list.peek().is_none() {
            return;
        }
        self.name(member);
        let mut opening = b'[';
        for text in list {
            self.out.push(opening);
            push_text(self.out, text);
            opening = b',';
        }
        self.out.push(b']');
    }

    /// The kind.
    pub fn kind(&mut self, kind: Kind) {
        self.text(Member::Kind, kind.as_str());
    }

    /// Members that were made ready before: the last of them is `last`.
    pub fn ready(&mut self, ready: &Ready, last: Member) {
        debug_assert!(self.last < Some(last));
        let bytes = ready.0.as_slice();
        if bytes.is_empty() {
            return;
        }
        self.last = Some(last);
        self.out.extend_from_slice(if self.empty { bytes.get(1..).unwrap_or_default() } else { bytes });
        self.empty = false;
    }

    /// The format, whose place is known.
    pub fn format(&mut self) {
        self.number(Member::V, u64::from(FORMAT));
    }

    /// Ends the record.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Neighbouring members as they will stand in many records, written once.
#[derive(Debug, Clone, Default)]
pub struct Ready(Vec<u8>);

impl Ready {
    /// Writes them.
    pub fn new(write: impl FnOnce(&mut Members<'_>)) -> Self {
        let mut bytes = Vec::new();
        // As behind another member: with the comma in front.
        write(&mut Members { out: &mut bytes, empty: false, last: None });
        Self(bytes)
    }
}

/// A whole record but for its number, which its source gives it when it is kept.
#[derive(Debug, Clone)]
pub struct Draft {
    bytes: Vec<u8>,
    /// Where the digits of the number go.
    seq_at: usize,
}

/// Room for the longest number.
const SEQ_DIGITS: usize = 20;

impl Draft {
    /// Writes a record: the members before `seq` with `before`, those behind `source` with `after`.
    /// The name of the source and the number stand between them.
    ///
    /// # Errors
    /// As [`Record::to_canonical`].
    pub fn write(
        source: &str,
        before: impl FnOnce(&mut Members<'_>),
        session: Option<&str>,
        after: impl FnOnce(&mut Members<'_>),
    ) -> Result<Self, RecordError> {
        let mut bytes = Vec::with_capacity(1_024);
        let mut members = Members::begin(&mut bytes);
        before(&mut members);
        members.name(Member::Seq);
        let seq_at = members.out.len();
        members.maybe_text(Member::Session, session);
        members.text(Member::Source, source);
        after(&mut members);
        members.end();
        if bytes.len() > MAX_RECORD_BYTES - SEQ_DIGITS {
            // Rare, and then it may cost something: read it as a record, and shorten that.
            bytes.splice(seq_at..seq_at, [b'0']);
            let record: Record = serde_json::from_slice(&bytes).map_err(RecordError::Unreadable)?;
            return Self::of(&record, source);
        }
        Ok(Self { bytes, seq_at })
    }

    /// The record of that source but for its number.
    ///
    /// # Errors
    /// As [`Record::to_canonical`].
    pub fn of(record: &Record, source: &str) -> Result<Self, RecordError> {
        // With the longest number, so that it is short enough for any.
        let mut record = record.clone();
        record.seq = u64::MAX;
        source.clone_into(&mut record.source);
        let mut bytes = record.to_canonical()?;
        // Members are sorted, so a text that looks like this member can only stand inside quotes,
        // where its own quotes are escaped.
        let name = Member::Seq.opening().as_bytes();
        let seq_at = bytes.windows(name.len()).position(|window| window == name).ok_or(RecordError::NotCanonical)?;
        let seq_at = seq_at + name.len();
        bytes.drain(seq_at..seq_at + SEQ_DIGITS);
        Ok(Self { bytes, seq_at })
    }

    /// Numbers the record, and appends its frame (`docs/spec/audit-record.md`).
    pub fn push_frame(&self, seq: u64, out: &mut Vec<u8>) {
        let (before, after) = self.bytes.split_at_checked(self.seq_at).unwrap_or_default();
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(before);
        push_number(out, seq);
        out.extend_from_slice(after);
        let (_, frame) = out.split_at_mut(start);
        if let Some((header, payload)) = frame.split_first_chunk_mut::<HEADER_BYTES>() {
            *header = frame_header(payload);
        }
    }
}

impl Record {
    /// Writes every member as it is, without looking at limits of the whole.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self {
            action,
            advice,
            auth_methods,
            auth_time_us,
            bytes_in,
            bytes_out,
            connector,
            detail,
            device,
            device_name,
            device_owner,
            device_tags,
            duration_us,
            epoch,
            flow,
            grade,
            groups,
            host,
            id,
            ip,
            kind,
            method,
            outcome,
            passed,
            path,
            policies,
            policy_version,
            port,
            protocol,
            proxy,
            reason,
            repeated,
            resource,
            seq,
            session,
            source,
            status,
            target,
            time_us,
            tls,
            user,
            v,
            via,
            words,
        } = self;
        let mut m = Members::begin(out);
        m.maybe_text(Member::Action, action.as_deref());
        m.list(Member::Advice, advice.iter().map(String::as_str));
        m.list(Member::AuthMethods, auth_methods.iter().map(String::as_str));
        m.maybe_number(Member::AuthTimeUs, *auth_time_us);
        m.maybe_number(Member::BytesIn, *bytes_in);
        m.maybe_number(Member::BytesOut, *bytes_out);
        m.maybe_text(Member::Connector, connector.as_deref());
        m.maybe_text(Member::Detail, detail.as_deref());
        m.maybe_text(Member::Device, device.as_deref());
        m.maybe_text(Member::DeviceName, device_name.as_deref());
        m.maybe_text(Member::DeviceOwner, device_owner.as_deref());
        m.list(Member::DeviceTags, device_tags.iter().map(String::as_str));
        m.maybe_number(Member::DurationUs, *duration_us);
        m.maybe_number(Member::Epoch, *epoch);
        m.maybe_text(Member::Flow, flow.as_deref());
        m.maybe_text(Member::Grade, grade.as_deref());
        m.list(Member::Groups, groups.iter().map(String::as_str));
        m.maybe_text(Member::Host, host.as_deref());
        m.maybe_text(Member::Id, id.as_deref());
        m.maybe_text(Member::Ip, ip.as_deref());
        m.kind(*kind);
        m.maybe_text(Member::Method, method.as_deref());
        m.maybe_text(Member::Outcome, outcome.as_deref());
        m.maybe_text(Member::Passed, passed.as_deref());
        m.maybe_text(Member::Path, path.as_deref());
        m.list(Member::Policies, policies.iter().map(String::as_str));
        m.maybe_number(Member::PolicyVersion, *policy_version);
        m.maybe_number(Member::Port, port.map(u64::from));
        m.maybe_text(Member::Protocol, protocol.as_deref());
        m.maybe_text(Member::Proxy, proxy.as_deref());
        m.maybe_text(Member::Reason, reason.as_deref());
        m.maybe_number(Member::Repeated, *repeated);
        m.maybe_text(Member::Resource, resource.as_deref());
        m.number(Member::Seq, *seq);
        m.maybe_text(Member::Session, session.as_deref());
        m.text(Member::Source, source);
        m.maybe_number(Member::Status, status.map(u64::from));
        m.maybe_text(Member::Target, target.as_deref());
        m.number(Member::TimeUs, *time_us);
        m.maybe_text(Member::Tls, tls.as_deref());
        m.maybe_text(Member::User, user.as_deref());
        m.number(Member::V, u64::from(*v));
        m.maybe_text(Member::Via, via.as_deref());
        m.maybe_text(Member::Words, words.as_deref());
        m.end();
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; SEQ_DIGITS];
    let mut first = SEQ_DIGITS;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        // INVARIANT: a remainder of ten fits a byte.
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        first = at;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// A text in quotes, with only `"`, `\` and control characters escaped (RFC 8785 §3.2.2.2).
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Folded without an early end, so that the compiler looks at many bytes at once.
    let escaped = |byte: &u8| u8::from(*byte < 0x20) | u8::from(*byte == b'"') | u8::from(*byte == b'\\');
    if text.as_bytes().iter().fold(0, |any, byte| any | escaped(byte)) == 0 {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.bytes().for_each(|byte| push_escaped(out, byte));
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0x00..=0x1f => {
            let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[hex(byte >> 4), hex(byte & 0xf)]);
            return;
        }
        _ => {
            out.push(byte);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The canonical form of a text, to compare with what `scan` finds.
#[must_use]
pub fn canonical_text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_text(&mut out, text);
    out
}

const _: () = assert!(ELLIPSIS.len_utf8() < MAX_TEXT_BYTES);
