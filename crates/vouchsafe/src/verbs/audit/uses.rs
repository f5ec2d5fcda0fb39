//! Who used what, as a table with bars.

use vouchsafe_wire::api::Uses;

use super::counts::bar;
use crate::output::{Cell, Output, Style, Table};
use crate::text;

/// Shows it.
pub(super) fn show(out: &Output, told: &Uses) -> std::io::Result<()> {
    let Uses { uses, others, whole } = told;
    if uses.is_empty() {
        out.note(&out.paint_error(Style::Dim, "nobody used anything"));
        return Ok(());
    }
    let most = uses.iter().map(|used| used.count).max().unwrap_or_default();
    let mut table = Table::new(&["user", "resource", "uses", "passed", "last", ""]);
    for used in uses {
        let passed = if used.passed == 0 { Style::Dim } else { Style::Warn };
        table.row([
            Cell::new(Style::Bold, &used.user),
            Cell::from(used.resource.as_str()),
            Cell::from(used.count.to_string()),
            Cell::new(passed, used.passed.to_string()),
            Cell::from(text::moment(used.last)),
            Cell::new(Style::Accent, bar(out, used.count, most)),
        ]);
    }
    out.table(&table)?;
    if *others > 0 {
        out.note(&out.paint_error(Style::Dim, &format!("and {others} more; `--limit` shows up to 1,000")));
    }
    if !whole {
        out.note(&out.paint_error(Style::Warn, "some are left out: ask for one user, device or resource"));
    }
    Ok(())
}
