//! What is proven of a policy before it is published (I8): its invariants, and that no policy can fail.
//!
//! A proof may take a minute, so it is made before the writer is taken. What comes out is a token that says of
//! which files it is, and the publish takes no other.

use aws_lc_rs::digest;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_wire::api::PolicyFileDoc;
use vouchsafe_wire::proof::{About, FindingDoc, ProofQuestion, VerdictDoc};

use super::{AdministratorError, gate, policy};
use crate::context::Context;
use crate::store::policy::to_engine;

/// All that is to hold of certain files holds.
#[derive(Debug)]
pub(crate) struct Proven {
    /// Which files.
    of: [u8; 32],
    /// What was proven, and whether anything is allowed that was not before, if somebody asked.
    pub(crate) findings: Vec<FindingDoc>,
}

impl Proven {
    /// Whether it is about these policies and invariants.
    pub(crate) fn is_of(&self, files: &[PolicyFileDoc], invariants: &[PolicyFileDoc]) -> bool {
        self.of == fingerprint(&[files, invariants])
    }

    /// In one line, for the record; empty when nothing was asked.
    pub(crate) fn in_words(&self) -> String {
        let count = |about| self.findings.iter().filter(|finding| finding.about == about).count();
        let mut words = Vec::new();
        if count(About::Invariant) > 0 {
            words.push(format!("{} invariants proven", count(About::Invariant)));
        }
        for finding in self.findings.iter().filter(|finding| finding.about == About::NoMore) {
            words.push(match finding.verdict {
                VerdictDoc::Proven => "allows nothing that was not allowed before".to_owned(),
                VerdictDoc::Refuted => "allows something that was not allowed before".to_owned(),
                VerdictDoc::Vacant | VerdictDoc::Open => "whether it allows more than before is not known".to_owned(),
            });
        }
        words.join("; ")
    }
}

/// Proves what must hold of `files` before they are published; with `former` it also finds out whether they allow
/// anything that those don't, which is told and keeps nobody from publishing.
pub(crate) async fn prove(
    context: &Context,
    files: &[PolicyFileDoc],
    invariants: &[PolicyFileDoc],
    former: Option<&[PolicyFileDoc]>,
) -> Result<Proven, AdministratorError> {
    let of = fingerprint(&[files, invariants]);
    let computing = computing(files).await?;
    let must = !invariants.is_empty() || !computing.is_empty();
    if !must && former.is_none() {
        return Ok(Proven { of, findings: Vec::new() });
    }
    let answer = match context.prover.get() {
        Some(prover) => {
            let question = ProofQuestion {
                files: files.to_vec(),
                former: former.map(<[_]>::to_vec),
                invariants: invariants.to_vec(),
                now: clock::unix_seconds(clock::now()),
            };
            prover.prove(question).await.map_err(|error| error.to_string())
        }
        None => Err("this controller was started without a prover".to_owned()),
    };
    match answer {
        Ok(findings) => {
            let (asked, unproven) = (findings.len(), unproven(&findings));
            if !unproven.is_empty() {
                return Err(AdministratorError::Unproven { unproven, asked });
            }
            if must && !answers(&findings, &computing, count(invariants)) {
                let why = "the prover did not answer everything that it was asked".to_owned();
                return Err(AdministratorError::NoProof { why, computing: computing.into_iter().next() });
            }
            Ok(Proven { of, findings })
        }
        Err(why) if must => Err(AdministratorError::NoProof { why, computing: computing.into_iter().next() }),
        Err(why) => Ok(Proven { of, findings: vec![nobody_knows(why)] }),
    }
}

/// How many invariants the files hold, which are right: the prover has read them.
fn count(files: &[PolicyFileDoc]) -> usize {
    let of = |file: &PolicyFileDoc| {
        let table: Option<toml::Table> = file.text.parse().ok();
        table.and_then(|table| table.get("invariants")?.as_array().map(Vec::len)).unwrap_or_default()
    };
    files.iter().map(of).sum()
}

/// Whether everything that was asked was answered: a prover that says nothing has proven nothing.
fn answers(findings: &[FindingDoc], computing: &[String], invariants: usize) -> bool {
    let about = |about| findings.iter().filter(move |finding| finding.about == about);
    about(About::Invariant).count() == invariants
        && computing.iter().all(|policy| about(About::CannotFail).any(|finding| finding.name == *policy))
}

fn unproven(findings: &[FindingDoc]) -> Vec<FindingDoc> {
    let must = findings.iter().filter(|finding| finding.about != About::NoMore);
    must.filter(|finding| finding.verdict != VerdictDoc::Proven).cloned().collect()
}

fn nobody_knows(why: String) -> FindingDoc {
    FindingDoc {
        about: About::NoMore,
        name: String::new(),
        claim: String::new(),
        reason: String::new(),
        file: String::new(),
        line: 0,
        verdict: VerdictDoc::Open,
        why,
        case: None,
    }
}

/// Names of the policies that could fail: those that compute.
async fn computing(files: &[PolicyFileDoc]) -> Result<Vec<String>, AdministratorError> {
    let files = to_engine(files);
    let read = move || vouchsafe_policy::plain(&files, &side_by_side);
    let policies = tokio::task::spawn_blocking(read).await.map_err(|_| AdministratorError::BrokenOff)?;
    let invalid = |found: Vec<vouchsafe_policy::Diagnostic>| AdministratorError::PolicyInvalid {
        diagnostics: found.into_iter().map(gate::diagnostic).collect(),
    };
    let policies = policies.map_err(invalid)?;
    Ok(policies.into_iter().filter(|policy| policy.computes).map(|policy| policy.name.to_string()).collect())
}

/// SHA-256 of files, whose order says nothing.
pub(super) fn fingerprint(parts: &[&[PolicyFileDoc]]) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        for PolicyFileDoc { name, text } in policy::sorted(part) {
            for piece in [name, text] {
                hash.update(&u64::try_from(piece.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(piece.as_bytes());
            }
        }
    }
    let mut of = [0; 32];
    of.copy_from_slice(hash.finish().as_ref());
    of
}

#[cfg(test)]
mod tests;
