//! `policy pending`, `approve` and `reject`: versions that wait for a second administrator.

use clap::Subcommand;
use http::Method;
use serde::Serialize;
use vouchsafe_model::id::ProposalId;
use vouchsafe_policy::Difference;
use vouchsafe_wire::api::{DecideProposal, DiffRequest, PolicyVersion, ProposalDoc, ProposalState};

use super::{difference, history, in_force};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::text;
use crate::verbs::{ago, now, show};

/// What is asked about versions that wait.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows what one of them would change: who gains and who loses, and each line.
    #[command(after_help = "Example:\n  vouchsafe policy pending show prp_06f2k0q8c1m5s7v9x3b4d6g8h0")]
    Show {
        /// Id.
        proposal: ProposalId,
    },
}

/// Which is decided, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Deciding {
    /// Id.
    proposal: ProposalId,
    /// Refuses unless the proposal has this digest.
    #[arg(long)]
    digest: Option<String>,
    /// Why, for the record.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// A proposal, and what it changes for whom.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    proposal: ProposalDoc,
    difference: Difference,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    let Some(Verb::Show { proposal }) = args.verb else {
        let all: Vec<ProposalDoc> = client.get("/v1/policy/pending").await?;
        return show(call, &all, |all| call.out.table(&table(all)));
    };
    let proposal: ProposalDoc = client.get(&path("/v1/policy/pending/", &proposal.to_string(), "")).await?;
    let base: PolicyVersion = client.get(&format!("/v1/policy/history/{}", proposal.base)).await?;
    let body = DiffRequest { before: Some(proposal.base), after: None, files: Some(proposal.files.clone()) };
    let difference: Difference =
        client.send_files(call, Method::POST, "/v1/policy/diff", &body, &proposal.files).await?;
    show(call, &Shown { proposal, difference }, |Shown { proposal, difference }| {
        told(call, proposal)?;
        let out = &call.out;
        let new: Vec<_> = proposal.files.iter().chain(&proposal.tests).chain(&proposal.invariants).collect();
        history::differences(out, &base.all_files(), &new)?;
        out.line("")?;
        difference::tell(out, difference, &format!("version {} → the proposal", proposal.base))
    })
}

pub(crate) async fn approve(args: Deciding, call: &Call) -> Result<Exit, VerbError> {
    let version: PolicyVersion = decide(args, call, "/approve").await?;
    show(call, &version, |version| in_force(call, version))
}

pub(crate) async fn reject(args: Deciding, call: &Call) -> Result<Exit, VerbError> {
    let proposal: ProposalDoc = decide(args, call, "/reject").await?;
    show(call, &proposal, |proposal| told(call, proposal))
}

async fn decide<T: serde::de::DeserializeOwned>(args: Deciding, call: &Call, verb: &str) -> Result<T, VerbError> {
    let Deciding { proposal, digest, reason } = args;
    let to = path("/v1/policy/pending/", &proposal.to_string(), verb);
    AdminClient::open(call).await?.send(Method::POST, &to, &DecideProposal { digest, note: reason }).await
}

/// That something isn't in force yet.
pub(super) fn waits(call: &Call, proposal: &ProposalDoc) -> std::io::Result<()> {
    let out = &call.out;
    let protected = clean(&proposal.protected.join(", ")).into_owned();
    out.line(&format!("{} not in force: it takes two people to change {protected}", out.paint(Style::Warn, "!")))?;
    told(call, proposal)?;
    let verb = format!("vouchsafe policy approve {}", clean(&proposal.proposal));
    out.note(&format!("  another administrator can approve it: {}", out.paint_error(Style::Accent, &verb)));
    Ok(())
}

fn told(call: &Call, proposal: &ProposalDoc) -> std::io::Result<()> {
    let ProposalDoc { proposal: id, digest, base, protected, by, created, note, .. } = proposal;
    let mut facts = vec![
        ("id", clean(id).into_owned()),
        ("state", state(proposal).1),
        ("by", format!("{}, {}", clean(by), ago(Some(*created)))),
        ("touches", clean(&protected.join(", ")).into_owned()),
        ("a change to", format!("version {base}")),
        ("digest", clean(digest).into_owned()),
    ];
    facts.extend((!note.is_empty()).then(|| ("note", clean(note).into_owned())));
    facts.extend(proposal.decided_by.as_ref().map(|who| ("decided by", clean(who).into_owned())));
    facts.extend((!proposal.decision.is_empty()).then(|| ("decision", clean(&proposal.decision).into_owned())));
    call.out.facts(&facts)
}

fn state(proposal: &ProposalDoc) -> (Style, String) {
    match (proposal.state, proposal.became) {
        (ProposalState::Open, _) if proposal.stale => {
            (Style::Dim, format!("open, but version {} isn't in force any more", proposal.base))
        }
        (ProposalState::Open, _) => (Style::Warn, format!("open, ends {}", text::relative(proposal.open_until, now()))),
        (ProposalState::Approved, Some(version)) => (Style::Good, format!("approved, version {version}")),
        (ProposalState::Approved, None) => (Style::Good, "approved".to_owned()),
        (ProposalState::Rejected, _) => (Style::Bad, "rejected".to_owned()),
        (ProposalState::Expired, _) => (Style::Dim, "nobody decided it".to_owned()),
    }
}

fn table(all: &[ProposalDoc]) -> Table {
    let mut table = Table::new(&["by", "when", "state", "touches", "note…", "id"]);
    for proposal in all {
        let (style, words) = state(proposal);
        table.row([
            Cell::new(Style::Bold, &proposal.by),
            ago(Some(proposal.created)).into(),
            Cell::new(style, words),
            proposal.protected.join(", ").into(),
            (&proposal.note).into(),
            Cell::new(Style::Dim, &proposal.proposal),
        ]);
    }
    table
}
