//! The prover as a process of its own, since the solver is a program and a controller in its sandbox can't start
//! one. It is started before the sandbox is entered, has one of its own, and answers through its standard input and
//! output: a question and an answer are each four bytes of length, big endian, and that much JSON
//! (`vouchsafe_wire::proof`). For each question it starts this program anew (`--once`), so that a proof which goes
//! wrong costs that proof and nothing else.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use vouchsafe_control::{Controller, ProverError};
use vouchsafe_proof::{Asked as Thing, Case, Finding, Limits, Proof, Scope, Verdict};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_runtime::link::BoxFuture;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::api::PolicyFileDoc;
use vouchsafe_wire::proof::{About, CaseDoc, FindingDoc, ProofAnswer, ProofOutcome, ProofQuestion, VerdictDoc};
use vouchsafe_wire::ticket::hex;

use crate::sandbox::Demand;

/// Largest question or answer, bytes.
pub(crate) const MAX_FRAME_BYTES: u32 = 16 << 20;
/// Time for one question to the solver.
const EACH: Duration = Duration::from_secs(10);
/// Time for all of one publish.
const ALL: Duration = Duration::from_secs(40);
/// When the process of one publish is ended, whatever it does.
pub(crate) const END: Duration = Duration::from_secs(50);
/// How long an answer may take, from its question on.
const PATIENCE: Duration = Duration::from_secs(55);
/// Most publishes that wait for those before them to be proven.
const MOST_WAITING: usize = 4;
/// Says, in the place of a question, that the one before needs no answer any more. By itself it is none.
pub(crate) const NEVER_MIND: &[u8] = b"";
/// Memory of each of the solver's processes, KiB.
const MEMORY_KIB: u64 = 2 << 20;
/// This very program, also after its file was replaced.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// A prover that runs, without a runtime yet.
#[derive(Debug)]
pub(crate) struct Started {
    questions: OwnedFd,
    answers: OwnedFd,
    process: Child,
}

/// Starts it; before the sandbox, while programs can be started.
///
/// # Errors
/// What the system says.
fn start(solver: &Path, sandbox: Demand) -> io::Result<Started> {
    // A path from where we are, since the process will be elsewhere; a bare name is looked for in `PATH`.
    let solver = if solver.components().count() > 1 { std::path::absolute(solver)? } else { solver.to_owned() };
    let mut process = Command::new(OURSELVES)
        .args(["prover".into(), "--sandbox".into(), word(sandbox), "--solver".into(), solver.into_os_string()])
        .env_clear()
        // Where the solver may be.
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(io::Error::other("it has no pipes"));
    };
    Ok(Started { questions: questions.into(), answers: answers.into(), process })
}

/// [`start`]; when that fails, the controller goes on without.
pub(crate) fn try_start(solver: &Path, sandbox: Demand) -> Option<Started> {
    let without = |error: io::Error| tracing::warn!(%error, "no prover: policies with invariants can't be published");
    start(solver, sandbox).map_err(without).ok()
}

/// What is demanded of the controller's sandbox is demanded of the prover's, too. That one is never off: it is what
/// runs a foreign program.
fn word(sandbox: Demand) -> OsString {
    match sandbox {
        Demand::Require => "require".into(),
        Demand::BestEffort | Demand::Off => "best-effort".into(),
    }
}

/// Gives the controller its prover.
pub(crate) fn prove_with(controller: &Controller, started: Option<Started>, tasks: &TaskGroup) {
    let Some(started) = started else { return };
    match Prover::new(started, tasks) {
        Ok(prover) => controller.prove_with(prover),
        Err(error) => tracing::warn!(%error, "no prover: policies with invariants can't be published"),
    }
}

/// The prover as the controller knows it.
struct Prover(mpsc::Sender<Asked>);

type Answer = Result<ProofAnswer, ProverError>;

/// A question, and who waits for the answer.
struct Asked(ProofQuestion, oneshot::Sender<Answer>);

impl Prover {
    /// The process ends when `tasks` do.
    ///
    /// # Errors
    /// What the system says.
    fn new(started: Started, tasks: &TaskGroup) -> io::Result<Arc<Self>> {
        let Started { questions, answers, process } = started;
        let mut pipes = (pipe::Sender::from_owned_fd(questions)?, pipe::Receiver::from_owned_fd(answers)?);
        let (sender, mut receiver) = mpsc::channel::<Asked>(MOST_WAITING);
        let until = tasks.clone();
        // A task of its own, so that who stops waiting leaves no answer in the pipe for the next one. One question
        // after the other: each uses all cores.
        tasks.spawn("prover", async move {
            let _process = process;
            loop {
                let asked = tokio::select! {
                    asked = receiver.recv() => asked,
                    () = until.draining() => return,
                };
                let Some(Asked(question, waits)) = asked else { return };
                if waits.is_closed() {
                    continue;
                }
                let mut waits = waits;
                let answer = ask(&mut pipes, &question, &mut waits).await;
                let failed = answer.is_err();
                let _ = waits.send(answer);
                if failed {
                    tracing::error!("the prover's process has ended: what must be proven of a policy can't be");
                    return;
                }
            }
        });
        Ok(Arc::new(Self(sender)))
    }

    async fn ask(&self, question: ProofQuestion) -> Answer {
        let gone = || ProverError("the prover's process has ended; start the controller again".to_owned());
        let (waits, answer) = oneshot::channel();
        self.0.try_send(Asked(question, waits)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProverError("too many policies wait to be proven".to_owned()),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())?
    }
}

async fn ask(
    (questions, answers): &mut (pipe::Sender, pipe::Receiver),
    question: &ProofQuestion,
    waits: &mut oneshot::Sender<Answer>,
) -> Answer {
    let broken = |why: String| ProverError(format!("the prover's process did not answer: {why}"));
    let question = serde_json::to_vec(question).map_err(|error| broken(error.to_string()))?;
    let exchange = async {
        write_frame(questions, &question).await?;
        let mut answer = std::pin::pin!(read_frame(answers));
        tokio::select! {
            answer = &mut answer => answer,
            // Nobody wants to know any more. What is asked next waits for no more than the word that it ended.
            () = waits.closed() => {
                write_frame(questions, NEVER_MIND).await?;
                answer.await
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await;
    let answer = answer.map_err(|_| broken(format!("not within {} s", PATIENCE.as_secs())))?;
    let answer = answer.map_err(|error| broken(error.to_string()))?;
    let answer = answer.ok_or_else(|| broken("it has ended".to_owned()))?;
    let answer: ProofAnswer = serde_json::from_slice(&answer).map_err(|error| broken(error.to_string()))?;
    if answer.of == fingerprint(&question) { Ok(answer) } else { Err(broken("it answered something else".to_owned())) }
}

/// What a question is known by.
pub(crate) fn fingerprint(question: &[u8]) -> String {
    hex(&sha256(question))
}

impl vouchsafe_control::Prover for Prover {
    fn prove(&self, question: ProofQuestion) -> BoxFuture<'_, Result<Vec<FindingDoc>, ProverError>> {
        Box::pin(async move {
            match self.ask(question).await?.outcome {
                ProofOutcome::Findings(findings) => Ok(findings),
                ProofOutcome::Failed(why) => Err(ProverError(why)),
            }
        })
    }
}

/// Reads one frame; none when there are no more.
///
/// # Errors
/// As the stream, and when it is too large or doesn't come whole.
pub(crate) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::other("a frame that is too large"));
    }
    let mut frame = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut frame).await?;
    if frame.len() != length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

/// Writes one frame.
///
/// # Errors
/// As the stream, and when it is too large.
pub(crate) async fn write_frame(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let too_large = || io::Error::other("a frame that is too large");
    let length = u32::try_from(frame.len()).ok().filter(|length| *length <= MAX_FRAME_BYTES).ok_or_else(too_large)?;
    to.write_u32(length).await?;
    to.write_all(frame).await?;
    to.flush().await
}

/// Answers one question. Blocks.
pub(crate) fn answer(question: &ProofQuestion, solver: &Path) -> ProofOutcome {
    findings(question, solver).map_or_else(ProofOutcome::Failed, ProofOutcome::Findings)
}

fn findings(question: &ProofQuestion, solver: &Path) -> Result<Vec<FindingDoc>, String> {
    let ProofQuestion { files, former, invariants, now } = question;
    let plain = |files: &[PolicyFileDoc]| {
        let files: Vec<_> = crate::verbs::policy::sources(files);
        vouchsafe_policy::plain(&files, &side_by_side).map_err(|_| "the policies can't be read".to_owned())
    };
    let policies = plain(files)?;
    let no_more_than = former.as_deref().map(plain).transpose()?;
    let invariants = vouchsafe_proof::read(invariants.iter().map(|file| (file.name.as_str(), file.text.as_str())))
        .map_err(|wrong| wrong.first().map(ToString::to_string).unwrap_or_default())?;
    let proof = Proof {
        policies: &policies,
        invariants,
        scope: Scope { no_more_than, each: false, computing: true },
        now: clock::from_unix_seconds(*now),
    };
    let limits = Limits { time: EACH, all: Some(ALL), memory_kib: MEMORY_KIB };
    let solver = vouchsafe_proof::find(solver).map_err(|error| error.to_string())?;
    let report = vouchsafe_proof::prove(proof, &solver, limits, |_, _| {}).map_err(|error| error.to_string())?;
    Ok(report.findings.into_iter().map(finding).collect())
}

/// A finding as it is told.
pub(crate) fn finding(from: Finding) -> FindingDoc {
    let Finding { asked, verdict } = from;
    let nothing = String::new;
    let (about, name, claim, reason, file, line) = match asked {
        Thing::Invariant { name, claim, reason, file, line } => {
            (About::Invariant, name, claim.to_owned(), reason, file, line)
        }
        Thing::NoMore => (About::NoMore, nothing(), nothing(), nothing(), nothing(), 0),
        Thing::CannotFail { policy } => (About::CannotFail, policy, nothing(), nothing(), nothing(), 0),
        Thing::Applies { policy } => (About::Applies, policy, nothing(), nothing(), nothing(), 0),
    };
    let (verdict, why, case) = match verdict {
        Verdict::Proven => (VerdictDoc::Proven, nothing(), None),
        Verdict::Vacant => (VerdictDoc::Vacant, nothing(), None),
        Verdict::Open { why } => (VerdictDoc::Open, why, None),
        Verdict::Refuted { case } => (VerdictDoc::Refuted, nothing(), Some(told(*case))),
    };
    FindingDoc { about, name, claim, reason, file, line, verdict, why, case }
}

fn told(case: Case) -> CaseDoc {
    let Case { principal, action, resource, facts, allowed, policies, fails } = case;
    CaseDoc { principal, action, resource, facts, allowed, policies, fails }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_whole_or_refused() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"one").await.unwrap();
        write_frame(&mut bytes, b"").await.unwrap();
        let mut all = bytes.as_slice();
        assert_eq!(read_frame(&mut all).await.unwrap().unwrap(), b"one");
        assert_eq!(read_frame(&mut all).await.unwrap().unwrap(), b"");
        assert_eq!(read_frame(&mut all).await.unwrap(), None);
        assert!(read_frame(&mut &bytes[..5]).await.is_err(), "half of one");
        assert!(read_frame(&mut &[0xff; 8][..]).await.is_err(), "one that is too large");
    }
}
