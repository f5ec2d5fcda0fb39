//! One request before the policy engine: denied and recorded, or admitted, recorded and watched.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Response, StatusCode};
use vouchsafe_model::decision::{Decision, Reason};
use vouchsafe_model::id::{DecisionId, FlowId};
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_policy::{Admission, Engine, Tolerance};
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::spans;
use vouchsafe_wire::canonical::CanonicalTarget;

use crate::answer::{self, Form};
use crate::authenticate::{Presented, Proof};
use crate::decide::{self, Decided, Observed, Opened, Question, Who};
use crate::facts::{CredentialKey, Ready};
use crate::forward::http::ForwardError;
use crate::gateway::Shared;
use crate::lease::{self, Standing};
use crate::listen::Owner;
use crate::record::Until;
use crate::route::read::Connection;
use crate::sign_in::step_up::Demanded;
use crate::strangers::Stranger;
use crate::watch::{Basis, Claim, Flow};

/// A request whose way in and form of answer are known.
pub(super) struct Case<'r> {
    pub(super) shared: &'r Arc<Shared>,
    pub(super) connection: &'r Connection,
    pub(super) observed: Observed,
    pub(super) form: Form,
}

/// Who asks, and by what right she says so.
pub(super) struct Asker {
    pub(super) whose: Whose,
    /// Device proven on her connection.
    pub(super) device: Option<ProvenDevice>,
    /// Changes that had been seen before the facts were looked up.
    pub(super) seen: u64,
}

/// What is known of who asks.
pub(super) enum Whose {
    /// A subject.
    Subject {
        credential: CredentialKey,
        ready: Ready,
        /// Host label or token audience that the credential was accepted for.
        audience: Cow<'static, str>,
    },
    /// Nothing was said of it.
    Nobody { engine: Arc<Engine> },
}

impl Asker {
    /// Who asks, by what she shows on this connection for that host label or token audience; or why nobody is proven.
    pub(super) async fn proven(
        case: &Case<'_>,
        presented: Presented<'_>,
        audience: Cow<'static, str>,
        device: Option<&ProvenDevice>,
        engine: &Arc<Engine>,
    ) -> Result<Self, Reason> {
        let _stage = spans::stage("authenticate");
        let facts = &case.shared.facts;
        let seen = facts.changes_seen();
        let proof = Proof { presented, audience: &audience, device, last: &case.connection.familiar.token };
        let (credential, ready) = case.shared.authenticator.subject(proof, facts, engine).await?;
        Ok(Self { whose: Whose::Subject { credential, ready, audience }, device: device.cloned(), seen })
    }

    /// What is ready of the subject, where there is one.
    pub(super) fn ready(&self) -> Option<&Ready> {
        match &self.whose {
            Whose::Subject { ready, .. } => Some(ready),
            Whose::Nobody { .. } => None,
        }
    }

    /// Decides on what is asked.
    pub(super) fn admit(&self, question: &Question, now: SystemTime) -> Result<Admission, Decision> {
        match &self.whose {
            Whose::Subject { ready, .. } => question.admit(ready, now),
            Whose::Nobody { engine } => question.admit_nobody(engine, now),
        }
    }

    /// The policies that decide.
    fn engine(&self) -> &Arc<Engine> {
        match &self.whose {
            Whose::Subject { ready, .. } => ready.prepared.engine(),
            Whose::Nobody { engine } => engine,
        }
    }

    fn claim(&self) -> Claim {
        match &self.whose {
            Whose::Subject { credential, audience, .. } => {
                Claim::Credential { key: *credential, audience: audience.clone() }
            }
            Whose::Nobody { .. } => Claim::Nothing,
        }
    }
}

/// An admitted flow: registered, its decision recorded, and still admitted after that.
///
/// Only [`Case::admit`] makes one, and it keeps the canonical request that was decided on: what is
/// forwarded is taken from here, so it can't be another one (I2).
pub(crate) struct Admitted {
    admission: Admission,
    flow: Arc<Flow>,
    decided: Decided,
    target: Option<Arc<CanonicalTarget>>,
}

impl Admitted {
    /// What may be done, to what, by whom, and by what.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The flow, as the watch knows it.
    pub(crate) fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// Id of the decision.
    pub(crate) fn decision(&self) -> DecisionId {
        self.decided.id
    }

    /// The request that was decided on; `None` for a tunnel.
    pub(crate) fn target(&self) -> Option<&CanonicalTarget> {
        self.target.as_deref()
    }
}

impl Case<'_> {
    /// Denies without a subject.
    pub(super) async fn refuse(&self, reason: Reason, detail: Option<&str>) -> Response<Body> {
        self.deny(&Decided::denied(reason, &self.shared.current.engine()), None, detail).await
    }

    /// Denies without a subject, with a status of its own.
    pub(super) async fn refuse_as(&self, status: StatusCode, reason: Reason, detail: &str) -> Response<Body> {
        let decided = Decided::denied(reason, &self.shared.current.engine());
        match self.recorded(&decided, None).await {
            Ok(()) => answer::denial_as(&decided, status, self.form, Some(detail)),
            Err(unrecorded) => unrecorded,
        }
    }

    /// Records a denial, then tells the client.
    pub(super) async fn deny(&self, decided: &Decided, asker: Option<&Asker>, detail: Option<&str>) -> Response<Body> {
        let ready = asker.and_then(Asker::ready);
        if let Some(ready) = ready {
            self.connection.place.prove(owner(&ready.known.facts));
        }
        self.deny_subject(decided, ready.map(|ready| &*ready.who), detail).await
    }

    /// Denies what a policy denies; with the answer goes what a fresh sign-in would change.
    async fn deny_permit(
        &self,
        question: &Question,
        denial: Decision,
        asker: &Asker,
        at: SystemTime,
    ) -> Response<Body> {
        let step_up = denial.step_up;
        let mut response = self.deny(&Decided::new(denial, at), Some(asker), None).await;
        if let (Some(step_up), Some(ready)) = (step_up, asker.ready()) {
            let facts = &ready.known.facts;
            response.extensions_mut().insert(Demanded {
                step_up,
                user: facts.user.name.clone(),
                device: facts.device.as_ref().map(|device| device.id),
                age: at.duration_since(facts.auth.at).unwrap_or_default(),
                target: question.target().map(Arc::clone),
            });
        }
        response
    }

    async fn deny_subject(&self, decided: &Decided, who: Option<&Who>, detail: Option<&str>) -> Response<Body> {
        match self.recorded(decided, who).await {
            Ok(()) => answer::denial(decided, self.form, detail),
            Err(unrecorded) => unrecorded,
        }
    }

    /// Records a denial, or counts it where strangers are denied in masses.
    async fn recorded(&self, decided: &Decided, who: Option<&Who>) -> Result<(), Response<Body>> {
        Self::note(decided, None);
        let _recording = spans::stage("record");
        self.shared.counts.decided(decided.decision.reason);
        if who.is_none() && is_doubtful(decided.decision.reason) {
            match (&self.observed.proxy, self.observed.ip) {
                // The connection is the proxy's, which is proven; who failed is somewhere behind it.
                (Some(_), Some(ip)) => self.shared.census.guessed(ip, Instant::now()),
                (Some(_), None) | (None, _) => self.connection.place.doubt(),
            }
        }
        if who.is_none()
            && self.observed.device.is_none()
            && let Some(ip) = self.observed.ip
            && self.shared.strangers.denied(ip, decided.decision.reason, Instant::now()) == Stranger::Counted
        {
            return Ok(());
        }
        let recorder = &self.shared.recorder;
        let recorded = match decide::record(recorder.source(), decided, &self.observed, who, None) {
            Ok(draft) => recorder.keep(draft, Until::Written).await,
            Err(error) => Err(error),
        };
        recorded.map_err(|_| self.unrecorded())
    }

    /// What was decided, where spans are wanted.
    fn note(decided: &Decided, permitted: Option<(FlowId, &str)>) {
        spans::decided(|| spans::Decided {
            decision: decided.id.to_string(),
            outcome: decided.decision.outcome.as_str(),
            reason: decided.decision.reason.code(),
            resource: permitted.map(|(_, resource)| resource.to_owned()),
            flow: permitted.map(|(flow, _)| flow.to_string()),
        });
    }

    fn unrecorded(&self) -> Response<Body> {
        let decided = Decided::denied(Reason::AuditUnavailable, &self.shared.current.engine());
        answer::denial(&decided, self.form, None)
    }

    /// Decides, opens the flow, and records. Nothing may go upstream before this returns.
    ///
    /// The flow is registered before its record is waited for, and decided again if facts or policy
    /// changed meanwhile: a change that comes at the same instant either finds the flow in the
    /// registry or is found here (A197).
    pub(super) async fn admit(
        &self,
        question: Question,
        asker: Asker,
        until: impl FnOnce(&Admission) -> Until,
    ) -> Result<Admitted, Response<Body>> {
        let deciding = spans::stage("decide");
        let (begun, now) = (Instant::now(), clock::now());
        let decision = asker.admit(&question, now);
        self.shared.counts.deciding(begun.elapsed());
        drop(deciding);
        let admission = match decision {
            Ok(admission) => admission,
            Err(denial) => return Err(Box::pin(self.deny_permit(&question, denial, &asker, now)).await),
        };
        match lease::holds(&*self.shared.link, &admission) {
            Ok(Standing::Leased) => {}
            Ok(Standing::OnGrace) => self.shared.counts.on_grace(),
            Err(reason) => {
                let denied = Decided::denied(reason, &self.shared.current.engine());
                return Err(self.deny(&denied, Some(&asker), None).await);
            }
        }
        let (decision_id, id) = ids();
        let decided = Decided { id: decision_id, decision: admission.decision().clone(), at: now };
        let until = until(&admission);
        let (recorder, who) = (&self.shared.recorder, asker.ready().map(|ready| Arc::clone(&ready.who)));
        let by = admission.tolerance().map(Tolerance::by);
        let opened = Opened { flow: id, via: admission.resource().via.as_ref(), by };
        let draft = decide::record(recorder.source(), &decided, &self.observed, who.as_deref(), Some(&opened));
        let target = question.target().map(Arc::clone);
        let basis = Arc::new(Basis { question, claim: asker.claim(), device: asker.device.clone() });
        if let Some(facts) = admission.subject() {
            self.connection.place.prove(owner(facts));
        }
        let opened = Flow::open(self.shared, id, &admission, Arc::clone(&basis), who, &decided, &self.observed);
        let Some(flow) = opened else {
            let denied = Decided::denied(Reason::TooManyFlows, &self.shared.current.engine());
            return Err(Box::pin(self.deny(&denied, Some(&asker), None)).await);
        };
        Self::note(&decided, Some((id, admission.resource().name.as_str())));
        let recording = spans::stage("record");
        let recorded = match draft {
            Ok(draft) => recorder.keep(draft, until).await,
            Err(error) => Err(error),
        };
        drop(recording);
        match by {
            None => self.shared.counts.decided(decided.decision.reason),
            Some(_) => self.shared.counts.passed(decided.decision.reason, &admission.resource().name),
        }
        if recorded.is_err() {
            flow.set_detail("the decision could not be recorded, so nothing was done");
            return Err(self.unrecorded());
        }
        let engine = self.shared.current.engine();
        let unchanged = asker.seen == self.shared.facts.changes_seen() && Arc::ptr_eq(asker.engine(), &engine);
        if !unchanged {
            match Box::pin(self.shared.watch.decide_again(&basis)).await {
                Ok(by) => flow.set_passed(by),
                Err(reason) => {
                    flow.set_cut(reason);
                    return Err(Box::pin(self.overtaken(&flow, reason)).await);
                }
            }
        }
        Ok(Admitted { admission, flow, decided, target })
    }

    /// A change overtook a permit before its request was answered: that is a second decision, with a
    /// record of its own, and the one that the client is told. The first stands in the log as it was
    /// made, and the end of its flow says why it came to nothing.
    async fn overtaken(&self, flow: &Flow, reason: Reason) -> Response<Body> {
        let decided = Decided::denied(reason, &self.shared.current.engine());
        self.deny_subject(&decided, flow.who(), None).await
    }

    /// The upstream did not answer an admitted request, or access ended before it did.
    pub(super) async fn failed(&self, admitted: &Admitted, error: &ForwardError) -> Response<Body> {
        let detail = chain(error);
        admitted.flow.set_detail(&detail);
        if let Some(fault) = self.connection.framing.body_fault() {
            // The client's own body broke off the exchange, not the upstream.
            let decided = Decided::denied(Reason::Ambiguous, &self.shared.current.engine());
            let words = format!("{fault}.");
            let response = self.deny_subject(&decided, admitted.flow.who(), Some(&words)).await;
            admitted.flow.set_status(response.status().as_u16());
            return response;
        }
        if let Some(reason) = admitted.flow.cut_reason() {
            let response = self.overtaken(&admitted.flow, reason).await;
            admitted.flow.set_status(response.status().as_u16());
            return response;
        }
        let reason = match error {
            ForwardError::ClientBody(_) => Reason::Ambiguous,
            _ => {
                let resource = &admitted.admission.resource().name;
                tracing::info!(%resource, error = %detail, "no answer from the upstream");
                self.shared.counts.upstream_failed(error.fault());
                Reason::UpstreamUnavailable
            }
        };
        let mut decided = Decided::denied(reason, &self.shared.current.engine());
        decided.id = admitted.decided.id;
        let response = answer::denial(&decided, self.form, None);
        admitted.flow.set_status(response.status().as_u16());
        response
    }
}

/// Ids of a decision and its flow, of one draw.
fn ids() -> (DecisionId, FlowId) {
    let (mut decision, mut flow) = ([0; 16], [0; 16]);
    let drawn = clock::random::<32>();
    let (one, other) = drawn.split_at(16);
    decision.copy_from_slice(one);
    flow.copy_from_slice(other);
    (DecisionId::from_random(decision), FlowId::from_random(flow))
}

/// Whose connection it is that this subject was proven on.
fn owner(facts: &SubjectFacts) -> Owner {
    facts.device.as_ref().map_or(Owner::Session(facts.session), |device| Owner::Device(device.id))
}

/// Whether a denial without a subject says that somebody tried, and failed, to be somebody.
fn is_doubtful(reason: Reason) -> bool {
    matches!(reason, Reason::CredentialInvalid | Reason::DeviceMismatch | Reason::DeviceUnknown | Reason::SessionEnded)
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
