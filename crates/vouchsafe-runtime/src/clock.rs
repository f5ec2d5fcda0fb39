//! The only place that reads the clock and draws random bytes; everything else gets them as values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of day.
#[must_use]
pub fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    SystemTime::now()
}

/// Unix seconds of a time; 0 for times before 1970.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Unix microseconds of a time; 0 for times before 1970.
#[must_use]
pub fn unix_micros(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// The time of unix seconds.
#[must_use]
pub fn from_unix_seconds(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

/// The time of unix microseconds.
#[must_use]
pub fn from_unix_micros(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

/// `N` bytes of the operating system's cryptographic source.
///
/// The process ends when there is no entropy: weak keys are worse than none.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}

/// A fresh secret of 128 bits as 26 characters of lower-case base32, for codes that people may copy.
#[must_use]
pub fn random_code() -> String {
    vouchsafe_model::id::UserId::from_random(random()).to_string().split_off(4)
}
