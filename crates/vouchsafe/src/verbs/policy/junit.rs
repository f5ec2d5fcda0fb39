//! Results of tests as JUnit XML, the form that build servers read.

use vouchsafe_policy::{CaseResult, SuiteReport};

/// The document.
#[must_use]
pub(super) fn xml(report: &SuiteReport) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failed = report.failed().count();
    text.push_str(&format!(
        "<testsuites name=\"vouchsafe policy test\" tests=\"{}\" failures=\"{failed}\" errors=\"0\">\n",
        report.results.len()
    ));
    for results in report.results.chunk_by(|one, other| one.file == other.file) {
        let Some(file) = results.first().map(|first| &first.file) else { continue };
        let failed = results.iter().filter(|result| result.failure.is_some()).count();
        text.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\">\n",
            escaped(file),
            results.len()
        ));
        results.iter().for_each(|result| case(&mut text, result));
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn case(text: &mut String, result: &CaseResult) {
    let CaseResult { file, line, case, question, failure, explanation } = result;
    let name = escaped(&format!("{case}: {question}"));
    let file = escaped(file);
    text.push_str(&format!("    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{line}\""));
    let Some(failure) = failure else { return text.push_str("/>\n") };
    text.push_str(&format!(">\n      <failure type=\"policy\" message=\"{}\">", escaped(failure)));
    if let Some(explanation) = explanation {
        let decision = &explanation.decision;
        let mut lines = vec![format!("{} as {}: {}", decision.outcome, decision.reason, decision.words)];
        lines.extend(explanation.considered.iter().map(|policy| format!("{}: {}", policy.id, policy.verdict)));
        lines.extend(explanation.would_change.iter().map(|way| format!("would change it: {way}")));
        text.push_str(&escaped(&lines.join("\n")));
    }
    text.push_str("</failure>\n    </testcase>\n");
}

/// Text as content or as the value of an attribute. What XML has no way to write is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            // XML 1.0, section 2.2: of the control characters only these may stand in a document.
            '\t' | ' '..='\u{fffd}' | '\u{10000}'..='\u{10ffff}' => out.push(letter),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_failures_stand_where_build_servers_look() {
        let result = |file: &str, failure: Option<&str>| CaseResult {
            file: file.into(),
            line: 3,
            case: "a<b & \"c\"\u{1b}".into(),
            question: "ann on software → wiki, http:read".into(),
            failure: failure.map(str::to_owned),
            explanation: None,
        };
        let results =
            vec![result("tests/a.toml", None), result("tests/a.toml", Some("no")), result("tests/b.toml", None)];
        let xml = xml(&SuiteReport { ok: false, results, undecided: Vec::new() });
        for part in [
            "tests=\"3\" failures=\"1\"",
            "<testsuite name=\"tests/a.toml\" tests=\"2\" failures=\"1\"",
            "<testsuite name=\"tests/b.toml\" tests=\"1\" failures=\"0\"",
            "name=\"a&lt;b &amp; &quot;c&quot;\u{fffd}: ann on software → wiki, http:read\"",
            "<failure type=\"policy\" message=\"no\"></failure>",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }
}
