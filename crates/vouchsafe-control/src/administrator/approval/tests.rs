//! Two people: what one of them can do alone, and what binds the other.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use vouchsafe_policy::default_policy;
use vouchsafe_wire::api::{Apply, Publish};

use super::*;
use crate::administrator::{apply, confirm, policy as versions};
use crate::store::testing;
use crate::testing::Bench;

const HELD: &str =
    "@id(\"no-payroll\") @approval(\"two-person\") forbid(principal, action, resource == Http::\"payroll\");";
const OPEN: &str = "@id(\"wiki\") permit(principal, action, resource == Http::\"wiki\");";

fn files(texts: &[&str]) -> Value {
    let default = default_policy();
    let mut all = vec![json!({"name": default.name, "text": default.text})];
    all.extend(texts.iter().enumerate().map(|(at, text)| json!({"name": format!("{at}.cedar"), "text": text})));
    Value::from(all)
}

struct Two {
    bench: Bench,
    ann: Actor,
    bob: Actor,
}

impl Two {
    /// Ann and Bob administer, and the policy that holds payroll shut is in force as version 2.
    async fn new() -> Self {
        let bench = Bench::open().await;
        let mut both = Vec::new();
        for name in ["ann", "bob"] {
            bench.done("POST", "/v1/users", json!({"name": name, "groups": ["administrators"]})).await;
            testing::passkey(&bench.context().store, name).await;
            both.push(signed_in(&bench, name).await);
        }
        let (bob, ann) = (both.pop().unwrap(), both.pop().unwrap());
        let two = Self { bench, ann, bob };
        let first = two.propose(&[HELD], &two.ann).await;
        assert_eq!(two.approve(&first, &two.bob).await.unwrap().version, 2);
        two
    }

    fn context(&self) -> &Context {
        self.bench.context()
    }

    async fn publish(&self, body: Value, by: &Actor) -> Result<Published, AdministratorError> {
        let publish: Publish = serde_json::from_value(body).unwrap();
        versions::publish(self.context(), &publish, by).await
    }

    async fn propose(&self, texts: &[&str], by: &Actor) -> ProposalDoc {
        match self.publish(json!({"files": files(texts), "note": "because"}), by).await.unwrap() {
            Published::Waits(proposal) => *proposal,
            Published::InForce(version) => panic!("version {} is in force", version.version),
        }
    }

    async fn approve(&self, proposal: &ProposalDoc, by: &Actor) -> Result<PolicyVersion, AdministratorError> {
        approve(self.context(), &proposal.proposal, &DecideProposal::default(), by).await
    }

    async fn version(&self) -> u64 {
        self.bench.done("GET", "/v1/policy", Value::Null).await["version"].as_u64().unwrap()
    }

    async fn state(&self, proposal: &ProposalDoc) -> ProposalState {
        show(self.context(), &proposal.proposal).await.unwrap().state
    }
}

async fn signed_in(bench: &Bench, name: &str) -> Actor {
    Actor::User {
        name: UserName::parse(name).unwrap(),
        session: Some(testing::session(&bench.context().store, name, None, &format!("cookie-{name}")).await),
        device: None,
        ip: Ipv4Addr::LOCALHOST.into(),
        post_quantum: true,
        decision: None,
    }
}

#[tokio::test]
async fn i8_whatever_touches_a_protected_policy_waits_for_somebody_else() {
    let two = Two::new().await;
    let bare = HELD.replace("@approval(\"two-person\") ", "");
    let wider = HELD.replace("forbid", "permit");
    for texts in [
        vec![OPEN],
        vec![&*bare],
        vec![&*wider],
        vec![HELD, "@id(\"b\") @approval(\"two-person\") forbid(principal, action, resource == Http::\"b\");"],
    ] {
        let proposal = two.propose(&texts, &two.ann).await;
        assert_eq!((two.version().await, proposal.base), (2, 2), "nothing of {texts:?} is live");
        assert!(matches!(two.approve(&proposal, &two.ann).await, Err(AdministratorError::OwnProposal)));
        assert_eq!((two.version().await, two.state(&proposal).await), (2, ProposalState::Open));
        // The same again is the same proposal, whoever brings it, and no approval.
        assert_eq!(two.propose(&texts, &two.bob).await, ProposalDoc { files: Vec::new(), ..proposal });
    }
    // What touches none is hers alone to do, and so is what is in force already.
    let alone = two.publish(json!({"files": files(&[HELD, OPEN])}), &two.ann).await.unwrap();
    assert!(matches!(alone, Published::InForce(version) if version.version == 3 && version.approved_by.is_none()));
    // A rollback to where it wasn't there yet.
    let back = versions::roll_back(two.context(), 1, &two.ann).await.unwrap();
    let Published::Waits(back) = back else { panic!("{back:?}") };
    assert_eq!((back.kind.as_str(), two.version().await), ("rollback", 3));
    let version = two.approve(&back, &two.bob).await.unwrap();
    assert_eq!((version.version, version.by.as_str(), version.approved_by.as_deref()), (4, "ann", Some("bob")));
    let history = two.bench.done("GET", "/v1/policy/history", Value::Null).await;
    assert_eq!((&history[0]["by"], &history[0]["approved_by"]), (&json!("ann"), &json!("bob")));
    let changes = two.bench.changes().await;
    let proposed = format!("policy.propose proposal/{}", back.proposal);
    let approved = format!("policy.approve proposal/{}", back.proposal);
    assert_eq!(changes[changes.len() - 3..], [proposed, "policy.rollback policy/4".to_owned(), approved]);
}

#[tokio::test]
async fn i8_an_apply_is_no_way_around() {
    let two = Two::new().await;
    let manifest = json!({"policy": files(&[OPEN]), "groups": [{"name": "administrators"}, {"name": "staff"}]});
    let plan = two.bench.done("POST", "/v1/plan", manifest.clone()).await;
    assert!(plan.to_string().contains("it takes two people to change `no-payroll`"), "{plan}");
    let body: Apply = serde_json::from_value(json!({"manifest": manifest, "digest": plan["digest"]})).unwrap();
    let refused = apply::apply(two.context(), &body, &two.ann).await;
    assert!(matches!(refused, Err(AdministratorError::TwoPeople { .. })), "{refused:?}");
    let local = apply::apply(two.context(), &body, &Actor::Local { uid: 0 }).await;
    assert!(matches!(local, Err(AdministratorError::TwoUsers { .. })), "{local:?}");
    assert_eq!(two.version().await, 2);
    let groups = two.bench.done("GET", "/v1/groups", Value::Null).await;
    assert_eq!(groups.as_array().unwrap().len(), 1, "all of it or nothing");
}

#[tokio::test]
async fn i8_the_owner_of_the_machine_counts_for_neither() {
    let two = Two::new().await;
    let body = json!({"files": files(&[OPEN])});
    assert_eq!(two.bench.refused("POST", "/v1/policy/publish", body).await, (409, "two_users".into()));
    assert_eq!(
        two.bench.refused("POST", "/v1/policy/rollback", json!({"version": 1})).await,
        (409, "two_users".into())
    );
    let proposal = two.propose(&[OPEN], &two.ann).await;
    let at = format!("/v1/policy/pending/{}", proposal.proposal);
    assert_eq!(two.bench.refused("POST", &format!("{at}/approve"), json!({})).await, (409, "two_users".into()));
    // To say no takes nobody in particular.
    let other = json!({"digest": "00"});
    assert_eq!(two.bench.refused("POST", &format!("{at}/reject"), other).await, (409, "other_proposal".into()));
    let rejected = two.bench.done("POST", &format!("{at}/reject"), json!({"note": "no"})).await;
    assert_eq!((&rejected["state"], &rejected["decided_by"]), (&json!("rejected"), &json!("local:0")));
    assert!(matches!(two.approve(&proposal, &two.bob).await, Err(AdministratorError::ProposalSettled { .. })));
    assert_eq!(two.version().await, 2);
}

#[tokio::test]
async fn i8_an_approval_is_of_that_draft_on_that_version_alone() {
    let two = Two::new().await;
    let (one, other) = (two.propose(&[OPEN], &two.ann).await, two.propose(&[], &two.ann).await);
    let with = DecideProposal { digest: Some(one.digest.clone()), note: String::new() };
    let refused = approve(two.context(), &other.proposal, &with, &two.bob).await;
    assert!(matches!(refused, Err(AdministratorError::OtherProposal)), "{refused:?}");
    // Whoever changes what is kept changes its digest.
    testing::run(
        &two.context().store,
        &format!("UPDATE policy_proposals SET files = '[]' WHERE id = '{}'", other.proposal),
    )
    .await;
    assert!(two.approve(&other, &two.bob).await.is_err());
    two.publish(json!({"files": files(&[HELD, OPEN])}), &two.bob).await.unwrap();
    let stale = two.approve(&one, &two.bob).await;
    assert!(matches!(stale, Err(AdministratorError::StaleProposal { base: 2 })), "{stale:?}");
    assert_eq!(two.version().await, 3);
    assert!(show(two.context(), &one.proposal).await.unwrap().stale);
}

#[tokio::test]
async fn i8_both_must_be_ones_who_may_when_it_counts() {
    let two = Two::new().await;
    let proposal = two.propose(&[OPEN], &two.ann).await;
    // Who approves has lost her session.
    let gone = Actor::User {
        name: UserName::parse("bob").unwrap(),
        session: Some(vouchsafe_model::id::SessionId::from_random([7; 16])),
        device: None,
        ip: Ipv4Addr::LOCALHOST.into(),
        post_quantum: true,
        decision: None,
    };
    assert!(matches!(two.approve(&proposal, &gone).await, Err(AdministratorError::NoLonger)));
    two.bench.done("POST", "/v1/users", json!({"name": "carol"})).await;
    let carol = signed_in(&two.bench, "carol").await;
    assert!(matches!(two.approve(&proposal, &carol).await, Err(AdministratorError::NoLonger)), "no administrator");
    // Who proposed it is none any more.
    two.bench.done("DELETE", "/v1/groups/administrators/members/ann", Value::Null).await;
    let refused = two.approve(&proposal, &two.bob).await;
    assert!(matches!(refused, Err(AdministratorError::AuthorMayNot { .. })), "{refused:?}");
    two.bench.done("PUT", "/v1/groups/administrators/members/ann", Value::Null).await;
    two.bench.done("PATCH", "/v1/users/ann", json!({"disabled": true})).await;
    assert!(matches!(two.approve(&proposal, &two.bob).await, Err(AdministratorError::AuthorMayNot { .. })));
    two.bench.done("PATCH", "/v1/users/ann", json!({"disabled": false})).await;
    assert_eq!(two.approve(&proposal, &two.bob).await.unwrap().version, 3);
    assert!(matches!(two.approve(&proposal, &two.bob).await, Err(AdministratorError::ProposalSettled { .. })), "once");
}

#[tokio::test]
async fn i8_the_gate_stands_before_the_proposal_and_before_the_approval() {
    let two = Two::new().await;
    let invalid = two
        .publish(json!({"files": files(&["@id(\"x\") permit(principal, action, resource == Nope::\"a\");"])}), &two.ann)
        .await;
    assert!(matches!(invalid, Err(AdministratorError::PolicyInvalid { .. })), "{invalid:?}");
    let test = "[subjects.admin]\ngroups = [\"administrators\"]\n[[cases]]\nname = \"shut\"\nsubject = \"admin\"\n\
                resource = \"console\"\ndevice = \"software\"\nexpect = \"deny\"\n";
    let tests = json!([{"name": "tests/a.toml", "text": test}]);
    let failing = two.publish(json!({"files": files(&[OPEN]), "tests": tests}), &two.ann).await;
    assert!(matches!(failing, Err(AdministratorError::TestsFailed { .. })), "{failing:?}");
    assert_eq!(
        two.bench.done("GET", "/v1/policy/pending", Value::Null).await.as_array().unwrap().len(),
        1,
        "of before"
    );
    // Nobody but administrators of another group could administer: fine while somebody is in it.
    let only =
        "@id(\"only\") forbid(principal, action, resource is Console) unless { principal in Group::\"keepers\" };";
    two.bench.done("PUT", "/v1/groups/keepers", Value::Null).await;
    two.bench.done("PUT", "/v1/groups/keepers/members/ann", Value::Null).await;
    let proposal = two.propose(&[only], &two.ann).await;
    two.bench.done("DELETE", "/v1/groups/keepers/members/ann", Value::Null).await;
    let refused = two.approve(&proposal, &two.bob).await;
    assert!(matches!(refused, Err(AdministratorError::LockOut)), "{refused:?}");
    assert_eq!((two.version().await, two.state(&proposal).await), (2, ProposalState::Open));
}

#[tokio::test]
async fn what_is_approved_still_goes_back_unless_it_is_confirmed() {
    let two = Two::new().await;
    let body = json!({"files": files(&[OPEN]), "confirm_within": 60});
    let Published::Waits(proposal) = two.publish(body, &two.ann).await.unwrap() else { panic!("in force") };
    let version = two.approve(&proposal, &two.bob).await.unwrap();
    let by = version.confirm_by.unwrap();
    assert_eq!(confirm::overdue(two.context(), by).await.unwrap(), Some(4));
    let live = two.bench.done("GET", "/v1/policy", Value::Null).await;
    assert_eq!((&live["by"], &live["approved_by"]), (&json!("controller"), &Value::Null));
    assert!(live.to_string().contains("no-payroll"));
}

#[tokio::test]
async fn i11_proposals_are_bounded_and_lapse() {
    let two = Two::new().await;
    let first = two.propose(&[OPEN], &two.ann).await;
    for number in 1..MOST {
        let text = format!("@id(\"p{number}\") permit(principal, action, resource == Http::\"wiki\");");
        two.propose(&[&text], &two.ann).await;
    }
    let more = two.publish(json!({"files": files(&[])}), &two.ann).await;
    assert!(matches!(more, Err(AdministratorError::TooManyProposals)), "{more:?}");
    let mut write = two.context().store.write().await.unwrap();
    assert_eq!(end_over(&mut write, first.open_until - 1, 500).await.unwrap(), 0);
    let all = end_over(&mut write, first.open_until + 60, 500).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(all, MOST);
    assert_eq!(two.state(&first).await, ProposalState::Expired);
    assert!(matches!(two.approve(&first, &two.bob).await, Err(AdministratorError::ProposalSettled { .. })));
    let lapsed = two.bench.changes().await.iter().filter(|change| change.starts_with("policy.lapse")).count();
    assert_eq!(lapsed, usize::try_from(MOST).unwrap());
    let mut write = two.context().store.write().await.unwrap();
    let later = clock::unix_seconds(clock::now()) + KEPT_SECONDS + 60;
    assert!(end_over(&mut write, later, 500).await.unwrap() >= MOST, "settled ones are forgotten");
}
