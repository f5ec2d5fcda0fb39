//! Times and durations as people write and read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
pub(crate) use vouchsafe_model::moment::about;

/// Failure to read a duration or a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    /// Not a duration.
    #[error("`{given}` is not a duration: write it like `8h`, `30m`, `1h30m`, `90s`, `7d` or `2w`")]
    Duration {
        /// As given, shortened.
        given: String,
    },
    /// Not a point in time.
    #[error("`{given}` is not a time: write how long ago (`1h`, `7d`) or an RFC 3339 time (`2026-11-21T04:00:00Z`)")]
    Moment {
        /// As given, shortened.
        given: String,
    },
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Reads `1h30m`: numbers, each with a unit of `s`, `m`, `h`, `d` or `w`, largest unit first, each
/// once. At most ten years, at least a second.
///
/// # Errors
/// [`TimeError::Duration`].
pub(crate) fn duration(text: &str) -> Result<Duration, TimeError> {
    const LONGEST: u64 = 10 * 366 * 86_400;
    let wrong = || TimeError::Duration { given: shorten(text) };
    let mut seconds: u64 = 0;
    let mut last = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let mut letters = behind.chars();
        let unit = match letters.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            _ => return Err(wrong()),
        };
        if unit >= last || number.len() > 9 {
            return Err(wrong());
        }
        last = unit;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        seconds = number.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        rest = letters.as_str();
    }
    if (1..=LONGEST).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err(wrong()) }
}

/// A point in time, as given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// That long ago.
    Ago(Duration),
    /// Unix seconds.
    At(u64),
}

impl Moment {
    /// Reads how long ago, or an RFC 3339 time.
    ///
    /// # Errors
    /// [`TimeError::Moment`].
    pub(crate) fn parse(text: &str) -> Result<Self, TimeError> {
        if let Ok(ago) = duration(text) {
            return Ok(Moment::Ago(ago));
        }
        let wrong = || TimeError::Moment { given: shorten(text) };
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
        u64::try_from(at.unix_timestamp()).map(Moment::At).map_err(|_| wrong())
    }

    /// Unix seconds.
    #[must_use]
    pub(crate) fn unix_seconds(self, now: u64) -> u64 {
        match self {
            Moment::Ago(ago) => now.saturating_sub(ago.as_secs()),
            Moment::At(at) => at,
        }
    }
}

/// `2026-11-21 04:46:54Z`
#[must_use]
pub(crate) fn moment(unix_seconds: u64) -> String {
    let at = i64::try_from(unix_seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.map_or_else(
        || unix_seconds.to_string(),
        |at| {
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute(),
                at.second()
            )
        },
    )
}

/// `3 h ago`, `in 5 d`, `just now`
#[must_use]
pub(crate) fn relative(unix_seconds: u64, now: u64) -> String {
    match (now.abs_diff(unix_seconds), unix_seconds > now) {
        (0..=4, _) => "just now".to_owned(),
        (seconds, true) => format!("in {}", about(seconds)),
        (seconds, false) => format!("{} ago", about(seconds)),
    }
}

/// `12.3 MB`
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = 1;
    for name in ["B", "kB", "MB", "GB", "TB"] {
        let next: u64 = unit * 1_000;
        if count < next || name == "TB" {
            let tenths = count * 10 / unit;
            return if unit == 1 || tenths >= 100 {
                format!("{} {name}", count / unit)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            };
        }
        unit = next;
    }
    count.to_string()
}

/// `1 user`, `3 users`
#[must_use]
pub(crate) fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Text in lines of at most that many characters, cut between words where that is possible.
#[must_use]
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let wide = word.chars().count();
        if length > 0 && length + 1 + wide > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += wide;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, seconds) in
            [("8h", 28_800), ("30m", 1_800), ("1h30m", 5_400), ("90s", 90), ("7d", 604_800), ("2w", 1_209_600)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in
            ["", "8", "h", "8 h", "-1h", "1.5h", "0s", "30m1h", "1h1h", "99999w", "1y", "9999999999s", "1ħ", "1h "]
        {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn moments_are_ago_or_absolute() {
        assert_eq!(Moment::parse("1h").unwrap().unix_seconds(10_000), 6_400);
        assert_eq!(Moment::parse("1970-01-01T01:00:00+00:00").unwrap(), Moment::At(3_600));
        assert!(Moment::parse("yesterday").is_err());
    }

    #[test]
    fn times_read_well() {
        assert_eq!(moment(1_790_000_000), "2026-09-21 14:13:20Z");
        assert_eq!(relative(100, 100), "just now");
        assert_eq!(relative(100, 100 + 2 * 86_400 + 3 * 3_600), "2 d 3 h ago");
        assert_eq!(relative(100 + 12 * 3_600 + 60, 100), "in 12 h");
        assert_eq!(about(65), "1 min 5 s");
        assert_eq!(about(3_600), "1 h");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_250), "1.2 kB");
        assert_eq!(bytes(25_000_000), "25 MB");
        assert_eq!((counted(1, "user", "users"), counted(0, "user", "users")), ("1 user".into(), "0 users".into()));
    }

    #[test]
    fn lines_are_cut_between_words() {
        assert_eq!(wrapped("the quick  brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrapped("a-word-that-is-too-long for it", 8), ["a-word-that-is-too-long", "for it"]);
        assert_eq!(wrapped("", 8), [""; 0]);
    }
}
