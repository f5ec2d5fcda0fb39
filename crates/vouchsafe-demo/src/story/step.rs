//! One step: a request made, its answer read, and the audit log and the resource asked about it.

use http::StatusCode;
use vouchsafe_agent::Refusal;
use vouchsafe_agent::tunnel::{OpenError, Port, Tunnels};

use super::company::database_name;
use super::report::{Expectation, Proof, Report, Step, Verdict};
use super::witness::Witness;
use super::{Story, StoryError};
use crate::apps::Department;
use crate::browser::{BrowserError, Page};
use crate::laptop::{Answer, refusal_of};
use crate::postgres::PsqlAnswer;

/// Header of a denial that names its decision.
const DECISION_HEADER: &str = "x-vouchsafe-decision";

/// What a step is about.
pub(super) struct Scene<'s> {
    pub(super) chapter: &'static str,
    pub(super) by: &'s str,
    pub(super) on: &'s str,
    pub(super) from: &'s str,
    pub(super) asked: &'s str,
    /// Resource that is asked for.
    pub(super) resource: &'s str,
    pub(super) expected: Expectation,
}

/// What came back.
pub(super) struct Seen {
    verdict: Verdict,
    status: Option<u16>,
    decision: Option<String>,
    /// What the answer said, when that explains a failure.
    said: String,
    proofs: Vec<Proof>,
}

impl Seen {
    /// Adds something that was checked.
    pub(super) fn proof(mut self, what: impl Into<String>, held: bool) -> Self {
        self.proofs.push(Proof::notable(what, held));
        self
    }

    /// Reads a page of an app host, or why there was none.
    pub(super) fn page(page: Result<&Page, &BrowserError>) -> Self {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                return match refusal_of(error) {
                    Some(refusal) => Self::refusal(refusal),
                    None => Self::failed(chain(error)),
                };
            }
        };
        let to_sign_in =
            page.redirect().is_some_and(|to| to.path() == "/sign-in" && to.host_str() != page.url.host_str());
        let verdict = match page.status {
            status if status.is_success() => Verdict::Allowed,
            _ if to_sign_in => Verdict::SignIn,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Verdict::Denied,
            _ => Verdict::Failed,
        };
        let header = page.headers.get(DECISION_HEADER).and_then(|value| value.to_str().ok());
        Self {
            verdict,
            status: Some(page.status.as_u16()),
            decision: header.map(ToOwned::to_owned),
            said: page.text().chars().take(200).collect(),
            proofs: Vec::new(),
        }
    }

    /// Reads the answer to a raw CONNECT.
    pub(super) fn answer(answer: &Answer) -> Self {
        match &answer.problem {
            None if answer.status.is_success() => Self { status: Some(answer.status.as_u16()), ..Self::allowed() },
            problem => Self::refusal(&Refusal { status: answer.status.as_u16(), problem: problem.clone() }),
        }
    }

    /// Reads what `psql` said at the end of a tunnel.
    pub(super) fn psql(answer: &PsqlAnswer) -> Self {
        if answer.success { Self::allowed() } else { Self::failed(answer.stderr.clone()) }
    }

    /// Opens a tunnel and closes it at once.
    pub(super) async fn tunnel(tunnels: &Tunnels, host: &str, port: u16) -> Self {
        match tunnels.open(host, Port::Number(port)).await {
            Ok(_) => Self::allowed(),
            Err(OpenError::Refused(refusal)) => Self::refusal(&refusal),
            Err(error) => Self::failed(chain(&error)),
        }
    }

    fn allowed() -> Self {
        Self { verdict: Verdict::Allowed, status: None, decision: None, said: String::new(), proofs: Vec::new() }
    }

    fn failed(said: String) -> Self {
        Self { verdict: Verdict::Failed, said, ..Self::allowed() }
    }

    fn refusal(refusal: &Refusal) -> Self {
        let verdict = if refusal.is_denial() { Verdict::Denied } else { Verdict::Failed };
        let decision = refusal.problem.as_ref().and_then(|problem| problem.decision.clone());
        Self { verdict, status: Some(refusal.status), decision, said: refusal.title(), proofs: Vec::new() }
    }
}

impl Story {
    /// Makes one step and adds it to the report.
    pub(super) async fn step(
        &self,
        report: &mut Report,
        scene: Scene<'_>,
        act: impl AsyncFnOnce() -> Result<Seen, StoryError>,
    ) -> Result<(), StoryError> {
        let Scene { chapter, by, on, from, asked, resource, expected } = scene;
        let witness = Witness::before(&self.admin, resource).await?;
        let arrived_before = self.arrivals(resource)?;
        let seen = act().await?;
        let records = witness.after().await?;
        let arrived = self.arrivals(resource)?.zip(arrived_before).map(|(now, before)| now.saturating_sub(before));
        let Seen { verdict, status, decision, said, mut proofs } = seen;
        let record = records.first();
        let id = record.and_then(|record| record.id.clone());
        let stored = match &id {
            Some(id) => witness.count(id).await?,
            None => 0,
        };
        proofs.push(Proof::routine("one audit record", records.len() == 1 && stored == 1));
        if decision.is_some() {
            proofs.push(Proof::routine("the answer names that record", decision == id));
        }
        match (arrived, verdict) {
            (Some(count), Verdict::Allowed) => {
                proofs.push(Proof::notable(format!("{resource} was reached once"), count == 1));
            }
            (Some(count), Verdict::Denied | Verdict::SignIn | Verdict::Failed) => {
                proofs.push(Proof::notable(format!("nothing reached {resource}"), count == 0));
            }
            (None, _) => {}
        }
        let why = match (verdict, record.and_then(|record| record.words.clone())) {
            (Verdict::Failed, _) => said,
            (_, words) => words.unwrap_or_default(),
        };
        report.steps.push(Step {
            number: report.steps.len() + 1,
            chapter,
            by: by.to_owned(),
            on: on.to_owned(),
            from: from.to_owned(),
            asked: asked.to_owned(),
            expected,
            got: verdict,
            status,
            decision: id,
            reason: record.and_then(|record| record.reason.clone()),
            why,
            policies: record.map(|record| record.policies.clone()).unwrap_or_default(),
            proofs,
        });
        Ok(())
    }

    /// How often a resource itself was reached, by its own count; `None` when it keeps none here.
    fn arrivals(&self, resource: &str) -> Result<Option<u64>, StoryError> {
        let company = &self.company;
        for app in [&company.marketing, &company.finance] {
            if app.department().name() == resource {
                return Ok(Some(app.requests()));
            }
        }
        let Some(databases) = &company.databases else { return Ok(None) };
        for (department, cluster) in
            [(Department::Marketing, &databases.marketing), (Department::Finance, &databases.finance)]
        {
            if database_name(department) == resource {
                return Ok(Some(u64::try_from(cluster.connections()?).unwrap_or(u64::MAX)));
            }
        }
        Ok(None)
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
