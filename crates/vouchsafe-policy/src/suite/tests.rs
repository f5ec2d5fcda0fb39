use std::time::UNIX_EPOCH;

use super::*;
use crate::source::PolicySource;
use crate::spread::in_turn;

const POLICY: &str = r#"
@id("wiki") @reason("Staff may use the wiki.")
permit (principal in Group::"staff", action, resource == Http::"wiki");
@id("books") permit (principal in Group::"finance", action == Action::"http:read", resource in ResourceGroup::"money")
when { context.auth.age < 900 };
@id("leavers") forbid (principal in Group::"leavers", action, resource);
@id("quantum") permit (principal in Group::"staff", action, resource == Http::"vault")
when { context.tls.post_quantum };
@id("unused") permit (principal in Group::"nobody-is-in-it", action, resource == Http::"wiki");
"#;

const HEAD: &str = r#"
[defaults]
device = "software"

[subjects.ann]
groups = ["staff", "finance"]
[subjects.bob]
user = "bob.b"
groups = ["staff", "leavers"]

[devices.shared]
grade = "hardware"
owner = "nobody"
tags = ["kiosk"]

[resources.wiki]
kind = "http"
[resources.vault]
kind = "http"
[resources.erp]
kind = "http"
groups = ["money"]
[resources.ledger]
kind = "tcp"
groups = ["money"]
port = 5432
"#;

fn file(cases: &str) -> PolicyFile {
    PolicyFile { name: "tests/a.toml".into(), text: format!("{HEAD}{cases}") }
}

fn run(cases: &str) -> SuiteReport {
    let suite = Suite::read(&[file(cases)]).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    let policy = PolicyFile { name: "a.cedar".into(), text: POLICY.into() };
    let source = PolicySource { files: vec![policy], ..PolicySource::default() };
    let now = UNIX_EPOCH + std::time::Duration::from_secs(1_795_219_200);
    let groups = Memberships::from([(UserName::parse("carl").unwrap(), BTreeSet::new())]);
    suite.run(source, None, &in_turn, &groups, now).expect("compiles")
}

fn failures(cases: &str) -> Vec<(String, String)> {
    let told = |result: &CaseResult| (result.question.clone(), result.failure.clone().unwrap_or_default());
    run(cases).failed().map(told).collect()
}

#[test]
fn a_case_is_asked_once_for_each_combination() {
    let report = run(
        "[[cases]]\nname = \"staff\"\nsubject = [\"ann\"]\ndevice = [\"software\", \"hardware\", \"shared\"]\n\
         resource = \"wiki\"\nexpect = \"allow\"\nby = \"wiki\"\n\
         [[cases]]\nsubject = \"carl\"\nresource = [\"wiki\", \"ledger\"]\nexpect = \"deny\"\nreason = \"no_permit\"\n",
    );
    assert!(report.ok, "{report:#?}");
    let asked: Vec<&str> = report.results.iter().map(|result| result.question.as_str()).collect();
    assert_eq!(asked.len(), 3 * 3 + 3 + 1);
    assert_eq!(asked.first(), Some(&"ann on software → wiki, http:read"));
    assert_eq!(asked.last(), Some(&"carl on software → ledger, net:connect"));
    let undecided: Vec<&str> = report.undecided.iter().map(PolicyName::as_str).collect();
    assert_eq!(undecided, ["books", "leavers", "quantum", "unused"]);
}

#[test]
fn a_failing_case_says_what_came_instead_and_why() {
    let found = run(
        "[[cases]]\nsubject = \"ann\"\nresource = \"erp\"\naction = \"http:read\"\nauth_age = 900\nexpect = \"allow\"\n",
    );
    let failed: Vec<&CaseResult> = found.failed().collect();
    let [one] = failed.as_slice() else { panic!("{found:#?}") };
    assert_eq!(
        one.failure.as_deref(),
        Some("expected to be allowed, but it is denied, as step_up_required by `books`")
    );
    let explanation = one.explanation.as_ref().expect("explained");
    assert!(explanation.would_change.iter().any(|way| way.contains("context.auth.age < 900")), "{explanation:#?}");
    let wrong_policy = "[[cases]]\nsubject = \"bob\"\nresource = \"wiki\"\naction = \"http:read\"\nexpect = \"deny\"\nby = \"leaver\"\n";
    let [(_, why)] = &failures(wrong_policy)[..] else { panic!() };
    assert!(why.contains("by `leavers`") && why.contains("there is no policy `leaver`"), "{why}");
    let wrong_reason = "[[cases]]\nsubject = \"bob\"\nresource = \"wiki\"\naction = \"http:read\"\nexpect = \"deny\"\nreason = \"no_permit\"\n";
    let [(_, why)] = &failures(wrong_reason)[..] else { panic!() };
    assert_eq!(why, "expected as no_permit, but it is denied, as forbidden");
}

#[test]
fn what_cannot_be_asked_fails_though_a_denial_is_expected() {
    for (case, why) in [
        ("subject = \"ann\"\nresource = \"wikki\"", "there is no resource `wikki`; did you mean `wiki`?"),
        (
            "subject = \"ann\"\nresource = \"ledger\"\naction = \"http:read\"",
            "`http:read` doesn't exist on `tcp` resources",
        ),
        ("subject = \"dora\"\nresource = \"wiki\"\naction = \"http:read\"", "the groups of `dora` aren't known"),
        ("subject = \"carl\"\nresource = \"wiki\"\naction = \"http:read\"\nmethod = \"POST\"", "is never `http:read`"),
    ] {
        let found = failures(&format!("[[cases]]\n{case}\nexpect = \"deny\"\n"));
        let [(_, told)] = &found[..] else { panic!("{case}: {found:?}") };
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_was_meant() {
    let text = "[default]\nsubject = \"x\"\n[subjects.ann]\ngroup = []\n[devices.software]\ngrade = \"hardware\"\n\
                [devices.d]\ngrade = \"tpm\"\n[resources.r]\nkind = \"ftp\"\n\
                [[cases]]\nsubject = [\"ann\", 3]\ndevice = \"hardwar\"\nresource = []\naction = \"http:raed\"\nexpect = \"alow\"\n\
                ip = \"10.0.0\"\nauth_age = -1\nat = \"tomorrow\"\npath = \"a?b\"\nreason = \"nopermit\"\nbyy = \"x\"\n[[case]]\n";
    let wrong = Suite::read(&[PolicyFile { name: "t.toml".into(), text: text.into() }]).expect_err("wrong");
    let told: Vec<(String, u32, String)> =
        wrong.iter().map(|it| (it.message.clone(), it.line, it.hint.clone().unwrap_or_default())).collect();
    for (message, line, hint) in [
        ("there is no `default` in a file of tests", 1, "did you mean `defaults`?"),
        ("there is no `group` in a subject", 4, "did you mean `groups`?"),
        ("`software` is the word of a grade, and stands for a plain device of it", 5, "choose another name"),
        ("`tpm` is no grade", 8, "it is one of software, hardware, hardware-attested"),
        ("`ftp` is no kind", 10, "it is one of http, tcp, udp"),
        ("`subject` is a text or a list of texts, and this is a number", 12, ""),
        ("there is no device `hardwar`", 13, "did you mean `hardware`?"),
        ("`resource` is an empty list, so nothing would be asked", 14, "take the case out, or the key"),
        ("`http:raed` is no action", 15, "did you mean `http:read`?"),
        ("`alow` is no expect", 16, "did you mean `allow`?"),
        ("this is no IP address", 17, "such as \"10.0.0.7\" or \"2001:db8::7\""),
        ("`auth_age` is a whole number from 0 to 315360000", 18, ""),
        ("this is no instant", 19, "write it as in RFC 3339, such as 2027-01-31T18:00:00Z"),
        ("this is no path", 20, "policies see the canonical path, which begins with `/` and has no query"),
        ("`nopermit` is no reason", 21, "did you mean `no_permit`?"),
        ("there is no `byy` in a case", 22, "did you mean `by`?"),
        ("this case has no `expect`", 23, "write `expect = \"allow\"` or `expect = \"deny\"`"),
        ("this case has no `subject`", 23, "say it in the case, or for all of them in `[defaults]`"),
    ] {
        assert!(told.contains(&(message.into(), line, hint.into())), "{message} in {told:#?}");
    }
    let broken = Suite::read(&[PolicyFile { name: "t.toml".into(), text: "[[cases]\n".into() }]).expect_err("broken");
    assert_eq!((broken[0].code.as_ref(), broken[0].line), ("toml", 1));
}

#[test]
fn the_number_of_questions_has_a_limit() {
    let names: Vec<String> = (0..101).map(|number| format!("\"u{number}\"")).collect();
    let names = names.join(", ");
    let case =
        format!("[[cases]]\nsubject = [{names}]\nresource = [{names}]\naction = \"http:read\"\nexpect = \"deny\"\n");
    let wrong = Suite::read(&[file(&case)]).expect_err("too many");
    assert_eq!(wrong[0].code, "too_many_cases");
}

#[test]
fn an_instant_can_be_assumed_as_toml_writes_it() {
    let policy = "@id(\"p\") @expires(\"2027-01-01T00:00:00Z\") permit(principal in Group::\"staff\", action, resource == Http::\"wiki\");";
    let suite = Suite::read(&[file(
        "[[cases]]\nsubject = \"ann\"\nresource = \"wiki\"\nat = 2026-12-31T23:59:59Z\nexpect = \"allow\"\n\
         [[cases]]\nsubject = \"ann\"\nresource = \"wiki\"\nat = \"2027-01-01T00:00:00Z\"\nexpect = \"deny\"\n",
    )])
    .expect("read");
    let source = PolicySource {
        files: vec![PolicyFile { name: "a.cedar".into(), text: policy.into() }],
        ..PolicySource::default()
    };
    let report = suite.run(source, None, &in_turn, &Memberships::new(), UNIX_EPOCH).expect("compiles");
    assert!(report.ok, "{report:#?}");
}

#[test]
fn a181_a_case_is_on_a_connection_of_which_nothing_is_known_unless_it_says_otherwise() {
    let case = |rest: &str, expect: &str| {
        format!(
            "\n[[cases]]\nsubject = \"ann\"\nresource = \"vault\"\naction = \"http:read\"\nexpect = \"{expect}\"\n{rest}\n"
        )
    };
    let cases = [case("", "deny"), case("post_quantum = false", "deny"), case("post_quantum = true", "allow")].concat();
    assert_eq!(failures(&cases), []);
    assert_eq!(failures(&case("post_quantum = true", "deny")).len(), 1);
    let wrong = Suite::read(&[file(&case("post_quantum = \"yes\"", "allow"))]).expect_err("no truth");
    assert_eq!(wrong[0].message, "`post_quantum` is true or false");
}
