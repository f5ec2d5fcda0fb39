//! The audit record and its canonical bytes. Specification: `docs/spec/audit-record.md`.
//!
//! A record is one JSON object in the form of RFC 8785 (JCS): members sorted by name, no white
//! space, integers only, no member whose value is absent. These bytes are what is hashed, signed
//! and kept, so a record is serialised exactly once, where it is made, and never again.

mod member;
mod scan;
mod words;
mod write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::member::Member;
pub use self::scan::{Scanned, scan, texts};
pub use self::words::{Words, WordsError, each_word};
pub use self::write::{Draft, Members, Ready, canonical_text};

/// Longest canonical form, in bytes: an entry of a C2SP `tlog-tiles` bundle carries a
/// 16-bit length.
pub const MAX_RECORD_BYTES: usize = 65_535;

/// Longest text that one member keeps, in bytes; longer ones are cut at a character boundary
/// and end in `…`.
pub const MAX_TEXT_BYTES: usize = 2_048;

/// Most entries that one list keeps.
pub const MAX_LIST_ENTRIES: usize = 256;

/// Format of the records that are made.
pub const FORMAT: u8 = 2;

/// The format before it, which is still read: its decisions don't say of the device what format 2 says.
pub const FORMER_FORMAT: u8 = 1;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One request or tunnel was decided on.
    Decision,
    /// An open flow ended.
    FlowEnd,
    /// Somebody signed in, or tried to.
    SignIn,
    /// A session ended.
    SessionEnd,
    /// A passkey was registered or removed.
    Passkey,
    /// A device was enrolled, renewed or removed.
    Device,
    /// An administrator changed something.
    Admin,
    /// Somebody read the audit log.
    AuditRead,
    /// A role started or stopped.
    Lifecycle,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Decision,
        Kind::FlowEnd,
        Kind::SignIn,
        Kind::SessionEnd,
        Kind::Passkey,
        Kind::Device,
        Kind::Admin,
        Kind::AuditRead,
        Kind::Lifecycle,
    ];

    /// The word in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Decision => "decision",
            Kind::FlowEnd => "flow_end",
            Kind::SignIn => "sign_in",
            Kind::SessionEnd => "session_end",
            Kind::Passkey => "passkey",
            Kind::Device => "device",
            Kind::Admin => "admin",
            Kind::AuditRead => "audit_read",
            Kind::Lifecycle => "lifecycle",
        }
    }
}

/// One audit record. Members are declared in the order of their names, which is the order of
/// the canonical form; a test holds this.
///
/// Every member but `kind`, `seq`, `source`, `time_us` and `v` is absent when it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What was done: an action of the policy, or the verb of an administrative change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action: Option<String>,
    /// Advice given with a denial.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub advice: Vec<String>,
    /// Methods of the sign-in (`passkey`).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub auth_methods: Vec<String>,
    /// When the user proved who she is, unix microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub auth_time_us: Option<u64>,
    /// Bytes from the client to the upstream (body or tunnel payload).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_in: Option<u64>,
    /// Bytes from the upstream to the client.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_out: Option<u64>,
    /// Id of the connector that dialled the upstream (`con_…`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connector: Option<String>,
    /// Free words for people: what exactly changed, or how a flow ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// Id of the device that was proven (`dev_…`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// Name of the device that the decision was made on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_name: Option<String>,
    /// Whose device it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_owner: Option<String>,
    /// Tags of the device.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub device_tags: Vec<String>,
    /// How long the flow was open, microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_us: Option<u64>,
    /// Version of the subject's facts that the policies decided on; 0 when no policy was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<u64>,
    /// Id that joins the decision and the end of one flow (`flw_…`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flow: Option<String>,
    /// Grade of the device (`none` when there is none).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grade: Option<String>,
    /// The user's groups that the decision was made on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub groups: Vec<String>,
    /// Canonical host that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// Id of this decision or event (`dec_…`); quoted to people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Address of the client's socket.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ip: Option<String>,
    /// What the record is about.
    pub kind: Kind,
    /// Canonical HTTP method.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// `allow` or `deny`; for other events `ok` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<String>,
    /// The mode (`observe`, `warn`) by which a denied request went on all the same; on the end of its flow too.
    /// Absent where a denial stood.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passed: Option<String>,
    /// Canonical path that was decided on. Queries are never recorded: they carry secrets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Policies and grants that decided.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub policies: Vec<String>,
    /// Version of the policy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy_version: Option<u64>,
    /// Port that was decided on, or asked for where no policy decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// `http/1.1`, `h2`, `connect`, `connect-h2`, `unix` …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<String>,
    /// The proxy that asked for somebody, by its name in the gateway's `--proxies`; `ip` and `host` are what it told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy: Option<String>,
    /// Code of the reason ([`vouchsafe_model::decision::Reason::code`]).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// How many more denials like this one the record stands for, of one source and second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repeated: Option<u64>,
    /// Name of the resource, as asked for when it does not exist.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// Number of the record at its source, from 1, without gaps.
    pub seq: u64,
    /// Session (`ses_…`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// Who made the record: `gtw_…` or `controller`.
    pub source: String,
    /// HTTP status that the client got.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// What an administrative change was about, such as `user/alice`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// When, unix microseconds by the source's clock; of a decision, the very moment that it was made for.
    pub time_us: u64,
    /// TLS of the client's connection: version, key agreement, `resumed` (`1.3 X25519MLKEM768`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls: Option<String>,
    /// Who: name of the user, or `local:<uid>` for the owner of the machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Format: [`FORMAT`], or [`FORMER_FORMAT`].
    pub v: u8,
    /// Site whose connectors reach the resource.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<String>,
    /// The reason in words, as the person was told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub words: Option<String>,
}

/// Failure to make or read a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The canonical form is longer than [`MAX_RECORD_BYTES`].
    #[error("audit record of {bytes} bytes is longer than the limit of {MAX_RECORD_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not a record of this format.
    #[error("audit record is not readable")]
    Unreadable(#[source] serde_json::Error),
    /// A record that is readable but not in canonical form.
    #[error("audit record is not in canonical form")]
    NotCanonical,
}

/// The group of which [`Record::is_post_quantum`] is told, as it stands in records.
const POST_QUANTUM: &str = "X25519MLKEM768";

impl Record {
    /// Whether the key of the client's own connection was agreed on so that a quantum computer doesn't help to find it.
    /// How it was where a proxy asked for the client, nobody knows: `tls` is of the proxy's connection there.
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        let group = self.tls.as_deref().and_then(|tls| tls.split(' ').nth(1));
        self.proxy.is_none() && group == Some(POST_QUANTUM)
    }

    /// An empty record of that kind; `seq` and `source` are set by the source's writer.
    #[must_use]
    pub fn new(kind: Kind, time_us: u64) -> Self {
        Self {
            action: None,
            advice: Vec::new(),
            auth_methods: Vec::new(),
            auth_time_us: None,
            bytes_in: None,
            bytes_out: None,
            connector: None,
            detail: None,
            device: None,
            device_name: None,
            device_owner: None,
            device_tags: Vec::new(),
            duration_us: None,
            epoch: None,
            flow: None,
            grade: None,
            groups: Vec::new(),
            host: None,
            id: None,
            ip: None,
            kind,
            method: None,
            outcome: None,
            passed: None,
            path: None,
            policies: Vec::new(),
            policy_version: None,
            port: None,
            protocol: None,
            proxy: None,
            reason: None,
            repeated: None,
            resource: None,
            seq: 0,
            session: None,
            source: String::new(),
            status: None,
            target: None,
            time_us,
            tls: None,
            user: None,
            v: FORMAT,
            via: None,
            words: None,
        }
    }

    /// The canonical bytes (RFC 8785), which are hashed, kept and shown.
    ///
    /// Texts longer than [`MAX_TEXT_BYTES`] are cut first. When the record is still longer than
    /// [`MAX_RECORD_BYTES`], lists are shortened further, and then all texts, until it fits: a
    /// record that can't be kept would be worse than one that is not complete.
    ///
    /// # Errors
    /// None that is known; the type leaves room for what the serialiser may say.
    pub fn to_canonical(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes = self.bytes();
        if bytes.len() <= MAX_RECORD_BYTES {
            return Ok(bytes);
        }
        let mut record = self.clone();
        record.shorten();
        // Each text shrinks to 64 bytes and each list to eight such entries. Even if each of these
        // bytes is escaped with six, that is far below the limit.
        let list_steps = (1..=5).map(|step| (MAX_LIST_ENTRIES >> step, MAX_TEXT_BYTES >> step, MAX_TEXT_BYTES));
        let text_steps = (1..=5).map(|step| (MAX_LIST_ENTRIES >> 5, MAX_TEXT_BYTES >> 5, MAX_TEXT_BYTES >> step));
        for (most, entry_bytes, text_bytes) in list_steps.chain(text_steps) {
            if bytes.len() <= MAX_RECORD_BYTES {
                return Ok(bytes);
            }
            record.shorten_lists(most, entry_bytes);
            record.shorten_texts(text_bytes);
            bytes = record.bytes();
        }
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// With each text and list cut to its own limit.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1_024);
        self.write(&mut bytes);
        bytes
    }

    /// Reads canonical bytes back.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no record, or not exactly in canonical form.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong { bytes: bytes.len() });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(RecordError::Unreadable)?;
        let known = match record.v {
            FORMAT => true,
            FORMER_FORMAT => !record.describes_device(),
            _ => false,
        };
        if known && record.to_canonical()? == bytes { Ok(record) } else { Err(RecordError::NotCanonical) }
    }

    /// Whether it has a member that [`FORMER_FORMAT`] doesn't know.
    fn describes_device(&self) -> bool {
        self.device_name.is_some() || self.device_owner.is_some() || !self.device_tags.is_empty()
    }

    fn shorten(&mut self) {
        let texts = [
            &mut self.action,
            &mut self.detail,
            &mut self.host,
            &mut self.method,
            &mut self.path,
            &mut self.reason,
            &mut self.resource,
            &mut self.target,
            &mut self.tls,
            &mut self.user,
            &mut self.words,
        ];
        for text in texts.into_iter().flatten() {
            cut(text, MAX_TEXT_BYTES);
        }
        for list in [&mut self.advice, &mut self.device_tags, &mut self.groups, &mut self.policies] {
            list.truncate(MAX_LIST_ENTRIES);
        }
    }

    /// Keeps `most` entries of each list; the last one is `…` when some are missing.
    fn shorten_lists(&mut self, most: usize, entry_bytes: usize) {
        let Self { advice, auth_methods, device_tags, groups, policies, .. } = self;
        for list in [advice, auth_methods, device_tags, groups, policies] {
            if list.len() > most {
                list.truncate(most.saturating_sub(1));
                list.push(ELLIPSIS.to_string());
            }
            list.iter_mut().for_each(|entry| cut(entry, entry_bytes));
        }
    }

    /// Cuts every text, also those that are never long by themselves.
    fn shorten_texts(&mut self, most_bytes: usize) {
        let texts = [
            &mut self.action,
            &mut self.connector,
            &mut self.detail,
            &mut self.device,
            &mut self.device_name,
            &mut self.device_owner,
            &mut self.flow,
            &mut self.grade,
            &mut self.host,
            &mut self.id,
            &mut self.ip,
            &mut self.method,
            &mut self.outcome,
            &mut self.passed,
            &mut self.path,
            &mut self.protocol,
            &mut self.proxy,
            &mut self.reason,
            &mut self.resource,
            &mut self.session,
            &mut self.target,
            &mut self.tls,
            &mut self.user,
            &mut self.via,
            &mut self.words,
        ];
        for text in texts.into_iter().flatten() {
            cut(text, most_bytes);
        }
        cut(&mut self.source, most_bytes);
    }
}

const ELLIPSIS: char = '…';

fn cut(text: &mut String, most_bytes: usize) {
    if text.len() <= most_bytes {
        return;
    }
    let mut end = most_bytes.saturating_sub(ELLIPSIS.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push(ELLIPSIS);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any record that a source could make, with texts that need escapes.
    pub(crate) fn any_record() -> impl Strategy<Value = Record> {
        let text = || {
            prop_oneof![Just(None), Just(Some("x".to_owned())), "[ -~]{0,40}".prop_map(Some), any::<Option<String>>()]
        };
        let list = || prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<String>(), 0..3)];
        let number = any::<Option<u64>>;
        let texts = proptest::collection::vec(text(), 25);
        let lists = proptest::collection::vec(list(), 5);
        let numbers = proptest::collection::vec(number(), 7);
        let rest = (any::<String>(), any::<u64>(), any::<u64>(), any::<Option<u16>>(), any::<Option<u16>>());
        let kinds = (0..Kind::ALL.len(), prop::sample::select(vec![FORMAT, FORMAT, FORMER_FORMAT]));
        (texts, lists, numbers, rest, kinds).prop_map(|(texts, lists, numbers, rest, (kind, v))| {
            let (mut texts, mut lists, mut numbers) = (texts.into_iter(), lists.into_iter(), numbers.into_iter());
            let (mut text, mut list, mut number) =
                (|| texts.next().unwrap(), || lists.next().unwrap(), || numbers.next().unwrap());
            let (source, seq, time_us, port, status) = rest;
            let (device_name, device_owner, device_tags) = match v {
                FORMAT => (text(), text(), list()),
                _ => (None, None, Vec::new()),
            };
            Record {
                action: text(),
                advice: list(),
                auth_methods: list(),
                auth_time_us: number(),
                bytes_in: number(),
                bytes_out: number(),
                connector: text(),
                detail: text(),
                device: text(),
                device_name,
                device_owner,
                device_tags,
                duration_us: number(),
                epoch: number(),
                flow: text(),
                grade: text(),
                groups: list(),
                host: text(),
                id: text(),
                ip: text(),
                kind: Kind::ALL[kind],
                method: text(),
                outcome: text(),
                passed: text(),
                path: text(),
                policies: list(),
                policy_version: number(),
                port,
                protocol: text(),
                proxy: text(),
                reason: text(),
                repeated: number(),
                resource: text(),
                seq,
                session: text(),
                source,
                status,
                target: text(),
                time_us,
                tls: text(),
                user: text(),
                v,
                via: text(),
                words: text(),
            }
        })
    }

    pub(super) fn full() -> Record {
        let mut record = Record::new(Kind::Decision, 1_790_000_000_000_000);
        record.id = Some("dec_00000000000000000000000001".into());
        record.source = "gtw_00000000000000000000000002".into();
        record.seq = 7;
        record.user = Some("alice".into());
        record.session = Some("ses_00000000000000000000000003".into());
        record.device = Some("dev_00000000000000000000000004".into());
        record.device_name = Some("alice-laptop".into());
        record.device_owner = Some("alice".into());
        record.device_tags = vec!["managed".into()];
        record.grade = Some("software".into());
        record.groups = vec!["marketing".into()];
        record.auth_methods = vec!["passkey".into()];
        record.auth_time_us = Some(1_789_999_000_000_000);
        record.resource = Some("finance".into());
        record.action = Some("http:read".into());
        record.outcome = Some("deny".into());
        record.reason = Some("no_permit".into());
        record.words = Some("There is nothing here that you have access to.".into());
        record.policy_version = Some(3);
        record.epoch = Some(12);
        record.ip = Some("127.0.0.1".into());
        record.method = Some("GET".into());
        record.host = Some("finance.vouchsafe.localhost".into());
        record.path = Some("/ledger \"2026\"\u{1}é".into());
        record.protocol = Some("h2".into());
        record.advice = vec!["request-access".into()];
        record
    }

    /// The vector of `docs/spec/audit-record.md`.
    #[test]
    fn canonical_bytes_match_the_published_vector() {
        let expected = include_str!("../../../docs/spec/vectors/audit-record-1.json");
        assert_eq!(String::from_utf8(full().to_canonical().unwrap()).unwrap(), expected.trim_end_matches('\n'));
        let mut passed = Record::new(Kind::Decision, 1_790_000_000_000_000);
        passed.action = Some("http:read".into());
        passed.advice = vec!["sign-in".into()];
        passed.flow = Some("flw_00000000000000000000000005".into());
        passed.host = Some("wiki.vouchsafe.localhost".into());
        passed.id = Some("dec_00000000000000000000000001".into());
        passed.ip = Some("10.3.0.17".into());
        passed.method = Some("GET".into());
        passed.outcome = Some("deny".into());
        passed.passed = Some("observe".into());
        passed.path = Some("/".into());
        passed.policy_version = Some(3);
        passed.protocol = Some("h2".into());
        passed.reason = Some("sign_in_required".into());
        passed.resource = Some("wiki".into());
        passed.seq = 8;
        passed.source = "gtw_00000000000000000000000002".into();
        passed.words = Some("Nobody has signed in.".into());
        let expected = include_str!("../../../docs/spec/vectors/audit-record-3.json");
        assert_eq!(String::from_utf8(passed.to_canonical().unwrap()).unwrap(), expected.trim_end_matches('\n'));
    }

    /// What was written before format 2 is in the log for good.
    #[test]
    fn records_of_the_former_format_are_read_and_have_none_of_the_newer_members() {
        let former = include_str!("../../../docs/spec/vectors/audit-record-4.json").trim_end_matches('\n');
        let record = Record::from_canonical(former.as_bytes()).unwrap();
        assert_eq!((record.v, record.device_name.is_some()), (FORMER_FORMAT, false));
        assert!(scan(former.as_bytes()).is_ok());
        for newer in ["device_name\":\"x\"", "device_owner\":\"x\"", "device_tags\":[\"x\"]"] {
            let mixed = former.replacen("\"epoch\"", &format!("\"{newer},\"epoch\""), 1);
            assert!(Record::from_canonical(mixed.as_bytes()).is_err() && scan(mixed.as_bytes()).is_err(), "{mixed}");
            let newer = mixed.replacen("\"v\":1", "\"v\":2", 1);
            assert!(Record::from_canonical(newer.as_bytes()).is_ok() && scan(newer.as_bytes()).is_ok(), "{newer}");
        }
        for other in ["0", "3", "12"] {
            let other = former.replacen("\"v\":1", &format!("\"v\":{other}"), 1);
            assert!(Record::from_canonical(other.as_bytes()).is_err() && scan(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn members_stand_in_the_order_of_their_names() {
        let mut record = full();
        record.bytes_in = Some(1);
        record.bytes_out = Some(2);
        record.connector = Some("con_x".into());
        record.detail = Some("d".into());
        record.duration_us = Some(3);
        record.flow = Some("flw_x".into());
        record.passed = Some("warn".into());
        record.policies = vec!["p".into()];
        record.port = Some(5432);
        record.proxy = Some("nginx".into());
        record.repeated = Some(4);
        record.via = Some("frankfurt".into());
        record.status = Some(403);
        record.target = Some("user/alice".into());
        record.tls = Some("1.3 X25519MLKEM768".into());
        let bytes = record.to_canonical().unwrap();
        let sorted: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(sorted.len(), 44, "a new member must be set in this test");
        assert_eq!(serde_json::to_vec(&sorted).unwrap(), bytes);
    }

    #[test]
    fn other_spellings_of_the_same_record_are_refused() {
        let bytes = full().to_canonical().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(Record::from_canonical(text.as_bytes()).is_ok());
        assert!(Record::from_canonical(text.replacen(':', ": ", 1).as_bytes()).is_err());
        assert!(Record::from_canonical(text.replacen("{", "{\"zzz\":1,", 1).as_bytes()).is_err());
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let mut record = full();
        record.path = Some("é".repeat(5000));
        let back = Record::from_canonical(&record.to_canonical().unwrap()).unwrap();
        assert!(back.path.unwrap().len() <= MAX_TEXT_BYTES);
    }

    /// Everything set, every list full, every text long and of one character.
    fn worst(character: &str, text_chars: usize, entries: usize) -> Record {
        let text = character.repeat(text_chars);
        let mut record = full();
        for member in [
            &mut record.action,
            &mut record.connector,
            &mut record.detail,
            &mut record.device,
            &mut record.device_name,
            &mut record.device_owner,
            &mut record.flow,
            &mut record.grade,
            &mut record.host,
            &mut record.id,
            &mut record.ip,
            &mut record.method,
            &mut record.outcome,
            &mut record.path,
            &mut record.protocol,
            &mut record.reason,
            &mut record.resource,
            &mut record.session,
            &mut record.target,
            &mut record.tls,
            &mut record.user,
            &mut record.via,
            &mut record.words,
        ] {
            *member = Some(text.clone());
        }
        let Record { advice, auth_methods, device_tags, groups, policies, .. } = &mut record;
        for list in [advice, auth_methods, device_tags, groups, policies] {
            *list = vec![text.clone(); entries];
        }
        record.source.clone_from(&text);
        for number in [
            &mut record.auth_time_us,
            &mut record.bytes_in,
            &mut record.bytes_out,
            &mut record.duration_us,
            &mut record.epoch,
            &mut record.policy_version,
        ] {
            *number = Some(u64::MAX);
        }
        (record.seq, record.time_us) = (u64::MAX, u64::MAX);
        (record.port, record.status) = (Some(u16::MAX), Some(u16::MAX));
        record
    }

    #[test]
    fn the_worst_record_fits_and_reads_back() {
        // A control character takes six bytes when it is escaped; `…` ends on no boundary of `é`.
        for character in ["\u{1}", "\"", "x", "é", "𝄞"] {
            for (text_chars, entries) in [(1, 20_000), (60_000, 1), (700, 300), (30, 256), (2_048, 0)] {
                let record = worst(character, text_chars, entries);
                let bytes = record.to_canonical().unwrap();
                assert!(bytes.len() <= MAX_RECORD_BYTES);
                let back = Record::from_canonical(&bytes).unwrap();
                assert_eq!(back.to_canonical().unwrap(), bytes, "{character:?} {text_chars} {entries}");
            }
        }
    }

    #[test]
    fn a_record_that_is_too_long_loses_list_entries_before_text() {
        let mut record = full();
        record.groups = vec!["g".repeat(300); 300];
        record.path = Some("p".repeat(MAX_TEXT_BYTES));
        let back = Record::from_canonical(&record.to_canonical().unwrap()).unwrap();
        assert_eq!(back.path, record.path);
        assert_eq!(back.groups.len(), 128);
        assert_eq!(back.groups.last().unwrap(), "…");
        assert_eq!(back.groups[..127], record.groups[..127]);
    }

    #[test]
    fn bytes_beyond_the_limit_are_refused_before_they_are_read() {
        let long = vec![b' '; MAX_RECORD_BYTES + 1];
        assert!(matches!(Record::from_canonical(&long), Err(RecordError::TooLong { .. })));
    }

    proptest! {
        /// The writer's bytes are those of the JSON library: RFC 8785 for the types of a record.
        #[test]
        fn what_is_written_is_what_serde_writes(record in any_record()) {
            let bytes = record.to_canonical().unwrap();
            prop_assert_eq!(&bytes, &serde_json::to_vec(&record).unwrap());
            let mut frame = Vec::new();
            Draft::of(&record, &record.source).unwrap().push_frame(record.seq, &mut frame);
            let mut expected = Vec::new();
            crate::spool::push_frame(&mut expected, &bytes);
            prop_assert_eq!(frame, expected);
        }

        #[test]
        fn any_text_round_trips(path in "\\PC{0,300}", words in any::<String>()) {
            let mut record = full();
            record.path = Some(path.clone());
            record.words = Some(words.chars().take(300).collect());
            let back = Record::from_canonical(&record.to_canonical().unwrap()).unwrap();
            prop_assert_eq!(back.path, Some(path));
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::from_canonical(&bytes);
        }
    }
}
