//! What it takes to bring the state to what a manifest wants (`docs/spec/manifest.md`).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use sqlx::SqliteConnection;
use vouchsafe_model::name::{GroupName, ResourceName, UserName};
use vouchsafe_wire::api::{Group, GroupDoc, Manifest, Plan, PlannedChange, PolicyFileDoc, PolicyVersion};
use vouchsafe_wire::resource::ResourceDoc;
use vouchsafe_wire::ticket::hex;

use super::{AdministratorError, approval, modes, policy, resources};
use crate::context::Settings;
use crate::directory::groups::Membership;
use crate::directory::{ADMINISTRATORS, users};
use crate::store;

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Step {
    AddGroup(GroupName),
    SetMember(GroupName, UserName, Membership),
    PutResource(Box<ResourceDoc>),
    RemoveResource(ResourceName),
    RemoveGroup(GroupName),
    Publish { files: Vec<PolicyFileDoc>, tests: Option<Vec<PolicyFileDoc>>, invariants: Option<Vec<PolicyFileDoc>> },
}

/// A plan with the steps that carry it out.
pub(crate) struct Draft {
    pub(crate) plan: Plan,
    pub(super) steps: Vec<Step>,
}

#[derive(serde::Serialize)]
struct State {
    groups: Option<Vec<Group>>,
    resources: Option<Vec<ResourceDoc>>,
    grants: Option<Vec<String>>,
    policy_version: Option<u64>,
}

/// Compares what a manifest wants with what is. Only what the manifest speaks of is looked at.
pub(crate) async fn draft(
    connection: &mut SqliteConnection,
    settings: &Settings,
    manifest: &Manifest,
) -> Result<Draft, AdministratorError> {
    let Manifest { groups, resources, policy, tests, invariants } = manifest;
    let mut making = Making::default();
    let mut state = State { groups: None, resources: None, grants: None, policy_version: None };
    let mut groups_to_remove = Vec::new();
    if let Some(wanted) = groups {
        let present = store::groups::list(connection).await?;
        groups_to_remove = making.groups(connection, wanted, &present).await?;
        state.groups = Some(present);
    }
    if let Some(wanted) = resources {
        let present = store::resources::list(connection).await?;
        let granted = making.resources(connection, settings, wanted, &present).await?;
        state.resources = Some(present);
        state.grants = Some(granted);
    }
    making.remove_groups(groups_to_remove)?;
    if policy.is_some() || tests.is_some() || invariants.is_some() {
        let present = store::policy::current(connection).await?;
        state.policy_version = Some(present.version);
        making.policy([policy, tests, invariants].map(Option::as_deref), &present)?;
    }
    let Making { changes, steps } = making;
    let bound = serde_json::to_vec(&(&changes, &state)).map_err(|_| store::StoreError::Corrupt { what: "plan" })?;
    let digest = hex(digest::digest(&digest::SHA256, &bound).as_ref());
    Ok(Draft { plan: Plan { changes, digest }, steps })
}

#[derive(Default)]
struct Making {
    changes: Vec<PlannedChange>,
    steps: Vec<Step>,
}

impl Making {
    fn change(&mut self, verb: &str, target: String, details: Vec<String>) {
        self.changes.push(PlannedChange { verb: verb.to_owned(), target, details });
    }

    /// Plans groups and members; gives the groups to be removed, which comes later.
    async fn groups(
        &mut self,
        connection: &mut SqliteConnection,
        wanted: &[GroupDoc],
        present: &[Group],
    ) -> Result<Vec<Group>, AdministratorError> {
        let by_name: BTreeMap<&str, &Group> = present.iter().map(|group| (group.name.as_str(), group)).collect();
        let mut seen = BTreeSet::new();
        for GroupDoc { name, members } in wanted {
            let name = GroupName::parse(name)?;
            if !seen.insert(name.clone()) {
                return Err(AdministratorError::Twice { what: "group", name: name.to_string() });
            }
            let there = by_name.get(name.as_str());
            let mut details = Vec::new();
            if there.is_none() {
                self.steps.push(Step::AddGroup(name.clone()));
            }
            if let Some(members) = members {
                let mut wanted = BTreeSet::new();
                for member in members {
                    let member = UserName::parse(member)?;
                    users::exists(connection, &member).await?;
                    if !wanted.insert(member.clone()) {
                        return Err(AdministratorError::Twice { what: "member", name: member.to_string() });
                    }
                }
                let now = there.map(|group| group.members.as_slice()).unwrap_or_default();
                let now = now.iter().map(|name| UserName::parse(name)).collect::<Result<BTreeSet<_>, _>>()?;
                // Those who come in first, so that the last administrator can hand over in one apply.
                for member in wanted.difference(&now) {
                    details.push(format!("+ {member}"));
                    self.steps.push(Step::SetMember(name.clone(), member.clone(), Membership::Member));
                }
                for member in now.difference(&wanted) {
                    details.push(format!("- {member}"));
                    self.steps.push(Step::SetMember(name.clone(), member.clone(), Membership::NotMember));
                }
            }
            match there {
                None => self.change("add", format!("group/{name}"), details),
                Some(_) if !details.is_empty() => self.change("change", format!("group/{name}"), details),
                Some(_) => {}
            }
        }
        let kept: BTreeSet<&str> = seen.iter().map(GroupName::as_str).collect();
        // The group that must exist is never removed for being left out.
        let lacking =
            present.iter().filter(|group| group.name != ADMINISTRATORS && !kept.contains(group.name.as_str()));
        Ok(lacking.cloned().collect())
    }

    /// Plans resources; gives the grants that go with removed ones, to bind the plan to them.
    async fn resources(
        &mut self,
        connection: &mut SqliteConnection,
        settings: &Settings,
        wanted: &[ResourceDoc],
        present: &[ResourceDoc],
    ) -> Result<Vec<String>, AdministratorError> {
        let by_name: BTreeMap<&str, &ResourceDoc> = present.iter().map(|doc| (doc.name.as_str(), doc)).collect();
        let mut seen = BTreeSet::new();
        for doc in wanted {
            let doc = resources::checked(settings, doc)?;
            if !seen.insert(doc.name.clone()) {
                return Err(AdministratorError::Twice { what: "resource", name: doc.name });
            }
            let before = by_name.get(doc.name.as_str()).copied();
            if before == Some(&doc) {
                continue;
            }
            modes::owner_exists(connection, before, &doc).await?;
            let verb = if before.is_some() { "change" } else { "add" };
            self.change(verb, format!("resource/{}", doc.name), resources::differences(before, &doc));
            self.steps.push(Step::PutResource(Box::new(doc)));
        }
        let mut granted = Vec::new();
        for old in present.iter().filter(|old| !seen.contains(&old.name)) {
            let name = ResourceName::parse(&old.name)?;
            let grants = store::grants::of_resource(connection, &name).await?;
            let details = grants.iter().map(|grant| format!("with grant {} of {}", grant.id, grant.user)).collect();
            self.change("remove", format!("resource/{name}"), details);
            self.steps.push(Step::RemoveResource(name));
            granted.extend(grants.into_iter().map(|grant| grant.id));
        }
        Ok(granted)
    }

    fn remove_groups(&mut self, lacking: Vec<Group>) -> Result<(), AdministratorError> {
        for group in lacking {
            let details = group.members.iter().map(|member| format!("- {member}")).collect();
            self.change("remove", format!("group/{}", group.name), details);
            self.steps.push(Step::RemoveGroup(GroupName::parse(&group.name)?));
        }
        Ok(())
    }

    fn policy(
        &mut self,
        [files, tests, invariants]: [Option<&[PolicyFileDoc]>; 3],
        present: &PolicyVersion,
    ) -> Result<(), AdministratorError> {
        let files = files.unwrap_or(&present.files);
        let mut details = policy::differences(&present.files, files);
        details.extend(policy::differences(&present.tests, tests.unwrap_or(&present.tests)));
        details.extend(policy::differences(&present.invariants, invariants.unwrap_or(&present.invariants)));
        if !details.is_empty() {
            let protected = approval::touched(&present.files, files)?;
            if !protected.is_empty() {
                let names: Vec<String> = protected.iter().map(ToString::to_string).collect();
                details.push(format!("it takes two people to change {}", approval::listed(&names)));
            }
            self.change("change", "policy".to_owned(), details);
            let (tests, invariants) = (tests.map(<[_]>::to_vec), invariants.map(<[_]>::to_vec));
            self.steps.push(Step::Publish { files: files.to_vec(), tests, invariants });
        }
        Ok(())
    }
}
