//! Pages of versions that wait for a second administrator.

use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_policy::Difference;
use vouchsafe_wire::api::{PolicyVersion, ProposalDoc, ProposalState, changed_files};

use super::policy::{changes, text_of};
use super::{below, page, table};
use crate::pages::layout::{at, chips};

/// All of them, those that wait first.
pub(in crate::console) fn list(who: &str, proposals: &[ProposalDoc]) -> Response {
    let rows = html! {
        @for proposal in proposals {
            tr {
                td {
                    a href={ "/proposals/" (proposal.proposal) } {
                        (proposal.kind) " by " (proposal.by)
                    }
                    @if !proposal.note.is_empty() { p .faint { (proposal.note) } }
                }
                td .nowrap { (at(proposal.created)) }
                td { (state(proposal)) }
                td { (chips(&proposal.protected, "nothing")) }
                td { (proposal.decided_by.as_deref().unwrap_or("nobody yet")) @if !proposal.decision.is_empty() { p .faint { (proposal.decision) } } }
            }
        }
    };
    page(
        "Proposals",
        who,
        html! {
            p {
                "What touches a policy that says " code { "@approval(\"two-person\")" }
                " waits here until another administrator approves it."
            }
            @if proposals.is_empty() {
                section {
                    h2 { "Nothing waits" }
                    p .faint { "A publish that takes two people shows up here, from the console as from " code { "vouchsafe policy publish" } "." }
                }
            } @else {
                (table(&["What", "When", "State", "Touches", "Decided by"], rows))
            }
        },
    )
}

fn state(proposal: &ProposalDoc) -> Markup {
    let (class, words) = match (proposal.state, proposal.became) {
        (ProposalState::Open, _) if proposal.stale => ("weak", "stale".to_owned()),
        (ProposalState::Open, _) => ("weak", "waits".to_owned()),
        (ProposalState::Approved, Some(version)) => ("allow", format!("became version {version}")),
        (ProposalState::Approved, None) => ("allow", "approved".to_owned()),
        (ProposalState::Rejected, _) => ("deny", "rejected".to_owned()),
        (ProposalState::Expired, _) => ("weak", "over".to_owned()),
    };
    html! { span class={ "chip " (class) } { (words) } }
}

/// One, compared with the version that it changes; with the buttons for whom they are for.
pub(in crate::console) fn one(
    who: &str,
    name: Option<&str>,
    proposal: &ProposalDoc,
    base: &PolicyVersion,
    found: Option<&Difference>,
) -> Response {
    let ProposalDoc { proposal: id, digest, by, created, note, open_until, protected, kind, .. } = proposal;
    let new: Vec<_> = proposal.files.iter().chain(&proposal.tests).chain(&proposal.invariants).collect();
    below(
        "Proposals",
        &format!("{kind} by {by}"),
        who,
        html! {
            section {
                dl {
                    dt { "State" } dd { (state(proposal)) }
                    dt { "Proposed" } dd { (at(*created)) }
                    @if proposal.state == ProposalState::Open { dt { "Over" } dd { (at(*open_until)) } }
                    dt { "Changes" } dd { "version " (proposal.base) }
                    dt { "Touches" } dd { (chips(protected, "nothing")) }
                    @if !note.is_empty() { dt { "Note" } dd { (note) } }
                    @if let Some(decided_by) = &proposal.decided_by {
                        dt { "Decided by" } dd { (decided_by) @if !proposal.decision.is_empty() { ": " (proposal.decision) } }
                    }
                    dt { "Digest" } dd { code { (digest) } }
                }
                @if proposal.state == ProposalState::Open { (deciding(id, digest, proposal, name)) }
            }
            @if let Some(found) = found { (changes(found)) }
            @if !new.is_empty() {
                h2 { "In the text" }
                (text_of(&changed_files(&base.all_files(), &new)))
            }
        },
    )
}

fn deciding(id: &str, digest: &str, proposal: &ProposalDoc, name: Option<&str>) -> Markup {
    let path = format!("/v1/policy/pending/{id}");
    let own = name == Some(proposal.by.as_str());
    html! {
        @if proposal.stale {
            p .faint { "Another version came into force since: it can't be approved any more. Let its author publish it again." }
        } @else if own {
            p .faint { "It is your own: somebody else has to approve it. You may take it back." }
        } @else if name.is_none() {
            p .faint { "It takes two users: the owner of the machine counts for neither." }
        }
        form .inline method="post" action={ (path) "/reject" } {
            input type="hidden" name="digest" value=(digest);
            label .hidden for="note" { "Note" }
            input #note name="note" maxlength="200" placeholder="A note, if you like";
            @if !own && !proposal.stale && name.is_some() {
                button .go formaction={ (path) "/approve" } { "Approve: put it into force" }
            }
            button { "Reject" }
        }
    }
}
