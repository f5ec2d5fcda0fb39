//! `session`: open sessions.

use clap::Subcommand;
use vouchsafe_model::id::SessionId;
use vouchsafe_wire::api::Session;

use super::{done, now, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table};
use crate::text;

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists open sessions.
    #[command(after_help = "Example:\n  vouchsafe session list")]
    List,
    /// Ends a session: what it has open is cut within the second.
    #[command(after_help = "Example:\n  vouchsafe session remove ses_06f2k0q8c1m5s7v9x3b4d6g8h0")]
    Remove {
        /// Id.
        session: SessionId,
    },
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    match verb {
        Verb::List => {
            let sessions: Vec<Session> = client.get_all("/v1/sessions").await?;
            show(call, &sessions, |sessions| {
                let mut table = Table::new(&["user", "kind", "device…", "began", "ends", "id"]);
                for session in sessions {
                    let device = session.device_name.as_ref().or(session.device.as_ref());
                    table.row([
                        Cell::new(Style::Bold, &session.user),
                        (&session.kind).into(),
                        device.map_or("–", String::as_str).into(),
                        text::relative(session.created, now()).into(),
                        text::relative(session.expires, now()).into(),
                        Cell::new(Style::Dim, &session.id),
                    ]);
                }
                call.out.table(&table)
            })
        }
        Verb::Remove { session } => {
            client.delete(&path("/v1/sessions/", &session.to_string(), "")).await?;
            done(call, &format!("ended session {session}"))
        }
    }
}
