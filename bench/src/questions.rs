//! What questions to a big audit log take, and how fast it becomes durable and indexed: N records such as a gateway
//! writes, taken in the way that gateways deliver them.
//!
//! Of 1,000 people on a device each, 40 resources and 20,000 paths with a number of their own. `finance` has three
//! records in ten and is never denied, denials are one record in ten: what is common and never comes together is the
//! worst that can be asked for.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};
use url::Url;
use vouchsafe_control::{Controller, OpenOptions};
use vouchsafe_demo::admin::Admin;
use vouchsafe_demo::authenticator::Authenticator;
use vouchsafe_demo::browser::Browser;
use vouchsafe_demo::browser::dial::Direct;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::RecordBatch;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::Invited;
use vouchsafe_wire::audit::{Draft, Kind, Member, Members};

use crate::cpu;
use crate::simulate::serve;
use crate::statistics::percentile;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH: u64 = 4_096;
const DAYS: u64 = 30;
/// How often each question is asked.
const TIMES: usize = 7;
/// Longest wait for the last segments to be indexed.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn run(count: Option<String>) -> Result<()> {
    let count: u64 = count.map(|count| count.parse()).transpose()?.unwrap_or(10_000_000);
    // Not where temporary files go: that may be memory.
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let state = dir.path().join("state");
    let now = clock::now().duration_since(UNIX_EPOCH)?.as_secs();
    let since = now - DAYS * 86_400;
    record(&state, count, since).await?;
    let tasks = TaskGroup::new();
    let (served, ready) = serve(&state)?;
    let admin = Admin::new(state.join("admin.sock"), tasks.clone());
    ask(&admin, since, now).await?;
    look(&admin, &ready, tasks).await?;
    drop(served);
    Ok(())
}

/// Has the records taken in, and waits until all closed segments are indexed.
async fn record(state: &Path, count: u64, since: u64) -> Result<()> {
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
    let gateway = GatewayId::from_random([2; 16]);
    let source = gateway.to_string();
    let micros = DAYS * 86_400 * 1_000_000 / count.max(1);
    let (begun, before) = (Instant::now(), cpu::of(std::process::id()));
    let (mut taking, mut next) = (Duration::ZERO, 0);
    while next < count {
        let size = BATCH.min(count - next);
        let mut frames = Vec::new();
        for number in next..next + size {
            draft(&source, number, since * 1_000_000 + number * micros)?.push_frame(number + 1, &mut frames);
        }
        let batch = RecordBatch { first_seq: next + 1, count: size, frames: frames.into() };
        let asked = Instant::now();
        link.deliver(gateway, batch).await?;
        taking += asked.elapsed();
        next += size;
    }
    let made = begun.elapsed();
    let files = |ending: &str| -> Result<(usize, u64)> {
        let mut found = (0, 0);
        for entry in fs::read_dir(state.join("audit"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(ending) {
                found = (found.0 + 1, found.1 + entry.metadata()?.len());
            }
        }
        Ok(found)
    };
    while files(".terms")?.0 + 1 < files(".log")?.0 {
        if begun.elapsed() > made + PATIENCE {
            return Err("the log isn't indexed".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let indexed = begun.elapsed();
    let spent = cpu::of(std::process::id()).saturating_sub(before);
    let rate = |time: Duration| u128::from(count) * 1_000 / time.as_millis().max(1);
    println!("{count} records, made and taken in by {} KiB or so, indexed beside it:", BATCH * 700 / 1_024);
    println!("  durable {:>9} a second ({:.1} s in the log)", rate(taking), taking.as_secs_f64());
    println!("  with their making {:>9} a second", rate(made));
    println!(
        "  indexed {:>9} a second, of all the time ({:.1} s, {:.1} s of CPU)",
        rate(indexed),
        indexed.as_secs_f64(),
        spent.as_secs_f64()
    );
    let (segments, log) = files(".log")?;
    let (_, terms) = files(".terms")?;
    println!("  {segments} segments, {} MiB; {} MiB of index", log >> 20, terms >> 20);
    drop(link);
    drop(controller);
    tasks.shut_down(Duration::from_secs(10)).await;
    Ok(())
}

/// Asks over the admin socket, each question's own record included.
async fn ask(admin: &Admin, since: u64, now: u64) -> Result<()> {
    let day = 86_400;
    let step = DAYS * day / 60;
    let questions = [
        ("overview: 60 pieces of 30 days", format!("counts?kind=decision&since={since}&step={step}")),
        ("overview: the last day by quarter hours", format!("counts?since={}&step=900", now - day)),
        ("top reasons of denials", "counts?outcome=deny&by=reason".to_owned()),
        ("top users", "counts?by=user&top=50".to_owned()),
        ("top users of one resource", "counts?by=user&resource=app-7".to_owned()),
        (
            "every value asked for, over time",
            format!("counts?kind=decision&outcome=allow&resource=finance&reason=permitted&since={since}&step={step}"),
        ),
        ("newest hundred", "?limit=100".to_owned()),
        ("denied, newest hundred", "?outcome=deny".to_owned()),
        ("one user and resource", "?user=user-17&resource=app-17&limit=1000".to_owned()),
        ("common, never together", "?resource=finance&outcome=deny".to_owned()),
        ("user and resource, never together", "?user=user-17&resource=app-18".to_owned()),
        ("one decision by its id", format!("?id=dec_{:026}", 1_234_567)),
        ("an id that isn't there", "?id=dec_nobody".to_owned()),
        ("a rare word", "?text=path1234567".to_owned()),
        ("two common words, never together", "?text=finance+nothing".to_owned()),
        ("the beginning of many words", "counts?text=path12".to_owned()),
        ("one letter", "counts?text=p".to_owned()),
        ("words, user and a week", format!("?text=report+get&user=user-5&since={}", now - 7 * day)),
        (
            "a week without the last, nothing in it",
            format!("?resource=finance&outcome=deny&since={}&until={}", now - 14 * day, now - 7 * day),
        ),
        ("who used what, 30 days", format!("uses?since={since}")),
        ("what one user used", format!("uses?since={since}&user=user-17")),
        ("a thousand of a scattered value", "?user=user-500&limit=1000".to_owned()),
    ];
    println!("{:<42} {:>9} {:>9} {:>9}", "question, milliseconds", "first", "median", "worst");
    for (name, question) in questions {
        let path =
            if question.starts_with('?') { format!("/v1/audit{question}") } else { format!("/v1/audit/{question}") };
        let mut times = Vec::new();
        let mut found = Value::Null;
        for _ in 0..TIMES {
            let asked = Instant::now();
            found = admin.get(&path).await?;
            times.push(asked.elapsed());
        }
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let first = times.first().copied().unwrap_or_default();
        let worst = times.iter().max().copied().unwrap_or_default();
        let records = match found.get("records").and_then(Value::as_array) {
            Some(records) => records.len() as u64,
            None => {
                let counted = found.pointer("/total/records").or_else(|| found.get("others")).and_then(Value::as_u64);
                counted.unwrap_or_default()
                    + found.get("uses").and_then(Value::as_array).map_or(0, |uses| uses.len() as u64)
            }
        };
        println!(
            "{name:<42} {:>9.1} {:>9.1} {:>9.1}   {records} found",
            millis(first),
            millis(percentile(&mut times, 50)),
            millis(worst)
        );
    }
    Ok(())
}

pub(crate) fn draft(source: &str, number: u64, time_us: u64) -> Result<Draft> {
    // Spreads neighbouring numbers.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let user = mixed % 1_000;
    let (outcome, reason, words) = match mixed / 1_000 % 10 {
        0 => (
            "deny",
            if mixed.is_multiple_of(3) { "no_permit" } else { "session_ended" },
            "There is nothing here that you have access to.",
        ),
        _ => ("allow", "permitted", "A policy allows this."),
    };
    // Everybody has one application of the forty.
    let resource = if outcome == "allow" && (mixed / 10_000).is_multiple_of(3) {
        "finance".to_owned()
    } else {
        format!("app-{}", user % 40)
    };
    let word = ["ledger", "report", "orders", "people", "figures"]
        .get(usize::try_from(mixed / 30_000 % 5)?)
        .copied()
        .unwrap_or_default();
    let path = format!("/api/{word}/item{}/path{number}", mixed % 20_000);
    let before = |m: &mut Members<'_>| {
        m.text(Member::Action, "http:read");
        m.list(Member::AuthMethods, ["passkey"]);
        m.number(Member::AuthTimeUs, time_us);
        m.text(Member::Device, &format!("dev_{user:026}"));
        m.number(Member::Epoch, 12);
        m.text(Member::Flow, &format!("flw_{number:026}"));
        m.text(Member::Grade, "software");
        m.list(Member::Groups, ["marketing", "people", "berlin"]);
        m.text(Member::Host, &format!("{resource}.corp.example"));
        m.text(Member::Id, &format!("dec_{number:026}"));
        m.text(Member::Ip, &format!("192.0.2.{}", user % 250));
        m.kind(Kind::Decision);
        m.text(Member::Method, "GET");
        m.text(Member::Outcome, outcome);
        m.text(Member::Path, &path);
        m.list(Member::Policies, ["marketing-read"]);
        m.number(Member::PolicyVersion, 3);
        m.text(Member::Protocol, "h2");
        m.text(Member::Reason, reason);
        m.text(Member::Resource, &resource);
    };
    let after = |m: &mut Members<'_>| {
        m.number(Member::TimeUs, time_us);
        m.text(Member::User, &format!("user-{user}"));
        m.format();
        m.text(Member::Words, words);
    };
    Ok(Draft::write(source, before, Some(&format!("ses_{user:026}")), after)?)
}

/// Looks at the console as an administrator's browser does, each page over a connection of its own.
async fn look(admin: &Admin, ready: &Value, tasks: TaskGroup) -> Result<()> {
    let text = |name: &str| ready.get(name).and_then(Value::as_str).unwrap_or_default();
    let port = u16::try_from(ready.get("port").and_then(Value::as_u64).unwrap_or_default())?;
    let root_pem = fs::read_to_string(text("root"))?;
    let invited: Invited = admin.post("/v1/users", &json!({"name": "looker", "groups": ["administrators"]})).await?;
    let mut authenticator = Authenticator::new();
    let browser = Browser::new(Arc::new(Direct::loopback(port)), &root_pem, tasks)?;
    browser.accept_invite(&invited.link, &mut authenticator, "looker").await?;
    let url = |path: &str| Url::parse(&format!("https://console.{}:{port}{path}", text("domain")));
    browser.open(&url("/connectors")?, &authenticator).await?;
    println!("{:<42} {:>9} {:>9} {:>9}", "page of the console, milliseconds", "first", "median", "worst");
    let pages =
        ["/", "/?window=7d", "/map", "/users", "/devices", "/sessions", "/resources", "/audit", "/audit?text=report"];
    for path in pages {
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let asked = Instant::now();
            let page = browser.get(&url(path)?).await?;
            times.push(asked.elapsed());
            if page.status != 200 {
                return Err(format!("{path}: {}", page.status).into());
            }
        }
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let first = times.first().copied().unwrap_or_default();
        let worst = times.iter().max().copied().unwrap_or_default();
        println!(
            "{path:<42} {:>9.1} {:>9.1} {:>9.1}",
            millis(first),
            millis(percentile(&mut times, 50)),
            millis(worst)
        );
    }
    Ok(())
}
