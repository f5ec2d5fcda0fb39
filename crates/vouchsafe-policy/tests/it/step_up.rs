//! Denials of which a fresh or stronger sign-in makes permits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Advice, Decision, Reason, StepUp};
use vouchsafe_model::subject::{AuthFacts, SubjectFacts};
use vouchsafe_policy::{KeyAgreement, PreparedSubject, Question, Request, explain};

use crate::world::{ADDRESS, ask, detail_of, engine, facts, name, now};

/// In finance, signed in so many seconds ago.
fn signed_in_before(seconds: u64) -> SubjectFacts {
    let facts = facts("ann", &["finance"]);
    let at = now() - Duration::from_secs(seconds);
    SubjectFacts { auth: AuthFacts { at, ..facts.auth.clone() }, ..facts }
}

/// Denials of which a connection with a post-quantum key agreement makes permits say that it does (A181); the memo tells
/// the two kinds of connections apart.
#[test]
fn a181_what_only_the_key_agreement_keeps_out_is_told_so() {
    let ask = |policy: &str, facts: &SubjectFacts, agreement| {
        let engine = engine(policy);
        let (of, detail) = (name("erp"), detail_of(Action::HttpRead));
        let request = Request { resource: &of, action: Action::HttpRead, ip: ADDRESS, agreement, detail };
        let subject = PreparedSubject::new(engine, Arc::new(facts.clone()));
        let ask = || subject.decide(&request, now());
        let other = if agreement.is_post_quantum() { KeyAgreement::Other } else { KeyAgreement::PostQuantum };
        let first = ask().map_or_else(|denial| denial, |permit| permit.decision().clone());
        let _ = subject.decide(&Request { agreement: other, ..request }, now());
        let again = ask().map_or_else(|denial| denial, |permit| permit.decision().clone());
        assert_eq!(first, again, "{policy}");
        (first.reason, first.advice.to_vec())
    };
    let permit = r#"@id("erp") permit (principal in Group::"finance", action, resource == Http::"erp")
        when { context.tls.post_quantum };"#;
    let forbid = r#"@id("erp") permit (principal in Group::"finance", action, resource == Http::"erp");
        @id("quantum") forbid (principal, action, resource) unless { context.tls.post_quantum };"#;
    let fresh = signed_in_before(60);
    for (policy, reason) in [(permit, Reason::ConditionFailed), (forbid, Reason::Forbidden)] {
        assert_eq!(ask(policy, &fresh, KeyAgreement::PostQuantum), (Reason::Permitted, vec![]));
        assert_eq!(ask(policy, &fresh, KeyAgreement::Other), (reason, vec![Advice::PostQuantum]));
        // Nobody learns so of a resource that is closed to her, or without a device.
        let stranger = SubjectFacts { user: facts("eve", &[]).user, ..signed_in_before(60) };
        assert_eq!(ask(policy, &stranger, KeyAgreement::Other), (Reason::NoPermit, vec![Advice::RequestAccess]));
    }
    // A fresh sign-in is wanted as well, or something that neither of the two helps with.
    let and = |condition: &str| permit.replace("};", &format!("&& {condition} }};"));
    let old = signed_in_before(900);
    let both = and("context.auth.age < 900");
    assert_eq!(ask(&both, &old, KeyAgreement::Other), (Reason::ConditionFailed, vec![Advice::PostQuantum]));
    assert_eq!(ask(&both, &old, KeyAgreement::PostQuantum), (Reason::StepUpRequired, vec![Advice::StepUp]));
    let elsewhere = and("context.network.ip.isLoopback()");
    assert_eq!(ask(&elsewhere, &fresh, KeyAgreement::Other), (Reason::ConditionFailed, vec![]));
    let either = permit.replace("context.tls.post_quantum", "context.tls.post_quantum || context.auth.age < 900");
    assert_eq!(ask(&either, &old, KeyAgreement::Other), (Reason::StepUpRequired, vec![Advice::StepUp]));
    // Its author said so already.
    let said = permit.replace("@id(\"erp\")", "@id(\"erp\") @advice(\"post-quantum\")");
    assert_eq!(ask(&said, &fresh, KeyAgreement::Other), (Reason::ConditionFailed, vec![Advice::PostQuantum]));
}

fn denied(policy: &str, facts: &SubjectFacts) -> Decision {
    let engine = engine(policy);
    let decision = ask(&engine, facts, "erp", Action::HttpRead).expect_err("denied");
    // The explanation says the same.
    let question = Question {
        facts: facts.clone(),
        resource: "erp".to_owned(),
        action: Action::HttpRead,
        ip: ADDRESS,
        agreement: KeyAgreement::Other,
        detail: detail_of(Action::HttpRead).into(),
    };
    assert_eq!(explain(&engine, &question, now()).decision.reason, decision.reason.code());
    decision
}

const FRESH: &str = r#"@id("erp") permit (principal in Group::"finance", action, resource == Http::"erp")
    when { context.auth.age < 900 };"#;

#[test]
fn a_sign_in_that_is_too_old_asks_for_one_that_is_as_fresh_as_the_policy_wants() {
    assert!(ask(&engine(FRESH), &signed_in_before(899), "erp", Action::HttpRead).is_ok());
    let decision = denied(FRESH, &signed_in_before(900));
    assert_eq!(decision.reason, Reason::StepUpRequired);
    let max_age = Some(Duration::from_secs(899));
    assert_eq!(decision.step_up, Some(StepUp { max_age, phishing_resistant: false }));
    assert_eq!(*decision.advice, [Advice::StepUp]);
    assert_eq!(*decision.words, *Reason::StepUpRequired.words());
    assert_eq!(decision.policies.len(), 1);
}

#[test]
fn a_forbid_of_old_sign_ins_asks_in_its_own_words() {
    let policy = r#"@id("erp") permit (principal in Group::"finance", action, resource == Http::"erp");
        @id("fresh") @reason("Money wants a sign-in of this hour.")
        forbid (principal, action, resource in ResourceGroup::"money") when { context.auth.age > 3600 };"#;
    let decision = denied(policy, &signed_in_before(3_601));
    assert_eq!((decision.reason, &*decision.words), (Reason::StepUpRequired, "Money wants a sign-in of this hour."));
    assert_eq!(decision.step_up.and_then(|step_up| step_up.max_age), Some(Duration::from_secs(3_600)));
}

#[test]
fn nobody_is_sent_to_sign_in_for_nothing() {
    let and = |condition: &str| format!("{} && {condition} }};", FRESH.trim_end_matches("};").trim_end());
    for policy in [
        and("context.network.ip.isInRange(ip(\"192.0.2.0/24\"))"),
        and("context.auth.age < 0"),
        and("context.auth.age > 5"),
        and("context.auth.methods.contains(\"otp\")"),
    ] {
        let decision = denied(&policy, &signed_in_before(900));
        assert_eq!((decision.reason, decision.step_up), (Reason::ConditionFailed, None), "{policy}");
    }
    // Nor is somebody told of a resource that is closed to her.
    let stranger = SubjectFacts { user: facts("eve", &[]).user, ..signed_in_before(900) };
    assert_eq!(denied(FRESH, &stranger).reason, Reason::NoPermit);
    // Nor is anything else but the sign-in taken for one: the device is missing.
    let no_device = SubjectFacts { device: None, ..signed_in_before(900) };
    assert_eq!(denied(FRESH, &no_device).reason, Reason::DeviceRequired);
}

#[test]
fn a_weak_sign_in_asks_for_one_that_resists_phishing() {
    let policy = r#"@id("erp") permit (principal in Group::"finance", action, resource == Http::"erp")
        when { context.auth.phishing_resistant };"#;
    let weak = SubjectFacts {
        auth: AuthFacts { methods: BTreeSet::new(), at: now() - Duration::from_secs(7_200) },
        ..signed_in_before(0)
    };
    let decision = denied(policy, &weak);
    assert_eq!(decision.step_up, Some(StepUp { max_age: None, phishing_resistant: true }));
    let both =
        policy.replace("context.auth.phishing_resistant", "context.auth.phishing_resistant && context.auth.age <= 60");
    let max_age = Some(Duration::from_secs(60));
    assert_eq!(denied(&both, &weak).step_up, Some(StepUp { max_age, phishing_resistant: true }));
}
