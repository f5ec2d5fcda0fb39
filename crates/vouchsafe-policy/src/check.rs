//! Finds the mistakes of policy files, all at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode};
use vouchsafe_model::name::PolicyName;

use crate::annotation::{self, Notes};
use crate::diagnostic::Diagnostic;
use crate::engine::Entry;
use crate::index::Number;
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
        Ok(words) => inspect(words, files, &[]).1,
        Err(broken) => vec![*broken],
    }
}

/// A policy that was read, from a file that may have mistakes elsewhere.
pub(crate) struct Parsed {
    pub(crate) name: PolicyName,
    pub(crate) source: Source,
    /// Index of its file.
    pub(crate) file: usize,
    pub(crate) at: Range<usize>,
}

/// Whether a policy had to be read.
pub(crate) enum Source {
    /// It stands as it stood, in a file of the same name, and there was nothing to say of it.
    Kept(Number),
    /// Under the id that is its name.
    Fresh(Box<Policy>, Notes),
}

/// A file as it was read before, whose policies needn't be read again where they stand unchanged.
pub(crate) struct Former {
    pub(crate) file: PolicyFile,
    /// The policies that there was nothing to say of, in order.
    pub(crate) policies: Vec<(Range<usize>, Number, Arc<Entry>)>,
    /// Whether those are all.
    pub(crate) whole: bool,
}

/// One policy of a file.
struct Read {
    file: usize,
    at: Range<usize>,
    body: ReadBody,
}

enum ReadBody {
    Kept(Number, Arc<Entry>),
    Fresh(Box<Policy>, Piece),
}

impl Read {
    fn fresh(&self) -> Option<(&Policy, &Piece)> {
        match &self.body {
            ReadBody::Kept(..) => None,
            ReadBody::Fresh(policy, piece) => Some((policy, piece)),
        }
    }
}

/// Reads all files; the policies are of use only when no diagnostic is an error.
pub(crate) fn inspect(words: &Words, files: &[PolicyFile], former: &[Former]) -> (Vec<Parsed>, Vec<Diagnostic>) {
    let mut wrong = Wrong::new(files);
    wrong.same_file_names();
    let read = parse(files, former, &mut wrong);
    validate(words, &read, &mut wrong);
    let parsed = name(read, &mut wrong);
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

fn parse(files: &[PolicyFile], former: &[Former], wrong: &mut Wrong<'_>) -> Vec<Read> {
    let mut cut: Vec<(usize, Cut<'_>)> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let known = former.iter().find(|known| known.file.name == file.name);
        cut_file(file, known, |mistake| wrong.push(index, mistake), |each| cut.push((index, each)));
    }
    if let Some((index, beyond)) = cut.get(MAX_POLICIES) {
        let message = format!("there are {} policies, and at most {MAX_POLICIES} are read", cut.len());
        let found = wrong.at(*index, "too_many", message, beyond.at());
        wrong.push(*index, found.hint("give rights to groups, and use grants for single people"));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(cut.len());
    for (index, each) in cut {
        let (at, body) = match each {
            Cut::Kept(at, number, entry) => (at, Some(ReadBody::Kept(number, Arc::clone(entry)))),
            Cut::Piece(piece) => (piece.at.clone(), parse_piece(index, piece, read.len(), wrong)),
        };
        read.extend(body.map(|body| Read { file: index, at, body }));
    }
    read
}

/// A policy as a file was cut, before anything is parsed.
enum Cut<'f> {
    Kept(Range<usize>, Number, &'f Arc<Entry>),
    Piece(Piece),
}

impl Cut<'_> {
    fn at(&self) -> Range<usize> {
        match self {
            Cut::Kept(at, ..) => at.clone(),
            Cut::Piece(piece) => piece.at.clone(),
        }
    }
}

/// Cuts a file, with what stands in it as it stood in `known` left whole.
fn cut_file<'f>(
    file: &PolicyFile,
    known: Option<&'f Former>,
    wrong: impl FnMut(Diagnostic),
    mut cut: impl FnMut(Cut<'f>),
) {
    if let Some(known) = known.filter(|known| known.whole && known.file.text == file.text) {
        known.policies.iter().for_each(|(at, number, entry)| cut(Cut::Kept(at.clone(), *number, entry)));
        return;
    }
    let policies = known.into_iter().flat_map(|known| &known.policies);
    let mut by_text: HashMap<&str, (Number, &Arc<Entry>)> =
        policies.map(|(_, number, entry)| (entry.text.as_ref(), (*number, entry))).collect();
    let (pieces, unfit) = scan::pieces(file);
    unfit.into_iter().for_each(wrong);
    for piece in pieces {
        // Removed, so that a policy that now stands there twice is read, and found to be double.
        match by_text.remove(piece.text(&file.text)) {
            Some((number, entry)) => cut(Cut::Kept(piece.at, number, entry)),
            None => cut(Cut::Piece(piece)),
        }
    }
}

fn parse_piece(index: usize, piece: Piece, number: usize, wrong: &mut Wrong<'_>) -> Option<ReadBody> {
    let files = wrong.files;
    let text = files.get(index).map_or("", |file| piece.text(&file.text));
    match Policy::parse(Some(PolicyId::new(number.to_string())), text) {
        Ok(policy) => return Some(ReadBody::Fresh(Box::new(policy), piece)),
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
    None
}

/// Where in the file the first label of a Cedar diagnostic is; the policy when it has none.
fn label(error: &dyn miette::Diagnostic, piece: &Piece) -> Range<usize> {
    let first = error.labels().and_then(|mut labels| labels.next());
    let Some(first) = first else { return piece.at.clone() };
    let start = piece.at.start + first.offset();
    start..(start + first.len()).min(piece.at.end.max(start))
}

fn validate(words: &Words, read: &[Read], wrong: &mut Wrong<'_>) {
    let fresh = || read.iter().filter_map(|each| Some((each.file, each.fresh()?)));
    let mut set = PolicySet::new();
    for (file, (policy, piece)) in fresh() {
        if let Err(error) = set.add(policy.clone()) {
            let found = wrong.at(file, "internal", error.to_string(), piece.at.clone());
            wrong.push(file, found);
        }
    }
    let result = words.validator.validate(&set, ValidationMode::Strict);
    let by_id: HashMap<&PolicyId, (usize, &Piece)> =
        fresh().map(|(file, (policy, piece))| (policy.id(), (file, piece))).collect();
    let mut failed: HashSet<&PolicyId> = HashSet::new();
    // Cedar tells of an attribute that the context lacks once for each action.
    let mut lacking: BTreeMap<(usize, usize, usize), (String, Vec<String>)> = BTreeMap::new();
    for error in result.validation_errors() {
        let Some((file, piece)) = by_id.get(error.policy_id()).copied() else {
            wrong.push(0, Diagnostic::general("internal", error.to_string()));
            continue;
        };
        failed.insert(error.policy_id());
        let at = label(error, piece);
        if let Some((attribute, action)) = hint::lacking(error) {
            let place = (file, at.start, at.end);
            lacking.entry(place).or_insert_with(|| (attribute, Vec::new())).1.push(action);
            continue;
        }
        let spot = wrong.files.get(file).and_then(|file| file.text.get(at.clone())).unwrap_or_default();
        let told = hint::of_error(error, spot, words);
        let found = wrong.at(file, told.code, told.message, at);
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
    for ((file, start, end), (attribute, actions)) in lacking {
        let told = hint::of_lacking(&attribute, actions);
        let found = wrong.at(file, told.code, told.message, start..end);
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
    for warning in result.validation_warnings() {
        let Some((file, piece)) = by_id.get(warning.policy_id()).copied() else { continue };
        let told = hint::of_warning(warning);
        // What a policy with errors would do is not worth a doubt, nor is one doubt worth two.
        if told.code == "never_applies" && !failed.insert(warning.policy_id()) {
            continue;
        }
        let found = wrong.at(file, told.code, told.message, label(warning, piece)).warning();
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
    for (file, (policy, piece)) in fresh() {
        let text = wrong.files.get(file).map_or("", |file| piece.text(&file.text));
        if hint::asks_for_groups_of_an_owner(policy, text) {
            let message = "the groups of a device's owner are not known here".to_owned();
            let found = wrong.at(file, "owner_groups", message, piece.at.clone());
            wrong.push(file, found.hint("compare the owner with the principal: `context.device has owner && context.device.owner == principal`"));
        }
    }
}

fn name(read: Vec<Read>, wrong: &mut Wrong<'_>) -> Vec<Parsed> {
    let mut seen: HashMap<PolicyName, (usize, usize)> = HashMap::with_capacity(read.len());
    let mut parsed = Vec::with_capacity(read.len());
    for each in read {
        if wrong.is_full() {
            wrong.hidden += 1;
            continue;
        }
        let Some(file) = wrong.files.get(each.file) else { continue };
        let (name, id_at, source) = match each.body {
            ReadBody::Kept(number, entry) => (entry.name.clone(), each.at.clone(), Source::Kept(number)),
            ReadBody::Fresh(policy, piece) => {
                let (name, notes, mistakes) = annotation::read(&policy, &piece, file);
                mistakes.into_iter().for_each(|diagnostic| wrong.push(each.file, diagnostic));
                let Some(name) = name else { continue };
                let policy = Box::new(policy.new_id(PolicyId::new(name.as_str())));
                (name, piece.annotation("id"), Source::Fresh(policy, notes))
            }
        };
        if let Some((first_file, first_at)) = seen.get(&name) {
            let message = format!("another policy has the id `{name}`");
            let here = wrong.at(each.file, "duplicate_id", message, id_at);
            let first = wrong.at(*first_file, "", String::new(), *first_at..*first_at);
            let hint =
                format!("the other one is at {}:{}:{}; give each its own name", first.file, first.line, first.column);
            wrong.push(each.file, here.hint(hint));
            continue;
        }
        seen.insert(name.clone(), (each.file, id_at.start));
        parsed.push(Parsed { name, source, file: each.file, at: each.at });
    }
    parsed
}
