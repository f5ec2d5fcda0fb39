//! Public keys of SSH and lists of authorised ones (sshd(8), AUTHORIZED_KEYS FILE FORMAT; RFC 4253 §6.6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::text::numbered;

/// Most keys of one file.
const MAX_KEYS: usize = 10_000;

/// One authorised key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// `ssh-ed25519`
    pub kind: String,
    /// Size where it says something about the strength.
    pub bits: Option<u32>,
    /// In base64, as it stands there.
    pub blob: String,
    pub comment: String,
    /// Names of the options, in lower case.
    pub options: Vec<String>,
    pub line: usize,
}

impl Key {
    /// Whether it lives in hardware that wants to be touched.
    pub(crate) fn is_in_hardware(&self) -> bool {
        self.kind.starts_with("sk-")
    }

    /// Whether certificates that it signs are taken, rather than it itself.
    pub(crate) fn is_authority(&self) -> bool {
        self.options.iter().any(|option| option == "cert-authority")
    }

    /// Whether it can do one thing only, or comes from one place only.
    pub(crate) fn is_confined(&self) -> bool {
        self.options.iter().any(|option| matches!(option.as_str(), "restrict" | "from" | "command"))
    }

    /// Why it is weak.
    pub(crate) fn weakness(&self) -> Option<String> {
        match (self.kind.as_str(), self.bits) {
            ("ssh-dss", _) => Some("DSA is broken".to_owned()),
            ("ssh-rsa", Some(bits)) if bits < 3_072 => Some(format!("RSA of {bits} bits")),
            _ => None,
        }
    }

    /// How a person tells it from others.
    pub(crate) fn label(&self) -> String {
        let end = self.blob.get(self.blob.len().saturating_sub(8)..).unwrap_or_default();
        let comment = if self.comment.is_empty() { "no comment" } else { &self.comment };
        crate::text::short(&format!("{} …{end} ({comment})", self.kind), 120)
    }
}

/// Keys of a file, and the lines that are none.
pub(crate) fn authorised(text: &str) -> (Vec<Key>, Vec<(usize, &'static str)>) {
    let (mut keys, mut broken) = (Vec::new(), Vec::new());
    for (number, line) in numbered(text) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if keys.len() + broken.len() >= MAX_KEYS {
            broken.push((number, "too many keys; the rest was left out"));
            break;
        }
        match key(line, number) {
            Ok(key) => keys.push(key),
            Err(why) => broken.push((number, why)),
        }
    }
    (keys, broken)
}

fn is_kind(word: &str) -> bool {
    let bare = word.strip_prefix("sk-").unwrap_or(word);
    bare.starts_with("ssh-") || bare.starts_with("ecdsa-sha2-") || bare.starts_with("rsa-sha2-") || bare == "webauthn"
}

fn key(line: &str, number: usize) -> Result<Key, &'static str> {
    let first = line.split([' ', '\t']).next().unwrap_or_default();
    let (options, rest) = if is_kind(first) { (Vec::new(), line) } else { options(line)? };
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let kind = words.next().filter(|word| is_kind(word)).ok_or("there is no type of key")?;
    let blob = words.next().ok_or("there is no key behind its type")?;
    let comment = words.collect::<Vec<_>>().join(" ");
    let bytes = STANDARD.decode(blob).map_err(|_| "the key is not base64")?;
    let mut rest = bytes.as_slice();
    let named = field(&mut rest).ok_or("the key is cut off")?;
    if named != kind.as_bytes() {
        return Err("the key is of another type than the line says");
    }
    let bits = if kind == "ssh-rsa" {
        let _exponent = field(&mut rest).ok_or("the key is cut off")?;
        Some(bit_length(field(&mut rest).ok_or("the key is cut off")?))
    } else {
        None
    };
    Ok(Key { kind: kind.to_owned(), bits, blob: blob.to_owned(), comment, options, line: number })
}

/// Options up to the first space outside of quotes, and what follows.
fn options(line: &str) -> Result<(Vec<String>, &str), &'static str> {
    let (mut quoted, mut escaped, mut end) = (false, false, None);
    let mut names = vec![String::new()];
    let mut in_value = false;
    for (at, letter) in line.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            ' ' | '\t' => {
                end = Some(at);
                break;
            }
            ',' => {
                names.push(String::new());
                in_value = false;
            }
            '=' => in_value = true,
            _ if in_value => {}
            _ => names.last_mut().unwrap_or(&mut String::new()).push(letter.to_ascii_lowercase()),
        }
    }
    if quoted {
        return Err("a quote in the options is not closed");
    }
    let rest = end.and_then(|end| line.get(end..)).ok_or("there is no key")?;
    Ok((names, rest.trim_start()))
}

fn field<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (field, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(field)
}

fn bit_length(number: &[u8]) -> u32 {
    let number = match number.iter().position(|byte| *byte != 0) {
        Some(at) => number.get(at..).unwrap_or_default(),
        None => return 0,
    };
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(number.len()).unwrap_or(u32::MAX / 8).saturating_mul(8).saturating_sub(unused)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";

    fn rsa(bits: usize) -> String {
        let mut blob = Vec::new();
        let mut modulus = vec![0xff; bits / 8];
        modulus.insert(0, 0);
        for part in [b"ssh-rsa".as_slice(), &[1, 0, 1], &modulus] {
            blob.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend(part);
        }
        format!("ssh-rsa {}", STANDARD.encode(blob))
    }

    #[test]
    fn keys_options_and_comments_are_told_apart() {
        let text = format!(
            "# people\n{ED25519} ann@laptop\nfrom=\"10.0.0.0/8,!10.1.0.1\",command=\"echo \\\"a b\\\"\",no-pty {ED25519}\n{} old\nnonsense\n",
            rsa(1024)
        );
        let (keys, broken) = authorised(&text);
        assert_eq!(keys.len(), 3);
        assert_eq!(keys[0].comment, "ann@laptop");
        assert_eq!(keys[1].options, ["from", "command", "no-pty"]);
        assert!(keys[1].is_confined() && !keys[0].is_confined());
        assert_eq!(keys[0].blob, keys[1].blob);
        assert_eq!(keys[2].weakness().as_deref(), Some("RSA of 1024 bits"));
        assert_eq!(broken, [(5, "there is no key")]);
        assert_eq!(authorised(&rsa(4096)).0[0].weakness(), None);
    }

    #[test]
    fn a_key_that_is_no_key_is_named() {
        for (line, why) in [
            ("ssh-ed25519 !!!", "the key is not base64"),
            ("ssh-ed25519 AAAA", "the key is cut off"),
            (
                "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS",
                "the key is of another type than the line says",
            ),
            ("command=\"x ssh-ed25519 AAAA", "a quote in the options is not closed"),
        ] {
            assert_eq!(authorised(line).1, [(1, why)], "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_broken(text in "([a-z=\",\\\\ ]{0,30}(ssh-rsa|ssh-dss) [A-Za-z0-9+/=]{0,60}|\\PC{0,80})\n?") {
            let _ = authorised(&text);
        }

        #[test]
        fn no_bytes_are_too_broken(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut blob = b"\0\0\0\x07ssh-rsa".to_vec();
            blob.extend(bytes);
            let _ = authorised(&format!("ssh-rsa {}", STANDARD.encode(blob)));
        }
    }
}
