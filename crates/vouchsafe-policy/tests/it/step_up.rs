//! Denials of which a fresh or stronger sign-in makes permits.

use std::collections::BTreeSet;
use std::time::Duration;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Advice, Decision, Reason, StepUp};
use vouchsafe_model::subject::{AuthFacts, SubjectFacts};
use vouchsafe_policy::{Question, explain};

use crate::world::{ADDRESS, ask, detail_of, engine, facts, now};

/// In finance, signed in so many seconds ago.
fn signed_in_before(seconds: u64) -> SubjectFacts {
    let facts = facts("ann", &["finance"]);
    let at = now() - Duration::from_secs(seconds);
    SubjectFacts { auth: AuthFacts { at, ..facts.auth.clone() }, ..facts }
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
