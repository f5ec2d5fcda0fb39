//! Finds the mistakes of policy files, all at once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use cedar_policy::{ParseErrors, PolicyId, PolicySet};
use vouchsafe_model::name::PolicyName;

use crate::annotation::{self, DeviceNeed, Effect, Notes};
use crate::diagnostic::Diagnostic;
use crate::engine::{Body, Engine, Entry};
use crate::evaluator::Expression;
use crate::index::{Number, Scope};
use crate::scan::{self, Piece};
use crate::schema::Words;
use crate::source::PolicyFile;
use crate::spread::{self, Spread};
use crate::tree::Tree;

mod hint;
mod validate;

/// Most policies of all files together.
const MAX_POLICIES: usize = 20_000;
/// Most templates of all files together: people choose among them.
const MAX_TEMPLATES: usize = 200;
/// Most mistakes that are shown. That there are more is an error itself.
const MAX_MISTAKES: usize = 1_000;
/// Policies that Cedar reads at once: it makes the tables of its lexer anew for each text, which takes
/// several times as long as to read a policy.
const READ_AT_ONCE: usize = 64;

/// Checks policy files: syntax, strict validation against the schema, and annotations.
///
/// Every mistake is told, in the order of files and lines. Policies without an
/// [error](crate::Severity::Error) can be compiled.
#[must_use]
pub fn check(files: &[PolicyFile]) -> Vec<Diagnostic> {
    check_spread(files, None, &spread::in_turn)
}

/// [`check`], with the work on many policies spread over the cores that the caller has. What stands
/// in an engine already is not read again; that changes nothing in what is told.
#[must_use]
pub fn check_spread(files: &[PolicyFile], former: Option<&Engine>, spread: Spread<'_>) -> Vec<Diagnostic> {
    match Words::get() {
        Ok(words) => inspect(words, files, former.map_or(&[], Engine::files), spread).1,
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
    Fresh(Box<Meaning>),
}

/// What was read of a policy.
pub(crate) struct Meaning {
    pub(crate) kind: Kind,
    pub(crate) effect: Effect,
    pub(crate) scope: Scope,
    pub(crate) notes: Notes,
    pub(crate) expression: Option<Expression>,
}

/// What stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Policy,
    /// It decides nothing until a grant is made from it.
    Template,
}

impl Meaning {
    /// Whether it counts only with a proven device (I4).
    pub(crate) fn needs_device(&self) -> bool {
        self.effect == Effect::Permit && self.notes.device == DeviceNeed::Enrolled
    }
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
    Fresh(Box<Fresh>),
}

/// A policy as Cedar parsed it, under its place among all as its id. The places that Cedar tells of it
/// are those in a text that was read at once with others.
struct Fresh {
    policy: Tree,
    piece: Piece,
    scope: Scope,
    expression: Option<Expression>,
}

impl Read {
    fn fresh(&self) -> Option<&Fresh> {
        match &self.body {
            ReadBody::Kept(..) => None,
            ReadBody::Fresh(fresh) => Some(fresh),
        }
    }

    fn is_template(&self) -> bool {
        match &self.body {
            ReadBody::Kept(_, entry) => matches!(entry.body, Body::Template),
            ReadBody::Fresh(fresh) => matches!(fresh.policy, Tree::Template(_)),
        }
    }
}

/// Reads all files; the policies are of use only when no diagnostic is an error.
pub(crate) fn inspect(
    words: &Words,
    files: &[PolicyFile],
    former: &[Former],
    spread: Spread<'_>,
) -> (Vec<Parsed>, Vec<Diagnostic>) {
    let mut wrong = Wrong::new(files);
    wrong.same_file_names();
    let read = parse(words, files, former, spread, &mut wrong);
    if let Some(beyond) = read.iter().filter(|each| each.is_template()).nth(MAX_TEMPLATES) {
        let message = format!("there are more than {MAX_TEMPLATES} templates");
        let found = wrong.at(beyond.file, "too_many", message, beyond.at.clone());
        wrong.push(beyond.file, found.hint("a grant says for whom and to what, so one template does for many"));
    }
    validate::validate(words, &read, spread, &mut wrong);
    let parsed = name(read, spread, &mut wrong);
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

fn parse(
    words: &Words,
    files: &[PolicyFile],
    former: &[Former],
    spread: Spread<'_>,
    wrong: &mut Wrong<'_>,
) -> Vec<Read> {
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
    let mut kept: Vec<Option<Read>> = Vec::with_capacity(cut.len());
    let mut pieces: Vec<(usize, usize, Piece)> = Vec::new();
    for (number, (file, each)) in cut.into_iter().enumerate() {
        kept.push(match each {
            Cut::Kept(at, number, entry) => Some(Read { file, at, body: ReadBody::Kept(number, Arc::clone(entry)) }),
            Cut::Piece(piece) => {
                pieces.push((number, file, piece));
                None
            }
        });
    }
    let mut pieces = pieces.into_iter();
    let mut some = Vec::new();
    while pieces.len() > 0 {
        some.push(pieces.by_ref().take(READ_AT_ONCE).collect());
    }
    let parsed = spread::map(spread, some, |some| parse_some(words, files, some));
    let Some(parsed) = parsed else {
        wrong.push(0, Diagnostic::general("internal", "not every policy was read".to_owned()));
        return Vec::new();
    };
    let mut parsed = parsed.into_iter().flatten();
    let mut read = Vec::with_capacity(kept.len());
    for each in kept {
        match each.map(Ok).or_else(|| parsed.next().map(Err)) {
            Some(Ok(kept)) => read.push(kept),
            Some(Err((file, Ok(fresh)))) => {
                read.push(Read { file, at: fresh.piece.at.clone(), body: ReadBody::Fresh(fresh) });
            }
            Some(Err((file, Err(unread)))) => tell_syntax(file, *unread, wrong),
            None => {}
        }
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

/// A policy that Cedar refuses to read.
struct Unread {
    piece: Piece,
    errors: Box<ParseErrors>,
}

/// What became of one policy, with the index of its file.
type Outcome = (usize, Result<Box<Fresh>, Box<Unread>>);

fn parse_some(words: &Words, files: &[PolicyFile], some: Vec<(usize, usize, Piece)>) -> Vec<Outcome> {
    let text = |file: usize, piece: &Piece| files.get(file).map_or("", |file| piece.text(&file.text));
    let texts: Vec<&str> = some.iter().map(|(_, file, piece)| text(*file, piece)).collect();
    let mut together = read_together(&texts).unwrap_or_default().into_iter();
    let each = |((number, file, piece), text): ((usize, usize, Piece), &str)| {
        let id = PolicyId::new(number.to_string());
        let policy = match together.next() {
            Some(policy) => Ok(policy.new_id(id)),
            None => Tree::parse(Some(id), text),
        };
        let read = match policy {
            Ok(policy) => {
                let (scope, expression) = (Scope::of(&policy, words), policy.expression());
                Ok(Box::new(Fresh { policy, piece, scope, expression }))
            }
            Err(errors) => Err(Box::new(Unread { piece, errors })),
        };
        (file, read)
    };
    some.into_iter().zip(texts).map(each).collect()
}

/// The policies of these texts, read as one text. `None` unless they are the policies that Cedar finds
/// in it, to the letter.
fn read_together(texts: &[&str]) -> Option<Vec<Tree>> {
    let set: PolicySet = texts.join("\n").parse().ok()?;
    let read = |(at, text): (usize, &&str)| {
        let policy = Tree::of_set(&set, &PolicyId::new(format!("policy{at}")))?;
        (policy.text() == **text).then_some(policy)
    };
    let all: Vec<Tree> = texts.iter().enumerate().map(read).collect::<Option<_>>()?;
    (set.policies().count() + set.templates().count() == all.len()).then_some(all)
}

fn tell_syntax(index: usize, Unread { piece, errors }: Unread, wrong: &mut Wrong<'_>) {
    if wrong.is_full() {
        wrong.hidden += 1;
        return;
    }
    let files = wrong.files;
    let text = files.get(index).map_or("", |file| piece.text(&file.text));
    for error in errors.iter() {
        let at = label(error, &piece);
        let inside = at.start.saturating_sub(piece.at.start)..at.end.saturating_sub(piece.at.start);
        let (message, hint) = hint::of_syntax(error, inside, text);
        let found = wrong.at(index, "syntax", message, at);
        wrong.push(index, Diagnostic { hint, ..found });
    }
}

/// Where in the file the first label of a Cedar diagnostic is; the policy when it has none.
fn label(error: &dyn miette::Diagnostic, piece: &Piece) -> Range<usize> {
    let first = error.labels().and_then(|mut labels| labels.next());
    let Some(first) = first else { return piece.at.clone() };
    let start = piece.at.start + first.offset();
    start..(start + first.len()).min(piece.at.end.max(start))
}

fn name(read: Vec<Read>, spread: Spread<'_>, wrong: &mut Wrong<'_>) -> Vec<Parsed> {
    let mut seen: HashMap<PolicyName, (usize, usize)> = HashMap::with_capacity(read.len());
    let mut parsed = Vec::with_capacity(read.len());
    let mut trees: Vec<Tree> = Vec::new();
    for each in read {
        if wrong.is_full() {
            wrong.hidden += 1;
            continue;
        }
        let Some(file) = wrong.files.get(each.file) else { continue };
        let (name, id_at, source) = match each.body {
            ReadBody::Kept(number, entry) => (entry.name.clone(), each.at.clone(), Source::Kept(number)),
            ReadBody::Fresh(fresh) => {
                let Fresh { policy, piece, scope, expression } = *fresh;
                let (name, notes, mistakes) = annotation::read(&policy, &piece, file);
                mistakes.into_iter().for_each(|diagnostic| wrong.push(each.file, diagnostic));
                let Some(name) = name else { continue };
                let kind = match policy {
                    Tree::Policy(_) => Kind::Policy,
                    Tree::Template(_) => Kind::Template,
                };
                let meaning = Meaning { kind, effect: policy.effect(), scope, notes, expression };
                trees.push(policy);
                (name, piece.annotation("id"), Source::Fresh(Box::new(meaning)))
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
    // To free thousands of trees takes as long as to make some.
    let _freed = spread::map(spread, trees, drop);
    parsed
}
