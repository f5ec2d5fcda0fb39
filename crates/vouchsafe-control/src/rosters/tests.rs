use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::GatewayName;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_runtime::tls;

use super::*;
use crate::directory::{self, Actor};
use crate::store::certified::Issued;
use crate::store::gateways::NewGateway;

async fn joins(context: &Context, number: u8, name: &str) -> GatewayId {
    let id = GatewayId::from_random([number; 16]);
    let name = GatewayName::parse(name).unwrap();
    let mut write = context.store.write().await.unwrap();
    let issued = Issued { key_sha256: name.as_str(), sha256: name.as_str(), not_after: u64::MAX / 4 };
    let new = NewGateway { id, name: &name, assertion_point: &[4; 65], issued };
    gateways::insert(write.connection(), &new, 0).await.unwrap();
    write.commit().await.unwrap();
    context.rosters.gateways_changed();
    id
}

async fn announces(context: &Context, id: GatewayId, address: &str) -> bool {
    let mut write = context.store.write().await.unwrap();
    let addresses = [Endpoint::parse(address).unwrap()];
    let changed = gateways::announces(write.connection(), &id, &addresses).await.unwrap();
    write.commit().await.unwrap();
    context.rosters.gateways_changed();
    changed
}

/// The next list, as a connector reads it.
async fn next(context: &Context, lists: &mut watch::Receiver<Option<Bytes>>) -> Roster {
    tokio::time::timeout(Duration::from_secs(30), lists.changed()).await.expect("in time").unwrap();
    read(context, lists)
}

fn read(context: &Context, lists: &mut watch::Receiver<Option<Bytes>>) -> Roster {
    let bytes = lists.borrow_and_update().clone().expect("a list");
    let roots = tls::roots(context.ca.root_pem(), "root").unwrap();
    Roster::verified(&bytes, &roots, &context.settings.domain, clock::now()).unwrap()
}

#[tokio::test]
async fn each_change_of_the_gateways_makes_a_newer_list_that_leads_to_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::for_test(dir.path()).await;
    start(&context).await.unwrap();
    let mut lists = context.rosters.newest();
    let first = read(&context, &mut lists);
    let own = context.ca.gateway_identity().id;
    assert_eq!(first.gateways, [(own, Vec::new())]);
    assert_eq!(first.ends.duration_since(first.made).unwrap(), ROSTER_LIFE);

    let one = joins(&context, 1, "one").await;
    let joined = next(&context, &mut lists).await;
    assert!(joined.is_newer_than(&first) && joined.has(own) && joined.has(one));
    assert!(announces(&context, one, "203.0.113.7:443").await);
    let reached = next(&context, &mut lists).await;
    assert!(reached.is_newer_than(&joined));
    assert_eq!(reached.gateways[1], (one, vec![Endpoint::parse("203.0.113.7:443").unwrap()]));
    assert!(!announces(&context, one, "203.0.113.7:443").await, "nothing new");
    let again = next(&context, &mut lists).await;
    assert!(again.is_newer_than(&reached));

    directory::gateways::remove(&context, "one", &Actor::Controller).await.unwrap();
    let removed = next(&context, &mut lists).await;
    assert!(removed.is_newer_than(&again) && !removed.has(one));
    assert!(removed.sequence > again.sequence, "a removal is newer by its number, whatever the clock says");

    // A restart keeps the key, and its certificate.
    let (before, _) = (signer(&context).await.unwrap(), drop(lists));
    let store = &context.store;
    let issued = crate::store::testing::records(store);
    let of_lists = issued.iter().filter(|record| record.target.as_deref().is_some_and(|it| it.contains("/rosters/")));
    assert_eq!(of_lists.count(), 1);
    assert!(before.renew_at > clock::unix_seconds(clock::now()));
}
