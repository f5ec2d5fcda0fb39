//! The watch itself: hears of changes, forgets at once what they made untrue, and looks again at the
//! flows that they concern; looks at all of them when the policy changes, and at least every ten seconds
//! for what depends on time.
//!
//! Hearing never waits for looking. What is remembered decides at once; sessions whose facts must be asked
//! for are asked for side by side, and one whose facts don't come in time loses its flows.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::mode::Lenience;
use vouchsafe_policy::Engine;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::limits::{CHANGE_PATIENCE, SWEEP_PATIENCE};
use vouchsafe_runtime::link::{Change, Delta, Freshness, News};
use vouchsafe_runtime::task::TaskGroup;

use super::cut::Ended;
use super::register::{Holder, Watched};
use super::{Claim, Watch};
use crate::decide;
use crate::lease;

/// How often all flows are decided again without a cause: catches what depends on time.
const SWEEP: Duration = Duration::from_secs(10);
/// How often it is looked whether the lease is over.
const LEASE_LOOK: Duration = Duration::from_millis(100);
/// Flows that are looked at before others have the thread.
const SLICE: usize = 128;
/// Pause before facts are asked for again that could not be had.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// What was missed may have been anything.
const LAGGED: Delta = Delta { sequence: 0, change: Change::Everything, outcome: None };

/// Follows changes of facts and policy, and decides the flows again that they concern.
pub(crate) async fn follow_news(watch: Watch, tasks: TaskGroup, mut news: broadcast::Receiver<News>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looking = Looking::new(watch.clone());
    loop {
        tokio::select! {
            heard = news.recv() => match heard {
                Ok(heard) => looking.take(heard),
                Err(RecvError::Lagged(_)) => looking.hear(&LAGGED),
                Err(RecvError::Closed) => return,
            },
            () = watch.policy_changed.notified() => {
                looking.count_from(watch.policy_since.lock().take());
                looking.look_at_all();
            }
            _ = sweep.tick() => {
                // What it finds was not caused by a change.
                looking.count_from(None);
                watch.flows.tidy();
                looking.look_at_all();
            }
            () = looking.answered() => {}
            () = drained(&watch, &tasks) => return,
        }
        // Changes come in rows; all that are here are heard before anything is looked at.
        loop {
            match news.try_recv() {
                Ok(heard) => looking.take(heard),
                Err(TryRecvError::Lagged(_)) => looking.hear(&LAGGED),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        looking.renew_lease();
        looking.look(SLICE);
    }
}

/// Follows snapshots: compiles each beside the running engine, replaces it at once, then has every open
/// flow decided again.
pub(crate) async fn follow_snapshots(watch: Watch, tasks: TaskGroup) {
    let mut snapshots = watch.link.snapshots();
    snapshots.mark_changed();
    loop {
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = drained(&watch, &tasks) => return,
        }
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let (former, sequence) = (watch.current.engine(), snapshot.sequence);
        let compiled = tokio::task::spawn_blocking(move || decide::compile(&snapshot, Some(&former))).await;
        if let Ok(Some(engine)) = compiled {
            tracing::info!(version = engine.version(), "policy in force");
            watch.replace(engine, sequence);
        } else {
            tracing::error!("no policy engine could be made; the gateway stops");
            return;
        }
    }
}

/// Ends flows that are silent for too long, and those whose lease and grace are over without word of the
/// controller; has all of them looked at when the trial of a resource is over. One look at all of them costs less
/// than a timer for each, and waits for nobody.
pub(crate) async fn follow_silence(watch: Watch, tasks: TaskGroup) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut lease = tokio::time::interval(LEASE_LOOK);
    lease.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = clock::now();
    loop {
        tokio::select! {
            _ = every.tick() => {
                watch.flows.end_silent(std::time::Instant::now());
                let now = clock::now();
                if watch.current.engine().trial_ends().any(|end| looked < end && end <= now) {
                    tracing::info!("the trial of a resource is over: denials stand there from now on");
                    watch.policy_changed.notify_one();
                }
                looked = now;
            }
            _ = lease.tick() => if lease::is_over(&*watch.link) {
                end_unleased(&watch, watch.link.freshness(), &watch.current.engine());
            },
            () = drained(&watch, &tasks) => return,
        }
    }
}

/// Ends the flows to resources whose grace is over.
fn end_unleased(watch: &Watch, freshness: Freshness, engine: &Engine) {
    for flow in watch.flows.holders().into_iter().flat_map(|holder| watch.flows.of(holder)) {
        let resource = engine.resource(flow.basis.question.resource());
        // One that is gone has none; it is the watch's to say why.
        let grace = resource.map_or(Duration::ZERO, |resource| resource.offline_grace);
        if !freshness.is_within(grace) && flow.live.cut.ended().is_none() {
            tracing::info!(flow = %flow.id, "cut a flow that nothing is known about any more");
            flow.live.cut.end(Ended::Revoked(Reason::ControllerSilent));
        }
    }
}

/// Resolves when the drain has begun and no flow is open any more: until then the watch goes on.
async fn drained(watch: &Watch, tasks: &TaskGroup) {
    tasks.draining().await;
    while !watch.flows.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is to be looked at again, and what is asked for.
pub(super) struct Looking {
    watch: Watch,
    /// What a change concerns: before everything else.
    changed: Queue,
    /// What was looked at without a change of its facts.
    others: Queue,
    /// The newest sign of life that doesn't count yet: when it was asked for, and the snapshot that belongs
    /// to it.
    alive: Option<(Duration, u64)>,
    /// Sessions whose facts are being asked for.
    asked: HashMap<Holder, Asked>,
    answers: FuturesUnordered<futures_util::future::BoxFuture<'static, (Holder, Instant)>>,
    /// When the oldest of the changes was committed that are being looked at; what is cut meanwhile is counted
    /// from there, so rather too long than too short.
    since: Option<std::time::Instant>,
}

/// What is being asked for one session.
#[derive(Default)]
struct Asked {
    /// When each of the questions gives up. A further one is asked only where it gives up sooner than all.
    questions: Vec<Instant>,
    /// By when it is to be looked at again, if something changed meanwhile.
    again: Option<Instant>,
}

impl Asked {
    /// Whether a question that is under way is answered, or has given up, by then.
    fn answers_by(&self, by: Instant) -> bool {
        self.questions.iter().any(|question| *question <= by)
    }
}

/// Sessions in the order in which they came, with the moment by which each must be proven right.
#[derive(Default)]
struct Queue {
    order: VecDeque<Holder>,
    by: HashMap<Holder, Instant>,
}

impl Queue {
    fn push(&mut self, holder: Holder, by: Instant) {
        // One that waits already keeps its earlier end.
        if let Entry::Vacant(place) = self.by.entry(holder) {
            place.insert(by);
            self.order.push_back(holder);
        }
    }

    fn pop(&mut self) -> Option<(Holder, Instant)> {
        let holder = self.order.pop_front()?;
        self.by.remove(&holder).map(|by| (holder, by))
    }
}

impl Looking {
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            watch,
            changed: Queue::default(),
            others: Queue::default(),
            alive: None,
            asked: HashMap::new(),
            answers: FuturesUnordered::new(),
            since: None,
        }
    }

    fn take(&mut self, heard: News) {
        match heard {
            News::Changed(delta) => self.hear_of(&delta),
            News::Alive { asked, snapshot } => self.alive = Some((asked, snapshot)),
        }
    }

    /// The lease begins anew once everything that came before the sign of life is in force. Changes are: they
    /// were heard in their order. A snapshot has to be compiled first.
    fn renew_lease(&mut self) {
        if let Some((asked, snapshot)) = self.alive
            && snapshot <= self.watch.snapshot.load(Ordering::SeqCst)
        {
            self.alive = None;
            self.watch.link.in_force(asked);
        }
    }

    /// Hears of a change, and counts from when it was committed.
    fn hear_of(&mut self, delta: &Delta) {
        self.count_from(self.watch.link.committed(delta.sequence));
        self.hear(delta);
    }

    fn count_from(&mut self, since: Option<std::time::Instant>) {
        if self.changed.order.is_empty() && self.others.order.is_empty() && self.asked.is_empty() {
            self.since = None;
        }
        self.since = match (self.since, since) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
    }

    /// Forgets or replaces what a change made untrue, and notes whom it concerns.
    pub(super) fn hear(&mut self, delta: &Delta) {
        self.watch.facts.hear(delta);
        let change = &delta.change;
        match change {
            // That facts may have changed, of anybody: they all have to be asked for, which takes a while.
            Change::Everything => self.look_at_all(),
            Change::User(_) | Change::Device(_) | Change::Session(_) => {
                let by = Instant::now() + CHANGE_PATIENCE;
                for holder in self.watch.flows.concerned(change) {
                    self.changed.push(holder, by);
                }
            }
        }
    }

    pub(super) fn look_at_all(&mut self) {
        let by = Instant::now() + SWEEP_PATIENCE;
        for holder in self.watch.flows.holders() {
            self.others.push(holder, by);
        }
    }

    /// Looks at some of what is to be looked at: at whole sessions, until that many flows were seen. Says how
    /// many it were.
    pub(super) fn look(&mut self, enough: usize) -> usize {
        let mut seen = 0;
        while seen < enough
            && let Some((holder, by)) = self.changed.pop().or_else(|| self.others.pop())
        {
            // A question that gives up sooner than this look must be done is waited for; not one that takes its time.
            if let Some(asked) = self.asked.get_mut(&holder).filter(|asked| asked.answers_by(by)) {
                asked.again = Some(asked.again.map_or(by, |earlier| earlier.min(by)));
                continue;
            }
            let mut flows = self.watch.flows.of(holder);
            seen += flows.len().max(1);
            // What is remembered decides at once.
            flows.retain(|flow| match self.watch.decide_now(&flow.basis) {
                Some(Ok(by)) => {
                    flow.live.passes(by);
                    false
                }
                Some(Err(reason)) => {
                    cut(flow, reason, self.since);
                    false
                }
                None => true,
            });
            if !flows.is_empty() {
                self.asked.entry(holder).or_default().questions.push(by);
                self.answers.push(Box::pin(ask(self.watch.clone(), holder, flows, by, self.since)));
            }
        }
        seen
    }

    /// The question about a session that would have given up then is answered, or has given up.
    fn answer(&mut self, holder: Holder, by: Instant) {
        let Entry::Occupied(mut place) = self.asked.entry(holder) else { return };
        let asked = place.get_mut();
        asked.questions.retain(|question| *question != by);
        let again = asked.again.take();
        if asked.questions.is_empty() {
            place.remove();
        }
        if let Some(by) = again {
            self.changed.push(holder, by);
        }
    }

    /// Resolves when there is something to go on with: an answer, or more to look at.
    async fn answered(&mut self) {
        let more = !self.changed.order.is_empty() || !self.others.order.is_empty();
        tokio::select! {
            Some((holder, by)) = self.answers.next() => self.answer(holder, by),
            // Others have the thread first.
            () = tokio::task::yield_now(), if more => {}
            else => std::future::pending().await,
        }
    }
}

/// Decides the flows of one session again whose facts must be asked for.
async fn ask(
    watch: Watch,
    holder: Holder,
    flows: Vec<Watched>,
    by: Instant,
    since: Option<std::time::Instant>,
) -> (Holder, Instant) {
    // Nobody is remembered who isn't one any more: each credential is asked for once, and not for each of its flows.
    let mut ended = HashSet::new();
    for flow in flows {
        if flow.live.cut.ended().is_some() {
            continue;
        }
        let key = match flow.basis.claim {
            Claim::Credential { key, .. } => Some(key),
            Claim::Nothing => None,
        };
        let decided = match key {
            Some(key) if ended.contains(&key) => Err(Reason::SessionEnded),
            Some(_) | None => decide_by(&watch, &flow, by).await,
        };
        match decided {
            Ok(by) => flow.live.passes(by),
            Err(reason) => {
                ended.extend(key.filter(|_| reason == Reason::SessionEnded));
                cut(&flow, reason, since);
            }
        }
    }
    (holder, by)
}

/// Decides a flow again by then. A line to the controller that breaks may be back in time.
async fn decide_by(watch: &Watch, flow: &Watched, by: Instant) -> Result<Option<Lenience>, Reason> {
    let deciding = async {
        loop {
            match watch.decide_again(&flow.basis).await {
                Err(Reason::FactsUnavailable) => tokio::time::sleep(ASK_AGAIN).await,
                decided => return decided,
            }
        }
    };
    tokio::time::timeout_at(by, deciding).await.unwrap_or(Err(Reason::FactsUnavailable))
}

fn cut(flow: &Watched, reason: Reason, since: Option<std::time::Instant>) {
    tracing::info!(flow = %flow.id, %reason, "cut a flow that is no longer permitted");
    if let Some(since) = since {
        let _ = flow.live.since.set(since);
    }
    flow.live.cut.end(Ended::Revoked(reason));
}
