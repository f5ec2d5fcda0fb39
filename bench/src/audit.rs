//! What recording costs: the pure parts, the gateway's recorder and the controller's log, beside a
//! bare loop that writes the same bytes into a preallocated file and syncs it.

mod before;
pub(crate) mod verify;

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use vouchsafe_control::{Controller, OpenOptions};
use vouchsafe_gateway::{Recorder, Until};
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::link::{ControlLink, RecordBatch};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::audit::{Draft, Kind, Member, Members, Ready, Record, RecordError, scan};
use vouchsafe_wire::spool::HEADER_BYTES;

use crate::cpu;

/// How long each figure is taken for.
const ROUND: Duration = Duration::from_millis(700);
/// Each batch size is measured so often, the contenders in turn; the median counts.
const ROUNDS: usize = 5;
const SOURCE: &str = "gtw_00000000000000000000000002";

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    pure()?;
    // Not where temporary files go: that may be memory.
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let tasks = TaskGroup::new();
    let options = OpenOptions {
        dir: dir.path().join("state"),
        domain: BaseDomain::parse("bench.localhost")?,
        port: 8443,
        acme: None,
        checkpoint_copy: None,
        keep_days: None,
        witnesses: vouchsafe_control::Witnesses::default(),
    };
    let controller = Controller::open(options, tasks.clone()).await?;
    let link = controller.link();
    batches(&link, dir.path()).await?;
    requests(&link, dir.path(), &tasks).await?;
    drop(controller);
    tasks.shut_down(Duration::from_secs(10)).await;
    before::run().await
}

/// A record as that of an allowed HTTP request, about 700 bytes.
fn draft(source: &str, who: &(Ready, Ready), number: u64) -> Result<Draft, RecordError> {
    let before = |m: &mut Members<'_>| {
        m.text(Member::Action, "http:read");
        m.ready(&who.0, Member::AuthTimeUs);
        m.text(Member::Device, "dev_00000000000000000000000004");
        m.number(Member::Epoch, 12);
        m.text(Member::Flow, "flw_00000000000000000000000005");
        m.text(Member::Grade, "software");
        m.ready(&who.1, Member::Groups);
        m.text(Member::Host, "marketing.corp.example");
        m.text(Member::Id, "dec_00000000000000000000000001");
        m.text(Member::Ip, "192.0.2.17");
        m.kind(Kind::Decision);
        m.text(Member::Method, "GET");
        m.text(Member::Outcome, "allow");
        m.text(Member::Path, "/api/v1/figures/2026");
        m.list(Member::Policies, ["marketing-read"]);
        m.number(Member::PolicyVersion, 3);
        m.text(Member::Protocol, "http/1.1");
        m.text(Member::Reason, "permitted");
        m.text(Member::Resource, "marketing");
    };
    let after = |m: &mut Members<'_>| {
        m.number(Member::TimeUs, 1_790_000_000_000_000 + number);
        m.text(Member::User, "alice");
        m.format();
        m.text(Member::Words, "A policy allows this.");
    };
    Draft::write(source, before, Some("ses_00000000000000000000000003"), after)
}

fn who() -> (Ready, Ready) {
    let authentication = Ready::new(|m| {
        m.list(Member::AuthMethods, ["passkey"]);
        m.number(Member::AuthTimeUs, 1_790_000_000_000_000);
    });
    (authentication, Ready::new(|m| m.list(Member::Groups, ["marketing", "people", "berlin"])))
}

fn pure() -> Result<(), Box<dyn Error>> {
    const TIMES: u32 = 200_000;
    let who = who();
    let made = draft(SOURCE, &who, 1)?;
    let mut frame = Vec::new();
    made.push_frame(1, &mut frame);
    let bytes = frame.get(HEADER_BYTES..).unwrap_or_default().to_vec();
    let record = Record::from_canonical(&bytes)?;
    println!("audit record of {} bytes, nanoseconds each, {TIMES} times", bytes.len());
    let line = |name: &str, work: &mut dyn FnMut()| {
        let begun = Instant::now();
        (0..TIMES).for_each(|_| work());
        println!("  {name:<44} {:>8.0}", begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES));
    };
    line("write a record", &mut || drop(std::hint::black_box(draft(SOURCE, &who, 1))));
    let mut out = Vec::with_capacity(4_096);
    line("number it and make its frame", &mut || {
        out.clear();
        made.push_frame(std::hint::black_box(77), &mut out);
    });
    line("check it and find what is searched by", &mut || drop(std::hint::black_box(scan(&bytes))));
    line("the same by reading and writing it again", &mut || {
        drop(std::hint::black_box(Record::from_canonical(&bytes)))
    });
    line("write it with the JSON library", &mut || drop(std::hint::black_box(serde_json::to_vec(&record))));
    println!();
    Ok(())
}

/// Records per second of a bare loop.
fn bare(dir: &Path, batch: &[u8], count: u64) -> Result<f64, Box<dyn Error>> {
    const ROOM: usize = 64 * 1024 * 1024;
    let file = File::create(dir.join("bare"))?;
    file.write_all_at(&vec![0; ROOM], 0)?;
    file.sync_all()?;
    let (begun, mut at, mut records) = (Instant::now(), 0, 0);
    while begun.elapsed() < ROUND {
        if at + batch.len() > ROOM {
            at = 0;
        }
        file.write_all_at(batch, at as u64)?;
        file.sync_data()?;
        at += batch.len();
        records += count;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    Ok(records as f64 / begun.elapsed().as_secs_f64())
}

/// The controller's log beside the bare loop: batches that are acknowledged one after another.
async fn batches(link: &Arc<dyn ControlLink>, dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("durable records per second, one batch after another, median of {ROUNDS} rounds in turn");
    println!("{:>8} {:>14} {:>14} {:>8} {:>18}", "batch", "bare loop", "audit log", "ratio", "CPU µs per record");
    let (who, gateway) = (who(), GatewayId::from_random([2; 16]));
    let source = gateway.to_string();
    let mut next_seq = 1;
    for count in [1, 16, 64, 256, 1_024, 4_096_u64] {
        let (mut bare_rates, mut rates, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut frames = Vec::new();
            (0..count).try_for_each(|seq| draft(SOURCE, &who, seq).map(|draft| draft.push_frame(seq, &mut frames)))?;
            bare_rates.push(bare(dir, &frames, count)?);
            let (mut spent, mut taken, mut cost) = (Duration::ZERO, 0_u64, Duration::ZERO);
            while spent < ROUND {
                let mut frames = Vec::with_capacity(frames.len());
                for seq in next_seq..next_seq + count {
                    draft(&source, &who, seq)?.push_frame(seq, &mut frames);
                }
                let batch = RecordBatch { first_seq: next_seq, count, frames: frames.into() };
                let (begun, before) = (Instant::now(), cpu::of(std::process::id()));
                link.deliver(gateway, batch).await?;
                spent += begun.elapsed();
                cost += cpu::of(std::process::id()).saturating_sub(before);
                taken += count;
                next_seq += count;
            }
            #[expect(clippy::cast_precision_loss, reason = "a count of records")]
            let taken = taken as f64;
            rates.push(taken / spent.as_secs_f64());
            costs.push(cost.as_secs_f64() * 1e6 / taken);
        }
        let (bare, rate) = (median(&mut bare_rates), median(&mut rates));
        println!("{count:>8} {bare:>14.0} {rate:>14.0} {:>8.2} {:>18.2}", rate / bare, median(&mut costs));
    }
    println!();
    Ok(())
}

/// The gateway's recorder under concurrent requests, delivery to the controller included.
async fn requests(link: &Arc<dyn ControlLink>, dir: &Path, tasks: &TaskGroup) -> Result<(), Box<dyn Error>> {
    println!("requests that record a decision and an end, one worker thread, delivery to the log included");
    println!(
        "{:>8} {:>10} {:>16} {:>16} {:>8} {:>20}",
        "at once", "until", "requests/s", "bare loop", "ratio", "CPU µs per request"
    );
    let gateway = GatewayId::from_random([3; 16]);
    let recorder = Recorder::start(&dir.join("spool"), gateway, 0, Arc::clone(link), tasks)?;
    let who = Arc::new(who());
    for at_once in [1, 16, 64, 256, 1_024_u64] {
        let mut frames = Vec::new();
        (0..at_once * 2)
            .try_for_each(|seq| draft(SOURCE, &who, seq).map(|draft| draft.push_frame(seq, &mut frames)))?;
        let bare = bare(dir, &frames, at_once)?;
        for until in [Until::Written, Until::Durable] {
            let before = cpu::of(std::process::id());
            let begun = Instant::now();
            let mut running = JoinSet::new();
            for _ in 0..at_once {
                let (recorder, who) = (recorder.clone(), Arc::clone(&who));
                running.spawn(async move {
                    let mut done = 0_u64;
                    while begun.elapsed() < ROUND {
                        let Ok(decision) = draft(recorder.source(), &who, done) else { break };
                        if recorder.keep(decision, until).await.is_err() {
                            break;
                        }
                        if let Ok(end) = draft(recorder.source(), &who, done) {
                            recorder.note(end);
                        }
                        done += 1;
                    }
                    done
                });
            }
            let mut done = 0;
            while let Some(count) = running.join_next().await {
                done += count?;
            }
            let spent = begun.elapsed().as_secs_f64();
            let cost = cpu::of(std::process::id()).saturating_sub(before).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
            let done = done as f64;
            println!(
                "{at_once:>8} {:>10} {:>16.0} {bare:>16.0} {:>8.2} {:>20.2}",
                format!("{until:?}"),
                done / spent,
                done / spent / bare,
                cost * 1e6 / done
            );
        }
    }
    println!();
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
