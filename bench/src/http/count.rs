//! Instructions of one request, counted by callgrind in the running server: all its threads, with the
//! records that go to the audit log. They don't move with the neighbours, so that a change shows.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::contenders::{self, Company};
use crate::load::{Connections, Pace, h2};

use super::{CONNECTIONS, H2_CONNECTIONS, H2_STREAMS, knows_the_person, said};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long is asked: some thousand requests, since all is slower by far.
const LENGTH: Duration = Duration::from_secs(8);
const WARM_UP: Duration = Duration::from_secs(3);
/// How long records may take to their end.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Counts, in HTTP/1.1 or HTTP/2, and prints `<name> <instructions>`. What callgrind wrote stays in `keep`.
pub(super) async fn run(dir: &Path, version: Option<&str>, keep: Option<&str>) -> Result<()> {
    let out = dir.join("calls");
    let file = format!("--callgrind-out-file={}", out.display());
    let around = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", file.as_str()];
    let (upstream, _server) = contenders::nginx_upstream(dir)?;
    let company = Company::found_in(&around, dir, upstream).await?;
    knows_the_person(&company).await?;
    let contender = &company.contender;
    let control = |arguments: &[&str]| -> Result<()> {
        let done = Command::new("callgrind_control").args(arguments).arg(contender.pid.to_string()).output()?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
    };
    let (name, requests) = if version == Some("h2") {
        let open = h2::Connections::open(&contender.target, &contender.request, H2_CONNECTIONS).await;
        let mut open = said(open)?;
        said(open.drive(H2_STREAMS, Pace::Closed, WARM_UP).await)?;
        control(&["-i", "on"])?;
        ("request_h2", said(open.drive(H2_STREAMS, Pace::Closed, LENGTH).await)?.latencies.len())
    } else {
        let mut open = said(Connections::open(&contender.target, contender.transport, CONNECTIONS).await)?;
        said(open.drive(Pace::Closed, WARM_UP).await)?;
        control(&["-i", "on"])?;
        ("request_h1", said(open.drive(Pace::Closed, LENGTH).await)?.latencies.len())
    };
    tokio::time::sleep(AFTERWARDS).await;
    control(&["-i", "off"])?;
    drop(company);
    let calls = fs::read_to_string(&out)?;
    if let Some(keep) = keep {
        fs::write(keep, format!("# requests: {requests}\n{calls}"))?;
    }
    let total = |line: &str| -> Option<u64> { line.strip_prefix("totals: ")?.trim().parse().ok() };
    let total: u64 = calls.lines().filter_map(total).sum();
    println!("{name} {}", total / requests.max(1) as u64);
    Ok(())
}
