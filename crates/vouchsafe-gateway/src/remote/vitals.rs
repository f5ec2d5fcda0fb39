//! The way to the controller, as those who run the gateway see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::BoxFuture;
use vouchsafe_runtime::link::ControlLink as _;
use vouchsafe_runtime::tls;
use vouchsafe_runtime::vitals::{Page, Vitals};
use vouchsafe_wire::health::Check;

use super::RemoteLink;
use super::state::State;

/// Longest words of a trouble that are kept: some of them are the peer's.
const MAX_WORDS: usize = 400;
/// How far the clock may be behind the time that we go by: it is set to the second by what keeps it.
const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

/// Why the last connection to the controller ended.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    words: String,
    hint: &'static str,
    /// When, counted from the machine's start.
    at: Duration,
}

impl Trouble {
    /// What an error means for the way to the controller, and what to do about it.
    pub(super) fn new(error: &dyn std::error::Error, hint: &'static str) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
        let mut words: Vec<String> = Vec::new();
        // Transparent errors say the same twice.
        causes.for_each(|cause| {
            if words.last() != Some(&cause) {
                words.push(cause)
            }
        });
        let words = words.join(": ").chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect();
        Self { words, hint, at: clock::since_boot() }
    }
}

/// The control channel of one gateway.
pub(super) struct ChannelVitals {
    pub(super) link: Arc<RemoteLink>,
    pub(super) state: Arc<State>,
}

impl Vitals for ChannelVitals {
    fn figures(&self, page: &mut Page<'_>) -> fmt::Result {
        let attached = self.link.connection.borrow().is_some();
        page.gauge("vouchsafe_controller_attached", "1 while the control channel is up", u64::from(attached))
    }

    fn checks(&self) -> BoxFuture<'_, Vec<Check>> {
        let checks = vec![self.clock(), self.channel(), self.snapshot()];
        Box::pin(async move { checks })
    }
}

impl ChannelVitals {
    /// Whether there is a way to the controller. Inside the lease it may be missing.
    fn channel(&self) -> Check {
        let (name, freshness) = ("channel", self.link.freshness());
        let trouble = self.link.trouble.lock().clone();
        let Some(Trouble { words, hint, at }) = trouble else {
            return match self.link.connection.borrow().is_some() {
                true => Check::holds(name, "attached to the controller"),
                false => Check::holds(name, "connecting to the controller"),
            };
        };
        let ago = clock::since_boot().saturating_sub(at);
        let words = format!("the last attempt failed {:.1} s ago: {words}", ago.as_secs_f64());
        match freshness.is_within(Duration::ZERO) && freshness.silence != Duration::MAX && self.has_snapshot() {
            true => Check::holds(name, format!("{words}; what is known still holds")),
            false => Check::fails(name, words, hint),
        }
    }

    fn has_snapshot(&self) -> bool {
        self.link.snapshots.borrow().policy_version > 0
    }

    fn snapshot(&self) -> Check {
        let name = "snapshot";
        let highest = self.state.seen().unwrap_or_default().highest;
        if self.has_snapshot() {
            let sequence = self.link.snapshots.borrow().sequence;
            return Check::holds(name, format!("{sequence} is in force; the highest ever here was {highest}"));
        }
        let before = match highest {
            0 => "none was ever in force here".to_owned(),
            highest => format!("before this start {highest} was in force, and none older is taken"),
        };
        Check::fails(
            name,
            format!("no snapshot of policies and resources has come yet, so nothing can be decided; {before}"),
            "the check `channel` says why; the gateway goes on by itself when one comes",
        )
    }

    /// Whether the clock can be right: certificates are judged by it.
    fn clock(&self) -> Check {
        let (name, now) = ("clock", clock::now());
        let kept = self.state.kept();
        let own = CertificateDer::from_pem_slice(kept.joined.certificates.identity.as_bytes()).ok();
        let hint = "set the clock (and keep it so, with chrony or systemd-timesyncd); if it is right, join anew";
        let at = |time| clock::unix_seconds(time);
        match own.as_ref().and_then(tls::valid_between) {
            Some((begin, _)) if now < begin => {
                let early = at(begin).saturating_sub(at(now));
                let words = format!("by the clock, this gateway's certificate isn't valid for another {early} s");
                Check::fails(name, words, hint)
            }
            Some((_, end)) if now >= end => {
                let late = at(now).saturating_sub(at(end));
                let words = format!("by the clock, this gateway's certificate ended {late} s ago");
                Check::fails(name, words, hint)
            }
            Some(_) | None => match clock::ahead_of_system() {
                behind if behind > CLOCK_LEEWAY => Check::holds(
                    name,
                    format!(
                        "the clock was set back by {} s; until the next start time goes on from where it was",
                        behind.as_secs()
                    ),
                ),
                _ => Check::holds(name, "this gateway's certificate is valid by it"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer\u{1b}[31m")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_words_of_a_trouble_are_bounded_and_harmless() {
        let error = Outer(std::io::Error::other("x".repeat(10_000)));
        let trouble = Trouble::new(&error, "mend it");
        assert!(trouble.words.starts_with("outer[31m: xx") && trouble.words.chars().count() == MAX_WORDS);
    }
}
