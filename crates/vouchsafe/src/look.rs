//! The look at this host that `up` takes at its first start, so that the console can say what runs here. It is `assess` in a
//! process of its own, started before the sandbox is entered: the one that faces the network can't read the host any more, and
//! isn't held up. It reads only, takes so much time and memory at most, and answers through its standard output.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use vouchsafe_assess::report::Report;
use vouchsafe_wire::api::{AssessedDraft, AssessedFinding, AssessedPillar, AssessmentDoc};

use crate::prover::OURSELVES;

/// Largest answer, bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How long is waited for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most findings and drafts that are told.
const MOST: usize = 300;
/// Longest text of one, characters.
const MOST_CHARACTERS: usize = 300;

/// A look that is under way, without a runtime yet.
#[derive(Debug)]
pub(crate) struct Looking {
    answer: OwnedFd,
    process: Child,
}

/// Starts it; before the sandbox, while programs can be started. Without it the controller goes on.
pub(crate) fn try_start() -> Option<Looking> {
    let without = |error: io::Error| tracing::warn!(%error, "nobody looks at this host");
    start().map_err(without).ok()
}

fn start() -> io::Result<Looking> {
    let mut process = Command::new(OURSELVES)
        .arg("look")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let answer = process.stdout.take().ok_or_else(|| io::Error::other("it has no pipe"))?;
    Ok(Looking { answer: answer.into(), process })
}

/// What it found, once it is done.
pub(crate) async fn found(looking: Looking) -> Option<AssessmentDoc> {
    let Looking { answer, mut process } = looking;
    let read = async {
        let mut bytes = Vec::new();
        pipe::Receiver::from_owned_fd(answer)?.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).await?;
        io::Result::Ok(bytes)
    };
    // Whoever writes into a pipe that is closed ends, and time that it computes is limited, so it needs nobody to end it.
    let bytes = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the look at this host told nothing");
            return None;
        }
        Err(_) => {
            tracing::warn!("the look at this host took too long");
            return None;
        }
    };
    let ended = tokio::task::spawn_blocking(move || process.wait()).await;
    match (serde_json::from_slice(&bytes), ended) {
        (Ok(found), Ok(Ok(status))) if status.success() => Some(found),
        (_, ended) => {
            tracing::warn!(?ended, "the look at this host told nothing that can be used");
            None
        }
    }
}

/// A report as a controller keeps it.
pub(crate) fn doc(report: &Report) -> AssessmentDoc {
    let pillars = report.score.pillars.iter().map(|pillar| AssessedPillar {
        name: pillar.pillar.name().to_owned(),
        stage: pillar.stage.map(|stage| stage.name().to_owned()),
        points: pillar.points,
        reasons: pillar.functions.iter().map(|one| short(&format!("{}: {}", one.name, one.reason))).collect(),
    });
    let findings = report.findings.iter().take(MOST).map(|finding| AssessedFinding {
        id: finding.id.to_owned(),
        severity: finding.severity.word().to_owned(),
        what: short(&finding.what),
        remedy: short(finding.remedy),
    });
    let drafts = report.drafts.iter().take(MOST).map(|draft| AssessedDraft {
        name: draft.name.clone(),
        kind: draft.kind.to_owned(),
        upstream: draft.upstream.clone(),
        description: short(&draft.description),
        from: draft.from.iter().take(32).map(ToString::to_string).collect(),
        questions: draft.questions.iter().take(4).map(|question| short(question)).collect(),
    });
    let unlisted: usize = report.not_listed.values().sum();
    AssessmentDoc {
        taken_at: report.taken_at,
        host: report.host.as_deref().map(short),
        system: report.system.as_deref().map(short),
        pillars: pillars.collect(),
        findings: findings.collect(),
        more_findings: (report.findings.len().saturating_sub(MOST) + unlisted) as u64,
        gaps: report.gaps.len() as u64,
        drafts: drafts.collect(),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= MOST_CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(MOST_CHARACTERS).chain(['…']).collect()
}
