//! The log of OpenSSH's server, as syslog or the journal writes it: who was let in on which host.

use std::borrow::Cow;
use std::net::IpAddr;

use memchr::{memchr, memmem};
use vouchsafe_model::action::Action;

use crate::format::{Access, NO_TEXT, Read, text};
use crate::time::{self, Clock};

/// Ways to be let in, as the server calls them.
const WAYS: [&[u8]; 5] = [b"publickey", b"password", b"keyboard-interactive/pam", b"gssapi-with-mic", b"hostbased"];

pub(crate) fn read<'l>(line: &'l [u8], clock: &Clock) -> Read<'l> {
    let Some((at, rest)) = moment(line, clock) else {
        return Read::Malformed("it doesn't begin with a time as syslog writes it");
    };
    // `host sshd[4711]: message`
    let header = || {
        let (host, rest) = rest.split_at_checked(memchr(b' ', rest)?)?;
        let rest = rest.get(1..)?;
        let (tag, message) = rest.split_at_checked(memmem::find(rest, b": ")?)?;
        Some((host, tag, message.get(2..)?))
    };
    let Some((host, tag, message)) = header() else { return Read::Other };
    if !is_sshd(tag) {
        return Read::Other;
    }
    let Some(accepted) = message.strip_prefix(b"Accepted ") else {
        // The name in these is what somebody typed.
        let refused: [&[u8]; 4] =
            [b"Failed ", b"Invalid user ", b"Connection closed by ", b"maximum authentication attempts "];
        return if refused.iter().any(|begin| message.starts_with(begin)) { Read::Refused } else { Read::Other };
    };
    let Some(user) = accepted_user(accepted) else {
        return Read::Malformed("its `Accepted` doesn't go on as OpenSSH writes it");
    };
    let (Some(user), Some(place)) = (text(Cow::Borrowed(user)), text(Cow::Borrowed(host))) else {
        return Read::Malformed(NO_TEXT);
    };
    Read::Access(Access { user: Some(user), place: Some(place), action: Action::NetConnect, at })
}

/// The time at the beginning, and what stands behind the blank after it.
fn moment<'l>(line: &'l [u8], clock: &Clock) -> Option<(u64, &'l [u8])> {
    if line.first()?.is_ascii_digit() {
        let (time, rest) = line.split_at_checked(memchr(b' ', line)?)?;
        return Some((time::iso(time, clock)?, rest.get(1..)?));
    }
    let (time, rest) = line.split_at_checked(15)?;
    Some((time::syslog(time, clock)?, rest.strip_prefix(b" ")?))
}

/// `sshd[4711]`, and `sshd-session[4711]` since OpenSSH 9.8.
fn is_sshd(tag: &[u8]) -> bool {
    let number = tag
        .strip_prefix(b"sshd[")
        .or_else(|| tag.strip_prefix(b"sshd-session["))
        .and_then(|rest| rest.strip_suffix(b"]"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Of `publickey for ann from 10.0.0.5 port 5022 ssh2: ED25519 SHA256:…`. It is read to the end, since names in
/// other messages may pretend to be this one.
fn accepted_user(text: &[u8]) -> Option<&[u8]> {
    let mut words = text.split(|byte| *byte == b' ');
    let way = words.next()?;
    let submethod =
        way.strip_prefix(b"keyboard-interactive/").is_some_and(|rest| rest.iter().all(u8::is_ascii_alphanumeric));
    (WAYS.contains(&way) || submethod).then_some(())?;
    (words.next()? == b"for").then_some(())?;
    let user = words.next().filter(|user| !user.is_empty())?;
    (words.next()? == b"from").then_some(())?;
    std::str::from_utf8(words.next()?).ok()?.parse::<IpAddr>().ok()?;
    (words.next()? == b"port").then_some(())?;
    std::str::from_utf8(words.next()?).ok()?.parse::<u16>().ok()?;
    let protocol = words.next()?;
    (protocol == b"ssh2" && words.next().is_none() || protocol == b"ssh2:").then_some(user)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u64 = 1_795_788_182;
    const CLOCK: Clock = Clock { offset: None, now: AT + 9 };

    fn told(line: &str) -> String {
        match read(line.as_bytes(), &CLOCK) {
            Read::Access(Access { user, place, action, at }) => {
                assert_eq!(at, AT);
                format!("{} {} {action}", user.as_deref().unwrap_or("nobody"), place.as_deref().unwrap_or("nowhere"))
            }
            Read::Refused => "refused".to_owned(),
            Read::Other => "other".to_owned(),
            Read::Malformed(why) => format!("malformed: {why}"),
        }
    }

    #[test]
    fn lines_of_syslog_and_the_journal() {
        let key = "Accepted publickey for ann from 10.0.0.5 port 5022 ssh2: ED25519 SHA256:abc/def+";
        for begin in [
            "Nov 27 14:03:02 build sshd[811]: ",
            "2026-11-27T14:03:02.123456+00:00 build sshd[811]: ",
            "2026-11-27T15:03:02+0100 build sshd-session[811]: ",
        ] {
            assert_eq!(told(&format!("{begin}{key}")), "ann build net:connect");
            assert_eq!(
                told(&format!("{begin}Accepted password for ann from fd00::5 port 5022 ssh2")),
                "ann build net:connect"
            );
            assert_eq!(
                told(&format!("{begin}Accepted keyboard-interactive/pam for ann from ::1 port 1 ssh2")),
                "ann build net:connect"
            );
            assert_eq!(told(&format!("{begin}Failed password for ann from 10.0.0.5 port 5022 ssh2")), "refused");
            assert_eq!(told(&format!("{begin}Server listening on :: port 22.")), "other");
        }
        assert_eq!(told(&format!("Nov 27 14:03:02 build sudo[811]: {key}")), "other");
        assert!(told(key).starts_with("malformed"), "there is no time");
        assert!(told("").starts_with("malformed"));
    }

    #[test]
    fn a_name_that_was_typed_cannot_pretend_to_be_let_in() {
        let begin = "Nov 27 14:03:02 build sshd[811]: ";
        let forged = "Accepted password for root from 10.0.0.5 port 5022 ssh2";
        assert_eq!(told(&format!("{begin}Invalid user x {forged} from 10.0.0.5 port 5022")), "refused");
        assert_eq!(
            told(&format!("{begin}Failed password for invalid user sshd[1]: {forged} from 1.2.3.4 port 1 ssh2")),
            "refused"
        );
        assert_eq!(told(&format!("Nov 27 14:03:02 build app: sshd[811]: {forged}")), "other");
        assert_eq!(told(&format!("Nov 27 14:03:02 build sshd[8x]: {forged}")), "other");
        for bad in [
            "Accepted password for ann b from 10.0.0.5 port 5022 ssh2",
            "Accepted password for  from 10.0.0.5 port 5022 ssh2",
            "Accepted password for ann from 10.0.0 port 5022 ssh2",
            "Accepted password for ann from 10.0.0.5 port 70000 ssh2",
            "Accepted password for ann from 10.0.0.5 port 5022 ssh2 more",
            "Accepted magic for ann from 10.0.0.5 port 5022 ssh2",
            "Accepted password for ann",
        ] {
            assert!(told(&format!("{begin}{bad}")).starts_with("malformed"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_are_read_back(name in "[!-~]{1,32}") {
            let line = format!("Nov 27 14:03:02 build sshd[811]: Accepted publickey for {name} from ::1 port 1 ssh2: X Y");
            prop_assert_eq!(told(&line), format!("{name} build net:connect"));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), near in "(Nov 27 14:03:02 b sshd\\[1\\]: Accepted )?[a-z0-9 :./]{0,80}") {
            let _ = read(&bytes, &CLOCK);
            let _ = read(near.as_bytes(), &CLOCK);
        }
    }
}
