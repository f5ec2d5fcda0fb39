//! What a policy says about itself: `@id`, `@reason`, `@advice`, `@owner`, `@expires`, `@device`,
//! `@approval`.

use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::decision::Advice;
use vouchsafe_model::name::PolicyName;

use crate::diagnostic::{Diagnostic, nearest};
use crate::moment;
use crate::scan::Piece;
use crate::source::PolicyFile;
use crate::tree::Tree;

/// Whether a policy allows or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It allows what no `forbid` forbids.
    Permit,
    /// It forbids, whatever else permits.
    Forbid,
}

impl Effect {
    /// The word in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        }
    }
}

impl From<cedar_policy::Effect> for Effect {
    fn from(effect: cedar_policy::Effect) -> Self {
        match effect {
            cedar_policy::Effect::Permit => Effect::Permit,
            cedar_policy::Effect::Forbid => Effect::Forbid,
        }
    }
}

/// Whether a permit counts for a subject without a proven device (I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum DeviceNeed {
    /// It doesn't.
    #[default]
    Enrolled,
    /// It does, because the policy says `@device("none")`.
    Nothing,
}

/// How many people it takes to change a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Approval {
    /// One administrator.
    #[default]
    One,
    /// Two, because the policy says `@approval("two-person")`.
    Two,
}

/// The annotations of one policy, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Notes {
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) advice: Option<Advice>,
    pub(crate) owner: Option<String>,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) device: DeviceNeed,
    pub(crate) approval: Approval,
}

const KNOWN: [&str; 7] = ["id", "reason", "advice", "owner", "expires", "device", APPROVAL];
/// The annotation that makes it take two people to change a policy.
pub(crate) const APPROVAL: &str = "approval";
/// The one thing that it can say.
const TWO_PERSON: &str = "two-person";
const MAX_WORDS_CHARS: usize = 300;

/// Reads the annotations of a policy or template. `None` for the name when it is missing or no name.
pub(crate) fn read(policy: &Tree, piece: &Piece, file: &PolicyFile) -> (Option<PolicyName>, Notes, Vec<Diagnostic>) {
    let mut reader =
        Reader { piece, file, effect: policy.effect(), notes: Notes::default(), name: None, wrong: Vec::new() };
    for (name, value) in policy.annotations() {
        reader.take(&name, &value);
    }
    if !policy.has_annotation("id") {
        reader.missing_id();
    }
    (reader.name, reader.notes, reader.wrong)
}

struct Reader<'a> {
    piece: &'a Piece,
    file: &'a PolicyFile,
    effect: Effect,
    notes: Notes,
    name: Option<PolicyName>,
    wrong: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn at(&self, name: &str, code: &'static str, message: String) -> Diagnostic {
        Diagnostic::at(code, message, &self.file.name, &self.file.text, self.piece.annotation(name))
    }

    fn take(&mut self, name: &str, value: &str) {
        match name {
            "id" => self.id(value),
            "reason" => self.notes.reason = self.words("reason", value).map(Arc::from),
            "owner" => self.notes.owner = self.words("owner", value),
            "advice" => self.advice(value),
            "expires" => self.expires(value),
            "device" => self.device(value),
            APPROVAL => self.approval(value),
            _ => {
                let hint = match nearest(name, KNOWN) {
                    _ if name == "template" => {
                        "a policy with the slots `?principal` and `?resource` is a template, and \
                                                its `@id` is what grants call it"
                            .to_owned()
                    }
                    Some(known) => format!("did you mean `@{known}`?"),
                    None => "annotations are @id, @reason, @advice, @owner, @expires, @device and @approval".to_owned(),
                };
                let found = self.at(name, "unknown_annotation", format!("there is no annotation `@{name}`"));
                self.wrong.push(found.hint(hint));
            }
        }
    }

    fn missing_id(&mut self) {
        let text = self.piece.text(&self.file.text);
        let begin = text.lines().map(str::trim).find(|line| !line.starts_with('@')).unwrap_or_default();
        let more = if begin.chars().count() > 60 { "…" } else { "" };
        let begin: String = begin.chars().take(60).chain(more.chars()).collect();
        let found = self.at("id", "missing_id", format!("the policy that begins with `{begin}` has no `@id`"));
        self.wrong.push(found.hint(
            "name it in the line above, such as `@id(\"finance-reports\")`; the name stands in decisions and records",
        ));
    }

    fn id(&mut self, value: &str) {
        match PolicyName::parse(value) {
            Ok(name) if name.is_of_grant() => {
                let found = self.at("id", "invalid_id", format!("the policy id `{name}` begins like that of a grant"));
                self.wrong.push(found.hint("choose another name"));
            }
            Ok(name) => self.name = Some(name),
            Err(error) => {
                let found = self.at("id", "invalid_id", format!("`{}` is not a policy id", error.given));
                self.wrong.push(found.hint(format!("it has {}", error.rule)));
            }
        }
    }

    fn words(&mut self, name: &str, value: &str) -> Option<String> {
        let length = value.chars().count();
        let readable =
            (1..=MAX_WORDS_CHARS).contains(&length) && !value.chars().any(char::is_control) && !value.trim().is_empty();
        if !readable {
            let rule = format!("`@{name}` has 1 to {MAX_WORDS_CHARS} characters and no line breaks");
            let found = self.at(name, "invalid_words", rule);
            self.wrong.push(found);
        }
        readable.then(|| value.to_owned())
    }

    fn advice(&mut self, value: &str) {
        let fact = value.strip_prefix("fix:");
        let is_fact = |fact: &str| {
            (1..=64).contains(&fact.len())
                && fact.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match Advice::from_word(value) {
            Some(advice) => self.notes.advice = Some(advice),
            // Nothing tells posture facts yet; the word is kept free for them.
            None if fact.is_some_and(is_fact) => {}
            None => {
                let known = Advice::ALL.map(Advice::as_str);
                let hint = match nearest(value, known) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => format!("use one of {}, or fix:<posture fact>", known.join(", ")),
                };
                let given: String = value.chars().take(60).collect();
                let found = self.at("advice", "invalid_advice", format!("`{given}` is no advice"));
                self.wrong.push(found.hint(hint));
            }
        }
    }

    fn expires(&mut self, value: &str) {
        self.notes.expires = moment::parse_rfc3339(value);
        if self.notes.expires.is_none() {
            let given: String = value.chars().take(60).collect();
            let found = self.at("expires", "invalid_expires", format!("`{given}` is not an instant"));
            self.wrong.push(found.hint("write it as in RFC 3339, such as `@expires(\"2027-01-31T18:00:00Z\")`"));
        } else if self.effect == Effect::Forbid {
            let found =
                self.at("expires", "expires_on_forbid", "a `forbid` stays in force after its `@expires`".to_owned());
            self.wrong.push(found.hint("remove the policy when it is no longer wanted").warning());
        }
    }

    fn device(&mut self, value: &str) {
        if value != "none" {
            let found = self.at("device", "invalid_device", "`@device` can only say \"none\"".to_owned());
            self.wrong.push(found.hint("leave it out to demand an enrolled device; for a better one, write `when { context.device.grade == \"hardware\" }`"));
        } else if self.effect == Effect::Forbid {
            let found = self.at(
                "device",
                "invalid_device",
                "`@device` says nothing on a `forbid`, which counts on every device".to_owned(),
            );
            self.wrong.push(found.hint("take it out"));
        } else {
            self.notes.device = DeviceNeed::Nothing;
        }
    }

    fn approval(&mut self, value: &str) {
        if value == TWO_PERSON {
            self.notes.approval = Approval::Two;
        } else {
            let found = self.at(APPROVAL, "invalid_approval", format!("`@approval` can only say \"{TWO_PERSON}\""));
            self.wrong.push(found.hint("leave it out where one administrator may change the policy alone"));
        }
    }
}
