//! How long a draft takes to be tried on N recorded decisions, and what the controller's API is like meanwhile.
//!
//! The records are such as a gateway writes: of 1,000 people in 20 groups on a device each, who sign in every day and
//! reach 40 resources under 80 policies, over 30 days. The policy engine decided each of them. They go into the log the way
//! that gateways deliver them; then the program itself serves, and `vouchsafe policy simulate` asks it.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vouchsafe_control::{Controller, OpenOptions};
use vouchsafe_demo::admin::Admin;
use vouchsafe_model::action::Action;
use vouchsafe_model::id::{DecisionId, DeviceId, FlowId, GatewayId, SessionId, UserId};
use vouchsafe_model::name::{BaseDomain, DeviceName, GroupName, ResourceName, UserName};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{Detail, Engine, KeyAgreement, PolicyFile, PolicySource, PreparedSubject, Request};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::RecordBatch;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::audit::{Draft, Kind, Record};
use vouchsafe_wire::resource::ResourceDoc;

use crate::ours::{Process, program};
use crate::statistics::percentile;
use crate::{cpu, memory};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PEOPLE: u64 = 1_000;
const GROUPS: u64 = 20;
const WEB: u64 = 32;
const DATABASES: u64 = 8;
const DAYS: u64 = 30;
const DAY: u64 = 86_400;
const BATCH: u64 = 4_096;

pub(crate) async fn run(count: Option<String>) -> Result<()> {
    let count: u64 = count.map(|count| count.parse()).transpose()?.unwrap_or(1_000_000);
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let state = dir.path().join("state");
    let tasks = TaskGroup::new();
    let (served, _) = serve(&state)?;
    let admin = Admin::new(state.join("admin.sock"), tasks.clone());
    let mut files: Value = admin.get::<Value>("/v1/policy").await?.get("files").cloned().unwrap_or(json!([]));
    if let Some(files) = files.as_array_mut() {
        files.push(json!({"name": "bench.cedar", "text": policy(None)}));
    }
    let groups: Vec<Value> = (0..GROUPS).map(|group| json!({"name": format!("g{group}")})).collect();
    let groups: Vec<Value> = groups.into_iter().chain([json!({"name": "administrators"})]).collect();
    let manifest = json!({"groups": groups, "resources": resources(), "policy": files});
    admin.apply(serde_json::from_value(manifest)?).await?;
    drop(served);

    let begun = Instant::now();
    record(&state, count).await?;
    println!("{count} decisions made and recorded in {:.1} s", begun.elapsed().as_secs_f64());

    let draft = dir.path().join("draft");
    fs::create_dir_all(&draft)?;
    for file in files.as_array().into_iter().flatten() {
        let text = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default();
        let new = if text("name") == "bench.cedar" { policy(Some(3)) } else { text("text").to_owned() };
        fs::write(draft.join(text("name")), new)?;
    }
    let (served, _) = serve(&state)?;
    println!("idle:  {}", api(&admin, Duration::from_secs(3), None).await?);
    let (pid, before, begun) = (served.pid(), cpu::of(served.pid()), Instant::now());
    let mut asking = Command::new(program()?)
        .args(["policy", "simulate", &draft.display().to_string(), "--json", "--limit", "20000000", "--dir"])
        .arg(&state)
        .stdin(Stdio::null())
        .stdout(fs::File::create(dir.path().join("found.json"))?)
        .spawn()?;
    let mut peak = 0;
    let mut enough = || -> Result<bool> {
        peak = peak.max(memory::resident_kib(pid));
        Ok(asking.try_wait()?.is_some())
    };
    let beside = api(&admin, Duration::MAX, Some(&mut enough)).await?;
    let (took, spent) = (begun.elapsed(), cpu::of(pid).saturating_sub(before));
    let found: Value = serde_json::from_slice(&fs::read(dir.path().join("found.json"))?)?;
    let number = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or_default();
    println!("beside: {beside}");
    let rate = number("records").checked_div(u64::try_from(took.as_millis())?.max(1)).unwrap_or_default() * 1_000;
    println!(
        "{} records, {} decided again, in {:.1} s: {rate} a second; {:.1} s of CPU in the controller, {} MiB resident at most",
        number("records"),
        number("replayed"),
        took.as_secs_f64(),
        spent.as_secs_f64(),
        peak / 1_024
    );
    for name in ["lost", "gained", "whole"] {
        println!("  {name}: {}", found.get(name).unwrap_or(&Value::Null));
    }
    if number("records") < count {
        return Err(format!("only {} of {count} records were looked at", number("records")).into());
    }
    Ok(())
}

/// The program itself on all processors.
pub(crate) fn serve(state: &Path) -> Result<(Process, Value)> {
    let mut command = Command::new(program()?);
    command.args(["up", "--json", "--port", "0", "--dir"]).arg(state);
    Process::announced_by(command)
}

/// How long the API takes for a small question, until it is enough.
async fn api(admin: &Admin, time: Duration, enough: Option<&mut dyn FnMut() -> Result<bool>>) -> Result<String> {
    let (begun, mut times, mut enough) = (Instant::now(), Vec::new(), enough);
    loop {
        let asked = Instant::now();
        admin.get::<Value>("/v1/resources/web-0").await?;
        times.push(asked.elapsed());
        let is_enough = match &mut enough {
            Some(enough) => enough()?,
            None => false,
        };
        if is_enough || begun.elapsed() >= time {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    let worst = times.iter().max().copied().unwrap_or_default();
    Ok(format!(
        "API p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms of {}",
        millis(p50),
        millis(p99),
        millis(worst),
        times.len()
    ))
}

fn resources() -> Vec<Value> {
    let web =
        (0..WEB).map(|web| json!({"name": format!("web-{web}"), "kind": "http", "upstream": "http://10.0.0.5:80"}));
    let databases = (0..DATABASES)
        .map(|db| json!({"name": format!("db-{db}"), "kind": "tcp", "upstream": "10.0.0.6:5432", "port": 5432}));
    web.chain(databases).collect()
}

/// Two policies a resource. The draft takes a right of one group away.
fn policy(without: Option<u64>) -> String {
    let mut text = String::new();
    for number in 0..WEB {
        let (group, writers) = (number % GROUPS, (number + 7) % GROUPS);
        let taken = if without == Some(number) { " && principal.name like \"p1*\"" } else { "" };
        text.push_str(&format!(
            "@id(\"read-{number}\")\npermit (principal in Group::\"g{group}\", action == Action::\"http:read\", \
             resource == Http::\"web-{number}\") when {{ context.auth.age < 36000{taken} }};\n\
             @id(\"write-{number}\")\npermit (principal in Group::\"g{writers}\", action, resource == Http::\"web-{number}\") \
             when {{ context.device.tags.contains(\"managed\") || context.request.path like \"/api/*\" }};\n"
        ));
    }
    for number in 0..DATABASES {
        let group = number % GROUPS;
        text.push_str(&format!(
            "@id(\"db-{number}\")\npermit (principal in Group::\"g{group}\", action == Action::\"net:connect\", \
             resource == Tcp::\"db-{number}\");\n\
             @id(\"old-{number}\")\nforbid (principal, action == Action::\"net:connect\", resource == Tcp::\"db-{number}\") \
             when {{ context.auth.age > 72000 }};\n"
        ));
    }
    text
}

/// A row of numbers that look drawn, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn bytes(kind: u8, number: u64) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn person(number: u64, day: u64, signed_in: SystemTime) -> Result<SubjectFacts> {
    let name = UserName::parse(&format!("p{number}"))?;
    let groups = [number % GROUPS, (number / GROUPS) % GROUPS, 1];
    let groups: BTreeSet<GroupName> =
        groups.iter().map(|group| GroupName::parse(&format!("g{group}"))).collect::<std::result::Result<_, _>>()?;
    let tags = if number.is_multiple_of(3) { BTreeSet::new() } else { BTreeSet::from(["managed".parse()?]) };
    Ok(SubjectFacts {
        session: SessionId::from_random(bytes(1, number * 1_000 + day)),
        user: UserFacts { id: UserId::from_random(bytes(2, number)), name: name.clone(), groups },
        device: Some(DeviceFacts {
            id: DeviceId::from_random(bytes(3, number)),
            name: DeviceName::parse(&format!("p{number}-laptop"))?,
            grade: if number.is_multiple_of(2) { Grade::Hardware } else { Grade::Software },
            owner: Some(name),
            tags,
        }),
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: signed_in },
        expires: signed_in + Duration::from_secs(2 * DAY),
        epoch: Epoch(1_000 + day),
    })
}

/// Makes the records, and delivers them as a gateway does.
async fn record(state: &Path, count: u64) -> Result<()> {
    let tasks = TaskGroup::new();
    let options = OpenOptions {
        dir: state.to_owned(),
        domain: BaseDomain::parse("vouchsafe.localhost")?,
        port: 8443,
        acme: None,
        checkpoint_copy: None,
        keep_days: None,
        witnesses: vouchsafe_control::Witnesses::default(),
    };
    let controller = Controller::open(options, tasks.clone()).await?;
    let link = controller.link();
    let gateway = GatewayId::from_random([9; 16]);
    let source = gateway.to_string();
    let docs: Vec<ResourceDoc> = serde_json::from_value(json!(resources()))?;
    let engine = Engine::compile(PolicySource {
        version: 2,
        files: vec![PolicyFile { name: "bench.cedar".into(), text: policy(None) }],
        grants: Vec::new(),
        resources: docs.iter().map(ResourceDoc::to_resource).collect::<std::result::Result<_, _>>()?,
    })
    .map_err(|wrong| format!("{wrong:?}"))?;
    let begin = clock::unix_seconds(clock::now()) - DAYS * DAY + 60;
    let step_us = (DAYS * DAY - 120) * 1_000_000 / count.max(1);
    let (mut dice, mut today, mut subjects) = (Dice(0x9E37_79B9_7F4A_7C15), u64::MAX, HashMap::new());
    let (mut first, mut frames) = (1, Vec::new());
    for seq in 1..=count {
        let at_us = begin * 1_000_000 + step_us * (seq - 1);
        let (day, at) = ((at_us / 1_000_000 - begin) / DAY, UNIX_EPOCH + Duration::from_micros(at_us));
        if day != today {
            subjects.clear();
            today = day;
        }
        let number = dice.below(PEOPLE);
        let subject = match subjects.get(&number) {
            Some(subject) => Arc::clone(subject),
            None => {
                let facts = person(number, day, at - Duration::from_secs(dice.below(3_600)))?;
                let subject = Arc::new(PreparedSubject::new(Arc::clone(&engine), Arc::new(facts)));
                subjects.insert(number, Arc::clone(&subject));
                subject
            }
        };
        one(&mut dice, &subject, number, at, at_us, &source)?.push_frame(seq, &mut frames);
        if seq == count || seq - first + 1 == BATCH {
            let batch =
                RecordBatch { first_seq: first, count: seq - first + 1, frames: std::mem::take(&mut frames).into() };
            link.deliver(gateway, batch).await?;
            first = seq + 1;
        }
    }
    drop(link);
    drop(controller);
    tasks.shut_down(Duration::from_secs(10)).await;
    Ok(())
}

/// One request: mostly what the person's groups are for, seldom something else.
fn one(
    dice: &mut Dice,
    subject: &PreparedSubject,
    number: u64,
    at: SystemTime,
    at_us: u64,
    source: &str,
) -> Result<Draft> {
    let group = number % GROUPS;
    let usual = [group, (number / GROUPS) % GROUPS];
    let pick = dice.below(100);
    let (name, action) = match pick {
        0..=4 if group < DATABASES => (format!("db-{group}"), Action::NetConnect),
        0..=9 => (format!("web-{}", dice.below(WEB)), Action::HttpRead),
        10..=19 => (format!("web-{group}"), Action::HttpWrite),
        _ => (
            format!("web-{}", usual.get(usize::from(pick.is_multiple_of(2))).copied().unwrap_or_default()),
            Action::HttpRead,
        ),
    };
    let path = match dice.below(3) {
        0 => "/".to_owned(),
        1 => format!("/api/v1/figures/{}", dice.below(500)),
        _ => format!("/pages/{}", dice.below(2_000)),
    };
    let host = format!("{name}.vouchsafe.localhost");
    let ip = IpAddr::V4(Ipv4Addr::new(10, 2, u8::try_from(number / 250)?, u8::try_from(number % 250)?));
    let method = if action == Action::HttpWrite { "POST" } else { "GET" };
    let detail = match action {
        Action::NetConnect => Detail::Net { port: 5_432 },
        _ => Detail::Http { method, host: &host, path: &path },
    };
    let resource = ResourceName::parse(&name)?;
    let decision = match subject
        .decide(&Request { resource: &resource, action, ip, agreement: KeyAgreement::Other, detail }, at)
    {
        Ok(permit) => permit.decision().clone(),
        Err(denial) => denial,
    };
    let facts = subject.facts();
    let mut record = Record::new(Kind::Decision, at_us);
    record.id = Some(DecisionId::from_random(bytes(4, at_us)).to_string());
    record.flow = Some(FlowId::from_random(bytes(5, at_us)).to_string());
    record.user = Some(facts.user.name.to_string());
    record.session = Some(facts.session.to_string());
    record.groups = facts.user.groups.iter().map(ToString::to_string).collect();
    if let Some(device) = &facts.device {
        record.device = Some(device.id.to_string());
        record.device_name = Some(device.name.to_string());
        record.device_owner = device.owner.as_ref().map(ToString::to_string);
        record.device_tags = device.tags.iter().map(ToString::to_string).collect();
    }
    record.grade = Some(facts.grade().to_string());
    record.auth_methods = vec!["passkey".to_owned()];
    record.auth_time_us = Some(clock::unix_micros(facts.auth.at));
    record.epoch = Some(facts.epoch.0);
    record.resource = Some(name);
    record.action = Some(action.to_string());
    record.ip = Some(ip.to_string());
    match action {
        Action::NetConnect => record.port = Some(5_432),
        _ => (record.method, record.host, record.path) = (Some(method.to_owned()), Some(host), Some(path)),
    }
    record.protocol = Some("h2".to_owned());
    record.tls = Some("1.3 X25519MLKEM768".to_owned());
    record.outcome = Some(decision.outcome.to_string());
    record.reason = Some(decision.reason.to_string());
    record.words = Some(decision.words.to_string());
    record.policies = decision.policies.iter().map(ToString::to_string).collect();
    record.policy_version = Some(decision.policy_version);
    Ok(Draft::of(&record, source)?)
}
