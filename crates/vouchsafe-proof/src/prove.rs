//! All questions, side by side on as many solvers as there are cores.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Instant, SystemTime};

use cedar_policy::PolicySet;
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet};
use serde::Serialize;
use vouchsafe_policy::PlainPolicy;

use crate::case::{Case, try_out};
use crate::invariant::{Claim, Invariant};
use crate::question::{Ask, Material, Scope};
use crate::solver::{self, Limits, SolverError};

/// Most solvers that run side by side, each with memory of its own.
const MOST_WORKERS: usize = 4;

/// How a question came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// There is no case against it.
    Proven,
    /// Here is one.
    Refuted {
        /// The case.
        case: Box<Case>,
    },
    /// There is nothing it could be about, so that it says nothing.
    Vacant,
    /// Nobody knows, which is not proven.
    Open {
        /// Why not.
        why: String,
    },
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "asked")]
pub enum Asked {
    /// An invariant.
    Invariant {
        /// Its name.
        name: String,
        /// `never` or `always`.
        claim: &'static str,
        /// Why it is there.
        reason: String,
        /// Where it stands.
        file: String,
        /// Line in the file, from 1.
        line: usize,
    },
    /// That nothing is allowed which was not before.
    NoMore,
    /// That a policy can't fail.
    CannotFail {
        /// Its `@id`.
        policy: String,
    },
    /// That there is something a policy applies to.
    Applies {
        /// Its `@id`.
        policy: String,
    },
}

/// One question and its verdict over all kinds of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was asked.
    #[serde(flatten)]
    pub asked: Asked,
    /// How it came out.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All findings; invariants first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all is proven.
    pub proven: bool,
    /// Each question.
    pub findings: Vec<Finding>,
}

/// What is to be proven.
#[derive(Debug)]
pub struct Proof<'p> {
    /// The policies.
    pub policies: &'p [PlainPolicy],
    /// What is to hold of them.
    pub invariants: Vec<Invariant>,
    /// What else.
    pub scope: Scope,
    /// Permits that have expired by now don't count.
    pub now: SystemTime,
}

/// Asks the solver everything. `progress` hears how many questions of how many are done.
///
/// Blocks the thread that calls it, for up to the time that the limits give each question.
///
/// # Errors
/// [`SolverError`], when not one solver starts.
pub fn prove(
    proof: Proof<'_>,
    solver: &Path,
    limits: Limits,
    mut progress: impl FnMut(usize, usize),
) -> Result<Report, SolverError> {
    let Proof { policies, invariants, scope, now } = proof;
    let material = Material::new(policies, invariants, &scope, now)
        .map_err(|cause| SolverError::Start { path: solver.to_owned(), cause })?;
    let asks = material.asks(&scope);
    // That it starts is known before anything is asked of it.
    let start = || runtime(solver, |runtime| runtime.block_on(async { solver::start(solver, limits).map(drop) }))?;
    on_a_thread(start, solver)?;
    let end = limits.all.and_then(|all| Instant::now().checked_add(all));
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    let mut answers: Vec<(usize, Ask, Verdict)> = Vec::with_capacity(asks.len());
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_WORKERS).min(asks.len());
    thread::scope(|threads| {
        for _ in 0..workers {
            let (tell, material, asks, next) = (tell.clone(), &material, &asks, &next);
            threads.spawn(move || {
                let work = |runtime: tokio::runtime::Runtime| {
                    runtime.block_on(async {
                        let mut worker =
                            Worker { material, path: solver, limits, solver: None, compiled: BTreeMap::new() };
                        while let Some((kind, ask)) = asks.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let verdict = if end.is_some_and(|end| Instant::now() >= end) {
                                Verdict::Open { why: "there was no time left to ask".to_owned() }
                            } else {
                                worker.answer(*kind, *ask).await
                            };
                            if tell.send((*kind, *ask, verdict)).is_err() {
                                break;
                            }
                        }
                    });
                };
                let _ = runtime(solver, work);
            });
        }
        drop(tell);
        for answer in told {
            answers.push(answer);
            progress(answers.len(), asks.len());
        }
    });
    let complete = answers.len() == asks.len();
    Ok(report(&material, &scope, answers, complete))
}

/// Runs something beside whatever runtime the caller may have.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, SolverError> + Send, path: &Path) -> Result<T, SolverError> {
    let panicked = |_| SolverError::Start { path: path.to_owned(), cause: "its thread ended".to_owned() };
    thread::scope(|threads| threads.spawn(work).join()).map_err(panicked)?
}

fn runtime<T>(path: &Path, work: impl FnOnce(tokio::runtime::Runtime) -> T) -> Result<T, SolverError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = |error: std::io::Error| SolverError::Start { path: path.to_owned(), cause: error.to_string() };
    built.map(work).map_err(failed)
}

struct Worker<'m> {
    material: &'m Material,
    path: &'m Path,
    limits: Limits,
    solver: Option<CedarSymCompiler<LocalSolver>>,
    /// By kind of request and which set.
    compiled: BTreeMap<(usize, Which), CompiledPolicySet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    Widest,
    Possible,
    Lasting,
    Former,
    Invariant(usize),
}

impl Worker<'_> {
    async fn answer(&mut self, kind: usize, ask: Ask) -> Verdict {
        let open = |why: String| Verdict::Open { why };
        // The solver ends a question itself; this is for one that doesn't.
        let patience = self.limits.time * 2;
        let answer = match tokio::time::timeout(patience, self.ask(kind, ask)).await {
            Ok(answer) => answer,
            Err(_) => Err(unknown()),
        };
        match answer {
            Ok(verdict) => verdict,
            Err(error) => {
                // What it has in hand can't be trusted any more.
                self.solver = None;
                open(match *error {
                    Error::SolverUnknown => format!("the solver did not find out within {:?}", self.limits.time),
                    other => format!("the solver did not answer: {other}"),
                })
            }
        }
    }

    async fn ask(&mut self, kind: usize, ask: Ask) -> Result<Verdict, Box<Error>> {
        let material = self.material;
        let mut solver = match self.solver.take() {
            Some(solver) => solver,
            None => match solver::start(self.path, self.limits) {
                Ok(solver) => solver,
                Err(error) => return Ok(Verdict::Open { why: error.to_string() }),
            },
        };
        let verdict = match ask {
            Ask::Holds(index) => {
                let about = self.set(kind, Which::Invariant(index))?.clone();
                match material.invariants.get(index).map(|invariant| invariant.claim) {
                    Some(Claim::Never) => {
                        let all = self.set(kind, Which::Widest)?;
                        let found =
                            solver.check_disjoint_with_counterexample_opt(all, &about).await.map_err(Box::new)?;
                        found.map_or(Verdict::Proven, |found| allowed(try_out(&found, &material.widest)))
                    }
                    Some(Claim::Always) => {
                        let lasting = self.set(kind, Which::Lasting)?;
                        let found =
                            solver.check_implies_with_counterexample_opt(&about, lasting).await.map_err(Box::new)?;
                        found.map_or(Verdict::Proven, |found| denied(try_out(&found, &material.lasting)))
                    }
                    None => return Err(unknown()),
                }
            }
            Ask::Speaks(index) => {
                let about = self.set(kind, Which::Invariant(index))?;
                about_something(!solver.check_always_denies_opt(about).await.map_err(Box::new)?)
            }
            Ask::NoMore => {
                let now = self.set(kind, Which::Possible)?.clone();
                let before = self.set(kind, Which::Former)?;
                let found = solver.check_implies_with_counterexample_opt(&now, before).await.map_err(Box::new)?;
                found.map_or(Verdict::Proven, |found| allowed(try_out(&found, &material.possible)))
            }
            Ask::CannotFail(index) => {
                let (policy, alone) = self.policy(kind, index)?;
                let found = solver.check_never_errors_with_counterexample_opt(&policy).await.map_err(Box::new)?;
                found.map_or(Verdict::Proven, |found| failing(try_out(&found, &alone)))
            }
            Ask::Applies(index) => {
                let (policy, _) = self.policy(kind, index)?;
                about_something(!solver.check_never_matches_opt(&policy).await.map_err(Box::new)?)
            }
        };
        self.solver = Some(solver);
        Ok(verdict)
    }

    fn policy(&self, kind: usize, index: usize) -> Result<(CompiledPolicy, PolicySet), Box<Error>> {
        let Material { schema, kinds, policies, .. } = self.material;
        let (Some(env), Some(policy)) = (kinds.get(kind), policies.get(index)) else {
            return Err(unknown());
        };
        let alone = PolicySet::from_policies([policy.clone()]).map_err(|_| unknown())?;
        Ok((CompiledPolicy::compile(policy, env, schema).map_err(Box::new)?, alone))
    }

    fn set(&mut self, kind: usize, which: Which) -> Result<&CompiledPolicySet, Box<Error>> {
        let material = self.material;
        let env = material.kinds.get(kind).ok_or_else(unknown)?;
        match self.compiled.entry((kind, which)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let set = match which {
                    Which::Widest => &material.widest,
                    Which::Possible => &material.possible,
                    Which::Lasting => &material.lasting,
                    Which::Former => material.former.as_ref().ok_or_else(unknown)?,
                    Which::Invariant(index) => &material.invariants.get(index).ok_or_else(unknown)?.about,
                };
                Ok(place.insert(CompiledPolicySet::compile(set, env, &material.schema).map_err(Box::new)?))
            }
        }
    }
}

/// Nothing is known.
fn unknown() -> Box<Error> {
    Box::new(Error::SolverUnknown)
}

const NOT_SO: &str = "the solver's case turned out otherwise when it was tried";

/// A case that must be allowed to speak against something.
fn allowed(case: Case) -> Verdict {
    match (&case.fails, case.allowed) {
        (None, true) => Verdict::Refuted { case: Box::new(case) },
        // The engine denies it; whether there is another case isn't known.
        (Some(fails), _) => {
            Verdict::Open { why: format!("the case that was found is one where a policy fails: {fails}") }
        }
        (None, false) => Verdict::Open { why: NOT_SO.to_owned() },
    }
}

/// A case that must be denied to speak against something.
fn denied(case: Case) -> Verdict {
    match case.fails.is_none() && case.allowed {
        true => Verdict::Open { why: NOT_SO.to_owned() },
        false => Verdict::Refuted { case: Box::new(case) },
    }
}

/// A case on which a policy fails.
fn failing(case: Case) -> Verdict {
    match case.fails.is_some() {
        true => Verdict::Refuted { case: Box::new(case) },
        false => Verdict::Open { why: NOT_SO.to_owned() },
    }
}

fn about_something(something: bool) -> Verdict {
    if something { Verdict::Proven } else { Verdict::Vacant }
}

/// One verdict of those on each kind of request.
fn together(ask: Ask, of_kinds: &[Verdict]) -> Verdict {
    let one = |wanted: fn(&Verdict) -> bool| of_kinds.iter().find(|verdict| wanted(verdict)).cloned();
    let refuted = |verdict: &Verdict| matches!(verdict, Verdict::Refuted { .. });
    let open = |verdict: &Verdict| matches!(verdict, Verdict::Open { .. });
    let proven = |verdict: &Verdict| *verdict == Verdict::Proven;
    match ask {
        // Something of one kind is enough.
        Ask::Speaks(_) | Ask::Applies(_) => one(proven).or_else(|| one(open)).unwrap_or(Verdict::Vacant),
        Ask::Holds(_) | Ask::CannotFail(_) | Ask::NoMore => {
            one(refuted).or_else(|| one(open)).unwrap_or(Verdict::Proven)
        }
    }
}

fn report(material: &Material, scope: &Scope, mut answers: Vec<(usize, Ask, Verdict)>, complete: bool) -> Report {
    answers.sort_by_key(|(kind, ask, _)| (*ask, *kind));
    let mut by_ask: BTreeMap<Ask, Vec<Verdict>> = BTreeMap::new();
    for (_, ask, verdict) in answers {
        by_ask.entry(ask).or_default().push(verdict);
    }
    let verdicts: BTreeMap<Ask, Verdict> =
        by_ask.into_iter().map(|(ask, of_kinds)| (ask, together(ask, &of_kinds))).collect();
    let of = |ask: Ask| match (verdicts.get(&ask), complete) {
        (Some(verdict), true) => verdict.clone(),
        (Some(_) | None, _) => Verdict::Open { why: "not everything was asked".to_owned() },
    };
    let name = |index: usize| material.policies.get(index).map_or_else(String::new, |policy| policy.id().to_string());
    let mut findings = Vec::new();
    for (index, invariant) in material.invariants.iter().enumerate() {
        let mut verdict = match of(Ask::Speaks(index)) {
            Verdict::Proven => of(Ask::Holds(index)),
            other => other,
        };
        if invariant.claim == Claim::Always && verdict == Verdict::Proven {
            let weak = material.computing().find(|policy| of(Ask::CannotFail(*policy)) != Verdict::Proven);
            if let Some(policy) = weak {
                let why = format!("the policy `{}` may fail, which denies whatever else allows", name(policy));
                verdict = Verdict::Open { why };
            }
        }
        let Invariant { name, claim, reason, file, line, .. } = invariant;
        let asked = Asked::Invariant {
            name: name.to_string(),
            claim: claim.as_str(),
            reason: reason.clone(),
            file: file.clone(),
            line: *line,
        };
        findings.push(Finding { asked, verdict });
    }
    if material.former.is_some() {
        findings.push(Finding { asked: Asked::NoMore, verdict: of(Ask::NoMore) });
    }
    if scope.each {
        for index in 0..material.policies.len() {
            let policy = name(index);
            let (fails, applies) = (of(Ask::CannotFail(index)), of(Ask::Applies(index)));
            findings.push(Finding { asked: Asked::CannotFail { policy: policy.clone() }, verdict: fails });
            findings.push(Finding { asked: Asked::Applies { policy }, verdict: applies });
        }
    } else if scope.computing {
        findings.extend(material.computing().map(|index| Finding {
            asked: Asked::CannotFail { policy: name(index) },
            verdict: of(Ask::CannotFail(index)),
        }));
    }
    Report { proven: findings.iter().all(|finding| finding.verdict == Verdict::Proven), findings }
}
