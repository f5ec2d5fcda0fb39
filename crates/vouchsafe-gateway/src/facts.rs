//! What the gateway remembers of subjects: fetched at first sight; at every change replaced by what was said with it, or
//! else dropped.
//!
//! An entry may be used only if no change came between asking for it and keeping it; a counter of
//! changes makes sure of that, so a revocation can't be overtaken by an answer that is older. The other way round, an
//! answer that is newer than a change has it in it already.

mod learned;
mod memory;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_policy::{Engine, PreparedSubject};
use vouchsafe_runtime::limits::{MAX_LOOKUPS, MAX_SUBJECTS, MAX_WAITING_LOOKUPS};
use vouchsafe_runtime::link::{ControlLink, Credential, Delta, KnownSubject, LinkError, NoSubject, RedeemedCode};

use self::learned::Known;
use self::memory::{Concerns, Memory};
use crate::decide::Who;

/// How often a look-up is repeated when changes keep coming in between.
const ATTEMPTS: usize = 8;

/// What stands for a subject, as a key: a cookie's hash or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CredentialKey {
    AppCookie([u8; 32]),
    Session(SessionId),
}

impl From<CredentialKey> for Credential {
    fn from(key: CredentialKey) -> Self {
        match key {
            CredentialKey::AppCookie(hash) => Credential::AppCookie(hash),
            CredentialKey::Session(id) => Credential::Session(id),
        }
    }
}

/// A subject that is ready to be decided on.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) known: KnownSubject,
    pub(crate) prepared: Arc<PreparedSubject>,
    /// The same in records.
    pub(crate) who: Arc<Who>,
}

/// The gateway's memory of subjects and devices.
pub(crate) struct Facts {
    link: Arc<dyn ControlLink>,
    subjects: Memory<CredentialKey, Known>,
    devices: Memory<DeviceId, DeviceFacts>,
    changes_seen: AtomicU64,
    lookups: Semaphore,
    waiting: Semaphore,
    watch_lookups: Semaphore,
}

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// A request that just came.
    Request,
    /// The watch over open flows.
    Watch,
}

impl Facts {
    pub(crate) fn new(link: Arc<dyn ControlLink>) -> Self {
        Self {
            link,
            subjects: Memory::new(MAX_SUBJECTS),
            devices: Memory::new(MAX_SUBJECTS),
            changes_seen: AtomicU64::new(0),
            lookups: Semaphore::new(MAX_LOOKUPS),
            waiting: Semaphore::new(MAX_WAITING_LOOKUPS),
            watch_lookups: Semaphore::new(MAX_LOOKUPS),
        }
    }

    /// The subject of a credential, made ready for `engine`.
    pub(crate) async fn subject(
        &self,
        key: CredentialKey,
        engine: &Arc<Engine>,
        asking: Asking,
    ) -> Result<Result<Ready, NoSubject>, LinkError> {
        match self.remembered(key, engine) {
            Some(remembered) => Ok(remembered),
            // Boxed, since nearly every request finds its subject remembered.
            None => Box::pin(self.look_up(key, engine, asking)).await,
        }
    }

    /// The same without asking anybody: `None` when nothing is remembered.
    pub(crate) fn remembered(&self, key: CredentialKey, engine: &Arc<Engine>) -> Option<Result<Ready, NoSubject>> {
        let known = self.subjects.find(&key)?;
        let ready = match known.state {
            Ok(ready) if !Arc::ptr_eq(ready.prepared.engine(), engine) => ready,
            other => return Some(other),
        };
        let prepared = Arc::new(ready.prepared.under(Arc::clone(engine)));
        let fresh = Ready { known: ready.known, prepared, who: ready.who };
        // Replaced only where the same facts still stand: an invalidation in between must win, also
        // when newer facts have been kept since.
        let same = |present: &Known| {
            present.state.as_ref().is_ok_and(|present| Arc::ptr_eq(&present.known.facts, &fresh.known.facts))
        };
        self.subjects.replace_if(key, Known { answered: known.answered, state: Ok(fresh.clone()), ..known }, same);
        Some(Ok(fresh))
    }

    async fn look_up(
        &self,
        key: CredentialKey,
        engine: &Arc<Engine>,
        asking: Asking,
    ) -> Result<Result<Ready, NoSubject>, LinkError> {
        let _turn = self.turn(asking).await?;
        for _ in 0..ATTEMPTS {
            let seen = self.changes_seen.load(Ordering::SeqCst);
            let known = match self.link.subject(key.into()).await? {
                Ok(known) => known,
                Err(nobody) => return Ok(Err(nobody)),
            };
            let ready = Ready::new(known, engine);
            if self
                .subjects
                .keep_if(key, Known::answered(ready.clone()), || self.changes_seen.load(Ordering::SeqCst) == seen)
            {
                return Ok(Ok(ready));
            }
        }
        Err(LinkError { why: "facts change faster than they can be read".into() })
    }

    /// Whether a device is remembered as an enrolled one.
    pub(crate) fn device_remembered(&self, id: DeviceId) -> bool {
        self.devices.find(&id).is_some()
    }

    /// An enrolled device.
    pub(crate) async fn device(&self, id: DeviceId, asking: Asking) -> Result<Option<DeviceFacts>, LinkError> {
        if let Some(device) = self.devices.find(&id) {
            return Ok(Some(device));
        }
        let _turn = self.turn(asking).await?;
        for _ in 0..ATTEMPTS {
            let seen = self.changes_seen.load(Ordering::SeqCst);
            let Some(device) = self.link.device(id).await? else { return Ok(None) };
            if self.devices.keep_if(id, device.clone(), || self.changes_seen.load(Ordering::SeqCst) == seen) {
                return Ok(Some(device));
            }
        }
        Err(LinkError { why: "facts change faster than they can be read".into() })
    }

    /// Exchanges a one-time code for a session cookie. Strangers can make codes up, so they wait with the others who
    /// make us ask.
    pub(crate) async fn redeem(
        &self,
        code: String,
        label: String,
        device: Option<DeviceId>,
        ip: IpAddr,
    ) -> Result<Option<RedeemedCode>, LinkError> {
        let _turn = self.turn(Asking::Request).await?;
        self.link.redeem(code, label, device, ip).await
    }

    /// How many changes have been seen. Facts and decisions from before the last one may be untrue.
    pub(crate) fn changes_seen(&self) -> u64 {
        self.changes_seen.load(Ordering::SeqCst)
    }

    /// Waits for a turn to ask the controller. Strangers can make us ask, so their queue is bounded,
    /// and the watch over open flows never stands in it.
    async fn turn(&self, asking: Asking) -> Result<SemaphorePermit<'_>, LinkError> {
        let lost = |why: &str| LinkError { why: why.to_owned() };
        let (lookups, waiting) = match asking {
            Asking::Watch => (&self.watch_lookups, None),
            Asking::Request => match self.waiting.try_acquire() {
                Ok(place) => (&self.lookups, Some(place)),
                Err(_) => return Err(lost("too many look-ups are waiting")),
            },
        };
        let turn = lookups.acquire().await.map_err(|_| lost("the gateway is stopping"))?;
        drop(waiting);
        Ok(turn)
    }

    /// Hears of a change: what it made untrue is replaced by what was said with it, or forgotten.
    pub(crate) fn hear(&self, delta: &Delta) {
        // Counted first: an answer under way that is older than this change will not be kept.
        self.changes_seen.fetch_add(1, Ordering::SeqCst);
        self.subjects.hear(&delta.change, |known| known.after(delta));
        self.devices.hear(&delta.change, |device| learned::device_after(device, delta));
        // And once more behind it: a request that began in between may have met facts from before. Either its flow
        // is open when the watch looks which flows are concerned, or it finds here that the count has moved (A197).
        self.changes_seen.fetch_add(1, Ordering::SeqCst);
    }
}

impl Ready {
    fn new(known: KnownSubject, engine: &Arc<Engine>) -> Self {
        let prepared = Arc::new(PreparedSubject::new(Arc::clone(engine), Arc::clone(&known.facts)));
        let who = Arc::new(Who::new(&known.facts));
        Self { known, prepared, who }
    }
}

impl Concerns for DeviceFacts {
    fn user(&self) -> Option<&UserName> {
        self.owner.as_ref()
    }

    fn device(&self) -> Option<DeviceId> {
        Some(self.id)
    }

    fn session(&self) -> Option<SessionId> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PoorLink;

    /// A request that began when the count had moved and met facts that were not replaced yet must find, once its
    /// flow is open, that the count moved again: nobody else would look at it before the next sweep.
    #[test]
    fn i6_the_count_moves_before_facts_are_replaced_and_behind_it() {
        let facts = Facts::new(Arc::new(PoorLink::default()));
        let before = facts.changes_seen();
        let change = Delta { sequence: 1, change: vouchsafe_runtime::link::Change::Everything, outcome: None };
        facts.hear(&change);
        assert_eq!(facts.changes_seen(), before + 2);
    }

    /// Made-up codes cost the controller a look each: they must not come without bound.
    #[tokio::test]
    async fn i11_codes_of_strangers_wait_for_their_turn() {
        let link = Arc::new(PoorLink::default());
        let facts = Arc::new(Facts::new(Arc::clone(&link) as Arc<dyn ControlLink>));
        let ip = IpAddr::from([192, 0, 2, 1]);
        let redeem = |facts: Arc<Facts>| async move { facts.redeem("x".into(), "wiki".into(), None, ip).await };
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..MAX_LOOKUPS + MAX_WAITING_LOOKUPS {
            asking.spawn(redeem(Arc::clone(&facts)));
        }
        tokio::task::yield_now().await;
        while link.codes.load(Ordering::SeqCst) < MAX_LOOKUPS as u64 || facts.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(redeem(facts).await.is_err(), "one more is refused");
        assert_eq!(link.codes.load(Ordering::SeqCst), MAX_LOOKUPS as u64);
    }
}
