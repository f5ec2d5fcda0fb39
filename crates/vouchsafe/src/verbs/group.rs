//! `group`: groups of users.

use clap::Subcommand;
use http::Method;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_wire::api::Group;

use super::{agreed, done, list, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};

const GROUPS: &str = "/v1/groups/";

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a group; one that exists is fine.
    #[command(after_help = "Example:\n  vouchsafe group add marketing")]
    Add {
        /// Name.
        name: GroupName,
    },
    /// Lists groups and their members.
    #[command(after_help = "Example:\n  vouchsafe group list")]
    List,
    /// Removes a group.
    #[command(after_help = "Example:\n  vouchsafe group remove marketing --yes")]
    Remove {
        /// Name.
        name: GroupName,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Puts a user into a group.
    #[command(after_help = "Example:\n  vouchsafe group join marketing alice")]
    Join {
        /// Group.
        group: GroupName,
        /// User.
        user: UserName,
    },
    /// Takes a user out of a group.
    #[command(after_help = "Example:\n  vouchsafe group leave marketing alice")]
    Leave {
        /// Group.
        group: GroupName,
        /// User.
        user: UserName,
    },
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    let member =
        |group: &GroupName, user: &UserName| path(&path(GROUPS, group.as_str(), "/members/"), user.as_str(), "");
    let changed = match verb {
        Verb::List => {
            let groups: Vec<Group> = client.get_all("/v1/groups").await?;
            return show(call, &groups, |groups| {
                let mut table = Table::new(&["name", "users", "members…"]);
                for group in groups {
                    let count = group.members.len().to_string();
                    table.row([Cell::new(Style::Bold, &group.name), count.into(), list(&group.members).into()]);
                }
                call.out.table(&table)
            });
        }
        Verb::Remove { name, yes } => {
            agreed(call, yes, &format!("Remove group `{name}`? What it opens closes for its members."))?;
            client.delete(&path(GROUPS, name.as_str(), "")).await?;
            return done(call, &format!("removed group {name}"));
        }
        Verb::Add { name } => client.ask(Method::PUT, &path(GROUPS, name.as_str(), "")).await?,
        Verb::Join { group, user } => client.ask(Method::PUT, &member(&group, &user)).await?,
        Verb::Leave { group, user } => client.ask(Method::DELETE, &member(&group, &user)).await?,
    };
    show(call, &changed, |Group { name, members }| {
        let out = &call.out;
        out.line(&format!("{}  {}", out.paint(Style::Bold, &clean(name)), clean(&list(members))))
    })
}
