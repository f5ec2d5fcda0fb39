//! `logout`: ends the session on this device.

use vouchsafe_agent::session::{Session, SignOut};

use super::done;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;

/// Signs you out on this device.
///
/// Tells the installation, which cuts what is open, and forgets the tokens here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe logout")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, call: &Call) -> Result<Exit, VerbError> {
    match Session::on(call.device()?).sign_out().await {
        Ok(SignOut::Was(user)) => done(call, &format!("signed out {user}")),
        Ok(SignOut::NobodyWas) => done(call, "nobody was signed in"),
        Err(error) => {
            Err(VerbError::from(error).hint("the tokens here are gone; the session itself could not be ended and ends by its time, or with `vouchsafe session remove`"))
        }
    }
}
