//! What becomes of a denial at a resource: it stands, or it passes for a bounded time and from a bounded
//! network, while the resource is being brought under policy (`docs/decisions/0017-modes.md`).

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::address;
use crate::name::UserName;
use crate::resource::embedded_v4;

/// Longest trial, from the moment it is set to its end.
pub const LONGEST_TRIAL: Duration = Duration::from_secs(90 * 86_400);

/// What becomes of a denial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// It stands. What nobody said otherwise of is so.
    #[default]
    Enforce,
    /// It passes for who is signed in, who is told of it.
    Warn(Trial),
    /// It passes for everybody, and is only written down.
    Observe(Trial),
}

/// For whom, from where and until when denials pass, and who answers for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The present boundary: from elsewhere, denials stand.
    pub from: Boundary,
    /// Who answers for it.
    pub owner: UserName,
    /// Why, in one line of at most 200 characters.
    pub reason: String,
    /// From then on denials stand.
    pub until: SystemTime,
}

/// By which mode a denied request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lenience {
    /// [`Mode::Warn`].
    Warn,
    /// [`Mode::Observe`].
    Observe,
}

impl Lenience {
    /// The word in manifests and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Lenience::Warn => "warn",
            Lenience::Observe => "observe",
        }
    }
}

impl fmt::Display for Lenience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Mode {
    /// The word in manifests.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Warn(_) => Lenience::Warn.as_str(),
            Mode::Observe(_) => Lenience::Observe.as_str(),
        }
    }

    /// The trial, over or not.
    #[must_use]
    pub fn trial(&self) -> Option<(Lenience, &Trial)> {
        match self {
            Mode::Enforce => None,
            Mode::Warn(trial) => Some((Lenience::Warn, trial)),
            Mode::Observe(trial) => Some((Lenience::Observe, trial)),
        }
    }

    /// By what a denial of a request from there passes at that moment; `None` is enforcement.
    #[must_use]
    pub fn in_force(&self, from: IpAddr, now: SystemTime) -> Option<(Lenience, &Trial)> {
        self.trial().filter(|(_, trial)| trial.runs(now) && trial.from.contains(from))
    }
}

impl Trial {
    /// Whether it isn't over. By a clock that has it end later than any trial can, it is: such a clock is wrong.
    #[must_use]
    pub fn runs(&self, now: SystemTime) -> bool {
        self.until.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= LONGEST_TRIAL)
    }
}

/// Networks, at least one and at most [`Boundary::MOST`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(Vec<IpNet>);

/// Failure to accept a boundary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoundaryError {
    /// There is none, or there are too many.
    #[error("the boundary has {given} networks, but must have 1 to {}", Boundary::MOST)]
    Count {
        /// How many.
        given: usize,
    },
    /// It isn't a network in its one form.
    #[error("`{given}` is not a network such as `10.0.0.0/8` or `2001:db8::/32`{}", meant.as_ref().map(|meant| format!("; do you mean `{meant}`?")).unwrap_or_default())]
    Shape {
        /// The text as given, shortened.
        given: String,
        /// The network that it may mean.
        meant: Option<String>,
    },
    /// Clients of it are known by their IPv4 addresses.
    #[error("`{given}` holds IPv4 addresses in the form of IPv6; write the IPv4 network itself")]
    Embedded {
        /// The network.
        given: IpNet,
    },
    /// It is more than the boundary of anybody.
    #[error(
        "`{given}` is too wide: a public network has at least /{least}, and a private one lies within its own range"
    )]
    Wide {
        /// The network.
        given: IpNet,
        /// Least length of a prefix.
        least: u8,
    },
}

/// Shortest prefixes of networks that are not private.
const LEAST_V4: u8 = 16;
const LEAST_V6: u8 = 32;

/// Networks that nobody reaches over the internet: RFC 1918, RFC 6598, loopback, link-local, and each half of
/// the unique local addresses (RFC 4193).
const PRIVATE: [&str; 10] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/8",
    "fd00::/8",
    "fe80::/10",
    "::1/128",
];

impl Boundary {
    /// Most networks of one boundary.
    pub const MOST: usize = 32;

    /// Reads networks, each in its one form: no host bits, no leading zeros, IPv6 as in RFC 5952.
    ///
    /// # Errors
    /// [`BoundaryError`] names the first that isn't acceptable.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, BoundaryError> {
        if !(1..=Self::MOST).contains(&texts.len()) {
            return Err(BoundaryError::Count { given: texts.len() });
        }
        let mut networks = texts.iter().map(|text| network(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        networks.sort();
        networks.dedup();
        Ok(Self(networks))
    }

    /// Whether a client of that address is inside. An address is compared in the form that clients are known by.
    #[must_use]
    pub fn contains(&self, client: IpAddr) -> bool {
        let client = address::of_client(client);
        self.0.iter().any(|network| network.contains(&client))
    }

    /// Its networks as text.
    pub fn networks(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

fn network(text: &str) -> Result<IpNet, BoundaryError> {
    let given = || text.chars().take(60).flat_map(char::escape_default).collect::<String>();
    let read: Option<IpNet> = text.parse().ok();
    let network = match read {
        Some(network) if network.trunc().to_string() == text => network,
        Some(network) => return Err(BoundaryError::Shape { given: given(), meant: Some(network.trunc().to_string()) }),
        None => {
            let meant = text.parse::<IpAddr>().ok().map(|address| IpNet::from(address).to_string());
            return Err(BoundaryError::Shape { given: given(), meant });
        }
    };
    let least = if network.addr().is_ipv4() { LEAST_V4 } else { LEAST_V6 };
    let mut private = PRIVATE.iter().filter_map(|private| private.parse::<IpNet>().ok());
    if private.any(|private| private.contains(&network)) {
        return Ok(network);
    }
    if network.prefix_len() < least {
        return Err(BoundaryError::Wide { given: network, least });
    }
    let embeds = match network.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.segments().first() == Some(&0) || embedded_v4(v6.into()).is_ipv4(),
    };
    if embeds {
        return Err(BoundaryError::Embedded { given: network });
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn trial(from: &[&str], until: u64) -> Trial {
        Trial {
            from: Boundary::parse(from).unwrap(),
            owner: UserName::parse("alice").unwrap(),
            reason: "moving in".to_owned(),
            until: UNIX_EPOCH + Duration::from_secs(until),
        }
    }

    #[test]
    fn i14_no_boundary_is_the_whole_world() {
        for wide in [
            "0.0.0.0/0",
            "::/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "8.0.0.0/8",
            "11.0.0.0/15",
            "10.0.0.0/7",
            "172.0.0.0/8",
            "2000::/3",
            "fc00::/7",
            "2001:db8::/31",
            "::/32",
            "64:ff9b::/96",
            "2002:a00::/32",
            "::ffff:10.0.0.0/104",
            "::ffff:0.0.0.0/96",
            "2001:0:1::/48",
        ] {
            let refused = Boundary::parse(&[wide]).unwrap_err();
            assert!(!matches!(refused, BoundaryError::Count { .. }), "{wide}: {refused}");
        }
        for near in [
            "10.0.0.7/8",
            "10.0.0.0",
            "10.0.0.0/08",
            "10/8",
            "FD00::/8",
            "fd00:0::/8",
            " 10.0.0.0/8",
            "",
            "any",
            "10.0.0.0/8,::/0",
        ] {
            assert!(matches!(Boundary::parse(&[near]), Err(BoundaryError::Shape { .. })), "{near}");
        }
        assert!(Boundary::parse::<&str>(&[]).is_err());
        assert!(Boundary::parse(&vec!["10.0.0.0/8"; 33]).is_err());
        let said = Boundary::parse(&["10.1.2.3/8"]).unwrap_err().to_string();
        assert!(said.contains("do you mean `10.0.0.0/8`"), "{said}");
    }

    #[test]
    fn usual_boundaries_are_accepted_and_hold_who_is_inside() {
        let boundary = Boundary::parse(&[
            "192.168.0.0/16",
            "10.0.0.0/8",
            "203.0.113.0/24",
            "2001:db8::/48",
            "::1/128",
            "10.0.0.0/8",
        ])
        .unwrap();
        let networks: Vec<String> = boundary.networks().collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.168.0.0/16", "203.0.113.0/24", "::1/128", "2001:db8::/48"]);
        let holds = |address: &str| boundary.contains(address.parse().unwrap());
        for inside in ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "203.0.113.9", "2001:db8::1", "::1"] {
            assert!(holds(inside), "{inside}");
        }
        // No form of IPv6 is a way into a private network.
        for outside in
            ["11.0.0.0", "9.255.255.255", "2001:db8:1::", "::", "2002:a00:1::1", "64:ff9b::a00:1", "::10.0.0.1"]
        {
            assert!(!holds(outside), "{outside}");
        }
    }

    #[test]
    fn i14_a_trial_ends_to_the_instant_and_not_later_by_a_clock_that_is_far_back() {
        let day = 86_400;
        let trial = trial(&["10.0.0.0/8"], 1_000 * day);
        let runs = |seconds: u64| trial.runs(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(runs(1_000 * day - 1) && runs(910 * day));
        assert!(!runs(1_000 * day) && !runs(1_000 * day + 1) && !runs(2_000 * day));
        assert!(!runs(910 * day - 1) && !runs(0));
    }

    proptest! {
        #[test]
        fn i14_a_mode_is_in_force_only_inside_and_in_time(octets in any::<[u8; 4]>(), now in 0_u64..200, observes in any::<bool>()) {
            let day = |days: u64| UNIX_EPOCH + Duration::from_secs(days * 86_400);
            let trial = trial(&["10.0.0.0/9", "192.0.2.0/24"], 100 * 86_400);
            let mode = if observes { Mode::Observe(trial) } else { Mode::Warn(trial) };
            let inside = (octets[0] == 10 && octets[1] < 128) || octets[..3] == [192, 0, 2];
            let expected = inside && (10..100).contains(&now);
            prop_assert_eq!(mode.in_force(IpAddr::from(octets), day(now)).is_some(), expected);
            prop_assert!(Mode::Enforce.in_force(IpAddr::from(octets), day(now)).is_none());
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[0-9a-f:./]{0,24}") {
            if let Ok(boundary) = Boundary::parse(&[&text]) {
                prop_assert_eq!(boundary.networks().collect::<Vec<_>>(), [text]);
            }
        }
    }
}
