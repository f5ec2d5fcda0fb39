//! How long the verification of a stored log takes, and how far its tree is behind while it is filled.

use std::error::Error;
use std::time::{Duration, Instant};

use vouchsafe_control::{Controller, OpenOptions, Verification, verify_log};
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::link::RecordBatch;
use vouchsafe_runtime::task::TaskGroup;

use super::{draft, who};

/// Records of one delivery.
const BATCH: u64 = 1_024;

pub(crate) async fn run(count: Option<String>) -> Result<(), Box<dyn Error>> {
    let count: u64 = count.map_or(Ok(1_000_000), |count| count.parse())?;
    // Not where temporary files go: that may be memory.
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let state = dir.path().join("state");
    let tasks = TaskGroup::new();
    let domain = BaseDomain::parse("bench.localhost")?;
    let options = OpenOptions {
        dir: state.clone(),
        domain,
        port: 8443,
        acme: None,
        checkpoint_copy: None,
        keep_days: None,
        witnesses: vouchsafe_control::Witnesses::default(),
    };
    let controller = Controller::open(options, tasks.clone()).await?;
    let (link, who, gateway) = (controller.link(), who(), GatewayId::from_random([2; 16]));
    let source = gateway.to_string();
    let (begun, mut next) = (Instant::now(), 1);
    while next <= count {
        let mut frames = Vec::new();
        let last = count.min(next + BATCH - 1);
        for seq in next..=last {
            draft(&source, &who, seq)?.push_frame(seq, &mut frames);
        }
        link.deliver(gateway, RecordBatch { first_seq: next, count: last + 1 - next, frames: frames.into() }).await?;
        next = last + 1;
    }
    println!("{count} records written in {:.1} s, hashed and signed meanwhile", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    drop((link, controller));
    tasks.shut_down(Duration::from_secs(600)).await;
    println!("the tree was {:.1} s behind at the end", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let verified = verify_log(&Verification { dir: state, ..Verification::default() }, &mut |_, _| {})?;
    println!(
        "{} records verified in {:.1} s, of which {} are signed",
        verified.records,
        begun.elapsed().as_secs_f64(),
        verified.covered
    );
    if verified.holds() { Ok(()) } else { Err(format!("{:?}", verified.findings).into()) }
}
