//! `user`: who there is and may sign in.

use clap::Subcommand;
use http::Method;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_wire::api::{Ended, Invited, NewUser, User, UserChange};

use super::{ago, agreed, done, list, show, show_link};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::text;

const USERS: &str = "/v1/users/";

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a user and shows the one-time link for a passkey.
    #[command(after_help = "Example:\n  vouchsafe user add alice --group marketing")]
    Add {
        /// Name, never used before.
        name: UserName,
        /// Group to be in; may be given several times.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<GroupName>,
    },
    /// Lists users.
    #[command(after_help = "Example:\n  vouchsafe user list --json | jq -r '.[].name'")]
    List,
    /// Shows one user.
    #[command(after_help = "Example:\n  vouchsafe user show alice")]
    Show {
        /// Name.
        name: UserName,
    },
    /// Disables or enables a user, or sets the groups.
    #[command(after_help = "Example:\n  vouchsafe user set alice --disable")]
    Set {
        /// Name.
        name: UserName,
        #[command(flatten)]
        change: Change,
    },
    /// Removes a user for good. The name is never given again.
    #[command(after_help = "Example:\n  vouchsafe user remove alice --yes")]
    Remove {
        /// Name.
        name: UserName,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Shows a new one-time link for a passkey, such as after a lost phone.
    #[command(after_help = "Example:\n  vouchsafe user invite alice")]
    Invite {
        /// Name.
        name: UserName,
    },
    /// Ends all sessions of a user.
    #[command(after_help = "Example:\n  vouchsafe user sign-out alice")]
    SignOut {
        /// Name.
        name: UserName,
    },
}

/// What changes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Change {
    /// Ends all sessions and refuses new ones.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Allows sign-in again.
    #[arg(long)]
    enable: bool,
    /// The groups from now on, all of them; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Option<Vec<GroupName>>,
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    match verb {
        Verb::Add { name, groups } => {
            let new = NewUser { name: name.to_string(), groups: groups.iter().map(ToString::to_string).collect() };
            invited(call, &client.send(Method::POST, "/v1/users", &new).await?)
        }
        Verb::Invite { name } => {
            invited(call, &client.ask(Method::POST, &path(USERS, name.as_str(), "/invite")).await?)
        }
        Verb::List => {
            let users: Vec<User> = client.get_all("/v1/users").await?;
            show(call, &users, |users| call.out.table(&table(users)))
        }
        Verb::Show { name } => {
            let user: User = client.get(&path(USERS, name.as_str(), "")).await?;
            show(call, &user, |user| facts(call, user))
        }
        Verb::Set { name, change } => {
            let change = UserChange {
                disabled: if change.disable { Some(true) } else { change.enable.then_some(false) },
                groups: change.groups.map(|groups| groups.iter().map(ToString::to_string).collect()),
            };
            let user: User = client.send(Method::PATCH, &path(USERS, name.as_str(), ""), &change).await?;
            show(call, &user, |user| facts(call, user))
        }
        Verb::Remove { name, yes } => {
            agreed(call, yes, &format!("Remove user `{name}`, with passkeys, sessions and grants, for good?"))?;
            client.delete(&path(USERS, name.as_str(), "")).await?;
            done(call, &format!("removed user {name}"))
        }
        Verb::SignOut { name } => {
            let ended: Ended = client.ask(Method::POST, &path(USERS, name.as_str(), "/sign-out")).await?;
            show(call, &ended, |ended| {
                let plural = if ended.sessions == 1 { "" } else { "s" };
                call.out.line(&format!("ended {} session{plural} of {name}", ended.sessions))
            })
        }
    }
}

fn invited(call: &Call, invited: &Invited) -> Result<Exit, VerbError> {
    show(call, invited, |Invited { user, link, expires }| {
        let out = &call.out;
        let name = out.paint(Style::Bold, &clean(&user.name));
        out.line(&format!("{} {name} can register a passkey with this link:", out.paint(Style::Good, "✓")))?;
        show_link(call, link, *expires)
    })
}

fn state(user: &User) -> Cell {
    match user.state.as_str() {
        "active" => Cell::new(Style::Good, "active"),
        "disabled" => Cell::new(Style::Bad, "disabled"),
        other => Cell::new(Style::Warn, other),
    }
}

fn table(users: &[User]) -> Table {
    let mut table = Table::new(&["name", "state", "groups…", "passkeys", "sessions", "last sign-in"]);
    for user in users {
        table.row([
            Cell::new(Style::Bold, &user.name),
            state(user),
            list(&user.groups).into(),
            user.passkeys.len().to_string().into(),
            user.sessions.to_string().into(),
            ago(user.last_sign_in).into(),
        ]);
    }
    table
}

fn facts(call: &Call, user: &User) -> std::io::Result<()> {
    let out = &call.out;
    out.line(&out.paint(Style::Bold, &clean(&user.name)))?;
    out.facts(&[
        ("id", clean(&user.id).into_owned()),
        ("state", clean(&user.state).into_owned()),
        ("groups", clean(&list(&user.groups)).into_owned()),
        ("sessions", user.sessions.to_string()),
        ("made", text::moment(user.created)),
        ("last sign-in", ago(user.last_sign_in)),
    ])?;
    if user.passkeys.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(&["passkey…", "id", "registered", "last used"]);
    for key in &user.passkeys {
        table.row([(&key.name).into(), (&key.id).into(), ago(Some(key.created)).into(), ago(key.last_used).into()]);
    }
    out.table(&table)
}
