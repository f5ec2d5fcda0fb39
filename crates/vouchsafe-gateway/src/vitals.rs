//! What the gateway counts while it works, and what it shows of itself to those who run it
//! (`docs/reference/metrics.md`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Outcome, Reason};
use vouchsafe_model::name::ResourceName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::BoxFuture;
use vouchsafe_runtime::link::{AttachedConnector, Attendance, Freshness, Going};
use vouchsafe_runtime::vitals::{Histogram, Page, Vitals};
use vouchsafe_wire::health::{Check, Note};

use crate::connectors::Connectors;
use crate::forward::http::Fault;
use crate::gateway::Shared;
use crate::watch::Ended;

/// Ends of the buckets for what is a matter of microseconds.
const SHORT: &[Duration] = &[
    Duration::from_micros(1),
    Duration::from_micros(2),
    Duration::from_micros(5),
    Duration::from_micros(10),
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
];

/// The same for how long a revocation takes.
const REVOKING: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
    Duration::from_millis(5_000),
];

/// Most resources whose denials that passed are counted apart; those of further ones are counted together.
const MAX_COUNTED_RESOURCES: usize = 256;

/// What a flow is, as far as it is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowKind {
    /// A request to a web app and its answer.
    Exchange,
    /// A WebSocket.
    WebSocket,
    /// A tunnel of bytes.
    Tunnel,
    /// A tunnel of datagrams.
    Udp,
    /// A request to our own console or API.
    Console,
}

impl FlowKind {
    const ALL: [FlowKind; 5] =
        [FlowKind::Exchange, FlowKind::WebSocket, FlowKind::Tunnel, FlowKind::Udp, FlowKind::Console];

    /// What it is by what is done, and by its protocol in records.
    pub(crate) fn of(action: Option<Action>, protocol: &str) -> Self {
        match action {
            Some(Action::HttpRead | Action::HttpWrite) | None => FlowKind::Exchange,
            Some(Action::HttpUpgrade) => FlowKind::WebSocket,
            Some(Action::NetConnect) if protocol.starts_with("connect-udp") => FlowKind::Udp,
            Some(Action::NetConnect) => FlowKind::Tunnel,
            Some(Action::ConsoleRead | Action::ConsoleWrite) => FlowKind::Console,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            FlowKind::Exchange => "exchange",
            FlowKind::WebSocket => "websocket",
            FlowKind::Tunnel => "tunnel",
            FlowKind::Udp => "udp",
            FlowKind::Console => "console",
        }
    }
}

/// Numbers of a closed set of things, by their place in it.
#[derive(Debug)]
struct Tally<const N: usize>([AtomicU64; N]);

impl<const N: usize> Tally<N> {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    fn add(&self, place: usize) {
        if let Some(count) = self.0.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self, place: usize) {
        if let Some(count) = self.0.get(place) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn at(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// What can't be read from the state of anything, so it is counted as it happens: in atomics, since each
/// request passes here.
pub(crate) struct Counts {
    decisions: Tally<{ Reason::ALL.len() }>,
    passed: Tally<{ Reason::ALL.len() }>,
    would_deny: Mutex<BTreeMap<ResourceName, u64>>,
    would_deny_others: AtomicU64,
    deciding: Histogram,
    open: Tally<{ FlowKind::ALL.len() }>,
    revoked: Tally<{ Reason::ALL.len() }>,
    revoking: Histogram,
    silent: AtomicU64,
    on_grace: AtomicU64,
    faults: Tally<{ Fault::ALL.len() }>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            decisions: Tally::new(),
            passed: Tally::new(),
            would_deny: Mutex::default(),
            would_deny_others: AtomicU64::new(0),
            deciding: Histogram::new(SHORT),
            open: Tally::new(),
            revoked: Tally::new(),
            revoking: Histogram::new(REVOKING),
            silent: AtomicU64::new(0),
            on_grace: AtomicU64::new(0),
            faults: Tally::new(),
        }
    }
}

impl Counts {
    /// A request was decided on.
    pub(crate) fn decided(&self, reason: Reason) {
        self.decisions.add(reason as usize);
    }

    /// A request was denied for that reason, and went on by the mode of the resource.
    pub(crate) fn passed(&self, reason: Reason, resource: &ResourceName) {
        self.passed.add(reason as usize);
        let mut counts = self.would_deny.lock();
        let room = counts.len() < MAX_COUNTED_RESOURCES;
        match counts.get_mut(resource) {
            Some(count) => *count += 1,
            None if room => drop(counts.insert(resource.clone(), 1)),
            None => drop(self.would_deny_others.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// How long the policy engine took.
    pub(crate) fn deciding(&self, took: Duration) {
        self.deciding.observe(took);
    }

    /// Something was permitted while the lease was over, by its resource's grace.
    pub(crate) fn on_grace(&self) {
        self.on_grace.fetch_add(1, Ordering::Relaxed);
    }

    /// A flow was opened.
    pub(crate) fn opened(&self, kind: FlowKind) {
        self.open.add(kind as usize);
    }

    /// A flow is over, and why if it didn't end by itself.
    pub(crate) fn closed(&self, kind: FlowKind, ended: Option<Ended>) {
        self.open.take(kind as usize);
        match ended {
            None => {}
            Some(Ended::Revoked(reason)) => self.revoked.add(reason as usize),
            Some(Ended::Silent(_)) => drop(self.silent.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// A flow is gone that was cut for a change; how long ago that was committed.
    pub(crate) fn revoked_within(&self, took: Duration) {
        self.revoking.observe(took);
    }

    /// An upstream did not give what was asked of it.
    pub(crate) fn upstream_failed(&self, fault: Fault) {
        self.faults.add(fault as usize);
    }
}

/// The gateway, as those who run it see it.
pub(crate) struct GatewayVitals(pub(crate) Arc<Shared>);

impl Vitals for GatewayVitals {
    fn figures(&self, page: &mut Page<'_>) -> fmt::Result {
        let shared = &*self.0;
        self.traffic(page)?;
        let freshness = shared.link.freshness();
        let left = freshness.lease.saturating_sub(freshness.silence);
        page.gauge("vouchsafe_lease_seconds", "How long the controller's word holds", freshness.lease.as_secs_f64())?;
        page.gauge("vouchsafe_lease_remaining_seconds", "How much of the lease is left", left.as_secs_f64())?;
        page.counter(
            "vouchsafe_grace_permits",
            "Requests permitted while the lease was over, by their resource's offline grace",
            shared.counts.on_grace.load(Ordering::Relaxed),
        )?;
        let sequence = shared.link.snapshots().borrow().sequence;
        page.gauge("vouchsafe_snapshot_sequence", "Number of the newest snapshot here", sequence)?;
        page.gauge("vouchsafe_policy_version", "Version of the policy in force", shared.current.engine().version())?;
        let audit = shared.recorder.state();
        page.gauge("vouchsafe_audit_writable", "1 while audit records can be written", u64::from(audit.is_writable))?;
        page.gauge("vouchsafe_audit_queued_records", "Audit records that wait to be written", audit.queued)?;
        page.gauge(
            "vouchsafe_audit_undelivered_records",
            "Audit records that are written, and that the controller hasn't acknowledged",
            audit.undelivered,
        )?;
        page.gauge(
            "vouchsafe_audit_delivery_lag_seconds",
            "How long the oldest batch of them has been on its way",
            audit.lag.as_secs_f64(),
        )
    }

    fn notes(&self) -> Vec<Note> {
        let notes = [("revocations", self.revocations()), ("modes", self.modes())];
        notes.into_iter().filter_map(|(name, words)| Some(Note { name: name.to_owned(), words: words? })).collect()
    }

    fn checks(&self) -> BoxFuture<'_, Vec<Check>> {
        let checks = vec![self.policy(), lease(self.0.link.freshness()), self.audit()];
        Box::pin(async move { checks })
    }
}

/// Tells the controller who is attached and what goes on.
pub(crate) struct Attending {
    pub(crate) connectors: Arc<Connectors>,
    pub(crate) counts: Arc<Counts>,
}

impl Attendance for Attending {
    fn connectors(&self) -> Vec<AttachedConnector> {
        self.connectors.attached()
    }

    fn going(&self) -> Option<Going> {
        let Counts { open, revoking, .. } = &*self.counts;
        Some(Going {
            flows: FlowKind::ALL.iter().map(|kind| open.at(*kind as usize)).sum(),
            revoked: revoking.count(),
            revoked_half: revoking.permille(500),
            revoked_most: revoking.permille(990),
        })
    }
}

impl GatewayVitals {
    fn revocations(&self) -> Option<String> {
        let revoking = &self.0.counts.revoking;
        let (half, nearly_all) = (revoking.permille(500)?, revoking.permille(990)?);
        Some(format!(
            "{} flows ended by revocation: half of them within {half:.1?} of the change, 99 % within {nearly_all:.1?}, \
             the slowest after {:.1?}",
            revoking.count(),
            revoking.most()
        ))
    }

    /// How many resources let denials pass at this moment.
    fn modes(&self) -> Option<String> {
        let now = clock::now();
        match self.0.current.engine().trial_ends().filter(|end| *end > now).count() {
            0 => None,
            1 => Some("1 resource lets denials pass (`vouchsafe doctor modes`)".to_owned()),
            some => Some(format!("{some} resources let denials pass (`vouchsafe doctor modes`)")),
        }
    }

    fn traffic(&self, page: &mut Page<'_>) -> fmt::Result {
        let (counts, census) = (&self.0.counts, self.0.census.numbers());
        let outcome = |reason| if reason == Reason::Permitted { Outcome::Allow } else { Outcome::Deny };
        let reasons = || Reason::ALL.iter().copied();
        page.counters(
            "vouchsafe_decisions",
            "Requests that were decided on",
            reasons()
                .map(|reason| {
                    let labels = [("outcome", outcome(reason).as_str()), ("reason", reason.code())];
                    (labels, counts.decisions.at(reason as usize))
                })
                .chain(reasons().filter_map(|reason| match counts.passed.at(reason as usize) {
                    0 => None,
                    count => Some(([("outcome", "passed"), ("reason", reason.code())], count)),
                })),
        )?;
        let would_deny = counts.would_deny.lock().clone();
        let others = counts.would_deny_others.load(Ordering::Relaxed);
        page.counters(
            "vouchsafe_would_denials",
            "Denied requests that went on by the mode of their resource",
            would_deny
                .iter()
                .map(|(resource, count)| ([("resource", resource.as_str())], *count))
                .chain((others > 0).then_some(([("resource", "…")], others))),
        )?;
        page.histogram("vouchsafe_decision_duration_seconds", "Time in the policy engine", &counts.deciding)?;
        page.gauges(
            "vouchsafe_flows_open",
            "Flows that are open",
            FlowKind::ALL.map(|kind| ([("kind", kind.as_str())], counts.open.at(kind as usize))),
        )?;
        let silent = counts.silent.load(Ordering::Relaxed);
        page.counters(
            "vouchsafe_flows_cut",
            "Flows that were ended before their time",
            reasons()
                .filter(|reason| *reason != Reason::Permitted)
                .map(|reason| ([("reason", reason.code())], counts.revoked.at(reason as usize)))
                .chain([([("reason", "idle")], silent)]),
        )?;
        page.histogram(
            "vouchsafe_revocation_duration_seconds",
            "From the commit of a change to the end of the flows that it revoked",
            &counts.revoking,
        )?;
        page.counters(
            "vouchsafe_upstream_errors",
            "Permitted requests that got no answer from their upstream",
            Fault::ALL.map(|fault| ([("kind", fault.as_str())], counts.faults.at(fault as usize))),
        )?;
        page.gauges(
            "vouchsafe_connections",
            "Connections of clients that are open",
            [("arriving", census.arriving), ("stranger", census.strangers), ("proven", census.proven)]
                .map(|(standing, number)| ([("standing", standing)], number)),
        )?;
        page.gauge(
            "vouchsafe_stranger_requests",
            "Requests of strangers that are worked on",
            census.stranger_requests,
        )?;
        page.counter("vouchsafe_shed", "Connections and requests that were not taken on", census.shed)?;
        let refusals = self.0.proxies.refusals();
        page.counter("vouchsafe_proxy_proofs_refused", "Proofs to be an existing proxy that were none", refusals)
    }

    fn policy(&self) -> Check {
        let (engine, name) = (self.0.current.engine(), "policy");
        let sequence = self.0.link.snapshots().borrow().sequence;
        if engine.policies().is_empty() {
            let words = format!("version {} of the policy can't be used here: everything is denied", engine.version());
            return Check::fails(name, words, "the gateway's log says what is wrong with it; publish another version");
        }
        Check::holds(name, format!("version {} is in force (snapshot {sequence})", engine.version()))
    }

    fn audit(&self) -> Check {
        let (state, name) = (self.0.recorder.state(), "audit");
        if !state.is_writable {
            let words = "audit records can't be written, so nothing is allowed";
            return Check::fails(name, words, "look whether the disk is full; the log says which file and why");
        }
        let waiting = match state.undelivered {
            0 => "the controller has all of them".to_owned(),
            many => format!("{many} are on their way to the controller since {:?}", state.lag),
        };
        Check::holds(name, format!("audit records are written; {waiting}"))
    }
}

/// Whether the controller's word holds still.
fn lease(freshness: Freshness) -> Check {
    let Freshness { silence, lease } = freshness;
    let name = "lease";
    if silence == Duration::MAX {
        let words = "the controller says that this gateway was removed, so it serves nobody";
        return Check::fails(name, words, "make another code (`vouchsafe gateway invite`) and join anew");
    }
    let heard = format!("the controller was heard {} ago", seconds(silence));
    if freshness.is_within(Duration::ZERO) {
        return Check::holds(name, format!("{heard}, and its word holds for {}", seconds(lease)));
    }
    let words =
        format!("{heard}, and its word holds for {} only: all is denied but what has an offline grace", seconds(lease));
    Check::fails(name, words, "look whether the controller runs and is reached from here; the log says what fails")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_reasons_are_those_in_the_list_of_all() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
        for (place, kind) in FlowKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
        }
    }

    #[test]
    fn a_gateway_is_not_ready_behind_its_lease_whatever_grace_there_is() {
        let second = Duration::from_secs(1);
        let check = |silence| lease(Freshness { silence, lease: second * 15 });
        assert!(check(Duration::ZERO).holds && check(second * 15).holds);
        assert!(!check(second * 16).holds);
        assert!(check(Duration::MAX).words.contains("removed"));
    }

    #[test]
    fn denials_that_passed_are_counted_for_so_many_resources_and_no_more() {
        let counts = Counts::default();
        let name = |n: usize| ResourceName::parse(&format!("r{n}")).unwrap();
        (0..MAX_COUNTED_RESOURCES + 3).for_each(|n| counts.passed(Reason::NoPermit, &name(n)));
        counts.passed(Reason::SignInRequired, &name(0));
        assert_eq!(counts.would_deny.lock().len(), MAX_COUNTED_RESOURCES);
        assert_eq!(counts.would_deny.lock().get(&name(0)), Some(&2));
        assert_eq!(counts.would_deny_others.load(Ordering::Relaxed), 3);
        assert_eq!(counts.passed.at(Reason::SignInRequired as usize), 1);
        assert_eq!(counts.decisions.at(Reason::SignInRequired as usize), 0, "no denial that stood");
    }

    #[test]
    fn what_is_opened_is_closed_and_counted_by_its_end() {
        let counts = Counts::default();
        let tunnel = FlowKind::of(Some(Action::NetConnect), "connect-h2");
        assert_eq!(FlowKind::of(Some(Action::NetConnect), "connect-udp-h3"), FlowKind::Udp);
        counts.opened(tunnel);
        counts.opened(tunnel);
        counts.closed(tunnel, Some(Ended::Revoked(Reason::SessionEnded)));
        assert_eq!(counts.open.at(FlowKind::Tunnel as usize), 1);
        assert_eq!(counts.revoked.at(Reason::SessionEnded as usize), 1);
    }
}
