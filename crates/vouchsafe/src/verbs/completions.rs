//! `completions`: for the shells.

use clap_complete::Shell;

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe completions bash > /etc/bash_completion.d/vouchsafe")]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::command(), "vouchsafe", &mut script);
    call.out.raw(&script)?;
    Ok(Exit::Ok)
}
