//! Times as logs write them.

use std::time::UNIX_EPOCH;

use vouchsafe_model::moment;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// Seconds that a clock may be ahead of ours.
const AHEAD: u64 = 86_400;
/// Last moment that is taken for one: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// What a log doesn't say itself about its times.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Seconds east of Greenwich of times without a zone, and of those whose zone has a name such as `CET`. Without it
    /// the former are of Greenwich, and the latter can't be read: the same letters mean several zones.
    pub offset: Option<i64>,
    /// Unix seconds of now: a time without a year is the last such that isn't in the future.
    pub now: u64,
}

fn number(bytes: &[u8]) -> Option<i64> {
    (!bytes.is_empty() && bytes.len() <= 4)
        .then(|| {
            bytes.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
        })
        .flatten()
}

fn month(bytes: &[u8]) -> Option<i64> {
    MONTHS.iter().zip(1..).find(|(name, _)| bytes == name.as_slice()).map(|(_, number)| number)
}

/// A date and a time of day by the model's calendar, as if of Greenwich.
fn at(year: i64, month: i64, day: i64, clock: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let two = |one: &u8, other: &u8| number(&[*one, *other]);
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    // A leap second counts as the one before it.
    let second = if second == 60 { 59 } else { second };
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    let since = moment::parse_rfc3339(&text)?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// `+0200`, `+02:00`, `+02` or `Z`, in seconds east of Greenwich.
fn zone(bytes: &[u8]) -> Option<i64> {
    let (sign, rest) = match bytes {
        b"Z" | b"UTC" | b"GMT" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Of a zone that the time itself has.
fn zone_or_name(bytes: &[u8], clock: &Clock) -> Option<i64> {
    let is_name = (2..=5).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_uppercase);
    zone(bytes).or_else(|| clock.offset.filter(|_| is_name))
}

fn unix(local: i64, offset: i64) -> Option<u64> {
    u64::try_from(local.checked_sub(offset)?).ok()
}

/// Cuts the fraction of a second off.
fn without_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(figures) = rest.strip_prefix(b".") else { return Some(rest) };
    let count = figures.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if (1..=9).contains(&count) { figures.get(count..) } else { None }
}

/// `27/Nov/2026:14:03:02 +0000`; with a fraction, and without a zone, as HAProxy has it.
pub(crate) fn common(bytes: &[u8], clock: &Clock) -> Option<u64> {
    let (date, rest) = bytes.split_at_checked(12)?;
    let [d1, d2, b'/', m @ .., b'/', y1, y2, y3, y4, b':'] = date else { return None };
    let (time, rest) = rest.split_at_checked(8)?;
    let local = at(number(&[*y1, *y2, *y3, *y4])?, month(m)?, number(&[*d1, *d2])?, time)?;
    match without_fraction(rest)? {
        [] => unix(local, clock.offset.unwrap_or_default()),
        [b' ', named @ ..] => unix(local, zone_or_name(named, clock)?),
        _ => None,
    }
}

/// `2026-11-27T14:03:02.123+00:00`, also with a space for the `T` or before the zone, and without a zone.
pub(crate) fn iso(bytes: &[u8], clock: &Clock) -> Option<u64> {
    let (date, rest) = bytes.split_at_checked(11)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b' '] = date else { return None };
    let (time, rest) = rest.split_at_checked(8)?;
    let local = at(number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?, time)?;
    let rest = without_fraction(rest)?;
    match rest.strip_prefix(b" ").unwrap_or(rest) {
        [] => unix(local, clock.offset.unwrap_or_default()),
        named => unix(local, zone_or_name(named, clock)?),
    }
}

/// `Nov 27 14:03:02` (RFC 3164): no year and no zone.
pub(crate) fn syslog(bytes: &[u8], clock: &Clock) -> Option<u64> {
    let [n1, n2, n3, b' ', d1, d2, b' ', time @ ..] = bytes else { return None };
    let month = month(&[*n1, *n2, *n3])?;
    let day = if *d1 == b' ' { number(&[*d2])? } else { number(&[*d1, *d2])? };
    let limit = clock.now.saturating_add(AHEAD);
    // The 29th of February is at most eight years back.
    let years = year_of(clock.now).map(|year| (year - 8..=year + 1).rev())?;
    years
        .into_iter()
        .find_map(|year| unix(at(year, month, day, time)?, clock.offset.unwrap_or_default()).filter(|at| *at <= limit))
}

fn year_of(unix_seconds: u64) -> Option<i64> {
    let text = moment::to_text(UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unix_seconds))?)?;
    number(text.as_bytes().get(..4)?)
}

/// Seconds since 1970, with `figures` more digits behind them or a fraction.
pub(crate) fn epoch(bytes: &[u8], figures: usize) -> Option<u64> {
    let whole = bytes.split(|byte| *byte == b'.').next()?;
    let whole = whole.len().checked_sub(figures).and_then(|length| whole.get(..length))?;
    let good = (1..=12).contains(&whole.len())
        && bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && bytes.iter().filter(|byte| **byte == b'.').count() <= 1;
    let seconds =
        whole.iter().fold(0_u64, |sum, byte| sum.saturating_mul(10).saturating_add(u64::from(byte.wrapping_sub(b'0'))));
    (good && seconds <= LAST).then_some(seconds)
}

/// Reads `+02:00` as it is given for times without a zone, in seconds.
#[must_use]
pub fn offset(text: &str) -> Option<i64> {
    zone(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-27T14:03:02Z
    const AT: u64 = 1_795_788_182;
    const UTC: Clock = Clock { offset: None, now: AT + 60 };

    #[test]
    fn every_form_says_the_same_moment() {
        let paris = Clock { offset: Some(3_600), ..UTC };
        for (text, clock) in [
            ("27/Nov/2026:14:03:02 +0000", UTC),
            ("27/Nov/2026:16:33:02 +0230", UTC),
            ("27/Nov/2026:14:03:02.655", UTC),
            ("27/Nov/2026:15:03:02.655", paris),
        ] {
            assert_eq!(common(text.as_bytes(), &clock), Some(AT), "{text}");
        }
        for (text, clock) in [
            ("2026-11-27T14:03:02+00:00", UTC),
            ("2026-11-27T14:03:02.123456Z", paris),
            ("2026-11-27T09:03:02-0500", paris),
            ("2026-11-27 14:03:02.123 UTC", paris),
            ("2026-11-27 16:03:02.123 +02", paris),
            ("2026-11-27 15:03:02", paris),
            ("2026-11-27 15:03:02.123 CET", paris),
        ] {
            assert_eq!(iso(text.as_bytes(), &clock), Some(AT), "{text}");
        }
        assert_eq!(syslog(b"Nov 27 14:03:02", &UTC), Some(AT));
        assert_eq!(syslog(b"Nov 27 15:03:02", &paris), Some(AT));
        assert_eq!(epoch(b"1795788182", 0), Some(AT));
        assert_eq!(epoch(b"1795788182.999", 0), Some(AT));
        assert_eq!(epoch(b"1795788182999", 3), Some(AT));
        assert_eq!(offset("-05:30"), Some(-19_800));
    }

    #[test]
    fn a_time_without_a_year_is_the_last_that_was() {
        let year = 365 * 86_400;
        assert_eq!(syslog(b"Nov 28 14:03:02", &UTC), Some(AT + 86_400), "a clock may be ahead by a day");
        assert_eq!(syslog(b"Nov 29 14:03:02", &UTC), Some(AT + 2 * 86_400 - year));
        assert_eq!(syslog(b"Jan  1 00:00:00", &UTC), Some(1_767_225_600), "of this year");
        assert_eq!(syslog(b"Feb 29 12:00:00", &UTC), Some(1_709_208_000), "2024");
        let new_year = Clock { now: 1_798_761_605, ..UTC };
        assert_eq!(syslog(b"Dec 31 23:59:59", &new_year), Some(1_798_761_599), "of the year that is just over");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in [
            "",
            "27/Nov/2026",
            "27/Nov/2026:14:03:02 CET",
            "27/nov/2026:14:03:02 +0000",
            "31/Feb/2026:14:03:02 +0000",
            "27/Nov/2026:24:00:00 +0000",
            "27/Nov/2026:14:03:02 +0000x",
            "27/Nov/2026:14:03:02. +0000",
        ] {
            assert_eq!(common(bad.as_bytes(), &UTC), None, "{bad}");
        }
        for bad in ["2026-11-27", "2026-11-27T14:03:02 CET", "2026-11-27 14:03:02  UTC", "2026-13-27T14:03:02Z"] {
            assert_eq!(iso(bad.as_bytes(), &UTC), None, "{bad}");
        }
        for bad in ["", "Nov 27", "Nov 32 14:03:02", "Nov 7 14:03:02", "Feb 30 14:03:02"] {
            assert_eq!(syslog(bad.as_bytes(), &UTC), None, "{bad}");
        }
        for bad in ["", ".", "1.2.3", "12x", "9999999999999"] {
            assert_eq!(epoch(bad.as_bytes(), 0), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), near in "[0-9/: TZ+.JanFeb-]{0,32}") {
            for bytes in [bytes.as_slice(), near.as_bytes()] {
                let _ = (common(bytes, &UTC), iso(bytes, &UTC), syslog(bytes, &UTC), epoch(bytes, 3));
            }
        }
    }
}
