//! `request`: asking for access for a time, and giving it.

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use vouchsafe_model::id::RequestId;
use vouchsafe_model::name::{PolicyName, ResourceName};
use vouchsafe_wire::api::{DecideRequest, NewRequest, RequestDoc, RequestState};

use super::grant::template as template_cell;
use super::{now, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::text;

/// Asks for access to a resource for a time; or one of the verbs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  vouchsafe request finance --for 2h --reason 'closing the quarter'\n  vouchsafe request finance --template reader --for 2h --reason 'a look at the numbers'"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What.
    #[arg(required = true)]
    resource: Option<ResourceName>,
    /// For how long, such as `2h`.
    #[arg(long = "for", value_name = "TIME", value_parser = text::duration, required = true)]
    lasting: Option<Duration>,
    /// Why: read by whoever decides, and kept.
    #[arg(long, required = true)]
    reason: Option<String>,
    /// Template of the policy that the right is to be made from; without it, everything is asked for that can be done
    /// to the resource.
    #[arg(long, value_name = "NAME")]
    template: Option<PolicyName>,
}

/// What to do with requests.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists your requests, or everybody's.
    #[command(after_help = "Example:\n  vouchsafe request list --all")]
    List {
        /// Everybody's.
        #[arg(long)]
        all: bool,
    },
    /// Gives somebody else what she asked for.
    #[command(
        after_help = "Example:\n  vouchsafe request approve req_06f2k0q8c1m5s7v9x3b4d6g8h0 --note 'until the audit'"
    )]
    Approve {
        /// Id.
        request: RequestId,
        /// A line for the record.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Doesn't give it.
    #[command(
        after_help = "Example:\n  vouchsafe request deny req_06f2k0q8c1m5s7v9x3b4d6g8h0 --note 'ask finance first'"
    )]
    Deny {
        /// Id.
        request: RequestId,
        /// A line for the record.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Takes your own request back.
    #[command(after_help = "Example:\n  vouchsafe request withdraw req_06f2k0q8c1m5s7v9x3b4d6g8h0")]
    Withdraw {
        /// Id.
        request: RequestId,
    },
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    let Args { verb, resource, lasting, reason, template } = args;
    match (verb, resource, lasting, reason) {
        (Some(Verb::List { all }), ..) => {
            let from = if all { "/v1/requests" } else { "/v1/requests/mine" };
            let requests: Vec<RequestDoc> = client.get(from).await?;
            show(call, &requests, |requests| call.out.table(&table(requests)))
        }
        (Some(Verb::Approve { request, note }), ..) => {
            decide(&client, call, "/v1/requests", &request, "/approve", note).await
        }
        (Some(Verb::Deny { request, note }), ..) => {
            decide(&client, call, "/v1/requests", &request, "/deny", note).await
        }
        (Some(Verb::Withdraw { request }), ..) => {
            decide(&client, call, "/v1/requests/mine", &request, "/withdraw", String::new()).await
        }
        (None, Some(resource), Some(lasting), Some(reason)) => {
            let template = template.map(|template| template.to_string());
            let new = NewRequest { seconds: lasting.as_secs(), reason, template };
            let to = path("/v1/resources/", resource.as_str(), "/requests");
            let request: RequestDoc = client.send(Method::POST, &to, &new).await?;
            show(call, &request, |request| tell(call, request))
        }
        (None, ..) => Err(VerbError::usage("say for what, for how long and why")
            .hint("vouchsafe request finance --for 2h --reason 'closing the quarter'")),
    }
}

/// Finds the resource of a request, by which policies say who may decide, and decides.
async fn decide(
    client: &AdminClient,
    call: &Call,
    list: &str,
    id: &RequestId,
    verb: &str,
    note: String,
) -> Result<Exit, VerbError> {
    let id = id.to_string();
    let requests: Vec<RequestDoc> = client.get(list).await?;
    let Some(request) = requests.iter().find(|request| request.id == id) else {
        return Err(VerbError::failed(format!("there is no request `{id}`")).hint("see `vouchsafe request list`"));
    };
    let to = path("/v1/resources/", &request.resource, &path("/requests/", &id, verb));
    let request: RequestDoc = client.send(Method::POST, &to, &DecideRequest { note }).await?;
    show(call, &request, |request| tell(call, request))
}

fn tell(call: &Call, request: &RequestDoc) -> std::io::Result<()> {
    let out = &call.out;
    let (user, resource) = (clean(&request.user), clean(&request.resource));
    let lasting = text::about(request.seconds);
    let by = request.template.as_ref().map(|of| format!(", by `{}`", clean(&of.name))).unwrap_or_default();
    let line = match request.state {
        RequestState::Open => format!("{user} asks for {resource} for {lasting}{by}; somebody else has to approve it"),
        RequestState::Approved => format!("{user} may reach {resource} for {lasting}{by}"),
        RequestState::Denied => format!("{user} doesn't get {resource}"),
        RequestState::Withdrawn => format!("{user} doesn't ask for {resource} any more"),
        RequestState::Expired => format!("nobody decided that {user} asked for {resource}"),
    };
    out.line(&format!("{} {line}", out.paint(Style::Good, "✓")))?;
    let mut facts = vec![("id", clean(&request.id).into_owned())];
    facts.extend(request.grant.as_ref().map(|grant| ("grant", clean(grant).into_owned())));
    out.facts(&facts)
}

fn table(requests: &[RequestDoc]) -> Table {
    let mut table = Table::new(&["user", "resource", "template", "permits", "for", "state", "reason…", "by", "id"]);
    for request in requests {
        let state = match request.state {
            RequestState::Open => {
                Cell::new(Style::Warn, format!("open, ends {}", text::relative(request.open_until, now())))
            }
            RequestState::Approved => Cell::new(Style::Good, "approved"),
            RequestState::Denied => Cell::new(Style::Bad, "denied"),
            RequestState::Withdrawn | RequestState::Expired => Cell::new(Style::Dim, request.state.as_str()),
        };
        table.row([
            Cell::new(Style::Bold, &request.user),
            (&request.resource).into(),
            template_cell(request.template.as_ref().map(|of| of.name.as_str())),
            permits(request),
            text::about(request.seconds).as_str().into(),
            state,
            (&request.reason).into(),
            request.decided_by.as_deref().unwrap_or_default().into(),
            Cell::new(Style::Dim, &request.id),
        ]);
    }
    table
}

/// What an open request would come to.
fn permits(request: &RequestDoc) -> Cell {
    match (&request.template, request.state) {
        (None, RequestState::Open) => "everything".into(),
        (Some(of), RequestState::Open) if !of.stands => Cell::new(Style::Bad, "changed since"),
        (Some(of), RequestState::Open) => of.actions.join(" ").as_str().into(),
        (_, RequestState::Approved | RequestState::Denied | RequestState::Withdrawn | RequestState::Expired) => {
            Cell::new(Style::Dim, "")
        }
    }
}
