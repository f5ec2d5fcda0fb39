//! The model: what there is, and what can happen next.

use std::collections::VecDeque;

use stateright::{Model, Property};

/// How long a sign of life lasts, in ticks.
const LEASE: u8 = 1;
/// How long a flow goes on whose facts changed and are asked for.
const PATIENCE: u8 = 1;

pub(super) const PROMISE: &str = "no flow outlives its right by more than lease and patience";
pub(super) const NOTHING_LOST: &str = "no revocation is lost";
/// What holds in every state.
pub(super) const PROMISES: [&str; 2] = [PROMISE, NOTHING_LOST];
const OPENS: &str = "a flow opens";
const LATE: &str = "a flow outlives its right while the news is on its way";
const AGAIN: &str = "a flow is open when all has come to rest";
/// What some state must show, or the model is blind.
pub(super) const NEEDED: [&str; 3] = [OPENS, LATE, AGAIN];

/// How much may happen.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    ticks: u8,
    /// Changes of the subject's facts, and of the policy: right, wrong, right again.
    facts: u8,
    policies: u8,
    breaks: u8,
    crashes: u8,
    replays: u8,
    asks: u8,
    /// Messages that may wait each way.
    waiting: usize,
}

impl Bounds {
    const NONE: Self = Self { ticks: 3, facts: 0, policies: 0, breaks: 0, crashes: 0, replays: 0, asks: 1, waiting: 3 };

    /// What may happen together, so that all of it can be seen.
    pub(super) const EACH: [(&'static str, Self); 6] = [
        ("a right that ends and comes back", Self { facts: 2, ..Self::NONE }),
        ("a policy that closes and opens again", Self { policies: 2, ..Self::NONE }),
        ("right and policy that end", Self { facts: 1, policies: 1, waiting: 2, ..Self::NONE }),
        ("a channel that breaks, a feed that forgets", Self { facts: 1, breaks: 2, ..Self::NONE }),
        ("a gateway that crashes", Self { facts: 1, crashes: 1, asks: 2, ..Self::NONE }),
        ("an old snapshot that is played back", Self { policies: 1, replays: 1, waiting: 2, ..Self::NONE }),
    ];
}

/// What makes the protocol hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A pong comes after all rows that were committed before its ping.
    PongAfterRows,
    /// And after the snapshot that the newest of them tells of.
    PongAfterSnapshot,
    /// The lease counts from when the ping was sent.
    LeaseFromPing,
    /// And what came before the pong is in force when it counts.
    LeaseAfterChanges,
    /// What became of a change is read behind its row.
    OutcomeBehindRow,
    /// An answer that is older than a change is not kept.
    OldAnswersRefused,
    /// A stream goes on behind the last row that came.
    ResumeAfterLast,
    /// A reader subscribes before it reads.
    SubscribeThenRead,
    /// A snapshot older than one that was in force is refused.
    OldSnapshotsRefused,
    /// A reader whose rows are gone is told that anything may have changed.
    GapIsEverything,
    /// A flow whose facts don't come ends.
    PatienceEnds,
}

impl Rule {
    /// Each with the promise that breaks without it, and what must be able to happen for that.
    pub(super) const ALL: [(Rule, &'static str, Bounds); 11] = {
        let [(_, facts), (_, policies), _, (_, breaks), _, (_, replays)] = Bounds::EACH;
        [
            (Rule::PongAfterRows, PROMISE, facts),
            (Rule::PongAfterSnapshot, PROMISE, policies),
            (Rule::LeaseFromPing, PROMISE, facts),
            (Rule::LeaseAfterChanges, PROMISE, facts),
            (Rule::OutcomeBehindRow, NOTHING_LOST, facts),
            (Rule::OldAnswersRefused, NOTHING_LOST, facts),
            (Rule::ResumeAfterLast, NOTHING_LOST, breaks),
            (Rule::SubscribeThenRead, NOTHING_LOST, facts),
            (Rule::OldSnapshotsRefused, PROMISE, replays),
            (Rule::GapIsEverything, NOTHING_LOST, breaks),
            (Rule::PatienceEnds, PROMISE, facts),
        ]
    };
}

/// The model, whole or without one of its rules.
pub(super) struct World {
    pub(super) without: Option<Rule>,
    pub(super) bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Row {
    Facts,
    Policy,
}

/// Anything may have changed, and nothing is said.
const EVERYTHING: Change = Change { row: u8::MAX, right: None };

/// Policy as of a row of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Snapshot {
    row: u8,
    allows: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Up {
    Ping { sent: u8 },
    Ask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Down {
    Deltas { after: u8, through: u8, facts: Option<Change> },
    Everything { through: u8 },
    Snapshot(Snapshot),
    Pong { sent: u8, sequence: u8 },
    Answer { right: bool, row: u8 },
}

/// That the facts changed at that row, and, where it is said, what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Change {
    row: u8,
    right: Option<bool>,
}

/// A stream with what is on its way, and the controller's end of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream {
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    /// Last row that was told of; whether newer ones may be there.
    told: u8,
    notified: bool,
    /// Whether commits notify it.
    subscribed: bool,
    /// Snapshot that was sent, and the newest row that tells of one.
    snapshot: u8,
    snapshot_row: u8,
    /// Ping that is to be answered, and the row whose snapshot must be out before.
    due: Option<(u8, u8)>,
    /// What was read for a question and is not sent yet, and the newest row then.
    reading: Option<(bool, u8)>,
    /// Whether there was a right when rows were last told of.
    right_before: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Flow {
    Closed,
    Open,
    /// Open, and to be decided again by then.
    Doubtful {
        by: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Gateway {
    /// Last row in force, 0 to begin anew.
    last: u8,
    snapshot: Option<Snapshot>,
    /// One that came and is not in force yet.
    compiling: Option<Snapshot>,
    /// A sign of life that counts once everything that came before it is in force.
    alive: Option<u8>,
    /// Highest that ever was in force; outlives a crash.
    highest: u8,
    /// When the ping was sent that was answered last; none since it started.
    heard: Option<u8>,
    /// Facts that are remembered: whether the subject has the right, and the newest row when that was answered.
    facts: Option<(bool, u8)>,
    /// Changes that were heard.
    seen: u8,
    /// A change came and was not heard yet.
    unheard: Option<Change>,
    /// The policy changed since the flow was looked at.
    unlooked: bool,
    /// A question is under way, asked after that many changes.
    asked: Option<u8>,
    flow: Flow,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    now: u8,
    feed: Vec<Row>,
    /// Rows that the feed still has begin behind this one.
    trimmed: u8,
    right: bool,
    allows: bool,
    /// When right and policy ended, as long as they don't hold.
    wrong_since: Option<u8>,
    closed_since: Option<u8>,
    stream: Option<Stream>,
    gateway: Gateway,
    left: Left,
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    facts: u8,
    policies: u8,
    breaks: u8,
    crashes: u8,
    replays: u8,
    asks: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Tick,
    ChangeFacts,
    ChangePolicy,
    TrimFeed,
    Attach,
    Break,
    GatewayCrashes,
    Replay,
    ControllerTells,
    /// With what became of what changed.
    ControllerTellsMore,
    ControllerSendsSnapshot,
    ControllerTakes,
    ControllerAnswers,
    ControllerPongs,
    GatewayTakes,
    GatewayHears,
    GatewayCompiles,
    GatewayLooks,
    GatewayAsks,
    FlowOpens,
}

impl State {
    fn newest(&self) -> u8 {
        u8::try_from(self.feed.len()).expect("few rows")
    }

    fn newest_policy(&self) -> u8 {
        let found = self.feed.iter().rposition(|row| *row == Row::Policy);
        found.map_or(0, |at| u8::try_from(at + 1).expect("few rows"))
    }

    fn commit(&mut self, row: Row) {
        self.feed.push(row);
        self.wrong_since = (!self.right).then(|| self.wrong_since.unwrap_or(self.now));
        self.closed_since = (!self.allows).then(|| self.closed_since.unwrap_or(self.now));
        if let Some(stream) = &mut self.stream
            && stream.subscribed
        {
            stream.notified = true;
        }
    }

    /// Rows behind the last that was told of, as one message.
    fn tell(&mut self, without: Option<Rule>, outcome: bool) {
        let (newest, policy, trimmed, right) = (self.newest(), self.newest_policy(), self.trimmed, self.right);
        let Some(stream) = &mut self.stream else { return };
        let before = std::mem::replace(&mut stream.right_before, right);
        stream.notified = false;
        if stream.told == newest {
            return;
        }
        stream.snapshot_row = policy;
        if stream.told < trimmed && without != Some(Rule::GapIsEverything) {
            stream.down.push_back(Down::Everything { through: newest });
        } else {
            let from = usize::from(stream.told.max(trimmed));
            let at = self.feed[from..].iter().rposition(|row| *row == Row::Facts);
            let right = if without == Some(Rule::OutcomeBehindRow) { before } else { right };
            let facts = at.map(|at| Change {
                row: u8::try_from(from + at + 1).expect("few rows"),
                right: outcome.then_some(right),
            });
            stream.down.push_back(Down::Deltas { after: stream.told, through: newest, facts });
        }
        stream.told = newest;
    }

    /// The stream ends for both; what was on its way never comes.
    fn lose_stream(&mut self) {
        self.stream = None;
        // What was asked may be asked again, as long as the flow may wait for it.
        self.gateway.asked = None;
    }

    /// The gateway asks for a sign of life: one at a time.
    fn ping(&mut self) {
        let now = self.now;
        let Some(stream) = &mut self.stream else { return };
        let waits = stream.up.iter().any(|up| matches!(up, Up::Ping { .. }))
            || stream.due.is_some()
            || stream.down.iter().any(|down| matches!(down, Down::Pong { .. }));
        if !waits {
            stream.up.push_back(Up::Ping { sent: now });
        }
    }

    fn decide(&mut self) {
        let (Some((facts, _)), Some(snapshot)) = (self.gateway.facts, self.gateway.snapshot) else { return };
        self.gateway.flow = if facts && snapshot.allows && self.leased() { Flow::Open } else { Flow::Closed };
    }

    fn leased(&self) -> bool {
        self.gateway.heard.is_some_and(|heard| self.now <= heard + LEASE)
    }

    /// Whether the gateway has work that takes no time.
    fn is_busy(&self) -> bool {
        let gateway = &self.gateway;
        gateway.unheard.is_some()
            || gateway.compiling.is_some()
            || (gateway.flow != Flow::Closed && gateway.facts.is_some() && gateway.unlooked)
            || (self.stream.is_some()
                && matches!(gateway.flow, Flow::Doubtful { .. })
                && gateway.facts.is_none()
                && gateway.asked.is_none())
    }

    /// Whether everything sent has come and nothing is left to do.
    fn is_at_rest(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        stream.up.is_empty()
            && stream.down.is_empty()
            && !stream.notified
            && stream.due.is_none()
            && stream.reading.is_none()
            && !self.is_busy()
            && self.gateway.asked.is_none()
            && stream.snapshot == self.newest_policy()
    }

    fn take(&mut self, without: Option<Rule>) {
        let Some(down) = self.stream.as_mut().and_then(|stream| stream.down.pop_front()) else { return };
        let gateway = &mut self.gateway;
        match down {
            Down::Deltas { after, through, facts } => {
                if after != gateway.last {
                    return self.gap();
                }
                gateway.last = through;
                gateway.unheard = match (gateway.unheard, facts) {
                    // What is forgotten first has nothing that could become of it.
                    (Some(Change { right: None, .. }), _) | (_, None) => gateway.unheard,
                    (Some(Change { right: Some(_), .. }) | None, Some(_)) => facts,
                };
            }
            Down::Everything { through } => {
                gateway.last = through;
                gateway.unheard = Some(EVERYTHING);
            }
            Down::Snapshot(snapshot) => {
                if snapshot.row < gateway.highest && without != Some(Rule::OldSnapshotsRefused) {
                    return self.lose_stream();
                }
                gateway.highest = gateway.highest.max(snapshot.row);
                gateway.compiling = Some(snapshot);
            }
            Down::Pong { sent, sequence } => {
                if sequence != gateway.last {
                    return self.gap();
                }
                let heard = if without == Some(Rule::LeaseFromPing) { self.now } else { sent };
                gateway.alive = Some(heard);
                self.renew(without);
            }
            Down::Answer { right, row } => {
                let asked = gateway.asked.take();
                if asked == Some(gateway.seen) || without == Some(Rule::OldAnswersRefused) {
                    gateway.facts = Some((right, row));
                    if let Flow::Doubtful { .. } = gateway.flow {
                        self.decide();
                    }
                }
            }
        }
    }

    /// The lease begins anew, behind everything that came before the sign of life.
    fn renew(&mut self, without: Option<Rule>) {
        let gateway = &mut self.gateway;
        let in_force = gateway.unheard.is_none() && gateway.compiling.is_none();
        if in_force || without == Some(Rule::LeaseAfterChanges) {
            gateway.heard = gateway.alive.take().or(gateway.heard);
        }
    }

    fn gap(&mut self) {
        self.lose_stream();
        self.gateway.last = 0;
        self.gateway.unheard = Some(EVERYTHING);
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let Bounds { facts, policies, breaks, crashes, replays, asks, .. } = self.bounds;
        vec![State {
            now: 0,
            // The row that tells of the first policy.
            feed: vec![Row::Policy],
            trimmed: 0,
            right: true,
            allows: true,
            wrong_since: None,
            closed_since: None,
            stream: None,
            gateway: Gateway {
                last: 0,
                snapshot: None,
                compiling: None,
                alive: None,
                highest: 0,
                heard: None,
                facts: None,
                seen: 0,
                unheard: None,
                unlooked: false,
                asked: None,
                flow: Flow::Closed,
            },
            left: Left { facts, policies, breaks, crashes, replays, asks },
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let (gateway, left) = (&state.gateway, &state.left);
        if state.now < self.bounds.ticks && !state.is_busy() {
            steps.push(Step::Tick);
        }
        if left.facts > 0 {
            steps.push(Step::ChangeFacts);
        }
        if left.policies > 0 {
            steps.push(Step::ChangePolicy);
        }
        if left.breaks > 0 && state.trimmed < state.newest() {
            steps.push(Step::TrimFeed);
        }
        if left.crashes > 0 {
            steps.push(Step::GatewayCrashes);
        }
        if gateway.unheard.is_some() {
            steps.push(Step::GatewayHears);
        }
        if gateway.compiling.is_some() {
            steps.push(Step::GatewayCompiles);
        }
        if gateway.unlooked && gateway.facts.is_some() && gateway.unheard.is_none() {
            steps.push(Step::GatewayLooks);
        }
        let known =
            gateway.facts.is_some_and(|(right, _)| right) && gateway.snapshot.is_some_and(|snapshot| snapshot.allows);
        if gateway.flow == Flow::Closed && known && state.leased() {
            steps.push(Step::FlowOpens);
        }
        let Some(stream) = &state.stream else {
            steps.push(Step::Attach);
            return;
        };
        if left.breaks > 0 {
            steps.push(Step::Break);
        }
        if left.replays > 0 && stream.snapshot > 1 {
            steps.push(Step::Replay);
        }
        if stream.notified {
            steps.extend([Step::ControllerTells, Step::ControllerTellsMore]);
        }
        if stream.snapshot != state.newest_policy() {
            steps.push(Step::ControllerSendsSnapshot);
        }
        let blocked = match stream.up.front() {
            None => true,
            Some(Up::Ping { .. }) => stream.due.is_some(),
            Some(Up::Ask) => stream.reading.is_some(),
        };
        if !blocked {
            steps.push(Step::ControllerTakes);
        }
        if stream.reading.is_some() {
            steps.push(Step::ControllerAnswers);
        }
        let snapshot_out = |row| stream.snapshot >= row || self.without == Some(Rule::PongAfterSnapshot);
        if stream.due.is_some_and(|(_, row)| snapshot_out(row)) {
            steps.push(Step::ControllerPongs);
        }
        if !stream.down.is_empty() {
            steps.push(Step::GatewayTakes);
        }
        let wanted = match gateway.flow {
            Flow::Doubtful { .. } => true,
            Flow::Closed => left.asks > 0,
            Flow::Open => false,
        };
        if gateway.facts.is_none() && gateway.asked.is_none() && gateway.unheard.is_none() && wanted {
            steps.push(Step::GatewayAsks);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        let without = self.without;
        match step {
            Step::Tick => {
                state.now += 1;
                state.ping();
                if !state.leased() {
                    state.gateway.flow = Flow::Closed;
                }
                if let Flow::Doubtful { by } = state.gateway.flow
                    && state.now > by
                    && without != Some(Rule::PatienceEnds)
                {
                    state.gateway.flow = Flow::Closed;
                }
            }
            Step::ChangeFacts => {
                state.left.facts -= 1;
                state.right = !state.right;
                state.commit(Row::Facts);
            }
            Step::ChangePolicy => {
                state.left.policies -= 1;
                state.allows = !state.allows;
                state.commit(Row::Policy);
            }
            Step::TrimFeed => {
                state.left.breaks -= 1;
                state.trimmed = state.newest();
            }
            Step::Break => {
                state.left.breaks -= 1;
                state.lose_stream();
            }
            Step::GatewayCrashes => {
                state.left.crashes -= 1;
                let highest = state.gateway.highest;
                state.gateway = self.init_states().swap_remove(0).gateway;
                state.gateway.highest = highest;
                state.stream = None;
            }
            Step::Replay => {
                state.left.replays -= 1;
                state.stream.as_mut()?.down.push_back(Down::Snapshot(Snapshot { row: 1, allows: true }));
            }
            Step::Attach => {
                let (last, newest) = (state.gateway.last, state.newest());
                let mut stream = Stream {
                    up: VecDeque::new(),
                    down: VecDeque::new(),
                    told: last,
                    notified: true,
                    subscribed: without != Some(Rule::SubscribeThenRead),
                    snapshot: state.gateway.compiling.or(state.gateway.snapshot).map_or(0, |snapshot| snapshot.row),
                    snapshot_row: state.newest_policy(),
                    due: None,
                    reading: None,
                    right_before: state.right,
                };
                if last == 0 {
                    stream.down.push_back(Down::Everything { through: newest });
                    stream.told = newest;
                } else if without == Some(Rule::ResumeAfterLast) {
                    stream.down.push_back(Down::Deltas { after: last, through: newest, facts: None });
                    stream.told = newest;
                }
                state.stream = Some(stream);
                state.ping();
            }
            Step::ControllerTells => state.tell(without, false),
            Step::ControllerTellsMore => state.tell(without, true),
            Step::ControllerSendsSnapshot => {
                let snapshot = Snapshot { row: state.newest_policy(), allows: state.allows };
                let stream = state.stream.as_mut()?;
                stream.snapshot = snapshot.row;
                stream.down.push_back(Down::Snapshot(snapshot));
            }
            Step::ControllerTakes => match state.stream.as_mut()?.up.pop_front()? {
                Up::Ping { sent } => {
                    if without != Some(Rule::PongAfterRows) {
                        state.tell(without, true);
                    }
                    let stream = state.stream.as_mut()?;
                    stream.due = Some((sent, stream.snapshot_row));
                }
                Up::Ask => {
                    let read = (state.right, state.newest());
                    state.stream.as_mut()?.reading = Some(read);
                }
            },
            Step::ControllerAnswers => {
                let stream = state.stream.as_mut()?;
                let (right, row) = stream.reading.take()?;
                stream.down.push_back(Down::Answer { right, row });
            }
            Step::ControllerPongs => {
                let stream = state.stream.as_mut()?;
                let (sent, _) = stream.due.take()?;
                stream.down.push_back(Down::Pong { sent, sequence: stream.told });
            }
            Step::GatewayTakes => state.take(without),
            Step::GatewayHears => {
                let gateway = &mut state.gateway;
                let Change { row, right } = gateway.unheard.take()?;
                gateway.seen += 1;
                // An answer that overtook the change has it in it already.
                let said = right.map(|right| (right, row));
                gateway.facts =
                    gateway.facts.and_then(|facts| said.map(|said| if facts.1 >= row { facts } else { said }));
                if gateway.facts.is_some() {
                    gateway.unlooked = true;
                } else if gateway.flow == Flow::Open {
                    gateway.flow = Flow::Doubtful { by: state.now + PATIENCE };
                }
                state.renew(without);
            }
            Step::GatewayCompiles => {
                state.gateway.snapshot = state.gateway.compiling.take();
                state.gateway.unlooked = true;
                state.renew(without);
            }
            Step::GatewayLooks => {
                state.gateway.unlooked = false;
                if state.gateway.flow != Flow::Closed {
                    state.decide();
                }
            }
            Step::GatewayAsks => {
                if state.gateway.flow == Flow::Closed {
                    state.left.asks -= 1;
                }
                state.gateway.asked = Some(state.gateway.seen);
                state.stream.as_mut()?.up.push_back(Up::Ask);
            }
            Step::FlowOpens => state.decide(),
        }
        let waits = state.stream.as_ref().map_or(0, |stream| stream.up.len().max(stream.down.len()));
        (waits <= self.bounds.waiting && state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PROMISE, |_, state: &State| {
                let in_time = |since: Option<u8>| since.is_none_or(|since| state.now <= since + LEASE + PATIENCE);
                state.gateway.flow == Flow::Closed || (in_time(state.wrong_since) && in_time(state.closed_since))
            }),
            Property::always(NOTHING_LOST, |_, state: &State| {
                state.gateway.flow == Flow::Closed || !state.is_at_rest() || (state.right && state.allows)
            }),
            Property::sometimes(OPENS, |_, state: &State| state.gateway.flow == Flow::Open),
            Property::sometimes(LATE, |_, state: &State| {
                let late = |since: Option<u8>| since.is_some_and(|since| since < state.now);
                state.gateway.flow != Flow::Closed && (late(state.wrong_since) || late(state.closed_since))
            }),
            Property::sometimes(AGAIN, |_, state: &State| state.gateway.flow == Flow::Open && state.is_at_rest()),
        ]
    }
}
