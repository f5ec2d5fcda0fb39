//! The watch before a controller that can be slow, silent, or say no.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant as Moment;
use vouchsafe_model::id::{DeviceId, GatewayId, SessionId, UserId};
use vouchsafe_model::mode::Mode;
use vouchsafe_model::name::{DeviceName, ResourceName, UserName};
use vouchsafe_model::resource::{Endpoint, Resource, ResourceSpec, Sensitivity, TcpSpec};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{Engine, KeyAgreement, PolicyFile, PolicySource};
use vouchsafe_runtime::limits::CHANGE_PATIENCE;
use vouchsafe_runtime::link::{
    BoxFuture, Change, Credential, Delta, GatewayCertificates, KnownSubject, LinkError, News, NoSubject, Outcome,
    RecordBatch, RedeemedCode, Snapshot,
};
use vouchsafe_runtime::task::TaskGroup;

use super::follow::Looking;
use super::*;
use crate::decide::Origin;

/// A controller: whose session stands for whom, and who can't be asked about.
#[derive(Default)]
struct Desk {
    subjects: Mutex<HashMap<SessionId, Arc<SubjectFacts>>>,
    silent: Mutex<HashSet<SessionId>>,
    /// Whose questions don't get through.
    lost: Mutex<HashSet<SessionId>>,
    asked: Mutex<Vec<SessionId>>,
    facts: OnceLock<Arc<Facts>>,
    /// Signs of life that counted, and the changes that had been heard then.
    in_force: Mutex<Vec<(Duration, u64)>>,
}

impl ControlLink for Desk {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        panic!("the engine is given")
    }

    fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>> {
        panic!("nothing is shown")
    }

    fn news(&self) -> broadcast::Receiver<News> {
        panic!("changes are given")
    }

    fn in_force(&self, asked: Duration) {
        self.in_force.lock().push((asked, self.facts.get().unwrap().changes_seen()));
    }

    fn subject(&self, credential: Credential) -> BoxFuture<'_, Result<Result<KnownSubject, NoSubject>, LinkError>> {
        let Credential::Session(session) = credential else { panic!("only sessions are asked for") };
        self.asked.lock().push(session);
        let facts = self.subjects.lock().get(&session).cloned();
        let known = facts.map(|facts| KnownSubject { facts, audience: None }).ok_or(NoSubject::Ended);
        let silent = self.silent.lock().contains(&session);
        if self.lost.lock().contains(&session) {
            return Box::pin(std::future::ready(Err(LinkError { why: "the control channel is down".into() })));
        }
        Box::pin(async move { if silent { std::future::pending().await } else { Ok(known) } })
    }

    fn device(&self, _: DeviceId) -> BoxFuture<'_, Result<Option<DeviceFacts>, LinkError>> {
        panic!("no device is asked for")
    }

    fn redeem(
        &self,
        _: String,
        _: String,
        _: Option<DeviceId>,
        _: IpAddr,
    ) -> BoxFuture<'_, Result<Option<RedeemedCode>, LinkError>> {
        panic!("nobody signs in")
    }

    fn deliver(&self, _: GatewayId, _: RecordBatch) -> BoxFuture<'_, Result<u64, LinkError>> {
        panic!("nothing is recorded")
    }
}

fn number(number: u32) -> [u8; 16] {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn user(n: u32) -> UserName {
    UserName::parse(&format!("user-{n}")).unwrap()
}

fn session(n: u32) -> SessionId {
    SessionId::from_random(number(n))
}

fn facts(n: u32, of: u32) -> Arc<SubjectFacts> {
    let hour = Duration::from_secs(3_600);
    Arc::new(SubjectFacts {
        session: session(n),
        user: UserFacts { id: UserId::from_random(number(of)), name: user(of), groups: BTreeSet::new() },
        device: Some(DeviceFacts {
            id: DeviceId::from_random(number(n)),
            name: DeviceName::parse("laptop").unwrap(),
            grade: Grade::Hardware,
            owner: Some(user(of)),
            tags: BTreeSet::new(),
        }),
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: clock::now() },
        expires: clock::now() + hour,
        epoch: Epoch(1),
    })
}

fn engine(policy: &str) -> Arc<Engine> {
    let resource = Resource {
        name: ledger(),
        spec: ResourceSpec::Tcp(TcpSpec { upstream: Endpoint::parse("192.0.2.1:5432").unwrap(), port: 5432 }),
        groups: BTreeSet::new(),
        tags: BTreeSet::new(),
        sensitivity: Sensitivity::Internal,
        offline_grace: Duration::ZERO,
        via: None,
        description: String::new(),
        mode: Mode::Enforce,
    };
    let files = vec![PolicyFile { name: "test.cedar".into(), text: policy.into() }];
    Engine::compile(PolicySource { version: 1, files, grants: Vec::new(), resources: vec![resource] }).unwrap()
}

fn ledger() -> ResourceName {
    ResourceName::parse("ledger").unwrap()
}

const OPEN: &str = "@id(\"open\") permit(principal, action, resource == Tcp::\"ledger\");";

/// A watch over flows, without the gateway around it.
struct Bench {
    desk: Arc<Desk>,
    watch: Watch,
    news: broadcast::Sender<News>,
    tasks: TaskGroup,
}

impl Bench {
    fn new() -> Self {
        let desk = Arc::new(Desk::default());
        let link: Arc<dyn ControlLink> = Arc::clone(&desk) as Arc<dyn ControlLink>;
        let (facts, current) = (Arc::new(Facts::new(Arc::clone(&link))), Arc::new(Current::new(engine(OPEN))));
        let watch = Watch::new(facts, current, link, 1);
        desk.facts.set(Arc::clone(&watch.facts)).ok().unwrap();
        Self { desk, watch, news: broadcast::channel(1_024).0, tasks: TaskGroup::new() }
    }

    fn start(&self) {
        let (watch, tasks) = (self.watch.clone(), self.tasks.clone());
        self.tasks.spawn("changes", follow_news(watch, tasks, self.news.subscribe()));
    }

    /// A flow of a session whose facts are remembered, as a permitted one has it.
    async fn open(&self, n: u32, of: u32) -> Arc<Live> {
        let facts = facts(n, of);
        self.desk.subjects.lock().insert(facts.session, Arc::clone(&facts));
        let basis = Basis {
            question: Question::net(
                ledger(),
                Origin { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), agreement: KeyAgreement::Other },
                5432,
            ),
            claim: Claim::Credential { key: CredentialKey::Session(facts.session), audience: Cow::Borrowed("gateway") },
            device: Some(ProvenDevice {
                id: DeviceId::from_random(number(n)),
                certificate_sha256: [0; 32],
                not_after: facts.expires,
            }),
        };
        self.watch.decide_again(&basis).await.expect("permitted");
        let live = Arc::<Live>::default();
        let id = FlowId::from_random(clock::random());
        assert!(self.watch.flows.add(
            Holder::Session(facts.session),
            Some(&facts),
            id,
            Arc::new(basis),
            Arc::clone(&live)
        ));
        live
    }

    fn ends(&self, n: u32) {
        self.desk.subjects.lock().remove(&session(n));
        self.change(Change::Session(session(n)));
    }

    fn change(&self, change: Change) {
        self.told(Delta { sequence: 1, change, outcome: None });
    }

    fn told(&self, delta: Delta) {
        self.news.send(News::Changed(delta)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i6_facts_that_do_not_come_hold_up_nobody_and_cost_their_flows_within_the_second() {
    let bench = Bench::new();
    let (slow, quick, other) = (bench.open(1, 1).await, bench.open(2, 2).await, bench.open(3, 3).await);
    bench.start();
    tokio::task::yield_now().await;
    let begun = Moment::now();
    bench.desk.silent.lock().insert(session(1));
    bench.change(Change::User(user(1)));
    // Let the watch begin to ask, then end another session: it must not wait for the first.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.ends(2);
    assert_eq!(quick.cut.cancelled().await, Ended::Revoked(Reason::SessionEnded));
    assert!(begun.elapsed() < Duration::from_millis(110), "{:?}", begun.elapsed());
    assert!(bench.watch.facts.remembered(CredentialKey::Session(session(2)), &bench.watch.current.engine()).is_none());
    assert_eq!(slow.cut.cancelled().await, Ended::Revoked(Reason::FactsUnavailable));
    assert!(begun.elapsed() >= CHANGE_PATIENCE && begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(other.cut.ended(), None);
}

#[tokio::test(start_paused = true)]
async fn i6_a_change_while_facts_are_asked_for_is_looked_at_after_them() {
    let bench = Bench::new();
    let live = bench.open(1, 1).await;
    bench.start();
    tokio::task::yield_now().await;
    bench.desk.silent.lock().insert(session(1));
    bench.change(Change::User(user(1)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Moment::now();
    bench.ends(1);
    assert_eq!(live.cut.cancelled().await, Ended::Revoked(Reason::FactsUnavailable), "the first question's end");
    assert!(begun.elapsed() < CHANGE_PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_change_asks_for_those_whom_it_concerns_and_for_nobody_else() {
    let bench = Bench::new();
    let mut lives = Vec::new();
    for n in 0..300 {
        // Three sessions a person.
        lives.push(bench.open(n, n / 3).await);
    }
    bench.desk.asked.lock().clear();
    bench.start();
    tokio::task::yield_now().await;
    bench.change(Change::User(user(4)));
    bench.change(Change::Device(DeviceId::from_random(number(30))));
    bench.change(Change::Session(session(40)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked: BTreeSet<SessionId> = bench.desk.asked.lock().drain(..).collect();
    assert_eq!(asked, [12, 13, 14, 30, 40].into_iter().map(session).collect());
    assert!(lives.iter().all(|live| live.cut.ended().is_none()));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.desk.asked.lock().len(), 0, "a sweep decides on what is remembered");
}

#[tokio::test(start_paused = true)]
async fn i6_a_change_does_not_wait_for_a_question_that_has_more_time() {
    let bench = Bench::new();
    let live = bench.open(1, 1).await;
    bench.start();
    tokio::task::yield_now().await;
    bench.desk.silent.lock().insert(session(1));
    // All facts have to be asked for, which may take longer than those of one person that changed.
    bench.change(Change::Everything);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Moment::now();
    bench.ends(1);
    assert_eq!(live.cut.cancelled().await, Ended::Revoked(Reason::FactsUnavailable));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn i6_nor_does_the_next_change_after_one_that_was_answered() {
    let bench = Bench::new();
    let live = bench.open(1, 1).await;
    bench.start();
    tokio::task::yield_now().await;
    bench.desk.silent.lock().insert(session(1));
    bench.change(Change::Everything);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // One is answered while the older question hangs on; then a further one isn't.
    bench.desk.silent.lock().clear();
    bench.change(Change::User(user(1)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(live.cut.ended(), None);
    bench.desk.silent.lock().insert(session(1));
    let begun = Moment::now();
    bench.ends(1);
    live.cut.cancelled().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// The controller goes between the news and the answer: what it said with the news is enough.
#[tokio::test(start_paused = true)]
async fn i6_a_change_that_comes_with_its_outcome_asks_nobody_and_cuts_whom_it_denies() {
    let bench = Bench::new();
    let (kept, gone, other) = (bench.open(1, 1).await, bench.open(2, 2).await, bench.open(3, 3).await);
    bench.desk.asked.lock().clear();
    bench.start();
    tokio::task::yield_now().await;
    bench.desk.silent.lock().extend([1, 2, 3].map(session));
    let outcome = |of: u32, outcome| Delta { sequence: 2, change: Change::User(user(of)), outcome: Some(outcome) };
    bench.told(outcome(1, Outcome::User(facts(1, 1).user.clone())));
    bench.told(outcome(2, Outcome::Gone(NoSubject::Ended)));
    assert_eq!(gone.cut.cancelled().await, Ended::Revoked(Reason::SessionEnded));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!([kept.cut.ended(), other.cut.ended()], [None, None]);
    assert_eq!(bench.desk.asked.lock().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn i6_a_line_that_is_back_in_time_cuts_nobody_and_one_that_is_not_cuts_in_time() {
    let bench = Bench::new();
    let (one, other) = (bench.open(1, 1).await, bench.open(2, 2).await);
    bench.start();
    tokio::task::yield_now().await;
    bench.desk.lost.lock().extend([1, 2].map(session));
    let begun = Moment::now();
    bench.change(Change::User(user(1)));
    bench.change(Change::User(user(2)));
    tokio::time::sleep(CHANGE_PATIENCE / 2).await;
    bench.desk.lost.lock().remove(&session(1));
    assert_eq!(other.cut.cancelled().await, Ended::Revoked(Reason::FactsUnavailable));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(one.cut.ended(), None);
}

/// Nothing is remembered of who is nobody any more, so a thousand flows would be a thousand questions.
#[tokio::test(start_paused = true)]
async fn i6_flows_of_a_session_that_ended_cost_one_question() {
    let bench = Bench::new();
    let mut lives = Vec::new();
    for _ in 0..300 {
        lives.push(bench.open(1, 1).await);
    }
    bench.desk.asked.lock().clear();
    bench.start();
    tokio::task::yield_now().await;
    bench.ends(1);
    for live in &lives {
        assert_eq!(live.cut.cancelled().await, Ended::Revoked(Reason::SessionEnded));
    }
    assert_eq!(*bench.desk.asked.lock(), [session(1)]);
}

#[tokio::test(start_paused = true)]
async fn i6_another_policy_reaches_every_flow() {
    let bench = Bench::new();
    let mut lives = Vec::new();
    for n in 0..1_000 {
        lives.push(bench.open(n, n).await);
    }
    bench.start();
    tokio::task::yield_now().await;
    let closed = format!("{OPEN}\n@id(\"closed\") forbid(principal == User::\"user-7\", action, resource);");
    bench.watch.replace(engine(&closed), 2);
    assert_eq!(lives[7].cut.cancelled().await, Ended::Revoked(Reason::Forbidden));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lives.iter().filter(|live| live.cut.ended().is_some()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn i6_a_sign_of_life_counts_once_what_came_before_it_is_in_force() {
    let bench = Bench::new();
    let _flow = bench.open(1, 1).await;
    bench.start();
    tokio::task::yield_now().await;
    let second = Duration::from_secs(1);
    bench.change(Change::User(user(1)));
    bench.news.send(News::Alive { asked: second, snapshot: 1 }).unwrap();
    tokio::time::sleep(second / 10).await;
    assert_eq!(*bench.desk.in_force.lock(), [(second, 2)], "behind the change");
    bench.news.send(News::Alive { asked: second * 2, snapshot: 3 }).unwrap();
    tokio::time::sleep(second).await;
    bench.watch.replace(engine(OPEN), 2);
    tokio::time::sleep(second).await;
    assert_eq!(bench.desk.in_force.lock().len(), 1, "its snapshot is not in force yet");
    bench.watch.replace(engine(OPEN), 3);
    tokio::time::sleep(second / 10).await;
    assert_eq!(bench.desk.in_force.lock().last(), Some(&(second * 2, 2)));
}

#[tokio::test(start_paused = true)]
async fn sessions_without_flows_are_forgotten() {
    let bench = Bench::new();
    let flow = bench.open(1, 1).await;
    let watched = bench.watch.flows.of(Holder::Session(session(1)));
    bench.start();
    bench.watch.flows.remove(watched[0].id, Holder::Session(session(1)));
    bench.watch.flows.remove(watched[0].id, Holder::Session(session(1)));
    assert!(bench.watch.flows.is_empty(), "removed once, whoever asks twice");
    assert_eq!(bench.watch.flows.holders(), [Holder::Session(session(1))], "it may come back");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(bench.watch.flows.holders(), []);
    assert_eq!(bench.watch.flows.concerned(&Change::User(user(1))), []);
    assert_eq!(flow.cut.ended(), None);
}

/// What a look at all flows costs, and one at a single person's among them. `VOUCHSAFE_FLOWS=100000` in a release build
/// gives the figures of `docs/concepts/performance.md`.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "says how much to look at; the usual test looks at little")]
async fn a_look_at_all_flows_asks_nobody_and_one_at_a_person_s_does_not_see_the_others() {
    let flows: u32 = std::env::var("VOUCHSAFE_FLOWS").map_or(2_000, |flows| flows.parse().unwrap());
    let bench = Bench::new();
    let mut lives = Vec::new();
    for n in 0..flows {
        lives.push(bench.open(n / 10, n / 10).await);
    }
    bench.desk.asked.lock().clear();
    let mut looking = Looking::new(bench.watch.clone());
    let timed = |looking: &mut Looking, expected: u32| {
        let begun = thread_cpu();
        assert_eq!(looking.look(usize::MAX), expected as usize);
        thread_cpu() - begun
    };
    for round in ["first", "second"] {
        looking.look_at_all();
        let spent = timed(&mut looking, flows);
        println!("{round} look at {flows} flows: {spent:?} of CPU");
    }
    assert_eq!(bench.desk.asked.lock().len(), 0);
    let begun = thread_cpu();
    looking.hear(&Delta { sequence: 1, change: Change::User(user(1)), outcome: None });
    println!("to hear of a change among {} subjects: {:?} of CPU", flows / 10, thread_cpu() - begun);
    let spent = timed(&mut looking, 10);
    println!("look at one person's 10 flows among {flows}: {spent:?} of CPU");
    assert!(lives.iter().all(|live| live.cut.ended().is_none()));
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}
