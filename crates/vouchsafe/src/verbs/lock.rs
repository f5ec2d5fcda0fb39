//! `lock`, `unlock`: end everything of a user, device or session, or to a resource, and keep it so.

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use vouchsafe_model::id::SessionId;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_wire::api::{Lock, LockKind, NewLock};

use super::{done, now, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::text;

/// What to lock.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ends all sessions of a user, and lets her do nothing, not even sign in.
    #[command(after_help = "Example:\n  vouchsafe lock user alice --reason 'laptop stolen' --for 8h")]
    User {
        /// Name.
        name: UserName,
        #[command(flatten)]
        how: How,
    },
    /// Ends all sessions on a device, and lets it do nothing.
    #[command(after_help = "Example:\n  vouchsafe lock device alice-laptop")]
    Device {
        /// Name or id.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Ends a session for good.
    #[command(after_help = "Example:\n  vouchsafe lock session ses_06f2k0q8c1m5s7v9x3b4d6g8h0")]
    Session {
        /// Id.
        name: SessionId,
        #[command(flatten)]
        how: How,
    },
    /// Cuts what is open to a resource, and lets nobody reach it.
    #[command(after_help = "Example:\n  vouchsafe lock resource finance --reason 'incident 42'")]
    Resource {
        /// Name.
        name: ResourceName,
        #[command(flatten)]
        how: How,
    },
    /// Lists locks.
    #[command(after_help = "Example:\n  vouchsafe lock list")]
    List,
}

/// Why, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Why, for the record.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// For how long, such as `1h`; without it, until it is unlocked.
    #[arg(long = "for", value_name = "TIME", value_parser = text::duration)]
    lasting: Option<Duration>,
}

/// What to unlock.
#[derive(Debug, Subcommand)]
pub(crate) enum Unlock {
    /// Lets a user sign in again.
    #[command(after_help = "Example:\n  vouchsafe unlock user alice")]
    User {
        /// Name.
        name: UserName,
    },
    /// Lets a device be used again.
    #[command(after_help = "Example:\n  vouchsafe unlock device alice-laptop")]
    Device {
        /// Name or id.
        name: String,
    },
    /// Forgets the lock of a session, which stays ended.
    #[command(after_help = "Example:\n  vouchsafe unlock session ses_06f2k0q8c1m5s7v9x3b4d6g8h0")]
    Session {
        /// Id.
        name: SessionId,
    },
    /// Lets policies say again who may reach a resource.
    #[command(after_help = "Example:\n  vouchsafe unlock resource finance")]
    Resource {
        /// Name.
        name: ResourceName,
    },
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let (kind, name, How { reason, lasting }) = match verb {
        Verb::User { name, how } => (LockKind::User, name.to_string(), how),
        Verb::Device { name, how } => (LockKind::Device, name, how),
        Verb::Session { name, how } => (LockKind::Session, name.to_string(), how),
        Verb::Resource { name, how } => (LockKind::Resource, name.to_string(), how),
        Verb::List => {
            let locks: Vec<Lock> = AdminClient::open(call).await?.get_all("/v1/locks").await?;
            return show(call, &locks, |locks| call.out.table(&table(locks)));
        }
    };
    let new = NewLock { kind, name, reason, seconds: lasting.map(|lasting| lasting.as_secs()) };
    let lock: Lock = AdminClient::open(call).await?.send(Method::POST, "/v1/locks", &new).await?;
    show(call, &lock, |lock| {
        let until = lock.expires.map_or("until unlocked".to_owned(), |at| format!("until {}", text::moment(at)));
        let mark = call.out.paint(Style::Good, "✓");
        call.out.line(&format!("{mark} locked {} {}, {until}", lock.kind.as_str(), clean(&lock.name)))
    })
}

pub(crate) async fn run_unlock(unlock: Unlock, call: &Call) -> Result<Exit, VerbError> {
    let (kind, name) = match unlock {
        Unlock::User { name } => (LockKind::User, name.to_string()),
        Unlock::Device { name } => (LockKind::Device, name),
        Unlock::Session { name } => (LockKind::Session, name.to_string()),
        Unlock::Resource { name } => (LockKind::Resource, name.to_string()),
    };
    let before = format!("/v1/locks/{}/", kind.as_str());
    AdminClient::open(call).await?.delete(&path(&before, &name, "")).await?;
    done(call, &format!("unlocked {} {name}", kind.as_str()))
}

fn table(locks: &[Lock]) -> Table {
    let mut table = Table::new(&["locked", "name", "since", "ends", "reason…", "by"]);
    for lock in locks {
        let ends = match lock.expires {
            None => Cell::new(Style::Dim, "when unlocked"),
            Some(at) => text::relative(at, now()).into(),
        };
        table.row([
            lock.kind.as_str().into(),
            Cell::new(Style::Bold, &lock.name),
            text::relative(lock.created, now()).into(),
            ends,
            (&lock.reason).into(),
            (&lock.by).into(),
        ]);
    }
    table
}
