//! Finds the mistakes of policy files, all at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode, Validator};
use vouchsafe_model::name::PolicyName;

use crate::annotation::{self, Notes};
use crate::diagnostic::Diagnostic;
use crate::scan::{self, Piece};
use crate::schema::Words;
use crate::source::PolicyFile;

mod hint;

/// Most policies of all files together.
const MAX_POLICIES: usize = 20_000;
/// Most mistakes that are shown. That there are more is an error itself.
const MAX_MISTAKES: usize = 1_000;

/// Checks policy files: syntax, strict validation against the schema, and annotations.
///
/// Every mistake is told, in the order of files and lines. Policies without an
/// [error](crate::Severity::Error) can be compiled.
#[must_use]
pub fn check(files: &[PolicyFile]) -> Vec<Diagnostic> {
    match Words::get() {
        Ok(words) => inspect(words, files).1,
        Err(broken) => vec![*broken],
    }
}

/// A policy that was read, from a file that may have mistakes elsewhere.
pub(crate) struct Parsed {
    pub(crate) name: PolicyName,
    /// Under the id that is its name.
    pub(crate) policy: Policy,
    pub(crate) notes: Notes,
    /// Index of its file.
    pub(crate) file: usize,
    pub(crate) at: Range<usize>,
}

struct Read {
    policy: Policy,
    piece: Piece,
    file: usize,
}

/// Reads all files; the policies are of use only when no diagnostic is an error.
pub(crate) fn inspect(words: &Words, files: &[PolicyFile]) -> (Vec<Parsed>, Vec<Diagnostic>) {
    let mut wrong = Wrong::new(files);
    wrong.same_file_names();
    let read = parse(files, &mut wrong);
    validate(words, &read, &mut wrong);
    let parsed = name(&read, &mut wrong);
    (parsed, wrong.in_order())
}

/// Mistakes as they are found, up to [`MAX_MISTAKES`].
struct Wrong<'f> {
    files: &'f [PolicyFile],
    found: Vec<(usize, Diagnostic)>,
    hidden: usize,
}

impl<'f> Wrong<'f> {
    fn new(files: &'f [PolicyFile]) -> Self {
        Self { files, found: Vec::new(), hidden: 0 }
    }

    /// Whether no further mistake is shown. To look for its line would take time for nothing.
    fn is_full(&self) -> bool {
        self.found.len() >= MAX_MISTAKES
    }

    fn at(&self, file: usize, code: &'static str, message: String, range: Range<usize>) -> Diagnostic {
        match self.files.get(file).filter(|_| !self.is_full()) {
            Some(file) => Diagnostic::at(code, message, &file.name, &file.text, range),
            None => Diagnostic::general(code, message),
        }
    }

    fn push(&mut self, file: usize, diagnostic: Diagnostic) {
        if self.is_full() {
            self.hidden += 1;
        } else {
            self.found.push((file, diagnostic));
        }
    }

    fn same_file_names(&mut self) {
        let mut seen = BTreeMap::new();
        for (index, file) in self.files.iter().enumerate() {
            if seen.insert(&file.name, index).is_some() {
                let message = format!("two files have the name `{}`", file.name);
                let found = self.at(index, "duplicate_file", message, 0..0);
                self.push(index, found.hint("rename one of them"));
            }
        }
    }

    fn in_order(mut self) -> Vec<Diagnostic> {
        self.found
            .sort_by(|(a_file, a), (b_file, b)| (a_file, a.offset, a.severity).cmp(&(b_file, b.offset, b.severity)));
        // One mistake can be found for several types of principal.
        self.found.dedup_by(|(a_file, a), (b_file, b)| {
            (a_file, a.offset, a.length, &a.code, &a.hint) == (b_file, b.offset, b.length, &b.code, &b.hint)
        });
        let mut told: Vec<Diagnostic> = self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect();
        if self.hidden > 0 {
            let message = format!("{} or more further mistakes aren't shown", self.hidden);
            told.push(Diagnostic::general("too_many_mistakes", message));
        }
        told
    }
}

fn parse(files: &[PolicyFile], wrong: &mut Wrong<'_>) -> Vec<Read> {
    let mut cut: Vec<(usize, &PolicyFile, Piece)> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let (pieces, unfit) = scan::pieces(file);
        unfit.into_iter().for_each(|diagnostic| wrong.push(index, diagnostic));
        cut.extend(pieces.into_iter().map(|piece| (index, file, piece)));
    }
    if let Some((index, _, piece)) = cut.get(MAX_POLICIES) {
        let message = format!("there are {} policies, and at most {MAX_POLICIES} are read", cut.len());
        let found = wrong.at(*index, "too_many", message, piece.at.clone());
        wrong.push(*index, found.hint("give rights to groups, and use grants for single people"));
        return Vec::new();
    }
    let mut read = Vec::new();
    for (index, file, piece) in cut {
        let text = piece.text(&file.text);
        match Policy::parse(Some(PolicyId::new(read.len().to_string())), text) {
            Ok(policy) => read.push(Read { policy, piece, file: index }),
            Err(_) if wrong.is_full() => wrong.hidden += 1,
            Err(errors) => {
                for error in errors.iter() {
                    let at = label(error, &piece);
                    let inside = at.start.saturating_sub(piece.at.start)..at.end.saturating_sub(piece.at.start);
                    let (message, hint) = hint::of_syntax(error, inside, text);
                    let found = wrong.at(index, "syntax", message, at);
                    wrong.push(index, Diagnostic { hint, ..found });
                }
            }
        }
    }
    read
}

/// Where in the file the first label of a Cedar diagnostic is; the policy when it has none.
fn label(error: &dyn miette::Diagnostic, piece: &Piece) -> Range<usize> {
    let first = error.labels().and_then(|mut labels| labels.next());
    let Some(first) = first else { return piece.at.clone() };
    let start = piece.at.start + first.offset();
    start..(start + first.len()).min(piece.at.end.max(start))
}

fn validate(words: &Words, read: &[Read], wrong: &mut Wrong<'_>) {
    let mut set = PolicySet::new();
    for each in read {
        if let Err(error) = set.add(each.policy.clone()) {
            let found = wrong.at(each.file, "internal", error.to_string(), each.piece.at.clone());
            wrong.push(each.file, found);
        }
    }
    let result = Validator::new(words.schema.clone()).validate(&set, ValidationMode::Strict);
    let by_id: HashMap<&PolicyId, &Read> = read.iter().map(|each| (each.policy.id(), each)).collect();
    let mut failed: HashSet<&PolicyId> = HashSet::new();
    // Cedar tells of an attribute that the context lacks once for each action.
    let mut lacking: BTreeMap<(usize, usize, usize), (String, Vec<String>)> = BTreeMap::new();
    for error in result.validation_errors() {
        let Some(each) = by_id.get(error.policy_id()) else {
            wrong.push(0, Diagnostic::general("internal", error.to_string()));
            continue;
        };
        failed.insert(error.policy_id());
        let at = label(error, &each.piece);
        if let Some((attribute, action)) = hint::lacking(error) {
            let place = (each.file, at.start, at.end);
            lacking.entry(place).or_insert_with(|| (attribute, Vec::new())).1.push(action);
            continue;
        }
        let spot = wrong.files.get(each.file).and_then(|file| file.text.get(at.clone())).unwrap_or_default();
        let told = hint::of_error(error, spot, words);
        let found = wrong.at(each.file, told.code, told.message, at);
        wrong.push(each.file, Diagnostic { hint: told.hint, ..found });
    }
    for ((file, start, end), (attribute, actions)) in lacking {
        let told = hint::of_lacking(&attribute, actions);
        let found = wrong.at(file, told.code, told.message, start..end);
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
    for warning in result.validation_warnings() {
        let Some(each) = by_id.get(warning.policy_id()) else { continue };
        let told = hint::of_warning(warning);
        // What a policy with errors would do is not worth a doubt, nor is one doubt worth two.
        if told.code == "never_applies" && !failed.insert(warning.policy_id()) {
            continue;
        }
        let found = wrong.at(each.file, told.code, told.message, label(warning, &each.piece)).warning();
        wrong.push(each.file, Diagnostic { hint: told.hint, ..found });
    }
    for each in read {
        if hint::asks_for_groups_of_an_owner(&each.policy) {
            let message = "the groups of a device's owner are not known here".to_owned();
            let found = wrong.at(each.file, "owner_groups", message, each.piece.at.clone());
            wrong.push(each.file, found.hint("compare the owner with the principal: `context.device has owner && context.device.owner == principal`"));
        }
    }
}

fn name(read: &[Read], wrong: &mut Wrong<'_>) -> Vec<Parsed> {
    let mut seen: HashMap<PolicyName, String> = HashMap::new();
    let mut parsed = Vec::new();
    for each in read {
        if wrong.is_full() {
            wrong.hidden += 1;
            continue;
        }
        let Some(file) = wrong.files.get(each.file) else { continue };
        let (name, notes, mistakes) = annotation::read(&each.policy, &each.piece, file);
        mistakes.into_iter().for_each(|diagnostic| wrong.push(each.file, diagnostic));
        let Some(name) = name else { continue };
        let here = wrong.at(
            each.file,
            "duplicate_id",
            format!("another policy has the id `{name}`"),
            each.piece.annotation("id"),
        );
        if let Some(first) = seen.get(&name) {
            let hint = format!("the other one is at {first}; give each its own name");
            wrong.push(each.file, here.hint(hint));
            continue;
        }
        seen.insert(name.clone(), format!("{}:{}:{}", here.file, here.line, here.column));
        let policy = each.policy.new_id(PolicyId::new(name.as_str()));
        parsed.push(Parsed { name, policy, notes, file: each.file, at: each.piece.at.clone() });
    }
    parsed
}

/// The text of a parsed policy, shared.
pub(crate) fn text_of(files: &[PolicyFile], parsed: &Parsed) -> Arc<str> {
    files.get(parsed.file).and_then(|file| file.text.get(parsed.at.clone())).unwrap_or_default().into()
}
