//! Invariants: what a policy must never allow, or must always allow.

use std::collections::BTreeSet;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use serde::Deserialize;
use vouchsafe_model::name::PolicyName;

/// Most bytes of a file.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Most invariants of all files.
const MAX_INVARIANTS: usize = 1_000;

/// What is known of every request, whatever a policy says: words that stand for grades of devices, ages and
/// times within any that a clock shows, and the one console. Without it a solver would find cases that there
/// can't be.
pub(crate) const KNOWN: &str = "
    [\"none\", \"software\", \"hardware\", \"hardware-attested\"].contains(context.device.grade) &&
    context.time >= datetime(\"1970-01-01\") && context.time <= datetime(\"9999-12-31T23:59:59Z\") &&
    context.auth.age >= 0 && context.auth.age <= 253402300799 &&
    resource.sensitivity >= 0 && resource.sensitivity <= 3 &&
    (if resource is Console
     then resource == Console::\"console\" && resource.sensitivity == 3 && resource.tags.isEmpty()
     else true)
";

/// Which way an invariant goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// What it describes is never allowed.
    Never,
    /// What it describes is always allowed.
    Always,
}

impl Claim {
    /// The word in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Claim::Never => "never",
            Claim::Always => "always",
        }
    }
}

/// One invariant, read.
#[derive(Debug, Clone)]
pub struct Invariant {
    /// Its name, unique over all files.
    pub name: PolicyName,
    /// Which way it goes.
    pub claim: Claim,
    /// Why, for people.
    pub reason: String,
    /// The file that it stands in.
    pub file: String,
    /// Line in the file, from 1.
    pub line: usize,
    /// What it is about, as one permit.
    pub(crate) about: PolicySet,
}

/// A mistake in a file of invariants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct InvariantError {
    /// The file.
    pub file: String,
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    invariants: Vec<toml::Spanned<Doc>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Doc {
    name: String,
    claim: Claim,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    principal: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    when: String,
}

/// Reads files of invariants, each a name and its text in TOML.
///
/// # Errors
/// Every mistake: TOML that can't be read, a member that isn't known, a name that stands twice, what
/// isn't Cedar, or reads what the schema doesn't have.
pub fn read<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<Vec<Invariant>, Vec<InvariantError>> {
    let mut reader = Reader { schema: schema(), names: BTreeSet::new(), found: Vec::new(), wrong: Vec::new() };
    for (name, text) in files {
        reader.file(name, text);
    }
    if reader.wrong.is_empty() { Ok(reader.found) } else { Err(reader.wrong) }
}

/// The schema as it is shipped; `None` never, which a test of the policy crate says.
pub(crate) fn schema() -> Option<Schema> {
    Schema::from_cedarschema_str(vouchsafe_policy::schema_text()).ok().map(|(schema, _)| schema)
}

struct Reader {
    schema: Option<Schema>,
    names: BTreeSet<PolicyName>,
    found: Vec<Invariant>,
    wrong: Vec<InvariantError>,
}

impl Reader {
    fn file(&mut self, file: &str, text: &str) {
        let mut wrong = |line: usize, message: String, hint: &str| {
            self.wrong.push(InvariantError { file: file.to_owned(), line, message, hint: hint.to_owned() });
        };
        if text.len() > MAX_FILE_BYTES {
            return wrong(1, format!("the file is larger than {MAX_FILE_BYTES} bytes"), "split it");
        }
        let docs = match toml::from_str::<File>(text) {
            Ok(file) => file.invariants,
            Err(error) => {
                let line = line_of(text, error.span().map_or(0, |span| span.start));
                let hint = "an invariant has name, claim (never or always), reason, principal, action, resource, when";
                return wrong(line, error.message().to_owned(), hint);
            }
        };
        for doc in docs {
            let line = line_of(text, doc.span().start);
            if self.found.len() >= MAX_INVARIANTS {
                let message = format!("there are more than {MAX_INVARIANTS} invariants");
                self.wrong.push(InvariantError { file: file.to_owned(), line, message, hint: "drop some".to_owned() });
                return;
            }
            match self.invariant(file, line, doc.into_inner()) {
                Ok(invariant) => self.found.push(invariant),
                Err((message, hint)) => {
                    self.wrong.push(InvariantError { file: file.to_owned(), line, message, hint });
                }
            }
        }
    }

    fn invariant(&mut self, file: &str, line: usize, doc: Doc) -> Result<Invariant, (String, String)> {
        let name = PolicyName::parse(&doc.name)
            .map_err(|error| (format!("`{}` is not a name", error.given), format!("it has {}", error.rule)))?;
        if !self.names.insert(name.clone()) {
            return Err((format!("there are two invariants `{name}`"), "give one of them another name".to_owned()));
        }
        let about = about(&name, &doc).map_err(|message| {
            let hint = "principal, action and resource are written as in a policy's scope, such as \
                        `in Group::\"contractors\"`, `== Action::\"http:write\"` or `is Http`; when is a condition";
            (message, hint.to_owned())
        })?;
        let schema = self.schema.clone().ok_or_else(|| ("the shipped schema is broken".to_owned(), String::new()))?;
        let found = Validator::new(schema).validate(&about, ValidationMode::Strict);
        if let Some(error) = found.validation_errors().next() {
            let hint = "`vouchsafe policy schema` prints every word; what only some actions have can be read only with \
                        an `action` or `resource` that names them";
            return Err((format!("`{name}`: {error}"), hint.to_owned()));
        }
        Ok(Invariant { name, claim: doc.claim, reason: doc.reason, file: file.to_owned(), line, about })
    }
}

/// What an invariant is about, as a permit.
fn about(name: &PolicyName, doc: &Doc) -> Result<PolicySet, String> {
    let Doc { principal, action, resource, when, .. } = doc;
    for part in [principal, action, resource] {
        if part.contains([';', '{', '}', '@']) {
            return Err(format!("`{name}`: `{part}` is no part of a scope"));
        }
    }
    // Lines of their own, since each may end in a comment.
    let when = if when.trim().is_empty() { String::new() } else { format!("when {{\n{when}\n}}") };
    let text = format!(
        "permit(\nprincipal {principal}\n,\naction {action}\n,\nresource {resource}\n)\n{when}\nwhen {{{KNOWN}}};"
    );
    let policy = Policy::parse(Some(PolicyId::new(name.as_str())), text)
        .map_err(|error| format!("`{name}` is not Cedar: {error}"))?;
    if vouchsafe_policy::reads_of_a_named_entity(&policy) {
        return Err(format!("`{name}` reads an attribute of an entity that it names, of which requests say nothing"));
    }
    PolicySet::from_policies([policy]).map_err(|error| format!("`{name}`: {error}"))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> InvariantError {
        read([("a.toml", text)]).expect_err("a mistake").remove(0)
    }

    #[test]
    fn an_invariant_is_read() {
        let text = concat!(
            "[[invariants]]\nname = \"a\"\nclaim = \"never\"\nreason = \"no\"\n",
            "principal = 'in Group::\"x\" // everyone'\nwhen = 'resource.tags.contains(\"finance\")'\n\n",
            "[[invariants]]\nname = \"b\"\nclaim = \"always\"\naction = '== Action::\"console:read\"'\nresource = 'is Console'\n",
        );
        let all = read([("a.toml", text)]).expect("invariants");
        let told: Vec<_> = all.iter().map(|each| (each.name.as_str(), each.claim, each.line)).collect();
        assert_eq!(told, [("a", Claim::Never, 1), ("b", Claim::Always, 8)]);
    }

    #[test]
    fn mistakes_have_their_place_and_a_hint() {
        let invariant = |more: &str| format!("\n[[invariants]]\nname = \"a\"\nclaim = \"never\"\n{more}\n");
        for (text, part, line) in [
            ("[[invariants]\n".to_owned(), "]", 1),
            (invariant("whenn = 'true'"), "unknown field", 5),
            ("[[invariants]]\nname = \"a\"\nclaim = \"sometimes\"\n".to_owned(), "unknown variant", 3),
            (invariant("when = 'principal.salary > 3'"), "salary", 2),
            (invariant("when = 'context.request.port == 22'"), "port", 2),
            (invariant("when = 'User::\"bob\" has name'"), "entity that it names", 2),
            (invariant("principal = 'in Group::\"x\"); permit(principal'"), "no part of a scope", 2),
            (invariant("when = 'true }; permit(principal, action, resource) when { true'"), "not Cedar", 2),
            (invariant("") + &invariant(""), "two invariants", 7),
        ] {
            let error = wrong(&text);
            assert!(error.message.contains(part), "{text}: {error:?}");
            assert_eq!(error.line, line, "{text}: {error:?}");
            assert!(!error.hint.is_empty());
        }
    }
}
