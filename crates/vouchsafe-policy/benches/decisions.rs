//! Time of decisions and of loading policies, by number of policies. `bench/run decisions` runs it, and
//! `bench/run instructions` counts instructions with callgrind.
//!
//! One user in 20 of 500 groups; ten policies a resource, of which three to five are about the user,
//! and three about everything. The conditions read device, age of the sign-in, method, path and address.
//!
//! - *first visit*: the subject asks for a resource for the first time; its slice is made.
//! - *first*: the slice is there, a request with these inputs was not asked for before.
//! - *repeated*: the same inputs again.

#![expect(clippy::print_stdout, reason = "the figures are what the program is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vouchsafe_model::action::Action;
use vouchsafe_model::id::{DeviceId, SessionId, UserId};
use vouchsafe_model::name::{DeviceName, GroupName, ResourceName, UserName};
use vouchsafe_model::resource::{Endpoint, HttpSpec, Resource, ResourceSpec, Sensitivity, UpstreamScheme};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{
    Detail, Engine, KeyAgreement, OnDevice, People, PolicyFile, PolicySource, PreparedSubject, Request, Spread, Work,
    difference,
};

const GROUPS: usize = 500;
const MEMBER_OF: usize = 20;
const POLICIES_PER_RESOURCE: usize = 10;
const POLICIES_PER_FILE: usize = 1_000;
const ROUNDS: usize = 20_000;
const CHANGES: usize = 15;
/// What the instruction counts are of, and how many policies there are meanwhile.
const COUNTED: usize = 100;
const COUNTED_POLICIES: usize = 1_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench" && argument != "--test");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("count"), Some(what)) => count(&what),
        (Some("rights"), None) => rights(),
        _ => {
            println!(
                "{ROUNDS} requests over all resources in turn; load (on all cores, on one, and on all with no two \
                 conditions alike) and change (on one core) in ms, medians of {CHANGES} changes"
            );
            println!(
                "{:>8} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>8} | {:>9} {:>9} {:>9} | {:>10} {:>7}",
                "policies",
                "visit p50",
                "p99 µs",
                "first p50",
                "p99 µs",
                "again p50",
                "p99 µs",
                "allowed",
                "load ms",
                "one core",
                "unlike",
                "change ms",
                "ratio"
            );
            [10, 100, 1_000, 10_000].into_iter().try_for_each(measure)?;
            rights()
        }
    }
}

fn measure(policies: usize) -> Result<()> {
    let world = World::new(policies, Alike::Many)?;
    let rounds = if policies > 1_000 { 3 } else { 7 };
    let load = loads(&world.source, rounds, &side_by_side)?;
    let alone = loads(&world.source, rounds, &in_turn)?;
    let unlike = loads(&World::new(policies, Alike::None)?.source, rounds, &side_by_side)?;
    let mut engine = world.engine()?;
    let mut changes: Vec<Duration> = Vec::new();
    for change in 0..CHANGES {
        let source = world.changed(change);
        let begun = Instant::now();
        let next = Engine::compile_after(source, &engine).map_err(|mistakes| format!("{mistakes:?}"))?;
        changes.push(begun.elapsed());
        engine = next;
    }
    let facts = Arc::new(facts()?);
    let now = SystemTime::UNIX_EPOCH + SIGNED_IN + Duration::from_secs(600);
    let mut visits = Vec::with_capacity(ROUNDS);
    let mut subject = PreparedSubject::new(engine.clone(), facts.clone());
    while visits.len() < ROUNDS.min(world.names.len() * 20) {
        subject = subject.under(engine.clone());
        for name in &world.names {
            visits.push(timed(|| subject.decide(&request(name, "/api/v1/figures"), now)));
        }
    }
    let paths: Vec<String> = (0..ROUNDS).map(|at| format!("/api/v1/figures/{at}")).collect();
    let mut first = Vec::with_capacity(ROUNDS);
    for (name, path) in world.names.iter().cycle().zip(&paths) {
        first.push(timed(|| subject.decide(&request(name, path), now)));
    }
    let mut again = Vec::with_capacity(ROUNDS);
    let mut allowed = 0_usize;
    for name in &world.names {
        allowed += usize::from(black_box(subject.decide(&request(name, "/api/v1/figures"), now)).is_ok());
    }
    for name in world.names.iter().cycle().take(ROUNDS) {
        again.push(timed(|| subject.decide(&request(name, "/api/v1/figures"), now)));
    }
    let change = percentile(&mut changes, 50);
    println!(
        "{policies:>8} | {:>9.2} {:>9.2} | {:>9.2} {:>9.2} | {:>9.3} {:>9.3} | {:>7}% | {:>9.2} {:>9.2} {:>9.2} | {:>10.3} {:>7.0}",
        micros(percentile(&mut visits, 50)),
        micros(percentile(&mut visits, 99)),
        micros(percentile(&mut first, 50)),
        micros(percentile(&mut first, 99)),
        micros(percentile(&mut again, 50)),
        micros(percentile(&mut again, 99)),
        allowed * 100 / world.names.len(),
        load.as_secs_f64() * 1e3,
        alone.as_secs_f64() * 1e3,
        unlike.as_secs_f64() * 1e3,
        change.as_secs_f64() * 1e3,
        load.as_secs_f64() / change.as_secs_f64(),
    );
    Ok(())
}

/// Questions over everybody: 10,000 policies, 10,000 users in 20 of 500 groups each, 1,000 resources.
fn rights() -> Result<()> {
    let world = World::new(10_000, Alike::Many)?;
    let engine = world.engine()?;
    let changed = Engine::compile_after(world.widened(), &engine).map_err(|mistakes| format!("{mistakes:?}"))?;
    let now = SystemTime::UNIX_EPOCH + SIGNED_IN + Duration::from_secs(600);
    let people = people()?;
    let facts = facts()?;
    let (mut who, mut what, mut diffs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut can, mut open, mut changes) = (0, 0, 0);
    for name in world.names.iter().take(100) {
        let begun = Instant::now();
        let answer = engine.who_can(Action::HttpRead, name, &people, now).ok_or("no such resource")?;
        who.push(begun.elapsed());
        can = answer.can.iter().map(|class| class.count).sum();
    }
    for _ in 0..20 {
        let begun = Instant::now();
        open = engine.what_can(&facts.user, &OnDevice::Any, now).can.len();
        what.push(begun.elapsed());
    }
    for _ in 0..5 {
        let begun = Instant::now();
        changes = difference(&engine, &changed, &people, &|name| name.to_string(), now).changes.len();
        diffs.push(begun.elapsed());
    }
    println!("\n10,000 policies, 10,000 users, 1,000 resources; ms");
    for (what, times, size) in
        [("who-can", &mut who, can), ("what-can", &mut what, open), ("diff of one policy", &mut diffs, changes)]
    {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{what:>20}: p50 {:>8.2}, slowest {:>8.2}; {size} in the answer",
            millis(percentile(times, 50)),
            millis(percentile(times, 100))
        );
    }
    Ok(())
}

fn people() -> Result<People> {
    let users: Vec<UserName> =
        (0..10_000).map(|at| UserName::parse(&format!("user-{at}"))).collect::<std::result::Result<_, _>>()?;
    let mut members: BTreeMap<GroupName, Vec<UserName>> = BTreeMap::new();
    for (at, user) in users.iter().enumerate() {
        for nth in 0..MEMBER_OF {
            let group = GroupName::parse(&format!("g{}", (at * 31 + nth * 97) % GROUPS))?;
            members.entry(group).or_default().push(user.clone());
        }
    }
    Ok(People { users, members })
}

/// How long it takes to load a source, from the beginning.
fn loads(source: &PolicySource, rounds: usize, spread: Spread<'_>) -> Result<Duration> {
    let mut loads: Vec<Duration> = Vec::new();
    for _ in 0..rounds {
        let source = source.clone();
        let begun = Instant::now();
        let engine = Engine::compile_spread(source, None, spread).map_err(|mistakes| format!("{mistakes:?}"))?;
        loads.push(begun.elapsed());
        drop(engine);
    }
    Ok(percentile(&mut loads, 50))
}

fn in_turn(work: Vec<Work<'_>>) {
    work.into_iter().for_each(|each| each());
}

/// As the gateway does it.
fn side_by_side(work: Vec<Work<'_>>) {
    let work = Mutex::new(work.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(next) = next else { break };
                    next();
                }
            });
        }
    });
}

/// Does one thing [`COUNTED`] times inside [`counted`], whose instructions callgrind collects. A load
/// and a change are done once.
fn count(what: &str) -> Result<()> {
    let world = World::new(COUNTED_POLICIES, Alike::Many)?;
    if what == "load" {
        counted(&mut || drop(black_box(Engine::compile(world.source.clone()))));
        return Ok(());
    }
    let engine = world.engine()?;
    let subject = PreparedSubject::new(engine.clone(), Arc::new(facts()?));
    let now = SystemTime::UNIX_EPOCH + SIGNED_IN + Duration::from_secs(600);
    let name = world.names.first().ok_or("no resource")?;
    let paths: Vec<String> = (0..COUNTED).map(|at| format!("/api/v1/figures/{at}")).collect();
    let decide = |name: &ResourceName, path: &str| drop(black_box(subject.decide(&request(name, path), now)));
    match what {
        "visit" => world.names.iter().for_each(|name| counted(&mut || decide(name, "/"))),
        "first" => {
            decide(name, "/");
            paths.iter().for_each(|path| counted(&mut || decide(name, path)));
        }
        "repeated" => {
            decide(name, "/");
            (0..COUNTED).for_each(|_| counted(&mut || decide(name, "/")));
        }
        "change" => {
            let source = world.changed(1);
            counted(&mut || drop(black_box(Engine::compile_after(source.clone(), &engine))));
        }
        _ => return Err("count what? visit, first, repeated, load or change".into()),
    }
    Ok(())
}

#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Keeps the call above from becoming a jump, so that its instructions are found in here.
    black_box(());
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let result = black_box(work());
    let time = begun.elapsed();
    drop(result);
    time
}

/// The value below which that share of the values lies.
fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn request<'r>(resource: &'r ResourceName, path: &'r str) -> Request<'r> {
    let detail = Detail::Http { method: "GET", host: "app.corp.example", path };
    Request {
        resource,
        action: Action::HttpRead,
        ip: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 7)),
        agreement: KeyAgreement::Other,
        detail,
    }
}

struct World {
    source: PolicySource,
    names: Vec<ResourceName>,
}

impl World {
    fn new(policies: usize, alike: Alike) -> Result<Self> {
        let resources = policies.div_ceil(POLICIES_PER_RESOURCE);
        // A file may hold 1 MiB; a thousand of these are a third of that.
        let mut texts = vec![String::new(); policies.div_ceil(POLICIES_PER_FILE)];
        for at in 0..policies {
            let Some(text) = texts.get_mut(at / POLICIES_PER_FILE) else { break };
            text.push_str(&policy(at, alike)?);
        }
        texts.push(GLOBAL.to_owned());
        let files = texts.into_iter().enumerate();
        let files = files.map(|(at, text)| PolicyFile { name: format!("bench-{at}.cedar"), text }).collect();
        let names: Vec<ResourceName> = (0..resources)
            .map(|at| ResourceName::parse(&format!("app-{at}")))
            .collect::<std::result::Result<_, _>>()?;
        let resources = names.iter().map(resource).collect::<Result<_>>()?;
        Ok(Self { source: PolicySource { version: 1, files, grants: Vec::new(), resources }, names })
    }

    fn engine(&self) -> Result<Arc<Engine>> {
        Ok(Engine::compile(self.source.clone()).map_err(|mistakes| format!("{mistakes:?}"))?)
    }

    /// The same with one policy that asks for less.
    fn widened(&self) -> PolicySource {
        let mut source = self.source.clone();
        if let Some(file) = source.files.first_mut() {
            file.text = file.text.replacen("context.auth.age < 36000", "context.auth.age < 72000", 1);
        }
        source
    }

    /// The same with one policy changed, another one each time.
    fn changed(&self, number: usize) -> PolicySource {
        let mut source = self.source.clone();
        source.version += 1;
        if let Some(file) = source.files.first_mut() {
            let old = format!("@id(\"p{}\")\n", number % POLICIES_PER_RESOURCE);
            file.text = file.text.replacen(&old, &format!("{old}@owner(\"number {number}\")\n"), 1);
        }
        source
    }
}

/// Which conditions are the same, as those are that follow a rule of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alike {
    Many,
    /// Each policy also names a path that no other does.
    None,
}

fn policy(at: usize, alike: Alike) -> Result<String> {
    let (resource, nth) = (at / POLICIES_PER_RESOURCE, at % POLICIES_PER_RESOURCE);
    // The user is in the groups g0 to g19: of the first two of a resource, and by chance of others.
    let group = if nth < 2 { (resource + nth * 7) % MEMBER_OF } else { (at * 7_919) % GROUPS };
    let condition = match nth % 4 {
        0 => "context.device.grade != \"none\" && context.auth.age < 36000 && context.request.path like \"/api/*\"",
        1 => "context.auth.age < 43200 && context.network.ip.isInRange(ip(\"10.0.0.0/8\"))",
        2 => "context.device.grade == \"hardware\" && [\"GET\", \"HEAD\"].contains(context.request.method)",
        _ => "context.auth.phishing_resistant && context.request.path like \"/api/v1/*\"",
    };
    let unlike = match alike {
        Alike::Many => String::new(),
        Alike::None => format!(" && context.request.path != \"/closed/{at}\""),
    };
    let mut text = String::new();
    write!(
        text,
        "@id(\"p{at}\")\n@reason(\"group {group} may read\")\npermit (principal in Group::\"g{group}\", action in \
         [Action::\"http:read\", Action::\"http:write\"], resource == Http::\"app-{resource}\")\nwhen {{ {condition}{unlike} }};\n"
    )?;
    Ok(text)
}

const GLOBAL: &str = r#"
@id("guard") forbid (principal, action == Action::"http:write", resource) when { context.auth.phishing_resistant == false };
@id("proven") forbid (principal, action in [Action::"http:read", Action::"http:write"], resource) when { context.device.grade == "none" };
@id("breakglass") permit (principal in Group::"g3", action, resource) when { context.auth.age < 300 };
"#;

fn resource(name: &ResourceName) -> Result<Resource> {
    let spec = HttpSpec::new(UpstreamScheme::Http, Endpoint::parse("10.0.0.1:80")?);
    Ok(Resource {
        name: name.clone(),
        spec: ResourceSpec::Http(spec),
        groups: std::collections::BTreeSet::new(),
        tags: std::collections::BTreeSet::new(),
        sensitivity: Sensitivity::Internal,
        offline_grace: std::time::Duration::ZERO,
        via: None,
        description: String::new(),
        mode: vouchsafe_model::mode::Mode::Enforce,
    })
}

/// 2026-11-21T00:00:00Z, as seconds since 1970.
const SIGNED_IN: Duration = Duration::from_secs(1_795_219_200);

fn facts() -> Result<SubjectFacts> {
    let groups = (0..MEMBER_OF).map(|at| GroupName::parse(&format!("g{at}"))).collect::<std::result::Result<_, _>>()?;
    Ok(SubjectFacts {
        session: SessionId::from_random([1; 16]),
        user: UserFacts { id: UserId::from_random([2; 16]), name: UserName::parse("alice")?, groups },
        device: Some(DeviceFacts {
            id: DeviceId::from_random([3; 16]),
            name: DeviceName::parse("laptop")?,
            grade: Grade::Software,
            owner: None,
            tags: std::collections::BTreeSet::new(),
        }),
        auth: AuthFacts { methods: [AuthMethod::Passkey].into(), at: UNIX_EPOCH + SIGNED_IN },
        expires: UNIX_EPOCH + Duration::from_secs(10_000_000_000),
        epoch: Epoch(1),
    })
}
