//! What webhooks are told, made of audit records.

use serde::Serialize;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::resource::second_text;

/// Most characters of what somebody wrote that a message has, and its text.
const MAX_DETAIL_CHARS: usize = 2_000;
const MAX_TEXT_CHARS: usize = 300;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal: $($action:literal)|+, $told:literal;)*) => {
        /// Kinds of what webhooks are told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The word for it.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }

            /// What is recorded as that action.
            fn of_action(action: &str) -> Option<Self> {
                match action {
                    $($($action)|+ => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// What people read, between who it was and what it is about.
            const fn told(self) -> &'static str {
                match self {
                    $(Self::$kind => $told,)*
                }
            }
        }
    };
}

kinds! {
    /// Somebody asks for access.
    RequestCreated = "request.created": "request.add", "asks for access";
    /// Somebody else gives it.
    RequestApproved = "request.approved": "request.approve", "approved a request for access";
    /// Or doesn't.
    RequestDenied = "request.denied": "request.deny", "denied a request for access";
    /// Who asked took it back.
    RequestWithdrawn = "request.withdrawn": "request.withdraw", "withdrew a request for access";
    /// Nobody decided it in time.
    RequestExpired = "request.expired": "request.expire", "let a request for access lapse";
    /// A grant is over, or was taken away.
    GrantEnded = "grant.ended": "grant.expire" | "grant.remove", "ended a grant";
    /// A version of the policy waits for a second administrator.
    PolicyProposed = "policy.proposed": "policy.propose", "proposes a policy that takes two people";
    /// It came into force.
    PolicyApproved = "policy.approved": "policy.approve", "approved a proposed policy";
    /// It didn't.
    PolicyRejected = "policy.rejected": "policy.reject", "rejected a proposed policy";
    /// Nobody decided it in time.
    PolicyLapsed = "policy.lapsed": "policy.lapse", "let a proposed policy lapse";
    /// Another version is in force.
    PolicyPublished = "policy.published": "policy.publish" | "policy.rollback", "put a policy into force";
    /// Something is locked.
    LockSet = "lock.set": "lock.add" | "lock.return", "locked";
    /// It isn't any more.
    LockRemoved = "lock.removed": "lock.remove" | "lock.expire", "unlocked";
    /// Somebody tries whether messages arrive.
    Test = "webhook.test": "webhook.test", "tries out";
}

impl EventKind {
    /// The kind of that word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word)
    }
}

/// One thing that webhooks are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// The message, as it is signed and sent.
    pub(crate) body: String,
}

#[derive(Serialize)]
struct Body<'b> {
    r#type: &'b str,
    timestamp: String,
    text: String,
    data: Data<'b>,
}

#[derive(Serialize)]
struct Data<'d> {
    actor: &'d str,
    action: &'d str,
    target: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<u64>,
}

impl Event {
    /// What is told of a record; nothing of most.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let action = record.action.as_deref()?;
        let kind = EventKind::of_action(action).filter(|_| record.outcome.as_deref() == Some("ok"))?;
        let (actor, target) =
            (record.user.as_deref().unwrap_or_default(), record.target.as_deref().unwrap_or_default());
        let detail = record.detail.as_deref().map(|detail| detail.chars().take(MAX_DETAIL_CHARS).collect::<String>());
        let about = detail.as_deref().map(|detail| format!(": {}", plain(detail))).unwrap_or_default();
        let body = Body {
            r#type: kind.as_str(),
            timestamp: second_text(clock::from_unix_seconds(record.time_us / 1_000_000)).unwrap_or_default(),
            text: format!("{} {} ({}){about}", plain(actor), kind.told(), plain(target)),
            data: Data { actor, action, target, detail, policy_version: record.policy_version },
        };
        serde_json::to_string(&body).ok().map(|body| Self { kind, body })
    }
}

/// What somebody wrote, without what a chat tool would take for a link, a mention or a style.
fn plain(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || " .,;:()/-_+='%".contains(letter);
    let letter = |letter: char| if is_plain(letter) { letter } else { ' ' };
    let text: String = text.chars().take(MAX_TEXT_CHARS).map(letter).collect();
    text.replace("://", ": //")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::directory::Actor;

    fn told(action: &str, detail: &str) -> Option<Value> {
        let record = Actor::Controller.changed(action, "request/req_1".to_owned(), detail.to_owned());
        Event::of(&record).map(|event| serde_json::from_str(&event.body).unwrap())
    }

    #[test]
    fn a_message_tells_what_is_recorded_in_words_and_in_members() {
        let body = told("request.add", "alice to finance for 7200 s: closing the quarter").unwrap();
        assert_eq!(body["type"], "request.created");
        assert_eq!(body["data"]["actor"], "controller");
        assert_eq!(
            (&body["data"]["action"], &body["data"]["target"]),
            (&"request.add".into(), &"request/req_1".into())
        );
        let text = body["text"].as_str().unwrap();
        assert_eq!(
            text,
            "controller asks for access (request/req_1): alice to finance for 7200 s: closing the quarter"
        );
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(told("user.add", ""), None, "not everything is told");
        let mut failed = Actor::Controller.changed("lock.add", String::new(), String::new());
        failed.outcome = Some("failed".to_owned());
        assert_eq!(Event::of(&failed), None);
    }

    #[test]
    fn what_somebody_wrote_is_no_link_mention_or_style_in_the_text() {
        let body =
            told("request.add", "<!channel> @here <https://evil.example|your wiki> *now* [x](http://a) `b`").unwrap();
        let text = body["text"].as_str().unwrap();
        assert!(!text.contains(['<', '>', '@', '*', '[', '`', '|']) && !text.contains("://"), "{text}");
        assert!(body["data"]["detail"].as_str().unwrap().contains("<!channel>"), "members are as they are");
    }

    #[test]
    fn i11_a_message_is_bounded() {
        let body = told("policy.publish", &"a".repeat(100_000)).unwrap();
        assert!(body.to_string().len() < 3_000);
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_word(kind.as_str()), Some(*kind));
        }
        assert_eq!(EventKind::from_word("request.add"), None);
    }
}
