//! Proofs by the real solver, Debian's cvc5, which `./test` installs.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use vouchsafe_policy::{PlainPolicy, PolicyFile, default_policy, plain};
use vouchsafe_proof::{Asked, Case, Limits, Proof, Report, Scope, SolverError, Verdict, find, prove, read};

fn cvc5() -> PathBuf {
    find(Path::new("cvc5")).expect("cvc5, which ./test installs")
}

/// Those of a new installation, or others.
fn policies(text: &str) -> Vec<PlainPolicy> {
    let file = PolicyFile { name: "a.cedar".into(), text: text.into() };
    let files = if text.contains("@id(\"staff\")") { vec![file] } else { vec![default_policy(), file] };
    plain(&files, &|pieces| pieces.into_iter().for_each(|piece| piece())).expect("policies")
}

fn asked(text: &str, invariants: &str, scope: Scope) -> Report {
    let policies = policies(text);
    let invariants = read([("a.toml", invariants)]).expect("invariants");
    let proof = Proof {
        policies: &policies,
        invariants,
        scope,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    prove(proof, &cvc5(), Limits::default(), |_, _| {}).expect("a solver")
}

fn verdict(text: &str, invariant: &str) -> Verdict {
    let report = asked(text, &format!("[[invariants]]\nname = \"it\"\n{invariant}\n"), Scope::default());
    let [finding] = <[_; 1]>::try_from(report.findings).expect("one finding");
    assert_eq!(report.proven, finding.verdict == Verdict::Proven);
    finding.verdict
}

fn case(verdict: Verdict) -> Case {
    match verdict {
        Verdict::Refuted { case } => *case,
        other => panic!("not refuted: {other:?}"),
    }
}

const FINANCE: &str =
    "claim = \"never\"\nprincipal = 'in Group::\"contractors\"'\nwhen = 'resource.tags.contains(\"finance\")'";
const STAFF: &str = "@id(\"staff\") permit(principal in Group::\"staff\", action, resource is Http);";

#[test]
fn that_nobody_of_a_group_reaches_a_tag_is_proven_or_a_case_is_shown() {
    let shut = "@id(\"shut\") forbid(principal in Group::\"contractors\", action, resource) when { resource.tags.contains(\"finance\") };";
    assert_eq!(verdict(&format!("{STAFF}{shut}"), FINANCE), Verdict::Proven);
    // Somebody may be in both groups.
    let found = case(verdict(STAFF, FINANCE));
    assert_eq!(found.policies, ["staff"]);
    assert!(found.allowed && found.resource == "some Http", "{found:?}");
    let told = found.facts.join("\n");
    for part in ["contractors", "staff", "finance", "context.device.grade = "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // A hole in the forbid is found.
    let hole =
        shut.replace("when {", "when { context.request.port != 443 &&").replace(", resource)", ", resource is Tcp)");
    let hole = hole.replace("action,", "action == Action::\"net:connect\",");
    let open = "@id(\"open\") permit(principal, action, resource is Tcp);";
    assert!(case(verdict(&format!("{open}{hole}"), FINANCE)).facts.join("\n").contains("443"));
}

#[test]
fn what_the_engine_adds_to_cedar_counts() {
    let none = "claim = \"never\"\nwhen = 'context.device.grade == \"none\"'";
    assert_eq!(verdict(STAFF, none), Verdict::Proven, "a permit wants a proven device");
    let open = STAFF.replace("permit", "@device(\"none\") permit");
    assert_eq!(case(verdict(&open, none)).policies, ["staff"]);
    // What has expired allows nothing; what expires later still does, and is nothing to rely on.
    let until = |year: u32| STAFF.replace("permit", &format!("@expires(\"{year}-01-01T00:00:00Z\") permit"));
    assert_eq!(verdict(&until(2020), FINANCE), Verdict::Proven);
    assert!(matches!(verdict(&until(2100), FINANCE), Verdict::Refuted { .. }));
    let always = "claim = \"always\"\nprincipal = 'in Group::\"staff\"'\nresource = 'is Http'\nwhen = 'context.device.grade == \"hardware\"'";
    assert_eq!(verdict(STAFF, always), Verdict::Proven);
    assert!(!case(verdict(&until(2100), always)).allowed);
}

#[test]
fn that_administrators_always_reach_the_console_is_proven_or_a_case_is_shown() {
    let always = "claim = \"always\"\nprincipal = 'is User in Group::\"administrators\"'\naction = '== Action::\"console:read\"'\n\
                  when = 'context.device.grade == \"hardware\" && context.auth.phishing_resistant && context.auth.age < 60'";
    assert_eq!(verdict("", always), Verdict::Proven);
    let night = "@id(\"night\") forbid(principal, action, resource is Console) when { context.network.ip.isInRange(ip(\"10.0.0.0/8\")) };";
    let found = case(verdict(night, always));
    assert_eq!((found.allowed, found.policies), (false, vec!["night".to_owned()]));
    // A policy that may fail denies, whatever else allows.
    let fails = "@id(\"fails\") permit(principal, action, resource is Http) when { context.auth.age * 9223372036854775807 > 3 };";
    match verdict(fails, always) {
        Verdict::Open { why } => assert!(why.contains("`fails`"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_policy_is_told_that_can_fail_or_is_about_nothing() {
    let text = format!(
        "{STAFF} @id(\"fails\") forbid(principal, action, resource is Http) when {{ context.auth.age * 9223372036854775807 > 3 }};\n\
         @id(\"dead\") permit(principal, action, resource is Http) when {{ context.auth.age > 3 && context.auth.age < 2 }};"
    );
    let report = asked(&text, "", Scope { each: true, ..Scope::default() });
    let bad: Vec<_> = report.findings.iter().filter(|finding| finding.verdict != Verdict::Proven).collect();
    assert_eq!(bad.len(), 2, "{bad:?}");
    for finding in bad {
        match (&finding.asked, &finding.verdict) {
            (Asked::CannotFail { policy }, Verdict::Refuted { case }) if policy == "fails" => {
                assert!(case.fails.is_some())
            }
            (Asked::Applies { policy }, Verdict::Vacant) if policy == "dead" => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(!report.proven);
}

#[test]
fn what_fails_only_where_nobody_ever_is_can_not_fail() {
    let asked = |condition: &str| {
        let text = format!("{STAFF} @id(\"sums\") forbid(principal, action, resource is Http) when {{ {condition} }};");
        let scope = Scope { computing: true, ..Scope::default() };
        let [finding] =
            <[_; 1]>::try_from(asked(&text, "", scope).findings).expect("only what computes is asked about");
        finding.verdict
    };
    for possible in [
        "context.auth.age + 3600 > 90000",
        "context.time.offset(duration(\"1h\")) > datetime(\"2027-01-01\")",
        "context.time.durationSince(datetime(\"2027-01-01\")) > duration(\"1h\")",
        "context.time.toDate() > datetime(\"2027-01-01\")",
    ] {
        assert_eq!(asked(possible), Verdict::Proven, "{possible}");
    }
    let found = case(asked("context.auth.age * 9223372036854775807 > 3"));
    assert!(found.fails.is_some_and(|why| why.contains("overflow")));
}

#[test]
fn a_change_that_only_takes_away_is_proven_to() {
    let narrower = STAFF.replace(";", " when { context.auth.age < 600 };");
    let than = |now: &str, before: &str| {
        let scope = Scope { no_more_than: Some(policies(before)), ..Scope::default() };
        asked(now, "", scope).findings.remove(0).verdict
    };
    assert_eq!(than(&narrower, STAFF), Verdict::Proven);
    assert_eq!(case(than(STAFF, &narrower)).policies, ["staff"]);
}

#[test]
fn an_invariant_that_is_about_nothing_proves_nothing() {
    assert_eq!(verdict(STAFF, "claim = \"never\"\nwhen = 'context.device.grade == \"hardwear\"'"), Verdict::Vacant);
}

#[test]
fn a_solver_that_does_not_answer_proves_nothing() {
    let policies = policies(STAFF);
    let ask = |solver: &Path, limits: Limits| {
        let invariants =
            read([("a.toml", format!("[[invariants]]\nname = \"it\"\n{FINANCE}").as_str())]).expect("read");
        let proof = Proof { policies: &policies, invariants, scope: Scope::default(), now: SystemTime::UNIX_EPOCH };
        prove(proof, solver, limits, |_, _| {})
    };
    for program in ["/bin/true", "/bin/cat"] {
        let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
        let report = ask(Path::new(program), limits).expect("it starts");
        assert!(matches!(report.findings[0].verdict, Verdict::Open { .. }), "{program}: {report:?}");
        assert!(!report.proven);
    }
    let small = ask(&cvc5(), Limits { memory_kib: 4_096, ..Limits::default() }).expect("it starts");
    assert!(matches!(small.findings[0].verdict, Verdict::Open { .. }), "{small:?}");
    assert!(matches!(find(Path::new("no-such-solver")), Err(SolverError::Missing(_))));
}
