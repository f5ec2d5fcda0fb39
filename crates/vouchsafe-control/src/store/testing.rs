//! Rows that tests put in place of ceremonies and of time.

use sqlx::AssertSqlSafe;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::AuthMethod;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Record;

use super::Store;
use super::sessions::{NewSession, SessionKind, insert};
use crate::log::{Filter, Span};

/// Every record in the log, oldest first.
pub(crate) fn records(store: &Store) -> Vec<Record> {
    let found = store.log().read(&Filter::default(), Span::Between(0, u64::MAX), u32::MAX, &|| false).unwrap();
    found.iter().map(|(_, bytes)| Record::from_canonical(bytes).unwrap()).collect()
}

/// Runs one statement.
pub(crate) async fn run(store: &Store, statement: &str) {
    let mut write = store.write().await.unwrap();
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(write.connection()).await.unwrap();
    write.commit().await.unwrap();
}

/// Gives a user a passkey.
pub(crate) async fn passkey(store: &Store, user: &str) {
    run(
        store,
        &format!(
            "INSERT INTO passkeys (id, user_name, credential_id, name, passkey, created)
             VALUES ('pky_{user}', '{user}', 'credential-{user}', 'test', '{{}}', 1)"
        ),
    )
    .await;
}

/// Enrols a device.
pub(crate) async fn device(store: &Store, name: &str, owner: &str) -> DeviceId {
    let id = DeviceId::from_random(clock::random());
    run(
        store,
        &format!(
            "INSERT INTO devices (id, name, owner, grade, tags, key_sha256, certificate_expires, created)
             VALUES ('{id}', '{name}', '{owner}', 'software', '[\"laptop\"]', 'aa', 9999999999, 1)"
        ),
    )
    .await;
    id
}

/// Opens a session with a cookie for the host `wiki`, whose hash is `cookie`.
pub(crate) async fn session(store: &Store, user: &str, device: Option<DeviceId>, cookie: &str) -> SessionId {
    let now = clock::unix_seconds(clock::now());
    let session = NewSession {
        id: SessionId::from_random(clock::random()),
        user: UserName::parse(user).unwrap(),
        device,
        kind: SessionKind::Browser,
        methods: vec![AuthMethod::Passkey],
        auth_time: now,
        created: now,
        expires: now + 3600,
    };
    let mut write = store.write().await.unwrap();
    insert(write.connection(), &session).await.unwrap();
    write.commit().await.unwrap();
    let id = session.id;
    run(store, &format!("INSERT INTO cookies (token_hash, session_id, label) VALUES ('{cookie}', '{id}', 'wiki')"))
        .await;
    id
}
