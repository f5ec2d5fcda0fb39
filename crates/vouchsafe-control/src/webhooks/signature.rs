//! Signatures after the Standard Webhooks specification (<https://www.standardwebhooks.com>): HMAC-SHA256 over id, time
//! and body.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vouchsafe_runtime::clock;
use zeroize::Zeroizing;

/// What stands before a secret.
const PREFIX: &str = "whsec_";

/// What the messages to one webhook are signed with: 256 bits.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A new one.
    pub(super) fn fresh() -> Self {
        Self(Zeroizing::new(clock::random::<32>().to_vec()))
    }

    /// One as it is handed out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.strip_prefix(PREFIX)?).ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// The text, for handing it out.
    pub(super) fn expose(&self) -> Zeroizing<String> {
        let text = Zeroizing::new(STANDARD.encode(&*self.0));
        Zeroizing::new(format!("{PREFIX}{}", *text))
    }

    /// The signature of a message, as it stands in its field.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let signed = format!("{id}.{timestamp}.{body}");
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, signed.as_bytes())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(withheld)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn the_signature_is_that_of_the_specification_s_example() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn i10_a_secret_reads_back_and_does_not_print() {
        let secret = Secret::fresh();
        let text = secret.expose();
        assert_eq!(*Secret::parse(&text).unwrap().0, *secret.0);
        assert_eq!(format!("{secret:?}"), "Secret(withheld)");
        assert_ne!(*Secret::fresh().0, *secret.0);
    }
}
