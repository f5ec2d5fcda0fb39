//! What the gate makes of a prover's answers. The real prover and solver: `vouchsafe/tests/it/proof.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use vouchsafe_model::id::SessionId;
use vouchsafe_model::name::UserName;
use vouchsafe_policy::default_policy;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::BoxFuture;
use vouchsafe_wire::api::{PolicyFileDoc, Publish};
use vouchsafe_wire::proof::{About, FindingDoc, ProofQuestion, VerdictDoc};
use vouchsafe_wire::resource::second_text;

use super::{nobody_knows, prove};
use crate::administrator::AdministratorError;
use crate::administrator::policy::{Kind, Wanted, publish, publish_in, roll_back};
use crate::context::Context;
use crate::directory::Actor;
use crate::prover::{Prover, ProverError};
use crate::testing::Bench;

/// Says what it was told to say, after something else has happened.
#[derive(Default)]
struct Says {
    answers: Mutex<Vec<Result<Vec<FindingDoc>, ProverError>>>,
    asked: Mutex<Vec<ProofQuestion>>,
    /// Where another version is published while this one thinks.
    meanwhile: OnceLock<(Context, Publish)>,
}

impl Prover for Says {
    fn prove(&self, question: ProofQuestion) -> BoxFuture<'_, Result<Vec<FindingDoc>, ProverError>> {
        self.asked.lock().push(question);
        Box::pin(async move {
            let answer = self.answers.lock().pop().expect("an answer");
            if self.asked.lock().len() == 1
                && let Some((context, other)) = self.meanwhile.get()
            {
                publish(context, other, &Actor::Controller).await.expect("published meanwhile");
            }
            answer
        })
    }
}

fn finding(about: About, name: &str, verdict: VerdictDoc) -> FindingDoc {
    FindingDoc { about, name: name.to_owned(), verdict, ..nobody_knows(String::new()) }
}

fn files(more: &str) -> Value {
    let default = default_policy();
    json!([{"name": default.name, "text": default.text}, {"name": "more.cedar", "text": more}])
}

const PLAIN: &str = "@id(\"a\") permit(principal, action, resource is Http);";
const SUMS: &str = "@id(\"sums\") forbid(principal, action, resource is Http) when { context.auth.age + 1 > 60 };";

fn never() -> Value {
    json!([{"name": "invariants/a.toml", "text": "[[invariants]]\nname = \"a\"\nclaim = \"never\"\n"}])
}

fn two() -> Value {
    json!([{"name": "invariants/a.toml", "text": "[[invariants]]\nname = \"a\"\n[[invariants]]\nname = \"b\"\n"}])
}

/// A bench whose prover says these, the last one first.
async fn bench(answers: Vec<Result<Vec<FindingDoc>, ProverError>>) -> (Bench, Arc<Says>) {
    let bench = Bench::open().await;
    let says = Arc::new(Says { answers: Mutex::new(answers), ..Says::default() });
    bench.controller.prove_with(says.clone());
    (bench, says)
}

async fn refused(bench: &Bench, body: Value) -> (StatusCode, Value) {
    let (status, problem) = bench.ask("POST", "/v1/policy/publish", body).await;
    assert!(!status.is_success(), "{problem}");
    assert_eq!(bench.done("GET", "/v1/policy", Value::Null).await["version"], 1, "nothing of it is live");
    (status, problem)
}

#[tokio::test]
async fn i8_anything_but_a_proof_of_each_thing_refuses() {
    let invariant = |verdict| vec![finding(About::Invariant, "a", verdict)];
    for (answer, invariants, text, kind) in [
        (Ok(invariant(VerdictDoc::Refuted)), never(), PLAIN, "unproven"),
        (Ok(invariant(VerdictDoc::Open)), never(), PLAIN, "unproven"),
        (Ok(invariant(VerdictDoc::Vacant)), never(), PLAIN, "unproven"),
        (Ok(vec![finding(About::CannotFail, "sums", VerdictDoc::Refuted)]), json!([]), SUMS, "unproven"),
        // Silence is no proof.
        (Ok(Vec::new()), never(), PLAIN, "no_proof"),
        (Ok(Vec::new()), json!([]), SUMS, "no_proof"),
        (Ok(invariant(VerdictDoc::Proven)), json!([]), SUMS, "no_proof"),
        (Ok(invariant(VerdictDoc::Proven)), two(), PLAIN, "no_proof"),
        (Ok(vec![finding(About::CannotFail, "other", VerdictDoc::Proven)]), json!([]), SUMS, "no_proof"),
        (Err(ProverError("it is gone".into())), never(), PLAIN, "no_proof"),
    ] {
        let told = format!("{answer:?} {text}");
        let (bench, _) = bench(vec![answer]).await;
        let (status, problem) = refused(&bench, json!({"files": files(text), "invariants": invariants})).await;
        assert_eq!((status, problem["type"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some(kind)), "{told}");
        assert!(problem["detail"].as_str().unwrap().contains("nothing was published"), "{problem}");
    }
    // No prover at all.
    let bench = Bench::open().await;
    let (_, problem) = refused(&bench, json!({"files": files(PLAIN), "invariants": never()})).await;
    assert_eq!(problem["type"], "no_proof");
}

#[tokio::test]
async fn invariants_stay_with_the_version_until_somebody_takes_them_away() {
    let proven = || Ok(vec![finding(About::Invariant, "a", VerdictDoc::Proven)]);
    let (bench, says) = bench(vec![proven(), proven(), proven()]).await;
    let publish = async |body| bench.done("POST", "/v1/policy/publish", body).await;
    let version = publish(json!({"files": files(PLAIN), "invariants": never()})).await;
    assert_eq!(version["proofs"][0]["verdict"], "proven", "{version}");
    let narrower = PLAIN.replace(';', " when { context.auth.age < 60 };");
    publish(json!({"files": files(&narrower)})).await;
    assert_eq!(bench.done("GET", "/v1/policy", Value::Null).await["invariants"], never());
    bench.done("POST", "/v1/policy/rollback", json!({"version": 2})).await;
    assert_eq!(says.asked.lock().iter().filter(|asked| asked.invariants.len() == 1).count(), 3);
    // Taken away, nothing is asked any more.
    publish(json!({"files": files(PLAIN), "invariants": []})).await;
    assert_eq!(says.asked.lock().len(), 3);
    let history = bench.done("GET", "/v1/policy", Value::Null).await;
    assert_eq!((history["version"].as_u64(), history["invariants"].is_null()), (Some(5), true), "{history}");
}

#[tokio::test]
async fn i6_who_has_lost_the_right_while_something_was_proven_publishes_nothing() {
    let (bench, _) = bench(vec![Ok(vec![finding(About::CannotFail, "sums", VerdictDoc::Proven)])]).await;
    let asked: Publish = serde_json::from_value(json!({"files": files(SUMS)})).unwrap();
    let gone = Actor::User {
        name: UserName::parse("admin").unwrap(),
        session: Some(SessionId::from_random([7; 16])),
        device: None,
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        post_quantum: true,
        decision: None,
    };
    let refused = publish(bench.context(), &asked, &gone).await;
    assert!(matches!(refused, Err(AdministratorError::NoLonger)), "{refused:?}");
    let back = roll_back(bench.context(), 1, &gone).await;
    assert!(matches!(back, Err(AdministratorError::NoLonger)), "{back:?}");
    let plan = bench.done("POST", "/v1/plan", json!({"groups": []})).await;
    let apply = serde_json::from_value(json!({"manifest": {"groups": []}, "digest": plan["digest"]})).unwrap();
    let applied = crate::administrator::apply::apply(bench.context(), &apply, &gone).await;
    assert!(matches!(applied, Err(AdministratorError::NoLonger)), "{applied:?}");
    assert_eq!(bench.done("GET", "/v1/policy", Value::Null).await["version"], 1);
}

#[tokio::test]
async fn i8_who_could_administer_for_a_minute_is_locked_out_all_the_same() {
    let bench = Bench::open().await;
    let soon = second_text(clock::now() + Duration::from_secs(60)).unwrap();
    let console = |more: &str| {
        let permit = "permit(principal in Group::\"administrators\", action, resource is Console)";
        json!([{"name": "a.cedar", "text": format!("@id(\"console\") {more} {permit};")}])
    };
    let expires = format!("@expires(\"{soon}\")");
    let (_, problem) = refused(&bench, json!({"files": console(&expires)})).await;
    assert_eq!(problem["type"], "lock_out", "{problem}");
    bench.done("POST", "/v1/policy/publish", json!({"files": console("")})).await;
}

#[tokio::test]
async fn a_proof_is_good_for_what_it_is_about_and_nothing_else() {
    let (bench, says) = bench(vec![
        Ok(vec![finding(About::Invariant, "a", VerdictDoc::Proven)]),
        Ok(vec![finding(About::CannotFail, "sums", VerdictDoc::Proven)]),
    ])
    .await;
    // While the first is proven without invariants, a version with one comes into force.
    let other = json!({"files": files(PLAIN), "invariants": never()});
    let other: Publish = serde_json::from_value(other).unwrap();
    assert!(says.meanwhile.set((bench.context().clone(), other)).is_ok());
    let (status, problem) = bench.ask("POST", "/v1/policy/publish", json!({"files": files(SUMS)})).await;
    assert_eq!((status, problem["type"].as_str()), (StatusCode::CONFLICT, Some("proof_moved")), "{problem}");
    let live = bench.done("GET", "/v1/policy", Value::Null).await;
    assert_eq!((live["version"].as_u64(), &live["invariants"]), (Some(2), &never()), "{live}");

    let docs = |value: Value| serde_json::from_value::<Vec<PolicyFileDoc>>(value).unwrap();
    let proven = prove(bench.context(), &docs(files(PLAIN)), &[], None).await.unwrap();
    for (text, invariants) in [(SUMS, json!([])), (PLAIN, never())] {
        let (files, invariants) = (docs(files(text)), docs(invariants));
        let mut write = bench.context().store.write().await.unwrap();
        let wanted = Wanted {
            files: &files,
            tests: None,
            invariants: Some(&invariants),
            note: "",
            kind: Kind::Publish,
            confirm_within: None,
            proven: &proven,
            proposal: None,
        };
        let same = invariants.len() == 1;
        let outcome = publish_in(&mut write, &wanted, &Actor::Controller).await;
        // What is in force already needs no proof.
        assert_eq!(outcome.is_ok(), same, "{outcome:?}");
    }
}
