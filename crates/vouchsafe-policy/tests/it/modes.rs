//! I14: a mode lets a denial pass where it says so, and nowhere else; it never makes a permit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::mode::{Boundary, Lenience, Mode, Trial};
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::Resource;
use vouchsafe_policy::{Admission, Detail, Engine, KeyAgreement, PolicySource, PreparedSubject, Request};

use crate::properties::{Spec, detail, resources, specs, subjects};
use crate::world::{ADDRESS, engine, facts, file, http, name, now, printed, source, user, without_device};

const DAY: Duration = Duration::from_secs(86_400);

fn trial(until: SystemTime) -> Trial {
    Trial {
        from: Boundary::parse(&["10.2.0.0/16", "192.0.2.0/24"]).expect("boundary"),
        owner: user("ann"),
        reason: "moving in".into(),
        until,
    }
}

fn compile(text: &str, resources: Vec<Resource>) -> Arc<Engine> {
    let source = PolicySource { version: 1, files: vec![file(text)], grants: Vec::new(), resources };
    Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
}

/// The wiki in that mode, as nobody has a right to it.
fn wiki(mode: Mode) -> Arc<Engine> {
    compile("", vec![Resource { mode, ..http("wiki", &[]) }, http("erp", &[])])
}

fn get(of: &ResourceName) -> Request<'_> {
    Request {
        resource: of,
        action: Action::HttpRead,
        ip: ADDRESS,
        agreement: KeyAgreement::Other,
        detail: detail(Action::HttpRead).0,
    }
}

fn passed(admission: &Result<Admission, Decision>) -> Option<Lenience> {
    admission.as_ref().ok().and_then(Admission::tolerance).map(|tolerance| tolerance.by())
}

#[test]
fn i14_what_passes_is_a_denial_still_and_says_by_what() {
    let engine = wiki(Mode::Observe(trial(now() + DAY)));
    let (wiki, erp) = (name("wiki"), name("erp"));
    let subject = PreparedSubject::new(Arc::clone(&engine), Arc::new(facts("ann", &[])));
    let admission = subject.admit(&get(&wiki), [], now()).expect("passes");
    let decision = admission.decision();
    assert_eq!((decision.outcome, decision.reason), (Outcome::Deny, Reason::NoPermit));
    assert!(admission.permit().is_none(), "it is no permit");
    let tolerance = admission.tolerance().expect("tolerated");
    assert_eq!((tolerance.by(), tolerance.until()), (Lenience::Observe, now() + DAY));
    assert_eq!(admission.resource().name, wiki);
    assert_eq!((admission.action(), admission.detail()), (Action::HttpRead, detail(Action::HttpRead).0));
    assert_eq!(admission.subject().map(|facts| facts.user.name.clone()), Some(user("ann")));
    assert_eq!(subject.decide(&get(&wiki), now()).expect_err("denied").reason, Reason::NoPermit);
    assert_eq!(subject.admit(&get(&erp), [], now()).expect_err("denied").reason, Reason::NoPermit);
}

#[test]
fn i14_nobody_passes_by_observation_alone() {
    let (erp, console, none) = (name("erp"), ResourceName::console(), name("nothing-here"));
    let wiki_name = name("wiki");
    for (mode, expected) in [
        (Mode::Enforce, None),
        (Mode::Warn(trial(now() + DAY)), None),
        (Mode::Observe(trial(now() + DAY)), Some(Lenience::Observe)),
        (Mode::Observe(trial(now())), None),
        (Mode::Observe(trial(now() + 91 * DAY)), None),
    ] {
        let engine = wiki(mode.clone());
        let admission = engine.admit_nobody(&get(&wiki_name), now());
        assert_eq!(passed(&admission), expected, "{mode:?}");
        assert_eq!(engine.admits_nobody(&wiki_name, ADDRESS, now()), expected.is_some());
        if let Ok(admission) = admission {
            assert!(admission.subject().is_none() && admission.permit().is_none());
            assert_eq!(admission.decision().reason, Reason::SignInRequired);
        }
        // From elsewhere, elsewhere, and what is our own: one answer, which tells nothing.
        let elsewhere = Request { ip: IpAddr::from([10, 3, 0, 1]), ..get(&wiki_name) };
        let read = Request { action: Action::ConsoleRead, detail: Detail::Console { operation: "o" }, ..get(&console) };
        for request in [elsewhere, get(&erp), get(&none), read] {
            let denial = engine.admit_nobody(&request, now()).expect_err("denied");
            assert_eq!(denial, Decision::denied(Reason::SignInRequired, 1));
        }
    }
}

#[test]
fn i14_what_is_no_answer_of_the_policies_stands_in_every_mode() {
    let of = name("wiki");
    for mode in [Mode::Warn(trial(now() + DAY)), Mode::Observe(trial(now() + DAY))] {
        let engine = wiki(mode);
        let subject = PreparedSubject::new(engine, Arc::new(facts("ann", &[])));
        let ended = subject.admit(&get(&of), [], now() + Duration::from_secs(3_600));
        assert_eq!(ended.expect_err("the session is over").reason, Reason::SessionEnded);
        let gone = name("gone");
        assert_eq!(subject.admit(&get(&gone), [], now()).expect_err("none").reason, Reason::UnknownResource);
    }
}

#[test]
fn i14_every_answer_of_the_policies_passes_and_is_kept_as_it_is() {
    let policies = r#"
        @id("a") permit(principal == User::"ann", action, resource == Http::"wiki");
        @id("b") permit(principal == User::"bob", action, resource == Http::"wiki") when { context.auth.age < 10 };
        @id("c") permit(principal == User::"cid", action, resource == Http::"wiki");
        @id("d") forbid(principal == User::"cid", action, resource == Http::"wiki");
        @id("e") permit(principal == User::"eve", action, resource == Http::"wiki")
            when { context.auth.age + 9223372036854775807 > 0 };
    "#;
    for (mode, by) in
        [(Mode::Warn(trial(now() + DAY)), Lenience::Warn), (Mode::Observe(trial(now() + DAY)), Lenience::Observe)]
    {
        let engine = compile(policies, vec![Resource { mode, ..http("wiki", &[]) }]);
        for (who, reason) in [
            (facts("ann", &[]), Reason::Permitted),
            (without_device(facts("ann", &[])), Reason::DeviceRequired),
            (facts("bob", &[]), Reason::StepUpRequired),
            (facts("cid", &[]), Reason::Forbidden),
            (facts("dan", &[]), Reason::NoPermit),
            (facts("eve", &[]), Reason::PolicyError),
        ] {
            let subject = PreparedSubject::new(Arc::clone(&engine), Arc::new(who));
            let of = name("wiki");
            let admission = subject.admit(&get(&of), [], now()).expect("goes on");
            assert_eq!(admission.decision().reason, reason);
            assert_eq!(admission.permit().is_some(), reason == Reason::Permitted);
            assert_eq!(
                admission.tolerance().map(|tolerance| tolerance.by()),
                (reason != Reason::Permitted).then_some(by)
            );
        }
    }
}

#[test]
fn every_reading_of_a_path_must_be_permitted_or_the_whole_is_a_denial() {
    let text =
        r#"@id("a") permit(principal, action, resource == Http::"wiki") when { context.request.path like "/a/*" };"#;
    let path = |path| Detail::Http { method: "GET", host: "wiki.vouchsafe.localhost", path };
    let of = name("wiki");
    let request = Request { detail: path("/a/x"), ..get(&of) };
    let enforcing = engine(text);
    let subject = PreparedSubject::new(enforcing, Arc::new(facts("ann", &[])));
    assert!(subject.admit(&request, [path("/a/y")], now()).expect("permitted").permit().is_some());
    let denial = subject.admit(&request, [path("/a/y"), path("/b")], now()).expect_err("denied");
    assert_eq!(denial.reason, Reason::ConditionFailed);
    let mut lenient = source(text);
    lenient.resources = vec![Resource { mode: Mode::Observe(trial(now() + DAY)), ..http("wiki", &[]) }];
    let subject = PreparedSubject::new(Engine::compile(lenient).expect("compiles"), Arc::new(facts("ann", &[])));
    let admission = subject.admit(&request, [path("/b"), path("/a/y")], now()).expect("passes");
    assert!(admission.permit().is_none(), "one reading is denied, so it is no permit");
    assert_eq!(admission.detail(), path("/a/x"), "it is the one that will be sent");
}

/// The words of a decision apart from its version.
fn told(answer: &Result<Admission, Decision>) -> (Reason, bool) {
    match answer {
        Ok(admission) => (admission.decision().reason, admission.permit().is_some()),
        Err(denial) => (denial.reason, false),
    }
}

fn modes() -> impl Strategy<Value = Vec<(usize, i64)>> {
    // For each resource: enforce, warn or observe, and an end from long ago to beyond what may be.
    prop::collection::vec((0..3_usize, -100..200_i64), 4)
}

fn in_modes(modes: &[(usize, i64)]) -> Vec<Resource> {
    let end = |days: i64| {
        let far = DAY * u32::try_from(days.unsigned_abs()).expect("few");
        if days < 0 { now() - far } else { now() + far }
    };
    let of = |(mut resource, (kind, days)): (Resource, &(usize, i64))| {
        resource.mode = match kind {
            0 => Mode::Enforce,
            1 => Mode::Warn(trial(end(*days))),
            _ => Mode::Observe(trial(end(*days))),
        };
        resource
    };
    resources().into_iter().zip(modes).map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I5, I14: a mode changes no answer on another resource, outside its boundary, or outside its time, and inside
    /// it none but a denial by the policies.
    #[test]
    fn i14_a_mode_changes_nothing_beyond_its_bounds(specs in specs(), modes in modes(), octets in (8..12_u8, 0..4_u8)) {
        let text: String = specs.iter().enumerate().map(|(number, spec): (usize, &Spec)| spec.text(number)).collect();
        let (lenient, strict) = (compile(&text, in_modes(&modes)), compile(&text, resources()));
        let ip = IpAddr::from([octets.0, octets.1, 0, 9]);
        let inside = octets == (10, 2);
        let names = ["r0", "r1", "r2", "r3", "console", "gone"];
        for who in subjects() {
            let who = Arc::new(who);
            let with = PreparedSubject::new(Arc::clone(&lenient), Arc::clone(&who));
            let without = PreparedSubject::new(Arc::clone(&strict), Arc::clone(&who));
            for (at, of) in names.iter().enumerate() {
                let of = if *of == "console" { ResourceName::console() } else { name(of) };
                let (kind, days) = modes.get(at).copied().unwrap_or_default();
                let by = match kind {
                    1 if inside && (1..=90).contains(&days) => Some(Lenience::Warn),
                    2 if inside && (1..=90).contains(&days) => Some(Lenience::Observe),
                    _ => None,
                };
                let kind = lenient.resource(&of).map(|resource| resource.spec.kind());
                for action in Action::ALL.iter().copied() {
                    let by = by.filter(|_| kind.is_some_and(|kind| kind.actions().contains(&action)));
                    let request = Request { resource: &of, action, ip, agreement: KeyAgreement::Other, detail: detail(action).0 };
                    let (a, b) = (with.admit(&request, [], now()), without.admit(&request, [], now()));
                    prop_assert!(b.as_ref().ok().and_then(Admission::tolerance).is_none());
                    prop_assert_eq!(told(&a), told(&b), "the policies say the same, {} {}", of, action);
                    prop_assert_eq!(a.as_ref().ok().and_then(Admission::permit).is_some(), b.is_ok());
                    match by {
                        // Denied by the policies: it passes, by its mode. (Nobody's session is over here.)
                        Some(by) if b.is_err() => prop_assert_eq!(passed(&a), Some(by)),
                        Some(_) | None => prop_assert_eq!(a.is_ok(), b.is_ok()),
                    }
                    let nobody = lenient.admit_nobody(&request, now());
                    prop_assert_eq!(nobody.is_ok(), by == Some(Lenience::Observe));
                    prop_assert!(strict.admit_nobody(&request, now()).is_err());
                }
            }
        }
    }
}
