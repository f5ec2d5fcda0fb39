//! A bound on how often one source may ask: a token bucket for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// Sources that are remembered. When all are in use, a new source is refused until one has rested.
const MAX_SOURCES: usize = 20_000;

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It may.
    Allowed,
    /// The source asks too often.
    TooFast,
}

struct Bucket {
    left: u32,
    filled: SystemTime,
}

/// Allows `burst` requests at once, and one more each `every`.
pub(crate) struct RateLimit {
    burst: u32,
    every: Duration,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl RateLimit {
    pub(crate) fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one from the source's bucket.
    pub(crate) fn take(&self, source: IpAddr, now: SystemTime) -> Pace {
        let mut buckets = self.buckets.lock();
        let source = network(source);
        if !buckets.contains_key(&source) && buckets.len() >= MAX_SOURCES {
            let rest = self.every * self.burst;
            buckets.retain(|_, bucket| now.duration_since(bucket.filled).is_ok_and(|elapsed| elapsed < rest));
            if buckets.len() >= MAX_SOURCES {
                return Pace::TooFast;
            }
        }
        let bucket = buckets.entry(source).or_insert(Bucket { left: self.burst, filled: now });
        // A clock that went back gives nothing, and takes nothing.
        let elapsed = now.duration_since(bucket.filled).unwrap_or_default();
        let earned = u32::try_from(elapsed.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        if earned > 0 {
            bucket.left = bucket.left.saturating_add(earned).min(self.burst);
            bucket.filled = bucket.filled.checked_add(self.every.saturating_mul(earned)).unwrap_or(now);
        }
        match bucket.left.checked_sub(1) {
            Some(left) => {
                bucket.left = left;
                Pace::Allowed
            }
            None => Pace::TooFast,
        }
    }
}

/// One customer has a whole /64 of IPv6 addresses.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_at_a_time_and_apart_by_source() {
        let limit = RateLimit::new(3, Duration::from_secs(2));
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for _ in 0..3 {
            assert_eq!(limit.take(one, start), Pace::Allowed);
        }
        assert_eq!(limit.take(one, start), Pace::TooFast);
        assert_eq!(limit.take(two, start), Pace::Allowed);
        assert_eq!(limit.take(one, start + Duration::from_millis(2_100)), Pace::Allowed);
        assert_eq!(limit.take(one, start + Duration::from_millis(2_200)), Pace::TooFast);
        assert_eq!(limit.take(one, start + Duration::from_secs(600)), Pace::Allowed);
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_bucket() {
        let limit = RateLimit::new(1, Duration::from_secs(60));
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(limit.take("2001:db8::1".parse().unwrap(), start), Pace::Allowed);
        assert_eq!(limit.take("2001:db8::2".parse().unwrap(), start), Pace::TooFast);
        assert_eq!(limit.take("2001:db8:0:1::1".parse().unwrap(), start), Pace::Allowed);
    }
}
