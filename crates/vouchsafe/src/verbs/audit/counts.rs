//! Counts as tables with bars.

use vouchsafe_wire::api::{CountedBy, Counts, OutcomeCounts};

use crate::output::{Cell, Output, Style, Table};
use crate::text;

/// Longest bar, columns.
const BAR: usize = 30;

/// Shows what was counted.
pub(super) fn show(out: &Output, counts: &Counts, by: Option<CountedBy>) -> std::io::Result<()> {
    let Counts { total, over_time, top, others, without } = counts;
    if !over_time.is_empty() {
        let most = over_time.iter().map(|piece| piece.counts.records).max().unwrap_or_default();
        let mut table = Table::new(&["from", "records", "allow", "deny", "passed", "ok", "failed", ""]);
        for piece in over_time {
            let bar = bar(out, piece.counts.records, most);
            table.row(row(Cell::from(text::moment(piece.at)), piece.counts, bar));
        }
        table.row(row(Cell::new(Style::Bold, "in all"), *total, String::new()));
        return out.table(&table);
    }
    let Some(by) = by else {
        let mut table = Table::new(&["records", "allow", "deny", "passed", "ok", "failed"]);
        table.row(numbers(*total));
        return out.table(&table);
    };
    let mut rows: Vec<(Cell, u64)> =
        top.iter().map(|value| (Cell::new(Style::Bold, &value.value), value.records)).collect();
    let rest = [("other values", *others), ("without one", *without)];
    rows.extend(
        rest.into_iter()
            .filter(|(_, records)| *records > 0)
            .map(|(name, records)| (Cell::new(Style::Dim, name), records)),
    );
    let most = rows.iter().map(|(_, records)| *records).max().unwrap_or_default();
    let mut table = Table::new(&[by.as_str(), "records", ""]);
    for (value, records) in rows {
        table.row([value, Cell::from(records.to_string()), Cell::new(Style::Accent, bar(out, records, most))]);
    }
    table.row([Cell::new(Style::Bold, "in all"), Cell::from(total.records.to_string()), Cell::from("")]);
    out.table(&table)
}

fn row(first: Cell, counts: OutcomeCounts, bar: String) -> Vec<Cell> {
    let mut cells = vec![first];
    cells.extend(numbers(counts));
    cells.push(Cell::new(Style::Accent, bar));
    cells
}

fn numbers(counts: OutcomeCounts) -> Vec<Cell> {
    let OutcomeCounts { records, allow, deny, passed, ok, failed } = counts;
    let number =
        |style: Style, number: u64| Cell::new(if number == 0 { Style::Dim } else { style }, number.to_string());
    vec![
        number(Style::Plain, records),
        number(Style::Good, allow),
        number(Style::Bad, deny),
        number(Style::Warn, passed),
        number(Style::Plain, ok),
        number(Style::Bad, failed),
    ]
}

/// A bar, where a person looks at it.
pub(super) fn bar(out: &Output, records: u64, most: u64) -> String {
    if !out.is_terminal() || records == 0 {
        return String::new();
    }
    let most = most.max(1);
    let length = u128::from(records) * BAR as u128 / u128::from(most);
    "▇".repeat(usize::try_from(length).unwrap_or(BAR).max(1))
}
