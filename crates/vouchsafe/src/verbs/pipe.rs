//! `pipe`: standard input and output joined to a resource.

use vouchsafe_agent::pipe;
use vouchsafe_agent::tunnel::Tunnels;

use super::login::stepping_up;
use super::target::Named;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;

/// Joins standard input and output to a resource.
///
/// For `ssh -o ProxyCommand` and shell pipes. A refusal is told on standard error, with exit code 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ssh -o ProxyCommand='vouchsafe pipe %h:%p' build-host")]
pub(crate) struct Args {
    /// The resource, such as `build-host:22`; without a port it is the resource's own.
    #[arg(value_name = "RESOURCE[:PORT]")]
    resource: Named,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let device = call.device()?;
    let target = args.resource.resolve(&device)?;
    device.keep_fresh(&call.tasks);
    let step_up = stepping_up(call, &device);
    let tunnels = Tunnels::new(device, call.tasks.clone()).with_step_up(step_up).with_warned(Some(call.warned()));
    let tunnel = tunnels.open(&target.host, target.port).await?;
    let cut = |error: std::io::Error| VerbError::failed("the connection was cut").cause(error.to_string());
    tokio::select! {
        ended = pipe::run(tunnel) => ended.map_err(cut)?,
        interrupted = call.interrupted() => interrupted?,
    }
    Ok(Exit::Ok)
}
