//! Open flows, and the watch over them: at every change of facts or policy, and at least every ten
//! seconds, each flow is decided again and cut when it is denied (I6).

mod cut;
mod follow;
mod register;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Reason};
use vouchsafe_model::id::{ConnectorId, DecisionId, DeviceId, FlowId};
use vouchsafe_model::mode::Lenience;
use vouchsafe_policy::{Admission, Engine, Tolerance};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::link::ControlLink;
use vouchsafe_runtime::relay::Traffic;
use vouchsafe_wire::audit::{Draft, Kind, Member, Members};

pub(crate) use cut::{Cut, Ended, Way};
pub(crate) use follow::{follow_news, follow_silence, follow_snapshots};
pub(crate) use register::{Flows, Holder};

use crate::authenticate;
use crate::decide::{Current, Decided, Observed, Question, Who};
use crate::facts::{Asking, CredentialKey, Facts, Ready};
use crate::forward::body::Upload;
use crate::gateway::Shared;
use crate::lease;
use crate::record::Recorder;
use crate::vitals::{Counts, FlowKind};

/// What it takes to decide a flow again.
pub(crate) struct Basis {
    pub(crate) question: Question,
    pub(crate) claim: Claim,
    /// Device proven on the connection.
    pub(crate) device: Option<ProvenDevice>,
}

/// What was shown of who asks.
pub(crate) enum Claim {
    /// What stands for a subject.
    Credential {
        key: CredentialKey,
        /// Host label or token audience that it was accepted for.
        audience: Cow<'static, str>,
    },
    /// Nothing, which only an observed resource takes.
    Nothing,
}

/// What is shared by a flow and the watch over it.
#[derive(Default)]
struct Live {
    cut: Cut,
    traffic: Traffic,
    /// The mode by which it went on though it was denied, when that was ever so.
    passed: OnceLock<Lenience>,
    /// When the change was committed for which it was cut.
    since: OnceLock<Instant>,
}

impl Live {
    /// Notes that it goes on by a mode, if it does. The first one stays.
    fn passes(&self, by: Option<Lenience>) {
        if let Some(by) = by {
            let _ = self.passed.set(by);
        }
    }
}

/// What the watch needs to look at a flow again. Cheap to clone; all clones share the same.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) flows: Arc<Flows>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) current: Arc<Current>,
    pub(crate) link: Arc<dyn ControlLink>,
    /// Number of the snapshot whose engine is in force, and told after that changed.
    snapshot: Arc<AtomicU64>,
    policy_changed: Arc<Notify>,
    /// When it was committed what came into force then.
    policy_since: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    /// Over no flow yet; the engine that is in force was made of the snapshot with that number.
    pub(crate) fn new(facts: Arc<Facts>, current: Arc<Current>, link: Arc<dyn ControlLink>, snapshot: u64) -> Self {
        let snapshot = Arc::new(AtomicU64::new(snapshot));
        let (policy_changed, policy_since) = (Arc::default(), Arc::default());
        Self { flows: Arc::default(), facts, current, link, snapshot, policy_changed, policy_since }
    }

    /// Puts the engine of another snapshot into force.
    fn replace(&self, engine: Arc<Engine>, snapshot: u64) {
        self.current.replace(engine);
        self.snapshot.store(snapshot, Ordering::SeqCst);
        *self.policy_since.lock() = self.link.committed(snapshot);
        self.policy_changed.notify_one();
    }

    /// Decides a flow on the facts and policy of this moment; gives the mode by which it passes, if it is denied.
    pub(crate) async fn decide_again(&self, basis: &Basis) -> Result<Option<Lenience>, Reason> {
        let engine = self.current.engine();
        let Claim::Credential { key, audience } = &basis.claim else {
            if let Some(device) = &basis.device {
                authenticate::device_alone(device, &self.facts, Asking::Watch).await?;
            }
            return self.judge_nobody(&engine, basis);
        };
        match self.facts.subject(*key, &engine, Asking::Watch).await {
            Ok(Ok(ready)) => self.judge(&ready, *key, audience, basis),
            Ok(Err(_)) => Err(Reason::SessionEnded),
            // Facts that are remembered serve on for the lease; those that changed meanwhile can't be had.
            Err(_) => Err(Reason::FactsUnavailable),
        }
    }

    /// The same without asking anybody: `None` when the facts aren't remembered.
    fn decide_now(&self, basis: &Basis) -> Option<Result<Option<Lenience>, Reason>> {
        let engine = self.current.engine();
        let Claim::Credential { key, audience } = &basis.claim else {
            let device = basis.device.as_ref();
            let known =
                device.is_none_or(|device| self.facts.device_remembered(device.id) && device.is_valid(clock::now()));
            return known.then(|| self.judge_nobody(&engine, basis));
        };
        Some(match self.facts.remembered(*key, &engine)? {
            Ok(ready) => self.judge(&ready, *key, audience, basis),
            Err(_) => Err(Reason::SessionEnded),
        })
    }

    fn judge(
        &self,
        ready: &Ready,
        key: CredentialKey,
        audience: &str,
        basis: &Basis,
    ) -> Result<Option<Lenience>, Reason> {
        authenticate::check(ready, key, audience, basis.device.as_ref())?;
        self.stands(basis.question.admit(ready, clock::now()))
    }

    /// A flow of nobody.
    fn judge_nobody(&self, engine: &Engine, basis: &Basis) -> Result<Option<Lenience>, Reason> {
        self.stands(basis.question.admit_nobody(engine, clock::now()))
    }

    fn stands(&self, admission: Result<Admission, Decision>) -> Result<Option<Lenience>, Reason> {
        let admission = admission.map_err(|decision| decision.reason)?;
        lease::holds(&*self.link, &admission)?;
        Ok(admission.tolerance().map(Tolerance::by))
    }
}

/// One open flow. When it is dropped it leaves the registry, and its end is recorded.
pub(crate) struct Flow {
    flows: Arc<Flows>,
    recorder: Recorder,
    id: FlowId,
    holder: Holder,
    live: Arc<Live>,
    started: Instant,
    upload: AtomicU8,
    who: Option<Arc<Who>>,
    /// Device proven on the connection of nobody.
    device: Option<DeviceId>,
    /// Id of the decision that opened it.
    decision: DecisionId,
    protocol: &'static str,
    kind: FlowKind,
    counts: Arc<Counts>,
    resource: Option<Arc<str>>,
    action: Option<Action>,
    end: Mutex<End>,
}

/// What is known at the end only.
#[derive(Default)]
struct End {
    /// The status that the client got.
    status: Option<u16>,
    /// How it ended, in words.
    detail: Option<String>,
    /// The connector that it passed through.
    connector: Option<ConnectorId>,
}

impl Flow {
    /// Registers a flow that was just admitted. `None`: its session, or whoever it hangs on, has too many.
    pub(crate) fn open(
        shared: &Shared,
        id: FlowId,
        admission: &Admission,
        basis: Arc<Basis>,
        who: Option<Arc<Who>>,
        decided: &Decided,
        observed: &Observed,
    ) -> Option<Arc<Self>> {
        let (live, flows) = (Arc::<Live>::default(), &shared.watch.flows);
        live.passes(admission.tolerance().map(Tolerance::by));
        let (facts, device) =
            (admission.subject().map(|facts| &**facts), basis.device.as_ref().map(|device| device.id));
        let holder = Holder::of(facts, device, basis.question.ip());
        if !flows.add(holder, facts, id, basis, Arc::clone(&live)) {
            return None;
        }
        let kind = FlowKind::of(observed.action, observed.protocol);
        shared.counts.opened(kind);
        Some(Arc::new(Self {
            flows: Arc::clone(flows),
            recorder: shared.recorder.clone(),
            id,
            holder,
            live,
            started: Instant::now(),
            upload: AtomicU8::new(Upload::Whole as u8),
            who,
            device,
            decision: decided.id,
            protocol: observed.protocol,
            kind,
            counts: Arc::clone(&shared.counts),
            resource: observed.resource.clone(),
            action: observed.action,
            end: Mutex::default(),
        }))
    }

    /// Who opened it, where that is proven.
    pub(crate) fn who(&self) -> Option<&Who> {
        self.who.as_deref()
    }

    /// Bytes so far.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.live.traffic
    }

    /// Fires when the flow must end at once.
    pub(crate) fn cut(&self) -> &Cut {
        &self.live.cut
    }

    /// Why it was cut, once it was.
    pub(crate) fn cut_reason(&self) -> Option<Reason> {
        match self.cut().ended() {
            Some(Ended::Revoked(reason)) => Some(reason),
            Some(Ended::Silent(_)) | None => None,
        }
    }

    /// Notes that it was refused after all, before anything went upstream.
    pub(crate) fn set_cut(&self, reason: Reason) {
        self.cut().end(Ended::Revoked(reason));
    }

    /// Notes that it goes on by a mode, if it does.
    pub(crate) fn set_passed(&self, by: Option<Lenience>) {
        self.live.passes(by);
    }

    /// What became of the request's body.
    pub(crate) fn upload(&self) -> Upload {
        match self.upload.load(Ordering::Acquire) {
            state if state == Upload::Whole as u8 => Upload::Whole,
            state if state == Upload::Open as u8 => Upload::Open,
            _ => Upload::Broken,
        }
    }

    /// Notes what became of the request's body.
    pub(crate) fn set_upload(&self, state: Upload) {
        self.upload.store(state as u8, Ordering::Release);
    }

    /// Notes the status that the client got.
    pub(crate) fn set_status(&self, status: u16) {
        self.end.lock().status = Some(status);
    }

    /// Notes which connector it passes through.
    pub(crate) fn set_connector(&self, connector: Option<ConnectorId>) {
        if connector.is_some() {
            self.end.lock().connector = connector;
        }
    }

    /// Notes how the flow ended, in words.
    pub(crate) fn set_detail(&self, words: impl Into<String>) {
        self.end.lock().detail = Some(words.into());
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.flows.remove(self.id, self.holder);
        self.counts.closed(self.kind, self.cut().ended());
        if let Some(since) = self.live.since.get() {
            self.counts.revoked_within(since.elapsed());
        }
        let End { status, detail, connector } = std::mem::take(&mut *self.end.lock());
        let reason = self.cut_reason();
        let detail = match self.cut().ended() {
            Some(Ended::Revoked(reason)) => Some(format!("cut: {}", reason.words())),
            Some(Ended::Silent(patience)) => Some(format!("nothing moved for {patience:?}")),
            None => detail,
        };
        let duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = |m: &mut Members<'_>| {
            m.maybe_text(Member::Action, self.action.map(Action::as_str));
            m.number(Member::BytesIn, self.traffic().inward.load(Ordering::Relaxed));
            m.number(Member::BytesOut, self.traffic().outward.load(Ordering::Relaxed));
            m.maybe_text(Member::Connector, connector.map(|connector| connector.text()).as_deref());
            m.maybe_text(Member::Detail, detail.as_deref());
            match &self.who {
                Some(who) => m.maybe_text(Member::Device, who.device.as_deref()),
                None => m.maybe_text(Member::Device, self.device.map(|device| device.text()).as_deref()),
            }
            m.number(Member::DurationUs, duration_us);
            m.text(Member::Flow, &self.id.text());
            m.maybe_text(Member::Grade, self.who.as_ref().map(|who| who.grade));
            m.text(Member::Id, &self.decision.text());
            m.kind(Kind::FlowEnd);
            m.maybe_text(Member::Passed, self.live.passed.get().map(|by| by.as_str()));
            m.text(Member::Protocol, self.protocol);
            m.maybe_text(Member::Reason, reason.map(Reason::code));
            m.maybe_text(Member::Resource, self.resource.as_deref());
        };
        let after = |m: &mut Members<'_>| {
            m.maybe_number(Member::Status, status.map(u64::from));
            m.number(Member::TimeUs, clock::unix_micros(clock::now()));
            m.maybe_text(Member::User, self.who.as_ref().map(|who| who.user.as_str()));
            m.format();
        };
        let session = self.who.as_ref().map(|who| who.session.as_str());
        match Draft::write(self.recorder.source(), before, session, after) {
            Ok(draft) => self.recorder.note(draft),
            Err(error) => tracing::error!(%error, flow = %self.id, "the record of a flow's end can't be made"),
        }
    }
}
