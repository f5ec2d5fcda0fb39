//! Users, groups, devices and sessions: every change of them, with its audit record and its row in
//! the change feed in the same transaction.

mod actor;
pub(crate) mod connectors;
pub(crate) mod devices;
pub(crate) mod gateways;
pub(crate) mod groups;
pub(crate) mod locks;
pub(crate) mod sessions;
pub(crate) mod users;

pub(crate) use actor::Actor;
pub(crate) use sessions::end_session;

use sqlx::SqliteConnection;
use vouchsafe_model::id::ParseIdError;
use vouchsafe_model::name::{GatewayName, GroupName, NameError, UserName};

use crate::precondition::{HINT_MOVED, Moved};
use crate::store::{self, StoreError};

/// Group whose members administer vouchsafe by the policy that an installation starts with. The
/// last of them who can sign in is kept from being shut out.
pub(crate) const ADMINISTRATORS: &str = "administrators";

/// Failure to change or show something of the directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// A name breaks its rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An id is malformed.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// It does not exist.
    #[error("there is no {what} `{name}`")]
    Missing {
        /// `user`, `group`, `device` or `session`.
        what: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// Groups that a user was to be put into do not exist.
    #[error("there is no group {}", quoted(.names))]
    MissingGroups {
        /// All that are missing.
        names: Vec<String>,
    },
    /// The name is a user's.
    #[error("there is a user `{name}` already")]
    NameTaken {
        /// The name.
        name: UserName,
    },
    /// The name was a user's.
    #[error("the name `{name}` belonged to a user who was deleted, and is never given again")]
    NameReserved {
        /// The name.
        name: UserName,
    },
    /// Nobody would be left to administer.
    #[error("nobody who can sign in would be left in the group `administrators`")]
    LastAdministrator,
    /// The one group that must exist.
    #[error("the group `administrators` can't be removed")]
    AdministratorsStay,
    /// It isn't what was read any more.
    #[error(transparent)]
    Moved(#[from] Moved),
    /// A disabled user can't be invited.
    #[error("the user `{name}` is disabled")]
    Disabled {
        /// The name.
        name: UserName,
    },
    /// A locked user can't be given anything.
    #[error("the user `{name}` is locked")]
    Locked {
        /// The name.
        name: UserName,
    },
    /// Nothing is allowed from a locked device.
    #[error("the device `{name}` is locked, so nothing is allowed from it")]
    DeviceLocked {
        /// Its name.
        name: String,
    },
    /// The console has to stay.
    #[error("the console can't be locked; nobody could unlock it but the owner of the machine")]
    ConsoleStays,
    /// Words for people that can't be kept.
    #[error("a reason is one line of at most 200 characters")]
    Reason,
    /// Gateways can't attach to this controller.
    #[error("this controller doesn't listen for gateways")]
    NoChannel,
    /// The name is a gateway's.
    #[error("there is a gateway `{name}` already")]
    GatewayTaken {
        /// The name.
        name: GatewayName,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The next step after a name that does not exist.
pub(crate) fn hint_for_missing(what: &str, name: &str) -> String {
    match what {
        "group" => format!("make it with `vouchsafe group add {name}`, or see `vouchsafe group list`"),
        "session" => "it may have ended; see `vouchsafe session list`".to_owned(),
        "device" => "see `vouchsafe device list`; records speak of removed devices by their id".to_owned(),
        other => format!("see `vouchsafe {other} list`"),
    }
}

impl DirectoryError {
    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            DirectoryError::Missing { what, name } => Some(hint_for_missing(what, name)),
            DirectoryError::MissingGroups { names } => {
                Some(names.iter().map(|name| hint_for_missing("group", name)).take(1).collect())
            }
            DirectoryError::NameTaken { name } => Some(format!(
                "choose another name, or send a new link to the same person with `vouchsafe user invite {name}`"
            )),
            DirectoryError::NameReserved { .. } => {
                Some("choose another name: policies and records still speak of the deleted user".to_owned())
            }
            DirectoryError::LastAdministrator => Some(
                "put another user who has a passkey into the group first: \
                 `vouchsafe group join administrators NAME`"
                    .to_owned(),
            ),
            DirectoryError::AdministratorsStay => {
                Some("take members out of it instead; what they may do stands in the policy".to_owned())
            }
            DirectoryError::Moved(_) => Some(HINT_MOVED.to_owned()),
            DirectoryError::Disabled { name } => Some(format!("enable it first: `vouchsafe user set {name} --enable`")),
            DirectoryError::Locked { name } => Some(format!("unlock it first: `vouchsafe unlock user {name}`")),
            DirectoryError::DeviceLocked { name } => Some(format!("unlock it first: `vouchsafe unlock device {name}`")),
            DirectoryError::NoChannel => Some(
                "run it as `vouchsafe controller`; in `vouchsafe up` the gateway is in the same process".to_owned(),
            ),
            DirectoryError::GatewayTaken { name } => {
                Some(format!("choose another name, or remove that one: `vouchsafe gateway remove {name}`"))
            }
            DirectoryError::Name(_)
            | DirectoryError::Id(_)
            | DirectoryError::ConsoleStays
            | DirectoryError::Reason
            | DirectoryError::Store(_) => None,
        }
    }
}

/// Refuses a change after which nobody would be left in `administrators` who can sign in, when
/// somebody was before. `before` is what [`able_administrators`] said before the change.
pub(crate) async fn keep_an_administrator(
    connection: &mut SqliteConnection,
    before: &[String],
) -> Result<(), DirectoryError> {
    if !before.is_empty() && able_administrators(connection).await?.is_empty() {
        return Err(DirectoryError::LastAdministrator);
    }
    Ok(())
}

/// Enabled members of `administrators` who have a passkey.
pub(crate) async fn able_administrators(connection: &mut SqliteConnection) -> Result<Vec<String>, DirectoryError> {
    let group = GroupName::parse(ADMINISTRATORS)?;
    Ok(store::users::able_members(connection, &group).await?)
}
