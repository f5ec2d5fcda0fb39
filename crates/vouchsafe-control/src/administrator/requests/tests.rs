use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use vouchsafe_model::id::SessionId;

use super::*;
use crate::testing::Bench;

fn user(name: &str) -> Actor {
    Actor::User {
        name: UserName::parse(name).unwrap(),
        session: Some(SessionId::from_random([1; 16])),
        device: None,
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        post_quantum: true,
        decision: None,
    }
}

fn new() -> NewRequest {
    NewRequest { seconds: 3_600, reason: "closing the quarter".to_owned(), template: None }
}

#[tokio::test]
async fn nobody_fills_the_store_by_asking_and_taking_it_back() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    let (context, alice) = (bench.context(), user("alice"));
    for _ in 0..MOST_A_DAY {
        let request = add(context, "wiki", &new(), &alice).await.unwrap();
        let with = DecideRequest { note: String::new() };
        decide(context, "wiki", &request.id, Verdict::Withdraw, &with, &alice).await.unwrap();
    }
    let refused = add(context, "wiki", &new(), &alice).await;
    assert!(matches!(refused, Err(AdministratorError::TooManyRequests)), "{refused:?}");
    // What became of them is forgotten in time; the audit log has it.
    let now = clock::unix_seconds(clock::now());
    for (later, kept) in [(0, 50), (KEPT_SECONDS + 1, 0)] {
        let mut write = context.store.write().await.unwrap();
        end_over(&mut write, now + later, 1_000).await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(own(context, &alice).await.unwrap().len(), kept, "after {later} s");
    }
}

#[tokio::test]
async fn those_that_wait_longest_are_first() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    let (context, alice) = (bench.context(), user("alice"));
    for resource in ["first", "second", "third"] {
        let request = add(context, resource, &new(), &alice).await.unwrap();
        let mut write = context.store.write().await.unwrap();
        let at = ["third", "second", "first"].iter().position(|name| *name == resource).unwrap();
        let earlier = i64::try_from(at).unwrap() * 60;
        sqlx::query("UPDATE requests SET created = created - $1 WHERE id = $2")
            .bind(earlier)
            .bind(&request.id)
            .execute(write.connection())
            .await
            .unwrap();
        write.commit().await.unwrap();
    }
    let all = requests::list(&mut context.store.read().await.unwrap(), None).await.unwrap();
    let names: Vec<&str> = all.iter().map(|request| request.resource.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"]);
}
