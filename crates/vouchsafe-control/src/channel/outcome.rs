//! What became of what changed, read behind the rows that tell of it, so that a gateway has it with the news and
//! needs nobody to ask: a controller that dies between the two would leave it with facts that are known to be stale.

use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::time::{Instant, timeout_at};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{Change, Delta, NoSubject, Outcome, codec};
use vouchsafe_wire::control::{encode, message};

use crate::store::{Store, StoreError, facts};

/// Changes of one message with which their outcome goes; of the others a gateway asks those that concern it. Reading
/// them holds up the news.
const MOST: usize = 256;
/// Bytes of outcomes in one message.
const MOST_BYTES: usize = 1 << 20;
/// How long the news may wait for outcomes: a gateway has to hear of them well within the second.
const PATIENCE: Duration = Duration::from_millis(100);

/// Changes with their rows, as messages. None is held back for want of an outcome: what can't be read, or not in time,
/// gateways ask for.
pub(super) async fn with_outcomes(store: &Store, rows: Vec<(u64, Change)>) -> Vec<message::Change> {
    let deadline = Instant::now() + PATIENCE;
    let mut read = match rows.is_empty() {
        true => None,
        false => match timeout_at(deadline, store.read()).await {
            Ok(read) => read.inspect_err(unread).ok(),
            Err(_) => None,
        },
    };
    let (mut messages, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for (sequence, change) in rows {
        let outcome = match &mut read {
            Some(read) if messages.len() < MOST && bytes < MOST_BYTES => {
                let outcome = timeout_at(deadline, outcome(read, &change)).await;
                outcome.map(|outcome| outcome.inspect_err(unread).unwrap_or_default()).unwrap_or_default()
            }
            Some(_) | None => None,
        };
        let message = codec::change(&Delta { sequence, change, outcome });
        bytes += encode(&message).len();
        messages.push(message);
    }
    messages
}

fn unread(error: &StoreError) {
    tracing::error!(error = error as &dyn std::error::Error, "gateways have to ask what became of a change");
}

/// `None` where it is for each credential to say: what a session's cookies are worth after a step-up, and all facts.
async fn outcome(read: &mut SqliteConnection, change: &Change) -> Result<Option<Outcome>, StoreError> {
    Ok(match change {
        Change::User(name) => {
            Some(facts::user(read, name).await?.map_or(Outcome::Gone(NoSubject::Ended), Outcome::User))
        }
        Change::Device(id) => {
            Some(facts::device(read, id).await?.map_or(Outcome::Gone(NoSubject::DeviceRemoved), Outcome::Device))
        }
        Change::Session(id) => {
            let now = clock::unix_seconds(clock::now());
            facts::subject_by_session(read, id, now).await?.err().map(Outcome::Gone)
        }
        Change::Everything => None,
    })
}
