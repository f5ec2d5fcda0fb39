//! Decision time by number of policies: one user in 20 of 500 groups, ten policies a resource.

use std::error::Error;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use vouchsafe_model::action::Action;
use vouchsafe_model::id::{DeviceId, SessionId, UserId};
use vouchsafe_model::name::{DeviceName, GroupName, ResourceName, UserName};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{Detail, Engine, PolicyFile, PolicySource, PreparedSubject, Request};
use vouchsafe_wire::resource::ResourceDoc;

const GROUPS: usize = 500;
const MEMBER_OF: usize = 20;
const POLICIES_PER_RESOURCE: usize = 10;
const POLICIES_PER_FILE: usize = 1_000;
const ROUNDS: usize = 20_000;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    println!("decision, engine and subject ready, {ROUNDS} requests over all resources in turn");
    println!(
        "{:>9} {:>9} {:>9} {:>8} {:>12} {:>14}",
        "policies", "p50 µs", "p99 µs", "allowed", "compile ms", "first visit µs"
    );
    for policies in [10, 100, 1_000, 10_000] {
        measure(policies)?;
    }
    println!();
    Ok(())
}

fn measure(policies: usize) -> Result<(), Box<dyn Error>> {
    let resources = policies.div_ceil(POLICIES_PER_RESOURCE);
    let begun = Instant::now();
    let engine = Engine::compile(source(policies, resources)?).map_err(|mistakes| format!("{mistakes:?}"))?;
    let compiled = begun.elapsed();
    let subject = PreparedSubject::new(engine, Arc::new(facts()?));
    let names: Vec<ResourceName> =
        (0..resources).map(|at| ResourceName::parse(&format!("app-{at}"))).collect::<Result<_, _>>()?;
    let now = vouchsafe_runtime::clock::now();
    let mut first = Vec::new();
    for name in &names {
        first.push(timed(|| subject.decide(&request(name), now).is_ok()).0);
    }
    let mut times = Vec::with_capacity(ROUNDS);
    let mut allowed = 0_usize;
    for name in names.iter().cycle().take(ROUNDS) {
        let (time, is_allowed) = timed(|| subject.decide(&request(name), now).is_ok());
        times.push(time);
        allowed += usize::from(is_allowed);
    }
    println!(
        "{policies:>9} {:>9.2} {:>9.2} {:>7}% {:>12.1} {:>14.1}",
        micros(percentile(&mut times, 50)),
        micros(percentile(&mut times, 99)),
        allowed * 100 / ROUNDS,
        compiled.as_secs_f64() * 1e3,
        micros(percentile(&mut first, 50)),
    );
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = work();
    (begun.elapsed(), result)
}

/// The value below which that share of the values lies.
pub(crate) fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

/// A duration in microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn request(resource: &ResourceName) -> Request<'_> {
    let detail = Detail::Http { method: "GET", host: "app.corp.example", path: "/api/v1/figures" };
    Request { resource, action: Action::HttpRead, ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), detail }
}

fn source(policies: usize, resources: usize) -> Result<PolicySource, Box<dyn Error>> {
    // A file may hold 1 MiB; a thousand of these are a quarter of that.
    let mut texts = vec![String::new(); policies.div_ceil(POLICIES_PER_FILE)];
    for at in 0..policies {
        let Some(text) = texts.get_mut(at / POLICIES_PER_FILE) else { break };
        let (resource, group) = (at / POLICIES_PER_RESOURCE, (at * 7) % GROUPS);
        writeln!(
            text,
            "@id(\"p{at}\")\n@reason(\"group {group} may read\")\npermit (principal in Group::\"g{group}\", action in [Action::\"http:read\", \
             Action::\"http:write\"], resource == Http::\"app-{resource}\")\nwhen {{ context.device.grade != \"none\" && context.auth.age < 36000 \
             && context.request.path like \"/api/*\" }};"
        )?;
    }
    texts.push("@id(\"guard\")\nforbid (principal, action == Action::\"http:write\", resource) when { context.auth.phishing_resistant == false };\n".to_owned());
    let doc = |at: usize| -> Result<_, Box<dyn Error>> {
        let json = serde_json::json!({"name": format!("app-{at}"), "kind": "http", "upstream": "http://10.0.0.1:80"});
        Ok(serde_json::from_value::<ResourceDoc>(json)?.to_resource()?)
    };
    let resources = (0..resources).map(doc).collect::<Result<_, _>>()?;
    let named = |(at, text)| PolicyFile { name: format!("bench-{at}.cedar"), text };
    let files = texts.into_iter().enumerate().map(named).collect();
    Ok(PolicySource { version: 1, files, grants: Vec::new(), resources })
}

fn facts() -> Result<SubjectFacts, Box<dyn Error>> {
    let groups = (0..MEMBER_OF).map(|at| GroupName::parse(&format!("g{}", at * 7))).collect::<Result<_, _>>()?;
    let now = vouchsafe_runtime::clock::now();
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
        auth: AuthFacts { methods: [AuthMethod::Passkey].into(), at: now - Duration::from_secs(600) },
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000),
        epoch: Epoch(1),
    })
}
