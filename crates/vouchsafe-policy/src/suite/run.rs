//! Tests run against a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome};
use vouchsafe_model::id::{SessionId, UserId};
use vouchsafe_model::name::{PolicyName, ResourceName};
use vouchsafe_model::resource::{Resource, ResourceSpec};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, Epoch, SubjectFacts, UserFacts};

use super::{Case, CaseQuestion, CaseResult, Memberships, OwnerSpec, Suite, SuiteFile, SuiteReport};
use crate::diagnostic::{Diagnostic, nearest};
use crate::engine::Engine;
use crate::explain::{Question, explain};
use crate::request::{KeyAgreement, OwnedDetail, Request};
use crate::source::PolicySource;
use crate::spread::Spread;
use crate::subject::PreparedSubject;

/// Most failures that are explained; the others are told.
const MAX_EXPLAINED: usize = 50;
/// Where a request comes from unless a case says so: nobody's network (RFC 5737).
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

impl Suite {
    /// Runs every case against these files and resources. Grants are left out: what a test says of a
    /// policy must not hang on who was granted what today.
    ///
    /// `groups` are those of the users that [`Suite::users`] names, as far as there are such users.
    ///
    /// # Errors
    /// What is wrong with the policies, when they can't be compiled.
    pub fn run(
        &self,
        source: PolicySource,
        former: Option<&Engine>,
        spread: Spread<'_>,
        groups: &Memberships,
        now: SystemTime,
    ) -> Result<SuiteReport, Vec<Diagnostic>> {
        let source = PolicySource { grants: Vec::new(), ..source };
        let base = Engine::compile_spread(source.clone(), former, spread)?;
        let mut results = Vec::new();
        let mut decided: BTreeSet<PolicyName> = BTreeSet::new();
        let mut explained = 0;
        for file in &self.files {
            let engine = if file.resources.is_empty() {
                Arc::clone(&base)
            } else {
                let resources = overlaid(&source.resources, &file.resources);
                Engine::compile_spread(PolicySource { resources, ..source.clone() }, Some(&base), spread)?
            };
            let runner = Runner { engine: &engine, groups, now };
            for case in &file.cases {
                for question in &case.questions {
                    runner.run(file, case, question, &mut explained, &mut results, &mut decided);
                }
            }
        }
        let policies = base.policies();
        let undecided = policies.into_iter().map(|policy| policy.id).filter(|id| !decided.contains(id));
        let mut undecided: Vec<PolicyName> = undecided.collect();
        undecided.sort();
        let ok = results.iter().all(|result| result.failure.is_none());
        Ok(SuiteReport { ok, results, undecided })
    }
}

/// These resources, with those of a file in place of their namesakes.
fn overlaid(base: &[Resource], own: &[Resource]) -> Vec<Resource> {
    let mut by_name: BTreeMap<&ResourceName, &Resource> = BTreeMap::new();
    for resource in base.iter().chain(own) {
        by_name.insert(&resource.name, resource);
    }
    by_name.into_values().cloned().collect()
}

struct Runner<'r> {
    engine: &'r Arc<Engine>,
    groups: &'r Memberships,
    now: SystemTime,
}

impl Runner<'_> {
    fn run(
        &self,
        file: &SuiteFile,
        case: &Case,
        question: &CaseQuestion,
        explained: &mut usize,
        results: &mut Vec<CaseResult>,
        decided: &mut BTreeSet<PolicyName>,
    ) {
        let what = format!("{} on {} → {}", question.subject.label, question.device.label, question.resource);
        let mut tell = |question: String, failure: Option<String>, explanation| {
            results.push(CaseResult {
                file: file.name.clone(),
                line: case.line,
                case: case.name.clone(),
                question,
                failure,
                explanation,
            });
        };
        let (facts, resource, actions) = match self.asked(question) {
            Ok(asked) => asked,
            Err(why) => return tell(what, Some(why), None),
        };
        let subject = PreparedSubject::new(Arc::clone(self.engine), Arc::new(facts.clone()));
        let at = question.details.at.unwrap_or(self.now);
        for action in actions {
            let what = format!("{what}, {action}");
            let detail = match detail(question, &resource, action) {
                Ok(detail) => detail,
                Err(why) => {
                    tell(what, Some(why), None);
                    continue;
                }
            };
            let ip = question.details.ip.unwrap_or(SOMEWHERE);
            let agreement = KeyAgreement::of(question.details.post_quantum);
            let request = Request { resource: &resource.name, action, ip, agreement, detail: detail.as_detail() };
            let decision = match subject.decide(&request, at) {
                Ok(permit) => permit.decision().clone(),
                Err(denial) => denial,
            };
            let failure = self.compare(case, &decision);
            if failure.is_none() {
                decided.extend(decision.policies.iter().cloned());
                tell(what, None, None);
                continue;
            }
            *explained += 1;
            let explanation = (*explained <= MAX_EXPLAINED).then(|| {
                let resource = resource.name.as_str().to_owned();
                let facts = facts.clone();
                explain(self.engine, &Question { facts, resource, action, ip, agreement, detail }, at)
            });
            tell(what, failure, explanation);
        }
    }

    /// Who asks for what; an error says what of it there isn't.
    fn asked(&self, question: &CaseQuestion) -> Result<(SubjectFacts, Arc<Resource>, Vec<Action>), String> {
        let CaseQuestion { subject, device, resource, action, details } = question;
        let groups = match (&subject.groups, self.groups.get(&subject.user)) {
            (Some(groups), _) | (None, Some(groups)) => groups.clone(),
            (None, None) => {
                return Err(format!(
                    "the groups of `{}` aren't known; write them as `[subjects.{}]` with `groups = […]`",
                    subject.user, subject.label
                ));
            }
        };
        let name = if *resource == ResourceName::console().as_str() {
            Some(ResourceName::console())
        } else {
            ResourceName::parse(resource).ok()
        };
        let Some(found) = name.and_then(|name| self.engine.resource(&name)) else {
            let known = self.engine.resources().map(|known| known.name.as_str()).chain(["console"]);
            let meant = nearest(resource, known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            return Err(format!("there is no resource `{resource}`{meant}"));
        };
        let kind = found.spec.kind();
        let actions = match (action, details.method.as_deref()) {
            (Some(action), _) if kind.actions().contains(action) => vec![*action],
            (Some(action), _) => return Err(format!("`{action}` doesn't exist on `{kind}` resources")),
            (None, Some(method)) if kind.actions().contains(&Action::HttpRead) => vec![action_of(method)],
            (None, _) => kind.actions().to_vec(),
        };
        let at = details.at.unwrap_or(self.now);
        let facts = device.facts.clone().map(|facts| {
            let owner = match &device.owner {
                OwnerSpec::Subject => Some(subject.user.clone()),
                OwnerSpec::Nobody => None,
                OwnerSpec::User(owner) => Some(owner.clone()),
            };
            vouchsafe_model::subject::DeviceFacts { owner, ..facts }
        });
        let signed_in = at.checked_sub(Duration::from_secs(details.auth_age)).unwrap_or(at);
        let facts = SubjectFacts {
            session: SessionId::from_random([0; 16]),
            user: UserFacts { id: UserId::from_random([0; 16]), name: subject.user.clone(), groups },
            device: facts,
            auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: signed_in },
            expires: at.checked_add(Duration::from_secs(3_600)).unwrap_or(at),
            epoch: Epoch::default(),
        };
        Ok((facts, Arc::clone(found), actions))
    }

    /// Why a decision isn't what a case expects.
    fn compare(&self, case: &Case, decision: &Decision) -> Option<String> {
        let came = || match decision.outcome {
            Outcome::Allow => "it is allowed".to_owned(),
            Outcome::Deny => format!("it is denied, as {}", decision.reason.code()),
        };
        if decision.outcome != case.expect {
            let by: Vec<String> = decision.policies.iter().map(|policy| format!("`{policy}`")).collect();
            let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
            return Some(match case.expect {
                Outcome::Allow => format!("expected to be allowed, but {}{by}", came()),
                Outcome::Deny => format!("expected to be denied, but {}{by}", came()),
            });
        }
        if let Some(reason) = case.reason.filter(|reason| *reason != decision.reason) {
            return Some(format!("expected as {}, but {}", reason.code(), came()));
        }
        let missing = case.by.iter().find(|by| !decision.policies.contains(by))?;
        let by: Vec<String> = decision.policies.iter().map(|policy| format!("`{policy}`")).collect();
        let by = if by.is_empty() { "by no policy".to_owned() } else { format!("by {}", by.join(", ")) };
        let unknown = match self.engine.named(missing) {
            Some(_) => String::new(),
            None => format!("; there is no policy `{missing}`"),
        };
        Some(format!("expected to be decided by `{missing}`, but {} {by}{unknown}", came()))
    }
}

fn action_of(method: &str) -> Action {
    if matches!(method, "GET" | "HEAD" | "OPTIONS") { Action::HttpRead } else { Action::HttpWrite }
}

/// What only requests of the kind have; an error says why no such request is ever made.
fn detail(question: &CaseQuestion, resource: &Resource, action: Action) -> Result<OwnedDetail, String> {
    let details = &question.details;
    match action {
        Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => {
            let usual = if action == Action::HttpWrite { "POST" } else { "GET" };
            let method = details.method.as_deref().unwrap_or(usual);
            if action != Action::HttpUpgrade && action_of(method) != action {
                return Err(format!("a request with the method {method} is never `{action}`"));
            }
            let host = details.host.clone().unwrap_or_else(|| format!("{}.vouchsafe.localhost", resource.name));
            let path = details.path.clone().unwrap_or_else(|| "/".to_owned());
            Ok(OwnedDetail::Http { method: method.to_owned(), host, path })
        }
        Action::NetConnect => Ok(OwnedDetail::Net {
            port: match &resource.spec {
                ResourceSpec::Tcp(tcp) => tcp.port,
                ResourceSpec::Udp(udp) => udp.port,
                ResourceSpec::Http(_) | ResourceSpec::Console => 0,
            },
        }),
        Action::ConsoleRead | Action::ConsoleWrite => {
            let usual = if action == Action::ConsoleRead { "GET /v1/status" } else { "POST /v1/policy/publish" };
            Ok(OwnedDetail::Console { operation: details.operation.clone().unwrap_or_else(|| usual.to_owned()) })
        }
    }
}
