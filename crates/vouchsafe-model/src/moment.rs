//! Instants and lengths of time as text: RFC 3339 in, Cedar's `datetime` and words out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads an RFC 3339 timestamp of the years 1970 to 9999, strictly: `T` and `Z` in upper case,
/// an offset always present, no leap second.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if punctuation.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let calendar = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !calendar || !(1..=days_in(year, month)).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(bytes.get(19..)?)?;
    let offset = offset_seconds(zone)?;
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    let since = Duration::new(u64::try_from(seconds).ok()?, nanos);
    UNIX_EPOCH.checked_add(since)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |sum, byte| {
        byte.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(i64::from(byte - b'0'))).flatten()
    })
}

/// The two largest units of that many seconds at most: `2 d 3 h`, `5 min`.
#[must_use]
pub fn about(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(at) = units.iter().position(|(unit, _)| seconds >= *unit) else { return "0 s".to_owned() };
    let mut left = seconds;
    let mut parts = Vec::new();
    // Beyond ten of the larger unit the smaller one says nothing.
    for (unit, name) in units.iter().skip(at).take(if seconds / units.get(at).map_or(1, |u| u.0) >= 10 { 1 } else { 2 })
    {
        if left / unit > 0 {
            parts.push(format!("{} {name}", left / unit));
        }
        left %= unit;
    }
    parts.join(" ")
}

/// The fraction of a second in nanoseconds (further digits are cut off), and what follows it.
fn fraction(rest: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.', after @ ..] = rest else { return Some((0, rest)) };
    let length = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (figures, zone) = after.split_at_checked(length)?;
    if figures.is_empty() {
        return None;
    }
    let padded = figures.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = padded.fold(0_u32, |sum, byte| sum * 10 + u32::from(byte - b'0'));
    Some((nanos, zone))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    if zone == b"Z" {
        return Some(0);
    }
    let [sign, h1, h2, b':', m1, m2] = zone else { return None };
    let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
    let seconds = hours * 3_600 + minutes * 60;
    match sign {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, with the year taken to begin in March.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes an instant as `YYYY-MM-DDThh:mm:ss.sssZ` in UTC, which RFC 3339 and Cedar's `datetime`
/// both read. `None` before 1970 and after 9999.
#[must_use]
pub fn to_text(at: SystemTime) -> Option<String> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days.checked_add(719_468)?;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year > 9999 {
        return None;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        parse_rfc3339(text).and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs())
    }

    #[test]
    fn known_instants() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:00:00Z"), Some(951_825_600));
        assert_eq!(seconds("2026-11-21T05:30:00+05:30"), Some(1_795_219_200));
        assert_eq!(seconds("2026-11-20T19:00:00.25-05:00"), Some(1_795_219_200));
        assert_eq!(seconds("9999-12-31T23:59:59Z"), Some(253_402_300_799));
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T00:00:00",
            "2026-11-21 00:00:00Z",
            "2026-11-21t00:00:00z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T00:60:00Z",
            "2026-11-21T00:00:60Z",
            "2026-11-21T00:00:00.Z",
            "2026-11-21T00:00:00+0100",
            "2026-11-21T00:00:00+24:00",
            "2026-11-21T00:00:00ZZ",
            "1969-12-31T23:59:59Z",
            "+026-11-21T00:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-21T00:00:00Z ",
            "２０２６-11-21T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad} was accepted");
        }
    }

    #[test]
    fn text_ends_with_the_year_9999_and_begins_with_1970() {
        let last = UNIX_EPOCH + Duration::from_millis(253_402_300_799_999);
        assert_eq!(to_text(last).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        assert_eq!(to_text(last + Duration::from_millis(1)), None);
        assert_eq!(to_text(UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(to_text(UNIX_EPOCH - Duration::from_millis(1)), None);
    }

    #[test]
    fn figures_beyond_a_nanosecond_are_cut_off() {
        let read = |text: &str| parse_rfc3339(text).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        assert_eq!(read("1970-01-01T00:00:00.1234567899Z"), Some(Duration::from_nanos(123_456_789)));
        assert_eq!(read("1970-01-01T00:00:00.000000001+00:00"), Some(Duration::from_nanos(1)));
        assert_eq!(read("1970-01-01T23:59:00+23:59"), Some(Duration::ZERO));
        assert_eq!(read("1970-01-01T00:00:00-23:59"), Some(Duration::from_secs(86_340)));
        assert_eq!(read("1970-01-01T00:00:00-00:60"), None);
    }

    proptest! {
        #[test]
        fn text_is_read_back(millis in 0_u64..253_402_300_800_000) {
            let at = UNIX_EPOCH + Duration::from_millis(millis);
            let text = to_text(at).expect("in range");
            prop_assert_eq!(parse_rfc3339(&text), Some(at));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>(), near in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+Z-]{0,20}") {
            let _ = parse_rfc3339(&text);
            let _ = parse_rfc3339(&near);
        }
    }
}
