//! `grant`: one user's right to one resource.

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use vouchsafe_model::id::GrantId;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_wire::api::{GrantDoc, NewGrant};

use super::{done, now, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::text;

/// What to do with grants.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Gives a user a right to a resource: all that can be done to it, on enrolled devices, or what a template says.
    #[command(
        after_help = "Examples:\n  vouchsafe grant add alice finance --for 8h --reason 'audit of Q3'\n  vouchsafe grant add bob finance --template reader --for 2h"
    )]
    Add {
        /// Who may.
        user: UserName,
        /// What.
        resource: ResourceName,
        /// For how long, such as `8h`; without it the right stays until it is removed.
        #[arg(long = "for", value_name = "TIME", value_parser = text::duration)]
        lasting: Option<Duration>,
        /// Why, for the record.
        #[arg(long, default_value = "")]
        reason: String,
        /// Template of the policy that the right is made from (see `policy templates`); without it everything is
        /// permitted that can be done to the resource.
        #[arg(long, value_name = "NAME")]
        template: Option<PolicyName>,
    },
    /// Lists grants.
    #[command(after_help = "Example:\n  vouchsafe grant list")]
    List,
    /// Takes a right away: what it has open is cut within the second.
    #[command(after_help = "Example:\n  vouchsafe grant remove grt_06f2k0q8c1m5s7v9x3b4d6g8h0")]
    Remove {
        /// Id.
        grant: GrantId,
    },
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    match verb {
        Verb::Add { user, resource, lasting, reason, template } => {
            let new = NewGrant {
                user: user.to_string(),
                resource: resource.to_string(),
                seconds: lasting.map(|lasting| lasting.as_secs()),
                reason,
                template: template.map(|template| template.to_string()),
            };
            let grant: GrantDoc = client.send(Method::POST, "/v1/grants", &new).await?;
            show(call, &grant, |grant| {
                let out = &call.out;
                out.line(&format!(
                    "{} {} may reach {}, {}",
                    out.paint(Style::Good, "✓"),
                    out.paint(Style::Bold, &clean(&grant.user)),
                    out.paint(Style::Bold, &clean(&grant.resource)),
                    grant
                        .expires
                        .map_or_else(|| "until removed".to_owned(), |at| format!("until {}", text::moment(at)))
                ))?;
                let mut facts = vec![("id", clean(&grant.id).into_owned())];
                facts.extend(grant.template.as_ref().map(|name| ("template", clean(name).into_owned())));
                out.facts(&facts)
            })
        }
        Verb::List => {
            let grants: Vec<GrantDoc> = client.get_all("/v1/grants").await?;
            show(call, &grants, |grants| {
                let mut table = Table::new(&["user", "resource", "template", "ends", "reason…", "by", "id"]);
                for grant in grants {
                    let ends = match grant.expires {
                        None => Cell::new(Style::Dim, "when removed"),
                        Some(at) => text::relative(at, now()).into(),
                    };
                    table.row([
                        Cell::new(Style::Bold, &grant.user),
                        (&grant.resource).into(),
                        template(grant.template.as_deref()),
                        ends,
                        (&grant.reason).into(),
                        (&grant.by).into(),
                        Cell::new(Style::Dim, &grant.id),
                    ]);
                }
                call.out.table(&table)
            })
        }
        Verb::Remove { grant } => {
            client.delete(&path("/v1/grants/", &grant.to_string(), "")).await?;
            done(call, &format!("removed grant {grant}"))
        }
    }
}

/// What something is made from.
pub(super) fn template(name: Option<&str>) -> Cell {
    name.map_or_else(|| Cell::new(Style::Dim, "built-in"), Into::into)
}
