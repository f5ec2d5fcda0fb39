//! The only place that reads the clock and draws random bytes; everything else gets them as values.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of day, which never goes back while the process lives: whatever has an end would live on.
///
/// When the system's clock is set back, time goes on from where it was. It is then ahead, so that
/// things end early rather than late, until the process starts anew.
#[must_use]
pub fn now() -> SystemTime {
    static FORWARD: Forward = Forward(AtomicI64::new(i64::MIN));
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let begin = *BEGIN;
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    let wall = SystemTime::now();
    FORWARD.at(wall, begin.elapsed())
}

/// The largest difference ever seen between the clock and the time since the process began,
/// microseconds.
struct Forward(AtomicI64);

impl Forward {
    fn at(&self, wall: SystemTime, since_begin: Duration) -> SystemTime {
        let since_begin = i64::try_from(since_begin.as_micros()).unwrap_or(i64::MAX);
        let wall = i64::try_from(unix_micros(wall)).unwrap_or(i64::MAX);
        let ahead = wall.saturating_sub(since_begin);
        let most = self.0.load(Ordering::Relaxed);
        let most = if ahead > most { self.0.fetch_max(ahead, Ordering::Relaxed).max(ahead) } else { most };
        from_unix_micros(u64::try_from(most.saturating_add(since_begin)).unwrap_or_default())
    }
}

/// How far [`now`] is ahead of the system's clock: by as much as that was set back while the process ran.
#[must_use]
pub fn ahead_of_system() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    let wall = SystemTime::now();
    now().duration_since(wall).unwrap_or_default()
}

/// Time since this machine was started, with the time it slept: nothing sets it, and nothing stops it.
#[must_use]
pub fn since_boot() -> Duration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(read.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(read.tv_nsec).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_when_the_clock_goes_back() {
        let clock = Forward(AtomicI64::new(i64::MIN));
        let (at, seconds) = (from_unix_seconds, Duration::from_secs);
        assert_eq!(clock.at(at(1_000_000), seconds(0)), at(1_000_000));
        assert_eq!(clock.at(at(1_000_010), seconds(10)), at(1_000_010));
        // Set back by an hour: what had twenty seconds left has ten.
        assert_eq!(clock.at(at(996_420), seconds(20)), at(1_000_020));
        assert_eq!(clock.at(at(0), seconds(21)), at(1_000_021));
        // The machine slept, or the clock was set forward: that counts.
        assert_eq!(clock.at(at(1_003_000), seconds(30)), at(1_003_000));
        assert_eq!(clock.at(at(1_000_040), seconds(40)), at(1_003_010));
        // The clock caught up.
        assert_eq!(clock.at(at(1_004_000), seconds(50)), at(1_004_000));
    }

    #[test]
    fn it_is_the_systems_time() {
        let system = std::fs::metadata("/proc/self").and_then(|own| own.modified()).unwrap();
        let apart = now().duration_since(system).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(86_400), "{apart:?}");
        assert!(now() <= now());
    }
}
