//! Measures the product beside what people use today, in one run: `bench/run`.
//!
//! The figure of merit is CPU time per unit of work, read from the scheduler's own accounting, with
//! the contenders taken in turn (A B A B …). Requests per second and latencies are printed as well,
//! but move with the neighbours on a shared machine.

#![expect(clippy::print_stdout, reason = "the figures are what the program is for")]

mod audit;
mod contenders;
mod cpu;
mod http;
mod idle;
mod load;
mod statistics;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next();
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wants("audit") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(audit::run())?;
    }
    if wants("http") {
        cpu::stay_beside()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(http::run(&mut arguments))?;
    }
    if only.as_deref() == Some("idle") {
        let connections = arguments.next().map_or(Ok(10_000), |number| number.parse())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(idle::run(connections))?;
    }
    Ok(())
}
