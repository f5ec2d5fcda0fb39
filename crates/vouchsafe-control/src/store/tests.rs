use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::{Kind, Record};

use super::audit::{Filter, Span, read};
use super::{Store, StoreError, facts, groups};
use crate::directory::Actor;

async fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("vouchsafe.db")).await.unwrap().0
}

async fn all(store: &Store) -> Vec<Record> {
    let mut reading = store.read().await.unwrap();
    let rows = read(&mut reading, &Filter::default(), Span::Between(0, u64::MAX >> 1), 10_000).await.unwrap();
    rows.iter().map(|(_, bytes)| Record::from_canonical(bytes).unwrap()).collect()
}

#[tokio::test]
async fn a_change_that_is_dropped_leaves_nothing_and_tells_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut changes = store.changes();
    let group = GroupName::parse("mkt").unwrap();
    let mut write = store.write().await.unwrap();
    groups::add(write.connection(), &group, 1).await.unwrap();
    write.audit(Actor::Controller.changed("group.add", "group/mkt".into(), String::new()));
    write.change(Change::User(UserName::parse("alice").unwrap()));
    drop(write);
    let mut reading = store.read().await.unwrap();
    assert_eq!(groups::show(&mut reading, &group).await.unwrap(), None);
    assert_eq!(facts::epoch(&mut reading).await.unwrap().0, 0);
    drop(reading);
    assert!(all(&store).await.is_empty());
    assert!(changes.try_recv().is_err());
}

#[tokio::test]
async fn a_change_whose_record_can_not_be_kept_does_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let group = GroupName::parse("mkt").unwrap();
    let mut write = store.write().await.unwrap();
    groups::add(write.connection(), &group, 1).await.unwrap();
    write.audit(Actor::Controller.changed("group.add", "group/mkt".into(), String::new()));
    // The log is gone when the record is to be kept; giving the change up brings it back.
    sqlx::query("DROP TABLE audit").execute(write.connection()).await.unwrap();
    assert!(matches!(write.commit().await, Err(StoreError::Database(_))));
    assert_eq!(groups::show(&mut store.read().await.unwrap(), &group).await.unwrap(), None);
}

#[tokio::test]
async fn i7_numbers_have_no_gap_however_many_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let writers = (0..40).map(|number| {
        let store = store.clone();
        async move {
            let mut write = store.write().await.unwrap();
            for _ in 0..2 {
                write.audit(Record::new(Kind::Lifecycle, number));
            }
            // Every fourth change is given up.
            if number % 4 != 0 {
                write.commit().await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let numbers: Vec<u64> = all(&store).await.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    drop(store);
    let store = open(&dir).await;
    let mut write = store.write().await.unwrap();
    write.audit(Record::new(Kind::Lifecycle, 1));
    write.commit().await.unwrap();
    assert_eq!(all(&store).await.last().unwrap().seq, 61);
    assert_eq!(*store.recorded().borrow(), 61);
}

#[tokio::test]
async fn facts_read_later_never_have_a_lower_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut last = 0;
    for _ in 0..5 {
        let mut write = store.write().await.unwrap();
        write.change(Change::Everything);
        write.commit().await.unwrap();
        let epoch = facts::epoch(&mut store.read().await.unwrap()).await.unwrap().0;
        assert!(epoch > last);
        last = epoch;
    }
    super::purge::expired(store.write().await.unwrap().connection(), 1, 100).await.unwrap();
    assert_eq!(facts::epoch(&mut store.read().await.unwrap()).await.unwrap().0, last);
}
