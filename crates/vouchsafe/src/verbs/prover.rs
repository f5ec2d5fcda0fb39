//! `prover`: what a controller starts for its proofs. Not for people.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use vouchsafe_wire::proof::{ProofAnswer, ProofOutcome, ProofQuestion};

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::prover::{END, MAX_FRAME_BYTES, NEVER_MIND, OURSELVES, answer, fingerprint, read_frame, write_frame};
use crate::sandbox::{self, Demand};

/// Memory for one proof without its solvers, bytes of addresses.
const MAX_MEMORY_BYTES: u64 = 8 << 30;

/// Answers questions about policies on standard input, for the controller that started it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  none: a controller starts it")]
pub(crate) struct Args {
    /// The solver.
    #[arg(long, value_name = "PROGRAM", default_value = "cvc5")]
    solver: PathBuf,
    /// Whether it goes on where its sandbox can't be complete.
    #[arg(long, value_enum, default_value = "best-effort")]
    sandbox: Demand,
    /// Answers one question, which is all of standard input.
    #[arg(long)]
    once: bool,
}

/// Gives up all but starting the solver.
pub(crate) fn confine(args: &Args) -> Result<(), VerbError> {
    if args.once {
        // The sandbox it has from whoever started it. A proof that needs more memory than this is none.
        let most = Rlimit { current: Some(MAX_MEMORY_BYTES), maximum: Some(MAX_MEMORY_BYTES) };
        setrlimit(Resource::As, most).map_err(|error| VerbError::of(Exit::Failed, &error))?;
    } else {
        let solver = vouchsafe_proof::find(&args.solver).ok();
        sandbox::enter_as_prover(args.sandbox, solver.as_deref())
            .map_err(|error| VerbError::of(Exit::Failed, &error))?;
    }
    Ok(())
}

/// # Errors
/// [`VerbError`], when standard input holds no questions.
pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    if args.once { once(args.solver).await } else { all(&args.solver, call).await }
}

async fn all(solver: &Path, call: &Call) -> Result<Exit, VerbError> {
    // Read in a task of its own: a frame that comes while a proof runs must not be lost in the middle.
    let (sender, mut questions) = tokio::sync::mpsc::channel(1);
    call.tasks.spawn("questions", async move {
        let mut input = tokio::io::stdin();
        while let Ok(Some(question)) = read_frame(&mut input).await {
            if sender.send(question).await.is_err() {
                break;
            }
        }
    });
    let mut answers = tokio::io::stdout();
    while let Some(question) = questions.recv().await {
        if question == NEVER_MIND {
            continue;
        }
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(END, apart(solver, &question)) => match outcome {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => ProofOutcome::Failed(format!("the proof ended early: {error}")),
                Err(_) => ProofOutcome::Failed(format!("the proof was not done within {} s", END.as_secs())),
            },
            // Whatever comes now, nobody waits for this one; the controller asks nothing before it is answered.
            _ = questions.recv() => ProofOutcome::Failed("nobody waited for it".to_owned()),
        };
        let answer = ProofAnswer { of: fingerprint(&question), outcome };
        write_frame(&mut answers, &json(&answer)?).await?;
    }
    Ok(Exit::Ok)
}

/// Has one question answered by a process of its own, which ends with this, and its solvers with it.
async fn apart(solver: &Path, question: &[u8]) -> std::io::Result<ProofOutcome> {
    let mut process = Command::new(OURSELVES)
        .args(["prover", "--once", "--solver"])
        .arg(solver)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let _group = Group(process.id());
    let (Some(mut input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(std::io::Error::other("no pipes"));
    };
    input.write_all(question).await?;
    drop(input);
    let answer = limited(output).await?;
    match serde_json::from_slice::<ProofAnswer>(&answer) {
        Ok(answer) if answer.of == fingerprint(question) => Ok(answer.outcome),
        Ok(_) => Err(std::io::Error::other("it answered something else")),
        Err(_) => Err(std::io::Error::other(process.wait().await?.to_string())),
    }
}

/// A group of processes that ends with this.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // There may be nobody left in it.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn once(solver: PathBuf) -> Result<Exit, VerbError> {
    let bytes = limited(tokio::io::stdin()).await?;
    let question: ProofQuestion = serde_json::from_slice(&bytes).map_err(|error| VerbError::of(Exit::Usage, &error))?;
    let outcome = tokio::task::spawn_blocking(move || answer(&question, &solver)).await;
    let outcome = outcome.unwrap_or_else(|_| ProofOutcome::Failed("the proof ended by a mistake of ours".to_owned()));
    let mut output = tokio::io::stdout();
    output.write_all(&json(&ProofAnswer { of: fingerprint(&bytes), outcome })?).await?;
    output.flush().await?;
    Ok(Exit::Ok)
}

fn json(answer: &ProofAnswer) -> Result<Vec<u8>, VerbError> {
    serde_json::to_vec(answer).map_err(|error| VerbError::of(Exit::Failed, &error))
}

async fn limited(from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.take(u64::from(MAX_FRAME_BYTES)).read_to_end(&mut all).await?;
    Ok(all)
}
