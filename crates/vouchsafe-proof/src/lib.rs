//! Proofs about policies: what holds for every user, device, resource and circumstance there can be,
//! and not only for those that there are.
//!
//! Cedar's symbolic compiler turns a question about policies into one about formulas, and a solver
//! (cvc5, a program of its own) answers it: there is no case, or here is one. What it can't answer in
//! its time counts as not proven.
//!
//! - `invariant`: what is to hold, as people write it
//! - `solver`: the program, and what it may use
//! - `question`: policies and invariants as one question for each kind of request
//! - `prove`: all questions, side by side
//! - `case`: a counterexample, tried out on Cedar's own evaluator and told in words

mod case;
mod invariant;
mod prove;
mod question;
mod solver;

pub use case::Case;
pub use invariant::{Claim, Invariant, InvariantError, read};
pub use prove::{Asked, Finding, Proof, Report, Verdict, prove};
pub use question::Scope;
pub use solver::{Limits, SolverError, find};
