//! The page of a demo app.

use axum::response::Html;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use vouchsafe_wire::token::AssertionClaims;

use super::Department;

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem; }
table { border-collapse: collapse; width: 100%; margin: 1.5rem 0; }
th, td { text-align: left; padding: .5rem .3rem; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.who { border-left: 4px solid #2a7d4f; padding: .4rem 1rem; background: color-mix(in srgb, #2a7d4f 10%, transparent); }
code { font-size: .9em; }
";

pub(super) fn overview(department: Department, claims: &AssertionClaims) -> Html<String> {
    let (title, lead) = match department {
        Department::Marketing => ("Campaigns", "What this year's campaigns cost."),
        Department::Finance => ("Ledger", "The company's books. Few people should ever see this page."),
    };
    let page: Markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · " (department.name()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (lead) }
                p.who {
                    "Hello " strong { (claims.sub) } ". "
                    @match &claims.device {
                        Some(device) => { "You are on device " code { (device) } " (" (claims.device_grade) " key)." }
                        None => { "Your device is not known." }
                    }
                    br;
                    "This app asked nobody to sign in: it read that in the signed assertion of this very request."
                }
                table {
                    thead { tr { th { "What" } th.number { "Euros" } } }
                    tbody {
                        @for figure in department.figures() {
                            tr { td { (figure.name) } td.number { (grouped(figure.euros)) } }
                        }
                    }
                }
                p { "The same as JSON: " a href="/api/figures" { "/api/figures" } }
            }
        }
    };
    Html(page.into_string())
}

/// Thousands set apart by a thin space.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    if number < 0 { format!("−{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(-412_900), "−412\u{2009}900");
        assert_eq!(grouped(1_000_000), "1\u{2009}000\u{2009}000");
        assert_eq!(grouped(7), "7");
    }
}
