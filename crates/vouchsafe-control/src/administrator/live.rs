//! The policy in force, made ready once for all questions about it.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::SqliteConnection;
use vouchsafe_policy::Engine;

use super::{AdministratorError, gate};
use crate::store::{feed, policy};

/// Keeps the engine of the policy in force until anything of which it is made changes.
#[derive(Default)]
pub(crate) struct Live {
    /// With the number of the change feed that it was made at.
    engine: Mutex<Option<(u64, Arc<Engine>)>>,
}

impl Live {
    /// The engine with the policy, resources and grants of this connection's moment.
    pub(crate) async fn engine(&self, connection: &mut SqliteConnection) -> Result<Arc<Engine>, AdministratorError> {
        let moment = feed::newest(connection).await?;
        let known = self.engine.lock().clone();
        if let Some((_, engine)) = known.filter(|(made_at, _)| *made_at == moment) {
            return Ok(engine);
        }
        let current = policy::current(connection).await?;
        let engine = gate::compile(connection, policy::to_engine(&current.files), current.version).await?;
        *self.engine.lock() = Some((moment, Arc::clone(&engine)));
        Ok(engine)
    }
}
