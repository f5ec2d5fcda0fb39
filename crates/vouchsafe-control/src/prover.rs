//! Who proves what is to hold of a policy. Proofs need a solver, which is a program, and nothing in the
//! controller's sandbox starts one: whoever starts the controller brings a prover with it.

use vouchsafe_runtime::link::BoxFuture;
use vouchsafe_wire::proof::{FindingDoc, ProofQuestion};

/// Answers one question after the other.
pub trait Prover: Send + Sync + 'static {
    /// Proves, or says why not; each finding is of one thing that was asked. It takes up to a minute.
    fn prove(&self, question: ProofQuestion) -> BoxFuture<'_, Result<Vec<FindingDoc>, ProverError>>;
}

/// Nothing could be asked, and so nothing is proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProverError(
    /// Why, in one line.
    pub String,
);
