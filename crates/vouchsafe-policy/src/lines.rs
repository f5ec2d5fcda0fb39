//! What is different between two texts, line by line.

/// A line, and in which of the texts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'t> {
    /// In both.
    Both(&'t str),
    /// In the old one alone.
    Old(&'t str),
    /// In the new one alone.
    New(&'t str),
    /// Lines that are in both and far from any change are left out here.
    Gap,
}

/// Most pairs of lines that are compared; beyond that all lines of one text are told before those of the other.
const MAX_PAIRS: usize = 4_000_000;

/// What changed, with so many lines around each change.
#[must_use]
pub fn changed_lines<'t>(old: &'t str, new: &'t str, around: usize) -> Vec<Line<'t>> {
    let lines = compared(old, new);
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Both(_))).map(|(at, _)| at).collect();
    let is_near = |at: usize| {
        let next = changed.partition_point(|change| change.saturating_add(around) < at);
        changed.get(next).is_some_and(|change| *change <= at.saturating_add(around))
    };
    let mut shown = Vec::new();
    for (at, line) in lines.into_iter().enumerate() {
        if is_near(at) {
            shown.push(line);
        } else if shown.last() != Some(&Line::Gap) {
            shown.push(Line::Gap);
        }
    }
    shown
}

/// The lines of both texts in an order in which those that are in both stand once.
fn compared<'t>(old: &'t str, new: &'t str) -> Vec<Line<'t>> {
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
            Line::Gap => "…".to_owned(),
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
    fn what_is_far_from_changes_is_left_out() {
        let old: String = ('a'..='z').map(|letter| format!("{letter}\n")).collect();
        let new = old.replace("m\n", "M\n").replace("z\n", "");
        let told: Vec<Line<'_>> = changed_lines(&old, &new, 1);
        let (l, n, y) = (Line::Both("l"), Line::Both("n"), Line::Both("y"));
        assert_eq!(told, [Line::Gap, l, Line::Old("m"), Line::New("M"), n, Line::Gap, y, Line::Old("z")]);
        assert_eq!(changed_lines(&old, &old, 3), [Line::Gap]);
    }

    #[test]
    fn each_text_can_be_read_out_of_the_comparison() {
        let old: String = (0..200).map(|number| format!("{}\n", number * 7 % 31)).collect();
        let new: String = (0..180).map(|number| format!("{}\n", number * 11 % 29)).collect();
        let found = compared(&old, &new);
        let pick = |which: fn(&Line<'_>) -> bool| -> String {
            let text = |line: &Line<'_>| match line {
                Line::Both(text) | Line::Old(text) | Line::New(text) => format!("{text}\n"),
                Line::Gap => "…".to_owned(),
            };
            found.iter().filter(|line| which(line)).map(text).collect()
        };
        assert_eq!(pick(|line| !matches!(line, Line::New(_))), old);
        assert_eq!(pick(|line| !matches!(line, Line::Old(_))), new);
    }
}
