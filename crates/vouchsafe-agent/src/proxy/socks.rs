//! The server's half of SOCKS5 (RFC 1928) up to the request, without I/O: no authentication,
//! CONNECT, domain names.

use vouchsafe_wire::authority::Authority;

/// Longest message, bytes: a request with a name of 255.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 + 1 + 255 + 2;

/// Reply codes (RFC 1928 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Succeeded = 0,
    GeneralFailure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

impl Reply {
    /// The reply with an address that says nothing: which one the gateway uses is not ours to tell.
    pub(crate) const fn message(self) -> [u8; 10] {
        [5, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// What to do after the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read more.
    More,
    /// Send this and go on.
    Answer(&'static [u8]),
    /// The request is whole; `rest` came behind it.
    Connect { target: Authority, port: u16, rest: Vec<u8> },
    /// Send this and close.
    Refuse(Vec<u8>),
}

/// Takes bytes until there is a request.
#[derive(Debug, Default)]
pub(crate) struct Socks5 {
    greeted: bool,
    buffer: Vec<u8>,
}

impl Socks5 {
    /// Takes some more bytes.
    pub(crate) fn handle(&mut self, bytes: &[u8]) -> Step {
        self.buffer.extend_from_slice(bytes);
        if self.greeted { self.request() } else { self.greeting() }
    }

    /// `VER NMETHODS METHODS…`
    fn greeting(&mut self) -> Step {
        let (version, methods) = match self.buffer.as_slice() {
            [] | [5] => return Step::More,
            [version, count, rest @ ..] => match rest.get(..usize::from(*count)) {
                Some(methods) => (*version, methods),
                None if *version == 5 => return Step::More,
                None => return Step::Refuse(Vec::new()),
            },
            [_] => return Step::Refuse(Vec::new()),
        };
        if version != 5 {
            return Step::Refuse(Vec::new());
        }
        if !methods.contains(&0) {
            return Step::Refuse(vec![5, 0xff]);
        }
        let length = 2 + methods.len();
        self.buffer.drain(..length);
        self.greeted = true;
        Step::Answer(&[5, 0])
    }

    /// `VER CMD RSV ATYP DST.ADDR DST.PORT`
    fn request(&mut self) -> Step {
        let refuse = |reply: Reply| Step::Refuse(reply.message().to_vec());
        let (command, kind, rest) = match self.buffer.as_slice() {
            [5, command, 0, kind, rest @ ..] => (*command, *kind, rest),
            [] | [5] | [5, _] | [5, _, 0] => return Step::More,
            _ => return refuse(Reply::GeneralFailure),
        };
        if command != 1 {
            return refuse(Reply::CommandNotSupported);
        }
        // Resources have names. An address is what a client makes of a name that it looked up
        // itself (`socks5` in place of `socks5h`).
        if kind != 3 {
            return refuse(Reply::AddressTypeNotSupported);
        }
        let Some((length, rest)) = rest.split_first() else { return Step::More };
        let length = usize::from(*length);
        let (Some(name), Some([high, low])) = (rest.get(..length), rest.get(length..length + 2)) else {
            return Step::More;
        };
        let port = u16::from_be_bytes([*high, *low]);
        let target = std::str::from_utf8(name).ok().and_then(|name| Authority::parse(name).ok());
        match target {
            Some(target) if target.port.is_none() && port != 0 => {
                let rest = rest.get(length + 2..).unwrap_or_default().to_vec();
                Step::Connect { target, port, rest }
            }
            _ => refuse(Reply::NotAllowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(name: &[u8], port: u16) -> Vec<u8> {
        let mut bytes = vec![5, 1, 0, 3, name.len() as u8];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes
    }

    fn greeted() -> Socks5 {
        let mut socks = Socks5::default();
        assert_eq!(socks.handle(&[5, 2, 1, 0]), Step::Answer(&[5, 0]));
        socks
    }

    #[test]
    fn a_name_is_connected_to_and_early_bytes_are_kept() {
        let mut bytes = request(b"DB.Corp.Example", 5432);
        bytes.extend_from_slice(b"early");
        let target = Authority { host: "db.corp.example".into(), port: None };
        assert_eq!(greeted().handle(&bytes), Step::Connect { target, port: 5432, rest: b"early".to_vec() });
    }

    #[test]
    fn what_we_do_not_do_is_refused_with_its_own_code() {
        let code = |bytes: &[u8]| match greeted().handle(bytes) {
            Step::Refuse(message) => message[1],
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 80]), 8, "IPv4");
        assert_eq!(code(&[5, 1, 0, 4, 0, 0]), 8, "IPv6");
        assert_eq!(code(&[5, 2, 0, 3, 1, b'a', 0, 80]), 7, "BIND");
        assert_eq!(code(&[5, 3, 0, 3, 1, b'a', 0, 80]), 7, "UDP ASSOCIATE");
        assert_eq!(code(&[5, 1, 9, 3, 1, b'a', 0, 80]), 1, "reserved byte");
        assert_eq!(code(&request(b"127.0.0.1", 80)), 2, "an address that pretends to be a name");
        assert_eq!(code(&request(b"a.b:443", 80)), 2, "a port in the name");
        assert_eq!(code(&request(b"a\0b", 80)), 2);
        assert_eq!(code(&request(b"a.b", 0)), 2);
    }

    #[test]
    fn other_versions_and_passwords_are_refused() {
        assert_eq!(Socks5::default().handle(&[4, 1, 0, 80]), Step::Refuse(Vec::new()));
        assert_eq!(Socks5::default().handle(&[5, 1, 2]), Step::Refuse(vec![5, 0xff]));
        assert_eq!(Socks5::default().handle(&[5, 0]), Step::Refuse(vec![5, 0xff]));
    }

    proptest! {
        #[test]
        fn any_cut_of_a_dialogue_reads_the_same(cuts in proptest::collection::vec(1usize..9, 1..40)) {
            let mut bytes = vec![5, 1, 0];
            bytes.extend(request(b"wiki.corp.example", 443));
            let mut socks = Socks5::default();
            let mut left = bytes.as_slice();
            let mut last = Step::More;
            for cut in cuts.into_iter().cycle() {
                if left.is_empty() { break; }
                let (now, later) = left.split_at(cut.min(left.len()));
                left = later;
                last = socks.handle(now);
                if matches!(last, Step::Answer(_)) { last = socks.handle(&[]); }
            }
            let target = Authority { host: "wiki.corp.example".into(), port: None };
            prop_assert_eq!(last, Step::Connect { target, port: 443, rest: Vec::new() });
        }

        #[test]
        fn anything_is_answered_within_the_bound(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let mut socks = Socks5::default();
            let mut step = socks.handle(&bytes);
            if matches!(step, Step::Answer(_)) { step = socks.handle(&[]); }
            prop_assert!(step != Step::More || socks.buffer.len() <= MAX_MESSAGE_BYTES);
        }
    }
}
