//! How durations are spread, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations in buckets. Counting is two additions.
#[derive(Debug)]
pub struct Histogram {
    /// Upper ends of the buckets, rising; what is longer counts in one more.
    ends: &'static [Duration],
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    most_ns: AtomicU64,
}

impl Histogram {
    /// With buckets that end there, rising.
    #[must_use]
    pub fn new(ends: &'static [Duration]) -> Self {
        let counts = (0..=ends.len()).map(|_| AtomicU64::new(0)).collect();
        Self { ends, counts, sum_ns: AtomicU64::new(0), most_ns: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let bucket = self.ends.partition_point(|end| *end < duration);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
        if nanos > self.most_ns.load(Ordering::Relaxed) {
            self.most_ns.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The longest.
    #[must_use]
    pub fn most(&self) -> Duration {
        Duration::from_nanos(self.most_ns.load(Ordering::Relaxed))
    }

    /// What so many of a thousand did not exceed, rounded up to the end of a bucket, and never more than the
    /// longest; `None` when nothing was counted.
    #[must_use]
    pub fn permille(&self, permille: u64) -> Option<Duration> {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = (all * permille).div_ceil(1_000).max(1);
        let mut so_far = 0;
        let bucket = counts.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        Some(self.ends.get(bucket).map_or(self.most(), |end| (*end).min(self.most())))
    }

    /// Buckets with their upper ends in seconds, and the sum in seconds.
    pub(super) fn buckets(&self) -> (Vec<(f64, u64)>, f64) {
        let ends = self.ends.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets = ends.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        (buckets, Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(100)];

    #[test]
    fn shares_are_rounded_up_to_the_end_of_a_bucket_and_no_further() {
        let histogram = Histogram::new(ENDS);
        assert_eq!(histogram.permille(500), None);
        for _ in 0..98 {
            histogram.observe(Duration::from_millis(1));
        }
        histogram.observe(Duration::from_millis(40));
        histogram.observe(Duration::from_secs(3));
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.permille(500), Some(Duration::from_millis(1)));
        assert_eq!(histogram.permille(990), Some(Duration::from_millis(100)));
        assert_eq!(histogram.permille(1_000), Some(Duration::from_secs(3)));
        let (buckets, sum) = histogram.buckets();
        assert_eq!(buckets.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [98, 0, 1, 1]);
        assert!((sum - 3.138).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn one_short_duration_is_not_made_longer() {
        let histogram = Histogram::new(ENDS);
        histogram.observe(Duration::from_micros(20));
        assert_eq!(histogram.permille(990), Some(Duration::from_micros(20)));
    }
}
