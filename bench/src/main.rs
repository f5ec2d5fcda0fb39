//! Measures the product beside what people use today, in one run: `bench/run`.
//!
//! The figure of merit is CPU time per unit of work, read from the scheduler's own accounting, with
//! the contenders taken in turn (A B A B …). Requests per second and latencies are printed as well,
//! but move with the neighbours on a shared machine.

#![expect(clippy::print_stdout, reason = "the figures are what the program is for")]

mod asking;
mod audit;
mod bulk;
mod contenders;
mod cpu;
mod fixed;
mod floods;
mod handshake;
mod http;
mod idle;
mod intake;
mod load;
mod memory;
mod ours;
mod pki;
mod questions;
mod revoke;
mod simulate;
mod spread;
mod statistics;
mod tunnel;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next();
    // Started by ourselves, as a process of its own.
    match only.as_deref() {
        Some(name) if name.starts_with("tunnel-") => return tunnel::ends::run(name, &arguments.collect::<Vec<_>>()),
        Some(name) if name.starts_with("fixed-") => return fixed::run(name, &arguments.collect::<Vec<_>>()),
        Some(name) if name.starts_with("revoke-") => return revoke::end(name, &arguments.collect::<Vec<_>>()),
        Some("bulk-upstream") => return bulk::upstream(),
        Some("feed-records") => {
            let dir = arguments.next().ok_or("no directory")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            return runtime.block_on(intake::feed(&dir));
        }
        Some("attack") => return floods::attack::run(&arguments.collect::<Vec<_>>()),
        Some(_) | None => {}
    }
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wants("audit") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(audit::run())?;
    }
    // A million records on disk: only when it is asked for.
    if only.as_deref() == Some("audit-verify") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(audit::verify::run(arguments.next()))?;
    }
    if wants("http") {
        cpu::stay_beside()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(http::run(&mut arguments))?;
    }
    let alone = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    if wants("tunnel") {
        alone()?.block_on(tunnel::run())?;
    }
    if wants("floods") {
        alone()?.block_on(floods::run(arguments.next()))?;
    }
    if wants("bulk") {
        alone()?.block_on(bulk::run(arguments.next().map(|number| number.parse()).transpose()?))?;
    }
    if wants("revoke") {
        let rest = if only.is_some() { arguments.by_ref().collect() } else { Vec::new() };
        alone()?.block_on(revoke::run(rest.into_iter()))?;
    }
    if wants("simulate") {
        let count = if only.is_some() { arguments.next() } else { None };
        alone()?.block_on(simulate::run(count))?;
    }
    // By name only, as well: it writes five.
    if only.as_deref() == Some("intake") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(intake::run())?;
    }
    // By name only: it writes ten gigabytes.
    if only.as_deref() == Some("questions") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(questions::run(arguments.next()))?;
    }
    if wants("handshake") {
        alone()?.block_on(handshake::run())?;
    }
    if wants("idle") {
        alone()?.block_on(idle::run())?;
    }
    Ok(())
}

/// Prints one line at once, for whoever started this process.
fn say(what: &serde_json::Value) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    println!("{what}");
    Ok(std::io::stdout().flush()?)
}
