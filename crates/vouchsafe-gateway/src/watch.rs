//! Open flows, and the watch over them: at every change of facts or policy, and at least every ten
//! seconds, each flow is decided again and cut when it is denied (I6).

mod cut;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::id::{DecisionId, FlowId, SessionId};
use vouchsafe_policy::Engine;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::limits::MAX_FLOWS_PER_SESSION;
use vouchsafe_runtime::link::{Change, Delta, Freshness};
use vouchsafe_runtime::relay::Traffic;
use vouchsafe_wire::audit::{Draft, Kind, Member, Members};

pub(crate) use cut::{Cut, Ended, Way};

use crate::authenticate;
use crate::decide::{self, Decided, Observed, Question, Who};
use crate::facts::{Asking, CredentialKey};
use crate::forward::body::Upload;
use crate::gateway::Shared;
use crate::lease;
use crate::record::Recorder;

/// How often all flows are decided again without a cause: catches what depends on time.
const SWEEP: Duration = Duration::from_secs(10);
/// How often it is looked whether the lease is over.
const LEASE_LOOK: Duration = Duration::from_millis(100);
/// Flows that are decided again side by side.
const SIDE_BY_SIDE: usize = 32;
/// Longest wait for the facts of one flow; without them it is cut.
const PATIENCE: Duration = Duration::from_secs(2);

/// What it takes to decide a flow again.
pub(crate) struct Basis {
    pub(crate) question: Question,
    pub(crate) credential: CredentialKey,
    /// Host label or token audience that the credential was accepted for.
    pub(crate) audience: Cow<'static, str>,
    /// Device proven on the connection.
    pub(crate) device: Option<ProvenDevice>,
}

struct Open {
    basis: Arc<Basis>,
    live: Arc<Live>,
    /// What had passed, and how long silence could last, when something last moved.
    seen: (u64, Option<Duration>, Instant),
}

/// What is shared by a flow and the watch over it.
#[derive(Default)]
struct Live {
    cut: Cut,
    traffic: Traffic,
}

/// All open flows of this gateway.
#[derive(Default)]
pub(crate) struct Flows(Mutex<Register>);

#[derive(Default)]
struct Register {
    open: HashMap<FlowId, Open>,
    by_session: HashMap<SessionId, usize>,
}

impl Register {
    /// Takes a flow in; says no when its session has too many.
    fn add(&mut self, id: FlowId, session: SessionId, open: Open) -> bool {
        let count = self.by_session.entry(session).or_default();
        if *count >= MAX_FLOWS_PER_SESSION {
            return false;
        }
        *count += 1;
        self.open.insert(id, open);
        true
    }

    fn remove(&mut self, id: FlowId, session: SessionId) {
        if self.open.remove(&id).is_some()
            && let Some(count) = self.by_session.get_mut(&session)
        {
            *count -= 1;
            if *count == 0 {
                self.by_session.remove(&session);
            }
        }
    }
}

/// One open flow. When it is dropped it leaves the registry, and its end is recorded.
pub(crate) struct Flow {
    flows: Arc<Flows>,
    recorder: Recorder,
    id: FlowId,
    session: SessionId,
    live: Arc<Live>,
    started: Instant,
    upload: AtomicU8,
    who: Arc<Who>,
    /// Id of the decision that opened it.
    decision: DecisionId,
    protocol: &'static str,
    resource: Option<String>,
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
}

impl Flow {
    /// Registers a flow that was just permitted. `None`: its session has too many.
    pub(crate) fn open(
        shared: &Shared,
        id: FlowId,
        session: SessionId,
        basis: Arc<Basis>,
        who: Arc<Who>,
        decided: &Decided,
        observed: &Observed,
    ) -> Option<Arc<Self>> {
        let (live, started) = (Arc::<Live>::default(), Instant::now());
        let open = Open { basis, live: Arc::clone(&live), seen: (0, None, started) };
        if !shared.flows.0.lock().add(id, session, open) {
            return None;
        }
        Some(Arc::new(Self {
            flows: Arc::clone(&shared.flows),
            recorder: shared.recorder.clone(),
            id,
            session,
            live,
            started,
            upload: AtomicU8::new(Upload::Whole as u8),
            who,
            decision: decided.id,
            protocol: observed.protocol,
            resource: observed.resource.clone(),
            action: observed.action,
            end: Mutex::default(),
        }))
    }

    /// Who opened it.
    pub(crate) fn who(&self) -> &Who {
        &self.who
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

    /// Notes how the flow ended, in words.
    pub(crate) fn set_detail(&self, words: impl Into<String>) {
        self.end.lock().detail = Some(words.into());
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.flows.0.lock().remove(self.id, self.session);
        let End { status, detail } = std::mem::take(&mut *self.end.lock());
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
            m.maybe_text(Member::Detail, detail.as_deref());
            m.maybe_text(Member::Device, self.who.device.as_deref());
            m.number(Member::DurationUs, duration_us);
            m.text(Member::Flow, &self.id.text());
            m.text(Member::Grade, self.who.grade);
            m.text(Member::Id, &self.decision.text());
            m.kind(Kind::FlowEnd);
            m.text(Member::Protocol, self.protocol);
            m.maybe_text(Member::Reason, reason.map(Reason::code));
            m.maybe_text(Member::Resource, self.resource.as_deref());
        };
        let after = |m: &mut Members<'_>| {
            m.maybe_number(Member::Status, status.map(u64::from));
            m.number(Member::TimeUs, clock::unix_micros(clock::now()));
            m.text(Member::User, &self.who.user);
            m.format();
        };
        match Draft::write(self.recorder.source(), before, Some(&self.who.session), after) {
            Ok(draft) => self.recorder.note(draft),
            Err(error) => tracing::error!(%error, flow = %self.id, "the record of a flow's end can't be made"),
        }
    }
}

impl Flows {
    fn cut(&self, id: FlowId, reason: Reason) {
        if let Some(open) = self.0.lock().open.get(&id) {
            open.live.cut.end(Ended::Revoked(reason));
        }
    }

    /// Ends the flows in which nothing has moved for longer than they may be silent.
    fn end_silent(&self, now: Instant) {
        for open in self.0.lock().open.values_mut() {
            let Some(patience) = open.live.cut.patience() else { continue };
            let traffic = &open.live.traffic;
            let passed = traffic.inward.load(Ordering::Relaxed).wrapping_add(traffic.outward.load(Ordering::Relaxed));
            let (seen, before, since) = open.seen;
            if (seen, before) != (passed, Some(patience)) {
                open.seen = (passed, Some(patience), now);
            } else if now.duration_since(since) >= patience {
                open.live.cut.end(Ended::Silent(patience));
            }
        }
    }

    /// Ends the flows to resources whose grace is over.
    fn end_unleased(&self, freshness: Freshness, engine: &Engine) {
        for (id, open) in &self.0.lock().open {
            let resource = engine.resource(open.basis.question.resource());
            // One that is gone has none; it is the watch's to say why.
            let grace = resource.map_or(Duration::ZERO, |resource| resource.offline_grace);
            if !freshness.is_within(grace) && open.live.cut.ended().is_none() {
                tracing::info!(flow = %id, "cut a flow that nothing is known about any more");
                open.live.cut.end(Ended::Revoked(Reason::ControllerSilent));
            }
        }
    }

    fn all(&self) -> Vec<(FlowId, Arc<Basis>)> {
        self.0.lock().open.iter().map(|(id, open)| (*id, Arc::clone(&open.basis))).collect()
    }
}

/// Resolves when the drain has begun and no flow is open any more: until then the watch goes on.
async fn drained(shared: &Shared) {
    shared.tasks.draining().await;
    while !shared.flows.0.lock().open.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ends flows that are silent for too long, and those whose lease and grace are over without word of the
/// controller. One look at all of them costs less than a timer for each, and waits for nobody.
pub(crate) async fn follow_silence(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut lease = tokio::time::interval(LEASE_LOOK);
    lease.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => shared.flows.end_silent(Instant::now()),
            _ = lease.tick() => if lease::is_over(&*shared.link) {
                shared.flows.end_unleased(shared.link.freshness(), &shared.current.engine());
            },
            () = drained(&shared) => return,
        }
    }
}

/// Follows changes of facts: forgets what is no longer true, then decides every open flow again.
pub(crate) async fn follow_changes(shared: Arc<Shared>, mut changes: broadcast::Receiver<Delta>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(Delta { change, .. }) => shared.facts.forget(&change),
                Err(RecvError::Lagged(_)) => shared.facts.forget(&Change::Everything),
                Err(RecvError::Closed) => return,
            },
            _ = sweep.tick() => {}
            () = drained(&shared) => return,
        }
        // Changes come in rows; one look at all flows answers for all that are here.
        loop {
            match changes.try_recv() {
                Ok(Delta { change, .. }) => shared.facts.forget(&change),
                Err(TryRecvError::Lagged(_)) => shared.facts.forget(&Change::Everything),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        decide_all_again(&shared).await;
    }
}

/// Follows snapshots: compiles each beside the running engine, replaces it at once, then decides
/// every open flow again.
pub(crate) async fn follow_snapshots(shared: Arc<Shared>) {
    let mut snapshots = shared.link.snapshots();
    snapshots.mark_changed();
    loop {
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = drained(&shared) => return,
        }
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let former = shared.current.engine();
        let compiled = tokio::task::spawn_blocking(move || decide::compile(&snapshot, Some(&former))).await;
        if let Ok(Some(engine)) = compiled {
            tracing::info!(version = engine.version(), "policy in force");
            shared.current.replace(engine);
        } else {
            tracing::error!("no policy engine could be made; the gateway stops");
            return;
        }
        decide_all_again(&shared).await;
    }
}

async fn decide_all_again(shared: &Shared) {
    let flows = futures_util::stream::iter(shared.flows.all());
    flows
        .for_each_concurrent(SIDE_BY_SIDE, async |(id, basis)| {
            // A controller that does not answer must not hold up the other flows.
            let decided = tokio::time::timeout(PATIENCE, decide_again(shared, &basis)).await;
            if let Err(reason) = decided.unwrap_or(Err(Reason::FactsUnavailable)) {
                tracing::info!(flow = %id, %reason, "cut a flow that is no longer permitted");
                shared.flows.cut(id, reason);
            }
        })
        .await;
}

/// Decides a flow on the facts and policy of this moment.
pub(crate) async fn decide_again(shared: &Shared, basis: &Basis) -> Result<(), Reason> {
    let engine = shared.current.engine();
    let ready = match shared.facts.subject(basis.credential, &engine, Asking::Watch).await {
        Ok(Ok(ready)) => ready,
        Ok(Err(_)) => return Err(Reason::SessionEnded),
        // Facts that are remembered serve on for the lease; those that changed meanwhile can't be had.
        Err(_) => return Err(Reason::FactsUnavailable),
    };
    authenticate::check(&ready, basis.credential, &basis.audience, basis.device.as_ref())?;
    let permit = basis.question.decide(&ready).map_err(|decision| decision.reason)?;
    lease::holds(&*shared.link, &permit)
}
