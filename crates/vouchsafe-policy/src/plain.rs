//! Policies as Cedar alone would have to read them, for tools that know nothing of the engine.
//!
//! The engine adds to Cedar that a permit counts only with a proven device, unless it says otherwise
//! (I4), and that permits expire. The first is written out here; the second is told beside the text.

use std::time::SystemTime;

use vouchsafe_model::name::PolicyName;

use crate::annotation::Effect;
use crate::check::{self, Kind, Source};
use crate::diagnostic::{Diagnostic, Severity};
use crate::evaluator::Expression;
use crate::schema::Words;
use crate::source::PolicyFile;
use crate::spread::Spread;

/// What a proven device is, in Cedar.
const PROVEN: &str = "when { context.device.grade != \"none\" }";

/// One policy as plain Cedar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainPolicy {
    /// Its `@id`.
    pub name: PolicyName,
    /// Whether it allows or forbids.
    pub effect: Effect,
    /// Exactly one policy. Where the engine wants a proven device, it says so itself.
    pub text: String,
    /// From when on it doesn't permit any more. Never told of a forbid, which stays.
    pub expires: Option<SystemTime>,
    /// Whether it computes with numbers or times, which is the one way in which a policy that fits the schema can
    /// fail: by an overflow.
    pub computes: bool,
    /// The file that it stands in.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u32,
}

/// Reads policy files, and writes out what the engine adds to each policy. Templates aren't among them: like built-in
/// grants, what is made from them is an exception, and beyond what is proven.
///
/// # Errors
/// Every mistake, when there is one that is an [error](Severity::Error).
pub fn plain(files: &[PolicyFile], spread: Spread<'_>) -> Result<Vec<PlainPolicy>, Vec<Diagnostic>> {
    let words = Words::get().map_err(|broken| vec![*broken])?;
    let (parsed, diagnostics) = check::inspect(words, files, &[], spread);
    if diagnostics.iter().any(|found| found.severity == Severity::Error) {
        return Err(diagnostics);
    }
    let mut all = Vec::with_capacity(parsed.len());
    for policy in parsed {
        let (Source::Fresh(meaning), Some(file)) = (policy.source, files.get(policy.file)) else { continue };
        if meaning.kind == Kind::Template {
            continue;
        }
        let text = file.text.get(policy.at.clone()).unwrap_or_default().trim_end();
        let text = match (meaning.needs_device(), text.strip_suffix(';')) {
            // On a line of its own, since a comment may stand before it.
            (true, Some(open)) => format!("{open}\n{PROVEN};"),
            (false, _) => text.to_owned(),
            (true, None) => {
                let message = format!("the policy `{}` does not end with `;`", policy.name);
                return Err(vec![Diagnostic::at("syntax", message, &file.name, &file.text, policy.at)]);
            }
        };
        let line = Diagnostic::at("place", String::new(), &file.name, &file.text, policy.at.clone()).line;
        let expires = meaning.notes.expires.filter(|_| meaning.effect == Effect::Permit);
        all.push(PlainPolicy {
            name: policy.name,
            effect: meaning.effect,
            computes: meaning.expression.as_ref().is_some_and(Expression::computes),
            text,
            expires,
            file: file.name.clone(),
            line,
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;
    use crate::spread::in_turn;

    fn of(text: &str) -> Vec<PlainPolicy> {
        plain(&[PolicyFile { name: "a.cedar".into(), text: text.into() }], &in_turn).expect("policies")
    }

    #[test]
    fn a_permit_says_itself_that_it_wants_a_proven_device() {
        let all = of(concat!(
            "@id(\"wants\") permit(principal, action, resource is Http) when { context.auth.age < 60 } // really\n;\n",
            "@id(\"open\") @device(\"none\") permit(principal, action, resource is Http);\n",
            "@id(\"shut\") forbid(principal, action, resource is Http);\n",
            "@id(\"ends\") @expires(\"2027-01-01T00:00:00Z\") permit(principal, action, resource is Http);",
        ));
        let wants: Vec<bool> = all.iter().map(|policy| policy.text.contains(PROVEN)).collect();
        assert_eq!(wants, [true, false, false, true]);
        assert_eq!(all.iter().map(|policy| policy.line).collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!(all.iter().filter(|policy| policy.expires.is_some()).count(), 1);
        for policy in &all {
            let read = Policy::parse(None, &policy.text).expect("one policy of Cedar's");
            assert_eq!(Effect::from(read.effect()), policy.effect);
        }
    }

    #[test]
    fn what_computes_is_known_from_what_only_looks_like_it() {
        for (condition, wanted) in [
            ("context.auth.age < 60", false),
            ("context.auth.age > -1 && context.request.path like \"/a-b/*\" // 1 + 1", false),
            ("context.auth.age + 1 > 60", true),
            ("60 - context.auth.age > 1", true),
            ("-context.auth.age < 1", true),
            ("resource.tags.contains(\"x\") || 3 * resource.sensitivity == 3", true),
            ("context.time.toTime() > duration(\"9h\")", false),
            ("context.time.offset(duration(\"1h\")) > datetime(\"2027-01-01\")", true),
            ("context.time.durationSince(datetime(\"2027-01-01\")) > duration(\"1h\")", true),
            ("context.time.toDate() > datetime(\"2027-01-01\")", true),
        ] {
            let text = format!("@id(\"a\") permit(principal, action, resource is Http) when {{ {condition} \n}};");
            assert_eq!(of(&text)[0].computes, wanted, "{condition}");
        }
    }

    #[test]
    fn mistakes_are_told_and_nothing_is_read() {
        let file = PolicyFile { name: "a.cedar".into(), text: "permit(principal, action, resource);".into() };
        assert_eq!(plain(&[file], &in_turn).expect_err("no id")[0].code, "missing_id");
    }
}
