use std::time::Duration;

use vouchsafe_model::id::{DeviceId, GatewayId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::link::Change;

use super::{BATCH, Entry, FeedReader, Since};
use crate::store::{Store, purge, testing};

async fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("vouchsafe.db")).await.unwrap().0
}

fn change(number: u64) -> Change {
    let bytes = u128::from(number).to_be_bytes();
    match number % 3 {
        0 => Change::User(UserName::parse(&format!("user-{number}")).unwrap()),
        1 => Change::Device(DeviceId::from_random(bytes)),
        _ => Change::Session(SessionId::from_random(bytes)),
    }
}

async fn commit(store: &Store, changes: impl IntoIterator<Item = Change>) {
    let mut write = store.write().await.unwrap();
    changes.into_iter().for_each(|change| write.change(change));
    write.commit().await.unwrap();
}

async fn rows(reader: &mut FeedReader) -> Vec<Entry> {
    let found = tokio::time::timeout(Duration::from_secs(20), reader.next()).await.unwrap().unwrap();
    let Since::Rows(rows) = found else { panic!("{found:?}") };
    rows.into_iter().map(|row| row.entry).collect()
}

/// The promise: whoever reads on from where she stopped, whenever she went away and came back, reads every
/// change that was committed, once and in order; and none that was given up.
#[tokio::test(flavor = "multi_thread")]
async fn i6_no_committed_change_is_missed_by_a_reader_that_comes_back_at_any_point() {
    const LAST: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let writer = store.clone();
    let writing = async move {
        let mut number = 1;
        while number <= LAST {
            // One to four in a transaction; every fifth transaction is dropped first, and done again.
            let count = (number * 7 % 4 + 1).min(LAST + 1 - number);
            if number % 5 == 0 {
                let mut dropped = writer.write().await.unwrap();
                dropped.change(Change::Everything);
                drop(dropped);
            }
            commit(&writer, (number..number + count).map(change)).await;
            number += count;
        }
    };
    let reading = |seed: u64| {
        let store = store.clone();
        async move {
            let (mut seen, mut after, mut dice) = (Vec::new(), 0, seed);
            while seen.len() < LAST as usize {
                let mut reader = store.follow(after);
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                for _ in 0..=(dice >> 33) % 4 {
                    if seen.len() == LAST as usize {
                        break;
                    }
                    // Given up while it waits, at any moment: nothing may get lost by that either.
                    let patience = Duration::from_micros((dice >> 40) % 3_000);
                    if let Ok(found) = tokio::time::timeout(patience, reader.next()).await {
                        let Since::Rows(rows) = found.unwrap() else { panic!("nothing was purged") };
                        seen.extend(rows.into_iter().map(|row| (row.sequence, row.entry)));
                    }
                }
                after = seen.last().map_or(0, |(sequence, _)| *sequence);
                assert!(reader.position() >= after);
            }
            seen
        }
    };
    let (_, all) = tokio::join!(writing, futures_util::future::join_all((1..=6).map(reading)));
    let expected: Vec<_> = (1..=LAST).map(|number| (number, Entry::Facts(change(number)))).collect();
    for seen in all {
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn every_kind_of_entry_is_read_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut reader = store.follow(0);
    let mut live = store.changes();
    let mut write = store.write().await.unwrap();
    let changes = [change(3), change(4), change(5), Change::Everything];
    changes.iter().cloned().for_each(|change| write.change(change));
    let gateway = GatewayId::from_random([9; 16]);
    write.gateway_removed(gateway);
    write.snapshot_changed();
    write.commit().await.unwrap();
    let mut expected: Vec<_> = changes.iter().cloned().map(Entry::Facts).collect();
    expected.extend([Entry::Gateway(gateway), Entry::Snapshot]);
    assert_eq!(rows(&mut reader).await, expected);
    for (number, change) in (1..).zip(&changes) {
        let told = live.recv().await.unwrap().changed().unwrap();
        assert_eq!((told.sequence, &told.change), (number, change), "told with the number of its row");
    }
    // A word of a later version may mean anything.
    testing::run(&store, "INSERT INTO feed (kind, name, time_us) VALUES ('planet', 'mars', 1)").await;
    assert_eq!(rows(&mut store.follow(6)).await, [Entry::Facts(Change::Everything)]);
}

#[tokio::test]
async fn a_reader_that_is_too_far_behind_or_of_another_history_takes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, (1..=u64::from(BATCH) + 10).map(change)).await;
    let newest = u64::from(BATCH) + 10;
    // More than fits is read in turns.
    let mut reader = store.follow(0);
    assert_eq!(rows(&mut reader).await.len(), BATCH as usize);
    assert_eq!(rows(&mut reader).await.len(), 10);
    testing::run(&store, "DELETE FROM feed WHERE sequence <= 500").await;
    for (after, behind) in [(0, true), (499, true), (500, false), (newest + 1, true)] {
        let mut reader = store.follow(after);
        match reader.now().await.unwrap() {
            Since::Everything { sequence } => assert!(behind && sequence == newest, "{after}"),
            Since::Rows(rows) => assert!(!behind && rows[0].sequence == after + 1, "{after}"),
        }
        // Either way it goes on from there.
        let end = if behind { newest } else { reader.position() };
        assert_eq!(reader.position(), end);
    }
}

#[tokio::test]
async fn a_purge_never_takes_the_newest_number_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, (1..=3).map(change)).await;
    let mut write = store.write().await.unwrap();
    purge::expired(write.connection(), u64::MAX, 100).await.unwrap();
    drop(write);
    // Numbers go on even if every row were gone.
    testing::run(&store, "DELETE FROM feed").await;
    commit(&store, [change(9)]).await;
    assert_eq!(
        store.follow(3).now().await.unwrap(),
        Since::Rows(vec![super::Row { sequence: 4, entry: Entry::Facts(change(9)) }])
    );
}

#[tokio::test]
async fn rows_of_an_older_version_mean_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vouchsafe.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    crate::store::migrator(2).run(&pool).await.unwrap();
    sqlx::query("INSERT INTO feed (change, time_us) VALUES ('User(UserName(\"alice\"))', 1)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let store = open(&dir).await;
    assert_eq!(rows(&mut store.follow(0)).await, [Entry::Facts(Change::Everything)]);
    commit(&store, [change(1)]).await;
    assert_eq!(rows(&mut store.follow(1)).await, [Entry::Facts(change(1))]);
}

#[tokio::test]
async fn each_start_begins_an_era_and_one_without_changes_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let eras = |store: Store| async move { super::eras(&mut store.read().await.unwrap()).await.unwrap() };
    let store = open(&dir).await;
    let first = eras(store.clone()).await;
    assert!(matches!(&first[..], [era] if era.first == 0));
    commit(&store, [change(1), change(2)]).await;
    drop(store);
    let second = eras(open(&dir).await).await;
    assert_eq!(second.iter().map(|era| era.first).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(second.first(), first.first());
    // Two starts of one backup are not one history.
    let third = eras(open(&dir).await).await;
    assert_eq!(third.iter().map(|era| era.first).collect::<Vec<_>>(), [0, 3]);
    assert_ne!(third.last(), second.last());
}
