//! Policies that it takes two people to change: those that say `@approval("two-person")`.
//!
//! A version that touches one (in what is in force, or in the draft) is kept as a proposal instead of being put into
//! force, whichever way it came. Another user who may approves or rejects it. What she approves is that very draft
//! (its digest), as a change to that very version, and it passes the whole gate again against what is there by then.
//! Users only: the admin socket proves that somebody has the machine, not that she is somebody else.

use std::fmt::Write as _;
use std::net::IpAddr;

use aws_lc_rs::digest;
use vouchsafe_model::id::ProposalId;
use vouchsafe_model::name::{PolicyName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{DecideProposal, PolicyFileDoc, PolicyVersion, ProposalDoc, ProposalState, Published};
use vouchsafe_wire::ticket::hex;

use super::policy::{Kind, Wanted, publish_in};
use super::{AdministratorError, gate, one_line, proofs, standing};
use crate::context::Context;
use crate::directory::Actor;
use crate::store::proposals::{self, Kept};
use crate::store::{StoreError, Write, policy};

/// Seconds until a proposal that nobody decides is over: a week.
const OPEN_SECONDS: u64 = 604_800;
/// Open proposals: each holds a whole policy.
const MOST: u64 = 20;
/// Seconds that settled proposals are kept for: ninety days.
const KEPT_SECONDS: u64 = 7_776_000;
/// Names of policies that are told in one line.
const MAX_LISTED: usize = 10;

/// The protected policies that a change touches.
pub(super) fn touched(
    before: &[PolicyFileDoc],
    after: &[PolicyFileDoc],
) -> Result<Vec<PolicyName>, AdministratorError> {
    vouchsafe_policy::touched(&policy::to_engine(before), &policy::to_engine(after)).map_err(|found| {
        AdministratorError::PolicyInvalid { diagnostics: found.into_iter().map(gate::diagnostic).collect() }
    })
}

/// Names in one line.
pub(super) fn listed(names: &[String]) -> String {
    let mut words = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_LISTED {
        let _ = write!(words, " and {} more", names.len() - MAX_LISTED);
    }
    words
}

/// All that an approval is bound to.
pub(super) struct Draft<'d> {
    /// The version in force.
    pub(super) base: u64,
    pub(super) kind: Kind,
    pub(super) files: &'d [PolicyFileDoc],
    pub(super) tests: &'d [PolicyFileDoc],
    pub(super) invariants: &'d [PolicyFileDoc],
    pub(super) confirm_within: Option<u64>,
}

impl Draft<'_> {
    fn digest(&self) -> String {
        let Self { base, kind, files, tests, invariants, confirm_within } = self;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&base.to_be_bytes());
        hash.update(kind.as_str().as_bytes());
        hash.update(&confirm_within.unwrap_or_default().to_be_bytes());
        hash.update(&proofs::fingerprint(&[files, tests, invariants]));
        hex(hash.finish().as_ref())
    }
}

/// Keeps a draft that has passed the gate for somebody else to approve. One that is there already stays as it is.
pub(super) async fn hold(
    write: &mut Write,
    draft: &Draft<'_>,
    protected: Vec<PolicyName>,
    note: &str,
    by: &Actor,
) -> Result<ProposalDoc, AdministratorError> {
    let protected: Vec<String> = protected.iter().map(ToString::to_string).collect();
    let Some((author, ip)) = user_of(by) else { return Err(AdministratorError::TwoUsers { protected }) };
    let digest = draft.digest();
    if let Some(there) = proposals::open_of(write.connection(), &digest).await? {
        return Ok(there);
    }
    if proposals::count_open(write.connection()).await? >= MOST {
        return Err(AdministratorError::TooManyProposals);
    }
    let now = clock::unix_seconds(clock::now());
    let doc = ProposalDoc {
        proposal: ProposalId::from_random(clock::random()).to_string(),
        digest,
        base: draft.base,
        stale: false,
        kind: draft.kind.as_str().to_owned(),
        protected,
        by: author.to_string(),
        created: now,
        note: note.to_owned(),
        open_until: now.saturating_add(OPEN_SECONDS),
        confirm_within: draft.confirm_within,
        state: ProposalState::Open,
        decided_by: None,
        decided: None,
        decision: String::new(),
        became: None,
        files: draft.files.to_vec(),
        tests: draft.tests.to_vec(),
        invariants: draft.invariants.to_vec(),
    };
    let kept = Kept { doc, from: ip.to_string() };
    proposals::insert(write.connection(), &kept).await?;
    write.audit(by.changed("policy.propose", target(&kept.doc), described(&kept.doc)));
    Ok(ProposalDoc { files: Vec::new(), tests: Vec::new(), invariants: Vec::new(), ..kept.doc })
}

/// One proposal, with its files.
pub(crate) async fn show(context: &Context, id: &str) -> Result<ProposalDoc, AdministratorError> {
    let id: ProposalId = id.parse()?;
    let kept = proposals::show(&mut *context.store.read().await?, &id).await?;
    kept.map(|kept| kept.doc).ok_or_else(|| missing(&id))
}

/// Puts a proposal into force, as the second of two people.
pub(crate) async fn approve(
    context: &Context,
    id: &str,
    with: &DecideProposal,
    by: &Actor,
) -> Result<PolicyVersion, AdministratorError> {
    let id: ProposalId = id.parse()?;
    one_line("note", &with.note)?;
    // What can be said at once is said before anything is proven; it is asked again when it counts.
    let asked = proposals::show(&mut *context.store.read().await?, &id).await?.ok_or_else(|| missing(&id))?;
    approvable(&asked.doc, with, by)?;
    let proven = proofs::prove(context, &asked.doc.files, &asked.doc.invariants, None).await?;
    let mut write = context.store.write().await?;
    standing::still_may(context, &mut write, by, &format!("POST /v1/policy/pending/{id}/approve")).await?;
    let Kept { doc, from } = proposals::show(write.connection(), &id).await?.ok_or_else(|| missing(&id))?;
    let kind = approvable(&doc, with, by)?;
    let ProposalDoc { files, tests, invariants, note, confirm_within, base, .. } = &doc;
    let draft = Draft { base: *base, kind, files, tests, invariants, confirm_within: *confirm_within };
    if draft.digest() != doc.digest {
        return Err(StoreError::Corrupt { what: "proposal" }.into());
    }
    author_still_may(context, &mut write, &doc, kind, &from).await?;
    let wanted = Wanted {
        files,
        tests: Some(tests),
        invariants: Some(invariants),
        note,
        kind,
        confirm_within: *confirm_within,
        proven: &proven,
        proposal: Some(&doc),
    };
    // INVARIANT: what one has stood up for already isn't kept for another.
    let Published::InForce(mut version) = publish_in(&mut write, &wanted, by).await? else {
        return Err(StoreError::Corrupt { what: "proposal" }.into());
    };
    let became = Some(version.version);
    settle(&mut write, ProposalDoc { became, ..doc }, ProposalState::Approved, &with.note, by).await?;
    write.commit().await?;
    version.proofs = proven.findings;
    Ok(*version)
}

/// Decides that a proposal comes to nothing; its author may, too.
pub(crate) async fn reject(
    context: &Context,
    id: &str,
    with: &DecideProposal,
    by: &Actor,
) -> Result<ProposalDoc, AdministratorError> {
    let id: ProposalId = id.parse()?;
    one_line("note", &with.note)?;
    let mut write = context.store.write().await?;
    let Kept { doc, .. } = proposals::show(write.connection(), &id).await?.ok_or_else(|| missing(&id))?;
    open(&doc, with)?;
    let rejected = settle(&mut write, doc, ProposalState::Rejected, &with.note, by).await?;
    write.commit().await?;
    Ok(rejected)
}

/// Ends open proposals whose time is over and forgets old ones, at most `limit` of each; gives how many.
pub(crate) async fn end_over(write: &mut Write, now: u64, limit: u32) -> Result<u64, StoreError> {
    let mut ended = proposals::forget_settled(write.connection(), now.saturating_sub(KEPT_SECONDS), limit).await?;
    for over in proposals::over(write.connection(), now, usize::try_from(limit).unwrap_or(usize::MAX)).await? {
        settle(write, over, ProposalState::Expired, "", &Actor::Controller).await?;
        ended += 1;
    }
    Ok(ended)
}

/// Refuses what this caller can't approve; gives how it would be published.
fn approvable(doc: &ProposalDoc, with: &DecideProposal, by: &Actor) -> Result<Kind, AdministratorError> {
    let Some((approver, _)) = user_of(by) else {
        return Err(AdministratorError::TwoUsers { protected: doc.protected.clone() });
    };
    if approver.as_str() == doc.by {
        return Err(AdministratorError::OwnProposal);
    }
    open(doc, with)?;
    if doc.stale {
        return Err(AdministratorError::StaleProposal { base: doc.base });
    }
    [Kind::Publish, Kind::Rollback]
        .into_iter()
        .find(|kind| kind.as_str() == doc.kind)
        .ok_or_else(|| StoreError::Corrupt { what: "proposal" }.into())
}

/// Refuses one that is settled, or isn't what the caller takes it for.
fn open(doc: &ProposalDoc, with: &DecideProposal) -> Result<(), AdministratorError> {
    if with.digest.as_ref().is_some_and(|digest| *digest != doc.digest) {
        return Err(AdministratorError::OtherProposal);
    }
    match doc.state {
        ProposalState::Open if doc.open_until > clock::unix_seconds(clock::now()) => Ok(()),
        ProposalState::Open => Err(AdministratorError::ProposalSettled { state: ProposalState::Expired.as_str() }),
        state @ (ProposalState::Approved | ProposalState::Rejected | ProposalState::Expired) => {
            Err(AdministratorError::ProposalSettled { state: state.as_str() })
        }
    }
}

/// Two people stand up for it when it is put into force, so its author must be one who could propose it now.
async fn author_still_may(
    context: &Context,
    write: &mut Write,
    doc: &ProposalDoc,
    kind: Kind,
    from: &str,
) -> Result<(), AdministratorError> {
    let author = UserName::parse(&doc.by)?;
    let ip: IpAddr = from.parse().map_err(|_| StoreError::Corrupt { what: "proposal" })?;
    let engine = context.live.engine(write.connection()).await?;
    if gate::could(write.connection(), &engine, &author, kind.operation(), ip).await? {
        return Ok(());
    }
    Err(AdministratorError::AuthorMayNot { author: doc.by.clone() })
}

async fn settle(
    write: &mut Write,
    doc: ProposalDoc,
    state: ProposalState,
    note: &str,
    by: &Actor,
) -> Result<ProposalDoc, StoreError> {
    let settled = ProposalDoc {
        state,
        decided_by: Some(by.label()),
        decided: Some(clock::unix_seconds(clock::now())),
        decision: note.to_owned(),
        files: Vec::new(),
        tests: Vec::new(),
        invariants: Vec::new(),
        ..doc
    };
    // INVARIANT: it was read as open in this very transaction.
    if !proposals::settle(write.connection(), &settled).await? {
        return Err(StoreError::Corrupt { what: "proposal" });
    }
    let verb = match state {
        ProposalState::Approved => "policy.approve",
        ProposalState::Rejected => "policy.reject",
        ProposalState::Expired | ProposalState::Open => "policy.lapse",
    };
    let mut record = by.changed(verb, target(&settled), described(&settled));
    record.policy_version = settled.became;
    write.audit(record);
    Ok(settled)
}

/// The user, and where she is. The owner of the machine is none: she could be either of the two.
fn user_of(by: &Actor) -> Option<(&UserName, IpAddr)> {
    match by {
        Actor::User { name, session: Some(_), ip, .. } => Some((name, *ip)),
        Actor::User { session: None, .. }
        | Actor::Local { .. }
        | Actor::Device { .. }
        | Actor::Anonymous { .. }
        | Actor::Controller => None,
    }
}

fn missing(id: &ProposalId) -> AdministratorError {
    AdministratorError::Missing { what: "proposal", name: id.to_string() }
}

fn target(doc: &ProposalDoc) -> String {
    format!("proposal/{}", doc.proposal)
}

/// A proposal in words.
fn described(doc: &ProposalDoc) -> String {
    let ProposalDoc { by, kind, base, protected, digest, note, decision, became, .. } = doc;
    let mut words = format!("{kind} by {by}, a change to version {base}; touches {}; {digest}", listed(protected));
    if let Some(version) = became {
        let _ = write!(words, "; became version {version}");
    }
    for said in [note, decision].into_iter().filter(|said| !said.is_empty()) {
        let _ = write!(words, "; {said}");
    }
    words
}

#[cfg(test)]
mod tests;
