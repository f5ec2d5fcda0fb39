//! Session tickets (RFC 8446 §4.6.1) that the server keeps nothing of.
//!
//! Each server configuration has keys of its own, which are made in memory and never leave it: a
//! ticket opens nothing but the configuration that made it, and nothing after a restart. A key seals
//! for five minutes and opens for ten, counted from its making, so that no ticket lives longer.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use parking_lot::Mutex;
use rustls::server::ProducesTickets;

use super::TlsError;
use crate::clock;

/// How long a key seals.
const SEALS_FOR: Duration = Duration::from_secs(300);
/// How long a key opens, and so the longest life of a ticket.
const OPENS_FOR: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Key {
    key: RandomizedNonceKey,
    made: Instant,
}

impl Key {
    fn new(now: Instant) -> Option<Self> {
        let secret = zeroize::Zeroizing::new(clock::random::<32>());
        Some(Self { key: RandomizedNonceKey::new(&AES_256_GCM, secret.as_slice()).ok()?, made: now })
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = rest.to_vec();
        let length = self.key.open_in_place(nonce, Aad::empty(), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        Some([nonce.as_slice(), &sealed].concat())
    }
}

#[derive(Debug)]
struct Keys {
    current: Key,
    former: Option<Key>,
}

impl Keys {
    /// Makes a new key when the current one is old; drops what may open nothing any more.
    fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.current.made) >= SEALS_FOR
            && let Some(fresh) = Key::new(now)
        {
            self.former = Some(std::mem::replace(&mut self.current, fresh));
        }
        self.former.take_if(|key| now.saturating_duration_since(key.made) >= OPENS_FOR);
    }
}

/// Makes and opens the tickets of one server configuration.
#[derive(Debug)]
pub(super) struct Tickets(Mutex<Keys>);

impl Tickets {
    pub(super) fn new() -> Result<Self, TlsError> {
        let current = Key::new(Instant::now()).ok_or(TlsError::Tickets)?;
        Ok(Self(Mutex::new(Keys { current, former: None })))
    }

    fn seal(&self, plain: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut keys = self.0.lock();
        keys.turn(now);
        keys.current.seal(plain)
    }

    fn open(&self, sealed: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut keys = self.0.lock();
        keys.turn(now);
        keys.current.open(sealed).or_else(|| keys.former.as_ref()?.open(sealed))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// Longest life, which clients are told; tickets made late in a key's time end sooner.
    fn lifetime(&self) -> u32 {
        u32::try_from(OPENS_FOR.as_secs()).unwrap_or_default()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, Instant::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_for_ten_minutes_at_most_and_only_where_it_was_made() {
        let (own, other) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let early = own.seal(b"session", at(0)).unwrap();
        assert_eq!(own.open(&early, at(299)).as_deref(), Some(b"session".as_slice()));
        assert_eq!(other.open(&early, at(0)), None);
        let late = own.seal(b"session", at(301)).unwrap();
        assert!(own.open(&early, at(599)).is_some(), "the former key still opens");
        assert_eq!(own.open(&early, at(601)), None);
        assert!(own.open(&late, at(601)).is_some());
        assert_eq!(own.open(&late, at(902)), None);
        // Nothing asked for hours: no key may have outlived its time.
        let last = own.seal(b"session", at(1000)).unwrap();
        assert_eq!(own.open(&last, at(90_000)), None);
    }

    #[test]
    fn what_is_altered_does_not_open() {
        let tickets = Tickets::new().unwrap();
        let sealed = tickets.encrypt(b"session").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"session"));
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(tickets.decrypt(&altered), None);
            assert_eq!(tickets.decrypt(&sealed[..place]), None);
        }
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(b"session".as_slice()));
    }
}
