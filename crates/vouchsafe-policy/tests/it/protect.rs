//! A change that touches a protected policy is always found, and nothing else is taken for one.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Policy, PolicySet};
use proptest::prelude::*;
use vouchsafe_policy::{PolicyFile, touched};

/// One policy, as data.
#[derive(Debug, Clone)]
struct Spec {
    id: u8,
    file: u8,
    protected: bool,
    /// Where among the annotations the protection stands.
    first: bool,
    body: &'static str,
    /// What stands around it and says nothing.
    around: &'static str,
}

fn spec() -> impl Strategy<Value = Spec> {
    let body = prop::sample::select(vec![
        "permit(principal, action, resource is Http);",
        "forbid(principal, action, resource is Http);",
        "permit(principal in Group::\"g\", action, resource is Tcp);",
        "permit(principal, action, resource) when { principal.name == \"approval\" };",
        "forbid(principal, action, resource) unless { context.device.grade == \"hardware\" };",
    ]);
    let around = prop::sample::select(vec!["", "\n", "// @approval(\"two-person\")\n", "// approval;\n\t"]);
    (0..6_u8, 0..3_u8, any::<bool>(), any::<bool>(), body, around)
        .prop_map(|(id, file, protected, first, body, around)| Spec { id, file, protected, first, body, around })
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    prop::collection::vec(spec(), 0..6).prop_map(|mut all| {
        let mut seen = BTreeSet::new();
        all.retain(|spec| seen.insert(spec.id));
        all
    })
}

fn text(spec: &Spec) -> String {
    let id = format!("@id(\"p{}\")", spec.id);
    let held = "@approval(\"two-person\")";
    match (spec.protected, spec.first) {
        (false, _) => format!("{}{id} {}\n", spec.around, spec.body),
        (true, true) => format!("{}{held} {id} {}\n", spec.around, spec.body),
        (true, false) => format!("{}{id}\n{held}\n{}\n", spec.around, spec.body),
    }
}

fn files(specs: &[Spec]) -> Vec<PolicyFile> {
    let mut files: BTreeMap<u8, String> = BTreeMap::new();
    for spec in specs {
        files.entry(spec.file).or_default().push_str(&text(spec));
    }
    files.into_iter().map(|(name, text)| PolicyFile { name: format!("{name}.cedar"), text }).collect()
}

/// What Cedar reads of the protected policies in all files, by their ids.
fn read(files: &[PolicyFile]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files {
        let set: PolicySet = file.text.parse().expect("policies");
        for policy in set.policies().filter(|policy| policy.annotation("approval").is_some()) {
            let json = Policy::to_json(policy).expect("json").to_string();
            found.insert(policy.annotation("id").expect("an id").to_owned(), json);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever Cedar would read of a protected policy differently is found.
    #[test]
    fn a_change_of_a_protected_policy_is_a_touch(before in specs(), after in specs(), kept in any::<u8>()) {
        // Some of what was there stays as it was.
        let mut after = after;
        for spec in before.iter().filter(|spec| kept & (1 << spec.id) != 0) {
            after.retain(|other| other.id != spec.id);
            after.push(spec.clone());
        }
        let (before, after) = (files(&before), files(&after));
        let found: BTreeSet<String> = touched(&before, &after).expect("readable").iter().map(ToString::to_string).collect();
        let (was, is) = (read(&before), read(&after));
        for id in was.keys().chain(is.keys()) {
            prop_assert!(was.get(id) == is.get(id) || found.contains(id), "{id} changed, found {found:?}");
        }
        for id in &found {
            prop_assert!(was.contains_key(id) || is.contains_key(id), "{id} is not protected");
        }
        let back = touched(&after, &before).expect("readable");
        prop_assert_eq!(back.len(), found.len(), "there and back touch the same");
    }

    /// What says nothing, and where a policy stands, is no change.
    #[test]
    fn a_move_is_no_touch(specs in specs(), places in prop::collection::vec(0..3_u8, 6), turn in any::<bool>()) {
        let mut moved = specs.clone();
        for (spec, place) in moved.iter_mut().zip(&places) {
            (spec.file, spec.around) = (*place, "// somewhere else\n");
        }
        if turn {
            moved.reverse();
        }
        prop_assert_eq!(touched(&files(&specs), &files(&moved)).expect("readable"), []);
    }
}
