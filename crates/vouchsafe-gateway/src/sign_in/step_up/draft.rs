//! Forms that wait for a fresh sign-in: few, small, not for long, in memory alone, and each for one look of the
//! person who sent it.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::limits::{MAX_DRAFTS, MAX_DRAFTS_PER_USER};
use vouchsafe_runtime::tls::sha256;

/// How long a form is kept.
const LIFE: Duration = Duration::from_secs(600);

/// Who sent it, on what, to which host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) user: UserName,
    pub(super) device: Option<DeviceId>,
    pub(super) label: String,
}

/// A form that was sent.
pub(super) struct Draft {
    pub(super) whose: Whose,
    /// Where to, in canonical form.
    pub(super) target: String,
    pub(super) fields: Vec<(String, String)>,
    /// How large it was.
    pub(super) bytes: usize,
}

struct Kept {
    id_sha256: [u8; 32],
    until: SystemTime,
    draft: Draft,
}

/// The forms of everybody, oldest first.
#[derive(Default)]
pub(crate) struct Drafts(Mutex<VecDeque<Kept>>);

impl Drafts {
    /// Keeps one; gives the secret by which it is found. The oldest makes room.
    pub(super) fn keep(&self, draft: Draft, now: SystemTime) -> String {
        let id = URL_SAFE_NO_PAD.encode(clock::random::<32>());
        let mut kept = self.0.lock();
        kept.retain(|other| other.until > now);
        let own = |other: &Kept| other.draft.whose.user == draft.whose.user;
        if kept.iter().filter(|other| own(other)).count() >= MAX_DRAFTS_PER_USER {
            let oldest = kept.iter().position(own);
            oldest.and_then(|place| kept.remove(place));
        }
        while kept.len() >= MAX_DRAFTS {
            kept.pop_front();
        }
        let until = now.checked_add(LIFE).unwrap_or(now);
        kept.push_back(Kept { id_sha256: sha256(id.as_bytes()), until, draft });
        id
    }

    /// Takes one out, for whom it was kept.
    pub(super) fn take(&self, id: &str, whose: &Whose, now: SystemTime) -> Option<Draft> {
        let id_sha256 = sha256(id.as_bytes());
        let mut kept = self.0.lock();
        kept.retain(|other| other.until > now);
        let place = kept.iter().position(|other| other.id_sha256 == id_sha256 && other.draft.whose == *whose)?;
        kept.remove(place).map(|kept| kept.draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(user: &str, target: &str) -> Draft {
        let whose = Whose { user: UserName::parse(user).unwrap(), device: None, label: "wiki".to_owned() };
        Draft { whose, target: target.to_owned(), fields: Vec::new(), bytes: 0 }
    }

    #[test]
    fn a_form_is_for_one_look_of_who_sent_it_and_not_for_long() {
        let (drafts, now) = (Drafts::default(), SystemTime::UNIX_EPOCH);
        let ann = draft("ann", "/").whose;
        let id = drafts.keep(draft("ann", "/a"), now);
        let elsewhere = Whose { label: "erp".to_owned(), ..ann.clone() };
        let on_a_device = Whose { device: Some(DeviceId::from_random([1; 16])), ..ann.clone() };
        for other in [&draft("bob", "/").whose, &elsewhere, &on_a_device] {
            assert!(drafts.take(&id, other, now).is_none(), "{other:?}");
        }
        assert!(drafts.take("made-up", &ann, now).is_none());
        assert_eq!(drafts.take(&id, &ann, now).unwrap().target, "/a");
        assert!(drafts.take(&id, &ann, now).is_none(), "twice");
        let id = drafts.keep(draft("ann", "/b"), now);
        assert!(drafts.take(&id, &ann, now + LIFE).is_none(), "late");
    }

    #[test]
    fn i11_there_are_only_so_many_and_one_person_does_not_take_the_place_of_others() {
        let (drafts, now) = (Drafts::default(), SystemTime::UNIX_EPOCH);
        let bobs = drafts.keep(draft("bob", "/bob"), now);
        let anns: Vec<String> = (0..MAX_DRAFTS * 2).map(|_| drafts.keep(draft("ann", "/"), now)).collect();
        assert!(drafts.take(&bobs, &draft("bob", "/").whose, now).is_some());
        let left = anns.iter().filter(|id| drafts.take(id, &draft("ann", "/").whose, now).is_some()).count();
        assert_eq!(left, MAX_DRAFTS_PER_USER);
        for number in 0..MAX_DRAFTS * 2 {
            drafts.keep(draft(&format!("user-{number}"), "/"), now);
        }
        assert_eq!(drafts.0.lock().len(), MAX_DRAFTS);
    }
}
