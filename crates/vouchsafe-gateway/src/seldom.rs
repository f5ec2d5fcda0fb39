//! Lines of the log that anybody could cause at will: one now and then, which says for how many it stands.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often there is such a line.
const EVERY: Duration = Duration::from_secs(10);

/// What happens, and is told of seldom.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// It happened once more: how often since the last line, if there is to be another.
    pub(crate) fn happened(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock();
        since.untold += 1;
        if since.told.is_some_and(|told| now.saturating_duration_since(told) < EVERY) {
            return None;
        }
        since.told = Some(now);
        Some(std::mem::take(&mut since.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_all_that_happened_since_the_last() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.happened(now), Some(1));
        for _ in 0..500 {
            assert_eq!(seldom.happened(now + EVERY / 2), None);
        }
        assert_eq!(seldom.happened(now + EVERY), Some(501));
        assert_eq!(seldom.happened(now + EVERY), None);
    }
}
