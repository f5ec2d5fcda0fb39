//! `prover`: what a controller starts for its proofs. Not for people.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use vouchsafe_wire::proof::{ProofAnswer, ProofQuestion};

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::prover::{END, MAX_FRAME_BYTES, OURSELVES, answer, read_frame, write_frame};
use crate::sandbox::{self, Demand};

/// Answers questions about policies on standard input, for the controller that started it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  none: a controller starts it")]
pub(crate) struct Args {
    /// The solver.
    #[arg(long, value_name = "PROGRAM", default_value = "cvc5")]
    solver: PathBuf,
    /// Answers one question, which is all of standard input.
    #[arg(long)]
    once: bool,
}

/// Gives up all but starting the solver.
pub(crate) fn confine(args: &Args) -> Result<(), VerbError> {
    // What is started for one question has it from whoever started it.
    if !args.once {
        let solver = vouchsafe_proof::find(&args.solver).ok();
        sandbox::enter_as_prover(Demand::BestEffort, solver.as_deref())
            .map_err(|error| VerbError::of(Exit::Failed, &error))?;
    }
    Ok(())
}

/// # Errors
/// [`VerbError`], when standard input holds no questions.
pub(crate) async fn run(args: Args, _call: &Call) -> Result<Exit, VerbError> {
    if args.once { once(args.solver).await } else { all(&args.solver).await }
}

async fn all(solver: &Path) -> Result<Exit, VerbError> {
    let (mut questions, mut answers) = (tokio::io::stdin(), tokio::io::stdout());
    while let Some(question) = read_frame(&mut questions).await? {
        let answer = match tokio::time::timeout(END, apart(solver, &question)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => failed(&format!("the proof ended early: {error}")),
            Err(_) => failed(&format!("the proof was not done within {} s", END.as_secs())),
        };
        write_frame(&mut answers, &answer).await?;
    }
    Ok(Exit::Ok)
}

/// Has one question answered by a process of its own, which ends with this.
async fn apart(solver: &Path, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut process = Command::new(OURSELVES)
        .args(["prover", "--once", "--solver"])
        .arg(solver)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(std::io::Error::other("no pipes"));
    };
    tokio::io::AsyncWriteExt::write_all(&mut input, question).await?;
    drop(input);
    let answer = limited(output).await?;
    match serde_json::from_slice::<ProofAnswer>(&answer) {
        Ok(_) => Ok(answer),
        Err(_) => Err(std::io::Error::other(process.wait().await?.to_string())),
    }
}

async fn once(solver: PathBuf) -> Result<Exit, VerbError> {
    let question = limited(tokio::io::stdin()).await?;
    let question: ProofQuestion =
        serde_json::from_slice(&question).map_err(|error| VerbError::of(Exit::Usage, &error))?;
    let answer = tokio::task::spawn_blocking(move || answer(&question, &solver)).await;
    let answer = answer.unwrap_or_else(|_| ProofAnswer::Failed("the proof ended by a mistake of ours".to_owned()));
    let answer = serde_json::to_vec(&answer).map_err(|error| VerbError::of(Exit::Failed, &error))?;
    tokio::io::AsyncWriteExt::write_all(&mut tokio::io::stdout(), &answer).await?;
    tokio::io::AsyncWriteExt::flush(&mut tokio::io::stdout()).await?;
    Ok(Exit::Ok)
}

async fn limited(from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.take(u64::from(MAX_FRAME_BYTES)).read_to_end(&mut all).await?;
    Ok(all)
}

fn failed(why: &str) -> Vec<u8> {
    serde_json::to_vec(&ProofAnswer::Failed(why.to_owned())).unwrap_or_default()
}
