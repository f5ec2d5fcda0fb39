use vouchsafe_model::name::{GatewayName, GroupName, UserName};
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::{Kind, Record};

use super::invites::{self, DeviceInvite, GatewayInvite, PersonInvite};
use super::testing::records;
use super::{Store, StoreError, facts, groups};
use crate::directory::Actor;

async fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("vouchsafe.db")).await.unwrap().0
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
    assert!(records(&store).is_empty());
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
    sqlx::query("DROP TABLE audit_outbox").execute(write.connection()).await.unwrap();
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
    let numbers: Vec<u64> = records(&store).iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    drop(store);
    let store = open(&dir).await;
    let mut write = store.write().await.unwrap();
    write.audit(Record::new(Kind::Lifecycle, 1));
    write.commit().await.unwrap();
    assert_eq!(records(&store).last().unwrap().seq, 61);
    assert_eq!(store.log().size(), 61);
}

/// What a crash between the commit of a change and its way into the log leaves behind.
async fn commit_without_log(store: &Store, seq: u64, target: &str) {
    let mut record = Actor::Controller.changed("test.note", target.to_owned(), String::new());
    (record.seq, record.source) = (seq, "controller".to_owned());
    let mut write = store.write().await.unwrap();
    super::outbox::insert(write.connection(), seq, &record.to_canonical().unwrap()).await.unwrap();
    let state = super::outbox::State { seq, log_size: store.log().size() };
    super::outbox::set_state(write.connection(), &state).await.unwrap();
    write.commit().await.unwrap();
}

fn targets(store: &Store) -> Vec<String> {
    let records = records(store);
    assert!(records.iter().map(|record| record.seq).eq(1..=records.len() as u64));
    records.into_iter().map(|record| record.target.unwrap()).collect()
}

async fn note(store: &Store, target: &str) -> Result<(), StoreError> {
    let mut write = store.write().await?;
    write.audit(Actor::Controller.changed("test.note", target.to_owned(), String::new()));
    write.commit().await
}

#[tokio::test]
async fn i7_what_a_crash_left_in_the_outbox_is_moved_once_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    note(&store, "one").await.unwrap();
    commit_without_log(&store, 2, "two").await;
    commit_without_log(&store, 3, "three").await;
    assert_eq!(targets(&store), ["one"]);
    for _ in 0..3 {
        drop(open(&dir).await);
    }
    let store = open(&dir).await;
    assert_eq!(targets(&store), ["one", "two", "three"]);
    note(&store, "four").await.unwrap();
    assert_eq!(targets(&store), ["one", "two", "three", "four"]);
}

#[tokio::test]
async fn i7_a_change_whose_record_waits_for_the_log_holds_up_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    note(&store, "one").await.unwrap();
    store.log().turn_over_always();
    let (log, away) = (dir.path().join("audit"), dir.path().join("away"));
    std::fs::rename(&log, &away).unwrap();
    // It is committed, with its record in the outbox, so it counts; but it is the last.
    note(&store, "two").await.unwrap();
    assert!(matches!(note(&store, "never").await, Err(StoreError::Log(_))));
    std::fs::rename(&away, &log).unwrap();
    note(&store, "three").await.unwrap();
    assert_eq!(targets(&store), ["one", "two", "three"]);
}

#[tokio::test]
async fn i7_a_log_that_lost_its_end_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for number in 0..5 {
        note(&store, &format!("note/{number}")).await.unwrap();
    }
    drop(store);
    std::fs::remove_dir_all(dir.path().join("audit")).unwrap();
    let Err(error) = Store::open(&dir.path().join("vouchsafe.db")).await else { panic!("opened") };
    assert!(error.to_string().contains("audit log"), "{error}");
}

#[tokio::test]
async fn a_change_that_is_committed_is_told_even_when_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut changes = store.changes();
    let mut write = store.write().await.unwrap();
    write.audit(Actor::Controller.changed("test.note", "one".into(), String::new()));
    write.change(Change::Everything);
    let mut commit = Box::pin(write.commit());
    // Begun, and then the client hangs up.
    assert!(futures_util::poll!(&mut commit).is_pending());
    drop(commit);
    assert_eq!(changes.recv().await.unwrap().changed().unwrap().change, Change::Everything);
    drop(store.write().await.unwrap());
    assert_eq!(targets(&store), ["one"]);
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

#[tokio::test]
async fn i12_codes_given_out_by_an_older_version_are_good_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vouchsafe.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    super::migrator(6).run(&pool).await.unwrap();
    for statement in [
        "INSERT INTO users (name, id, created) VALUES ('alice', 'usr_x', 1)",
        "INSERT INTO invites VALUES ('p', 'alice', 'admin', 1, 100)",
        "INSERT INTO device_invites VALUES ('d', 'alice', '[\"laptop\"]', 'admin', 1, 100)",
        "INSERT INTO device_invites VALUES ('n', NULL, '[]', 'admin', 1, 100)",
        "INSERT INTO gateway_invites VALUES ('g', 'one', 'admin', 1, 100)",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let store = open(&dir).await;
    let alice = UserName::parse("alice").unwrap();
    let mut write = store.write().await.unwrap();
    let connection = write.connection();
    let person = Some(PersonInvite(alice.clone()));
    assert_eq!(invites::find(connection, "p", 99).await.unwrap(), person);
    assert_eq!(invites::take::<PersonInvite>(connection, "p", 100).await.unwrap(), None, "its time is over");
    assert_eq!(invites::take::<DeviceInvite>(connection, "p", 99).await.unwrap(), None, "of another kind");
    assert_eq!(invites::take(connection, "p", 99).await.unwrap(), person);
    assert_eq!(invites::take::<PersonInvite>(connection, "p", 99).await.unwrap(), None, "once");
    let device = DeviceInvite { owner: Some(alice), tags: vec!["laptop".to_owned()] };
    assert_eq!(invites::take(connection, "d", 99).await.unwrap(), Some(device));
    let nobodys = DeviceInvite { owner: None, tags: Vec::new() };
    assert_eq!(invites::take(connection, "n", 99).await.unwrap(), Some(nobodys));
    let gateway = GatewayInvite(GatewayName::parse("one").unwrap());
    assert_eq!(invites::take(connection, "g", 99).await.unwrap(), Some(gateway));
}
