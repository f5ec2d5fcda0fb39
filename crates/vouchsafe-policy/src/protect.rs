//! Policies that it takes two people to change: those that say `@approval("two-person")`.

use std::collections::BTreeSet;

use vouchsafe_model::name::PolicyName;

use crate::annotation::{self, APPROVAL, Approval};
use crate::diagnostic::{Diagnostic, Severity};
use crate::scan;
use crate::source::PolicyFile;
use crate::tree::Tree;

/// Names of the protected policies that a change of files touches, in order: those that come, go, or are written
/// differently in any way, be it in the annotation that protects them alone. In which file a policy stands, and beside
/// which others, says nothing.
///
/// # Errors
/// The mistakes in policies that may be protected. Whoever can't tell whether a change touches one must not make it.
pub fn touched(before: &[PolicyFile], after: &[PolicyFile]) -> Result<Vec<PolicyName>, Vec<Diagnostic>> {
    let (before, after) = (protected(before)?, protected(after)?);
    // A policy that is protected on one side only, or reads differently, is in one of the sets and not in the other.
    let names: BTreeSet<&PolicyName> = before.symmetric_difference(&after).map(|(name, _)| name).collect();
    Ok(names.into_iter().cloned().collect())
}

/// The protected policies with their text, from the first token to the semicolon.
fn protected(files: &[PolicyFile]) -> Result<BTreeSet<(PolicyName, &str)>, Vec<Diagnostic>> {
    let mut found = BTreeSet::new();
    // The name of an annotation can't be written in another way, so most policies needn't be read.
    for file in files.iter().filter(|file| file.text.contains(APPROVAL)) {
        let (pieces, unfit) = scan::pieces(file);
        if !unfit.is_empty() {
            return Err(unfit);
        }
        for piece in pieces {
            let text = piece.text(&file.text);
            if !text.contains(APPROVAL) {
                continue;
            }
            let unread = |message| Diagnostic::at("syntax", message, &file.name, &file.text, piece.at.clone());
            let policy = Tree::parse(None, text).map_err(|errors| vec![unread(errors.to_string())])?;
            let (name, notes, mut wrong) = annotation::read(&policy, &piece, file);
            wrong.retain(|found| found.severity == Severity::Error);
            let Some(name) = name.filter(|_| wrong.is_empty()) else { return Err(wrong) };
            match notes.approval {
                Approval::Two => found.insert((name, text)),
                Approval::One => false,
            };
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[&str]) -> Vec<PolicyFile> {
        let file =
            |(number, text): (usize, &&str)| PolicyFile { name: format!("{number}.cedar"), text: (*text).into() };
        texts.iter().enumerate().map(file).collect()
    }

    fn names(before: &[&str], after: &[&str]) -> Vec<String> {
        let found = touched(&files(before), &files(after)).expect("readable");
        found.iter().map(ToString::to_string).collect()
    }

    const OPEN: &str = "@id(\"open\") permit(principal, action, resource is Http);";
    const HELD: &str = "@id(\"held\") @approval(\"two-person\") forbid(principal, action, resource is Http);";
    const BARE: &str = "@id(\"held\") forbid(principal, action, resource is Http);";

    #[test]
    fn what_comes_goes_or_changes_is_touched() {
        let changed = HELD.replace("Http", "Tcp");
        let reworded = HELD.replace("@id", "@reason(\"why\") @id");
        let renamed = HELD.replace("held", "kept");
        for (before, after, expected) in [
            (vec![OPEN], vec![OPEN, HELD], vec!["held"]),
            (vec![OPEN, HELD], vec![OPEN], vec!["held"]),
            (vec![HELD], vec![], vec!["held"]),
            (vec![HELD], vec![&*changed], vec!["held"]),
            (vec![HELD], vec![&*reworded], vec!["held"]),
            (vec![HELD], vec![&*renamed], vec!["held", "kept"]),
            (vec![HELD], vec![BARE], vec!["held"]),
            (vec![BARE], vec![HELD], vec!["held"]),
        ] {
            assert_eq!(names(&before, &after), expected, "{before:?} → {after:?}");
        }
    }

    #[test]
    fn what_stays_is_not_touched() {
        let word = "@id(\"word\") @reason(\"approval of ann\") permit(principal, action, resource is Tcp);";
        let together = format!("// a comment\n{HELD}\n{OPEN}");
        for (before, after) in [
            (vec![HELD], vec![HELD]),
            (vec![HELD], vec![OPEN, HELD]),
            (vec![OPEN, HELD], vec![HELD]),
            (vec![OPEN, HELD], vec![&*together]),
            (vec![word], vec![]),
            (vec![BARE], vec![]),
        ] {
            assert_eq!(names(&before, &after), Vec::<String>::new(), "{before:?} → {after:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        for text in [
            "@approval(\"two-person\") permit(principal, action, resource);",
            "@id(\"a\") @approval(\"two-person\") permit(principal, action,",
            "@id(\"a\") @approval(\"two\") permit(principal, action, resource);",
            "@id(\"a\") @approval permit(principal, action, resource);",
        ] {
            assert!(touched(&files(&[text]), &[]).is_err(), "{text}");
        }
    }
}
