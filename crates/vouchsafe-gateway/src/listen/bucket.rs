//! A bound on a rate: so much at once, and then so much for each second.

use std::time::Instant;

/// Tokens that come back with time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    burst: u32,
    per_second: u32,
    left: u32,
    filled: Instant,
}

impl Bucket {
    /// A bucket with all its tokens.
    pub(crate) fn full(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, per_second, left: burst, filled: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(1, now)
    }

    /// Takes so many tokens, if they are there.
    pub(crate) fn take_many(&mut self, tokens: u32, now: Instant) -> bool {
        self.fill(now);
        match self.left.checked_sub(tokens) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Whether there is a token.
    pub(crate) fn has_some(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left > 0
    }

    /// Gives tokens back, never more than there were at first.
    pub(crate) fn give(&mut self, tokens: u32) {
        self.left = self.left.saturating_add(tokens).min(self.burst);
    }

    /// Whether all tokens were there when last looked at.
    pub(crate) fn is_untouched(&self) -> bool {
        self.left == self.burst
    }

    /// Whether all tokens are back.
    pub(crate) fn has_rested(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.is_untouched()
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_micros();
        let earned = elapsed * u128::from(self.per_second) / 1_000_000;
        if earned > 0 {
            // The fraction of a token that is not earned yet is lost; at these rates it is nothing.
            self.filled = now;
            self.give(u32::try_from(earned).unwrap_or(u32::MAX));
        }
    }
}
