//! What is different between two texts, line by line.

/// A line, and in which of the texts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'t> {
    Both(&'t str),
    Old(&'t str),
    New(&'t str),
}

/// Most pairs of lines that are compared; beyond that all lines of one text are told before those of the other.
const MAX_PAIRS: usize = 4_000_000;

/// The lines of both texts in an order in which those that are in both stand once.
pub(super) fn compared<'t>(old: &'t str, new: &'t str) -> Vec<Line<'t>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let (old_rest, new_rest) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(one, other)| one == other).count();
    let old_middle = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let new_middle = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let mut lines: Vec<Line<'t>> = old.iter().take(head).map(|line| Line::Both(line)).collect();
    middle(old_middle, new_middle, &mut lines);
    lines.extend(old_rest.iter().skip(old_middle.len()).map(|line| Line::Both(line)));
    lines
}

/// By the longest common subsequence.
fn middle<'t>(old: &[&'t str], new: &[&'t str], lines: &mut Vec<Line<'t>>) {
    let width = new.len() + 1;
    if old.len().saturating_mul(width) > MAX_PAIRS {
        lines.extend(old.iter().map(|line| Line::Old(line)));
        lines.extend(new.iter().map(|line| Line::New(line)));
        return;
    }
    // How many lines the rests have in common, from the end.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    let get = |common: &[u32], place: usize| common.get(place).copied().unwrap_or_default();
    for (row, one) in old.iter().enumerate().rev() {
        for (column, other) in new.iter().enumerate().rev() {
            let value = if one == other {
                get(&common, at(row + 1, column + 1)) + 1
            } else {
                get(&common, at(row + 1, column)).max(get(&common, at(row, column + 1)))
            };
            if let Some(place) = common.get_mut(at(row, column)) {
                *place = value;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    loop {
        match (old.get(row), new.get(column)) {
            (Some(one), Some(other)) if one == other => {
                lines.push(Line::Both(one));
                (row, column) = (row + 1, column + 1);
            }
            (Some(one), other)
                if other.is_none() || get(&common, at(row + 1, column)) >= get(&common, at(row, column + 1)) =>
            {
                lines.push(Line::Old(one));
                row += 1;
            }
            (_, Some(other)) => {
                lines.push(Line::New(other));
                column += 1;
            }
            (Some(one), None) => {
                lines.push(Line::Old(one));
                row += 1;
            }
            (None, None) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(old: &str, new: &str) -> String {
        let sign = |line: &Line<'_>| match line {
            Line::Both(text) => format!(" {text}"),
            Line::Old(text) => format!("-{text}"),
            Line::New(text) => format!("+{text}"),
        };
        compared(old, new).iter().map(sign).collect::<Vec<_>>().join("")
    }

    #[test]
    fn lines_that_stay_are_told_once() {
        assert_eq!(told("a\nb\nc\n", "a\nx\nc\n"), " a-b+x c");
        assert_eq!(told("", "a\nb\n"), "+a+b");
        assert_eq!(told("a\nb\n", ""), "-a-b");
        assert_eq!(told("a\nb\nc\nd\n", "b\nd\ne\n"), "-a b-c d+e");
        assert_eq!(told("same\n", "same\n"), " same");
    }

    #[test]
    fn each_text_can_be_read_out_of_the_comparison() {
        let old: String = (0..200).map(|number| format!("{}\n", number * 7 % 31)).collect();
        let new: String = (0..180).map(|number| format!("{}\n", number * 11 % 29)).collect();
        let found = compared(&old, &new);
        let pick = |which: fn(&Line<'_>) -> bool| -> String {
            let text = |line: &Line<'_>| match line {
                Line::Both(text) | Line::Old(text) | Line::New(text) => format!("{text}\n"),
            };
            found.iter().filter(|line| which(line)).map(text).collect()
        };
        assert_eq!(pick(|line| !matches!(line, Line::New(_))), old);
        assert_eq!(pick(|line| !matches!(line, Line::Old(_))), new);
    }
}
