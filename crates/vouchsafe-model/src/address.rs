//! Addresses of clients, in the one form that policies, records and limits know them by.

use std::net::{IpAddr, Ipv4Addr};

use crate::resource::embedded_v4;

/// The address that a client is known by.
///
/// A client with an IPv4 address may reach us over IPv6, by NAT64, 6to4 or Teredo. It is known by its
/// IPv4 address all the same, so that a policy for a network means everybody in it, and nobody gets
/// a limit of her own for each way in.
///
/// Only a public address is taken out: the others never stand in such forms (RFC 6052 §3.1, RFC 3056 §2),
/// so that `2002:a00:1::` is no way to come from `10.0.0.1`. Answers to a public one go where it is.
#[must_use]
pub fn of_client(address: IpAddr) -> IpAddr {
    let plain = address.to_canonical();
    match (plain, embedded_v4(plain)) {
        (IpAddr::V6(_), IpAddr::V4(inside)) if is_public(inside) => inside.into(),
        _ => plain,
    }
}

/// Whether an address is of the public internet (IANA's special-purpose registry, RFC 6890).
fn is_public(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127 | 240..=255, ..] | [192, 168, ..] | [169, 254, ..] | [198, 18 | 19, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => address.is_multicast(),
    };
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known_by(address: &str) -> String {
        of_client(address.parse().unwrap()).to_string()
    }

    #[test]
    fn an_ipv4_client_is_one_client_whichever_way_it_comes() {
        for way in [
            "9.8.7.6",
            "::ffff:9.8.7.6",
            "64:ff9b::908:706",
            "64:ff9b:1::908:706",
            "2002:908:706::1",
            "2002:908:706:ffff::1",
            "2001:0:4136:e378:8000:63bf:f6f7:f8f9",
        ] {
            assert_eq!(known_by(way), "9.8.7.6", "{way}");
        }
        for other in ["2001:db8::908:706", "2001:4860::1", "::1", "fe80::1", "64:ff9b:2::908:706", "fd00::908:706"] {
            assert_eq!(known_by(other), other);
        }
    }

    #[test]
    fn no_form_of_ipv6_is_a_way_into_a_private_network() {
        for (form, inside) in [
            ("2002:a00:1::1", "10.0.0.1"),
            ("64:ff9b::a00:1", "10.0.0.1"),
            ("64:ff9b:1::c0a8:101", "192.168.1.1"),
            ("2002:7f00:1::1", "127.0.0.1"),
            ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.1"),
            ("64:ff9b::6440:1", "100.64.0.1"),
            ("64:ff9b::ac10:1", "172.16.0.1"),
        ] {
            assert_eq!(known_by(form), form);
            assert_eq!(embedded_v4(form.parse().unwrap()).to_string(), inside);
        }
        // The system itself says so of a socket for both.
        assert_eq!(known_by("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
