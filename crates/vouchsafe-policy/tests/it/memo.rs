//! What is remembered is never stale (I6): it dies with the facts, with the policies, and with time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_policy::{Detail, Engine, KeyAgreement, PreparedSubject, Request};

use crate::world::{ADDRESS, engine, facts, name, now, source};

fn subject(policies: &str, facts: SubjectFacts) -> PreparedSubject {
    PreparedSubject::new(engine(policies), Arc::new(facts))
}

fn read(subject: &PreparedSubject, path: &str, at: SystemTime) -> Reason {
    let wiki = name("wiki");
    let detail = Detail::Http { method: "GET", host: "wiki.vouchsafe.localhost", path };
    let request =
        Request { resource: &wiki, action: Action::HttpRead, ip: ADDRESS, agreement: KeyAgreement::Other, detail };
    match subject.decide(&request, at) {
        Ok(permit) => {
            assert_eq!(permit.detail(), detail, "a permit is of its own request, whatever was remembered");
            permit.decision().reason
        }
        Err(decision) => decision.reason,
    }
}

const OPEN: &str = "@id(\"wiki\") permit(principal in Group::\"staff\", action, resource == Http::\"wiki\");";

#[test]
fn i6_a_session_that_ended_is_not_answered_from_memory() {
    let ann = subject(OPEN, facts("ann", &["staff"]));
    let end = ann.facts().expires;
    for _ in 0..2 {
        assert_eq!(read(&ann, "/", end - Duration::from_nanos(1)), Reason::Permitted);
        assert_eq!(read(&ann, "/", end), Reason::SessionEnded);
    }
}

#[test]
fn i6_a_policy_that_expired_is_not_answered_from_memory() {
    let until = "@id(\"a\") @expires(\"2026-11-21T00:01:00Z\") permit(principal, action, resource == Http::\"wiki\");";
    let ann = subject(until, facts("ann", &["staff"]));
    let end = now() + Duration::from_secs(60);
    for _ in 0..2 {
        assert_eq!(read(&ann, "/", end - Duration::from_nanos(1)), Reason::Permitted);
        assert_eq!(read(&ann, "/", end), Reason::NoPermit);
    }
    assert_eq!(read(&ann, "/", now()), Reason::Permitted, "the clock went back");
}

#[test]
fn i6_what_depends_on_time_changes_at_its_instant() {
    let conditions = [
        "context.auth.age < 61",
        "context.auth.age + 1 < 62",
        "context.time < datetime(\"2026-11-21T00:00:01Z\")",
        "context.time.toTime() < duration(\"1s\")",
    ];
    for condition in conditions {
        let policy =
            format!("@id(\"a\") permit(principal, action, resource == Http::\"wiki\") when {{ {condition} }};");
        let ann = subject(&policy, facts("ann", &["staff"]));
        for _ in 0..2 {
            assert_eq!(read(&ann, "/", now() + Duration::from_millis(999)), Reason::Permitted, "{condition}");
            let helps = condition.contains("auth.age");
            let denied = if helps { Reason::StepUpRequired } else { Reason::ConditionFailed };
            assert_eq!(read(&ann, "/", now() + Duration::from_secs(1)), denied, "{condition}");
        }
    }
}

#[test]
fn i6_other_facts_or_other_policies_start_from_nothing() {
    let ann = subject(OPEN, facts("ann", &["staff"]));
    assert_eq!(read(&ann, "/", now()), Reason::Permitted);
    let closed = Engine::compile_after(source(""), ann.engine()).expect("compiles");
    assert_eq!(read(&ann.under(closed.clone()), "/", now()), Reason::NoPermit);
    assert_eq!(read(&ann.under(closed).under(engine(OPEN)), "/", now()), Reason::Permitted);
    let left = PreparedSubject::new(ann.engine().clone(), Arc::new(facts("ann", &[])));
    assert_eq!(read(&left, "/", now()), Reason::NoPermit);
}

#[test]
fn a_path_is_remembered_for_itself_alone_however_long_it_is() {
    let below = "@id(\"a\") permit(principal, action in [Action::\"http:read\"], resource == Http::\"wiki\") when { context.request.path like \"/open/*\" };";
    let ann = subject(below, facts("ann", &[]));
    let paths = ["/open/a", "/closed", "/open/", "/open", "/opem/a"].map(str::to_owned);
    let long = ["/open/", "/closed/"].map(|start| format!("{start}{}", "x".repeat(9_000)));
    for _ in 0..3 {
        for path in paths.iter().chain(&long) {
            let meant = if path.starts_with("/open/") { Reason::Permitted } else { Reason::ConditionFailed };
            assert_eq!(read(&ann, path, now()), meant, "{path}");
        }
    }
}

/// More than the memo holds: what was forgotten is decided anew, and rightly.
#[test]
fn what_is_forgotten_is_decided_anew() {
    let even = "@id(\"a\") permit(principal, action in [Action::\"http:read\"], resource == Http::\"wiki\") when { context.request.path like \"*0\" };";
    let ann = subject(even, facts("ann", &[]));
    for _ in 0..2 {
        for number in 0..6_000 {
            let meant = if number % 10 == 0 { Reason::Permitted } else { Reason::ConditionFailed };
            assert_eq!(read(&ann, &format!("/{number}"), now()), meant);
        }
    }
}

#[test]
fn i6_a_condition_is_asked_again_when_what_it_reads_changed_though_another_reads_the_path() {
    let policies = "@id(\"open\") permit(principal, action == Action::\"http:read\", resource == Http::\"wiki\") \
                    when { context.request.path like \"/a*\" };\n\
                    @id(\"late\") forbid(principal, action == Action::\"http:read\", resource == Http::\"wiki\") \
                    when { context.auth.age >= 62 };\n\
                    @id(\"any\") forbid(principal, action == Action::\"http:read\", resource == Http::\"wiki\") \
                    when { context.request.path == \"/never\" && context.auth.age >= 0 };";
    let ann = subject(policies, facts("ann", &["staff"]));
    let (early, late) = (now(), now() + Duration::from_secs(2));
    // Each path is new, so nothing but the second policy's own answer can be remembered.
    for (path, at, reason) in [
        ("/a1", early, Reason::Permitted),
        ("/b1", early, Reason::ConditionFailed),
        ("/a2", early, Reason::Permitted),
        ("/a3", late, Reason::StepUpRequired),
        ("/a4", late, Reason::StepUpRequired),
        ("/b2", late, Reason::Forbidden),
        ("/a5", early, Reason::Permitted),
        ("/never", early, Reason::Forbidden),
        ("/a6", early, Reason::Permitted),
    ] {
        assert_eq!(read(&ann, path, at), reason, "{path}");
    }
}

#[test]
fn an_error_that_may_pass_is_not_remembered() {
    for condition in ["context.auth.age >= 0", "context.request.path like \"/*\"", "principal in Group::\"staff\""] {
        let policy = format!(
            "@id(\"a\") permit(principal, action == Action::\"http:read\", resource == Http::\"wiki\") when {{ {condition} }};"
        );
        let ann = Arc::new(subject(&policy, facts("ann", &["staff"])));
        // Less stack than Cedar wants before it evaluates anything.
        let short = std::thread::Builder::new().stack_size(96 << 10).spawn({
            let ann = Arc::clone(&ann);
            move || read(&ann, "/", now())
        });
        assert_eq!(short.expect("a thread").join().expect("a reason"), Reason::PolicyError, "{condition}");
        assert_eq!(read(&ann, "/", now()), Reason::Permitted, "{condition}");
    }
}

#[test]
fn a_subject_is_told_without_its_memory() {
    let told = format!("{:?}", subject(OPEN, facts("ann", &["staff"])));
    assert!(told.starts_with("PreparedSubject") && told.contains("ann") && told.ends_with(", .. }"), "{told}");
}
