//! Who can reach what, person by person: for pictures of it, of a bounded part of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_model::resource::ResourceKind;
use vouchsafe_policy::{People, Wanted, Way};
use vouchsafe_runtime::clock;

use super::AdministratorError;
use crate::context::Context;
use crate::store::facts;

/// Most resources that are asked about at once.
pub(crate) const MOST_RESOURCES: usize = 40;
/// Most rights that are told.
const MOST_RIGHTS: usize = 200_000;
/// Longest time that it takes; what was found by then is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// One person's rights to one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) actions: BTreeSet<String>,
    /// The policies and grants that give it.
    pub(crate) by: BTreeSet<PolicyName>,
    /// What it still asks for, of one of the ways that give it.
    pub(crate) demands: Vec<String>,
}

/// Who can reach what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    /// Who there is, and who is in which group.
    pub(crate) people: People,
    pub(crate) rights: BTreeMap<(UserName, ResourceName), Right>,
    /// Whether that is all.
    pub(crate) whole: bool,
}

/// Finds who can reach these resources: the first [`MOST_RESOURCES`] of them.
pub(crate) async fn reach(context: &Context, resources: &[ResourceName]) -> Result<Reach, AdministratorError> {
    let mut read = context.store.read().await?;
    let engine = context.live.engine(&mut read).await?;
    let people = facts::people(&mut read, &Wanted::All).await?;
    drop(read);
    let asked: Vec<ResourceName> = resources.iter().take(MOST_RESOURCES).cloned().collect();
    let all = resources.len() <= MOST_RESOURCES;
    let work = move || {
        let deadline = Instant::now() + PATIENCE;
        let mut found = Reach { whole: all, ..Reach::default() };
        for name in &asked {
            let Some(resource) = engine.resource(name) else { continue };
            let kind: ResourceKind = resource.spec.kind();
            for action in kind.actions() {
                if Instant::now() > deadline {
                    found.whole = false;
                    break;
                }
                let Some(answer) = engine.who_can(*action, name, &people, clock::now()) else { continue };
                for class in answer.can {
                    let demands = class.rights.ways.first().map(Way::demands).unwrap_or_default();
                    for user in class.users {
                        if found.rights.len() >= MOST_RIGHTS {
                            found.whole = false;
                            break;
                        }
                        let right = found.rights.entry((user, name.clone())).or_default();
                        right.actions.insert(action.to_string());
                        right.by.extend(class.rights.ways.iter().map(|way| way.policy.clone()));
                        if right.demands.is_empty() {
                            right.demands.clone_from(&demands);
                        }
                    }
                }
            }
        }
        found.people = people;
        found
    };
    context.rights.work(work).await
}
