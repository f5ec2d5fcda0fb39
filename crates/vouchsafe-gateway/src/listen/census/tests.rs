use super::*;

fn census(all: usize, per_source: usize) -> Arc<Census> {
    Arc::new(Census::new(ConnectionLimits { all, per_source }))
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn stranger(census: &Arc<Census>, from: IpAddr) -> Option<Arc<Place>> {
    let place = census.enter(from, Instant::now())?;
    place.arrived(None);
    Some(place)
}

fn session(number: u8) -> Owner {
    Owner::Session(SessionId::from_random([number; 16]))
}

#[test]
fn places_are_given_back() {
    let census = census(10, 2);
    let (one, two) = (stranger(&census, ip(1)).unwrap(), stranger(&census, ip(1)).unwrap());
    assert!(stranger(&census, ip(1)).is_none());
    assert!(stranger(&census, ip(2)).is_some());
    drop(one);
    assert!(stranger(&census, ip(1)).is_some());
    drop(two);
    let counts = census.counts.lock();
    assert_eq!((counts.all, counts.strangers, counts.arriving, counts.sources.len()), (0, 0, 0, 0));
}

#[test]
fn who_is_proven_counts_for_herself_and_not_for_her_address() {
    let census = census(100, 2);
    let mut held = Vec::new();
    for number in 0..5 {
        let place = stranger(&census, ip(1)).expect("the ones before left their source");
        place.prove(session(number));
        held.push(place);
    }
    // A third connection of one session stays a stranger's.
    let more: Vec<_> = (0..3).filter_map(|_| stranger(&census, ip(2))).collect();
    assert_eq!(more.len(), 2);
    for place in &more {
        place.prove(session(0));
    }
    assert_eq!(census.counts.lock().strangers, 1);
    drop((held, more));
    assert_eq!((census.all(), census.counts.lock().owners.len()), (0, 0));
}

#[test]
fn strangers_leave_a_share_and_the_newest_of_them_are_told_to_come_back() {
    let census = census(8, 100);
    let now = Instant::now();
    let first: Vec<_> = (0..6).map(|_| stranger(&census, ip(1)).unwrap()).collect();
    let late = stranger(&census, ip(2)).expect("there is room to say so");
    assert!(first.iter().all(|place| place.admit(Brings::Nothing, now).is_ok()));
    assert!(matches!(late.admit(Brings::Nothing, now), Err(Refused::Overloaded)));
    // Who has signed in gets in: her cookie is looked at, and then the place is hers.
    assert!(late.admit(Brings::Credential, now).is_ok());
    late.prove(session(1));
    assert!(late.admit(Brings::Nothing, now).is_ok());
}

#[test]
fn requests_of_strangers_have_a_pace_and_good_credentials_buy_no_guesses() {
    let census = census(8, 8);
    let now = Instant::now();
    let place = stranger(&census, ip(1)).unwrap();
    for _ in 0..STRANGER_BURST {
        assert!(place.admit(Brings::Credential, now).is_ok());
    }
    assert!(matches!(place.admit(Brings::Credential, now), Err(Refused::TooFast)));
    let other = stranger(&census, ip(2)).unwrap();
    assert!(other.admit(Brings::Nothing, now).is_ok());
    place.prove(session(1));
    assert!(place.admit(Brings::Credential, now).is_ok());
    place.doubt();
    // Some tokens may have come back meanwhile, but no more than there were.
    let refused = (0..=STRANGER_BURST).any(|_| matches!(place.admit(Brings::Credential, now), Err(Refused::TooFast)));
    assert!(refused, "a doubtful connection is a stranger's again");
    assert!(place.admit(Brings::Credential, now + Duration::from_secs(60)).is_ok());
}

#[test]
fn requests_at_once_are_bounded_by_source() {
    let census = census(8, 8);
    let now = Instant::now();
    let place = stranger(&census, ip(1)).unwrap();
    let held: Vec<_> =
        (0..MAX_STRANGER_REQUESTS_PER_SOURCE).map(|_| place.admit(Brings::Nothing, now).unwrap()).collect();
    assert!(matches!(place.admit(Brings::Nothing, now), Err(Refused::Overloaded)));
    drop(held);
    assert!(place.admit(Brings::Nothing, now).is_ok());
}

#[test]
fn handshakes_are_bounded_by_source() {
    let census = census(10_000, 10_000);
    let held: Vec<_> = (0..MAX_HANDSHAKES_PER_SOURCE).map(|_| census.enter(ip(1), Instant::now()).unwrap()).collect();
    assert!(census.enter(ip(1), Instant::now()).is_none());
    assert!(census.enter(ip(2), Instant::now()).is_some());
    held.first().unwrap().arrived(None);
    assert!(census.enter(ip(1), Instant::now()).is_some());
}

#[test]
fn an_ipv6_network_is_one_source() {
    let census = census(10, 1);
    let _one = stranger(&census, "2001:db8::1".parse().unwrap()).unwrap();
    assert!(stranger(&census, "2001:db8::2".parse().unwrap()).is_none());
    assert!(stranger(&census, "2001:db8:0:1::1".parse().unwrap()).is_some());
}

#[test]
fn inside_a_tunnel_the_device_counts() {
    let census = census(10, 2);
    let device = DeviceId::from_random([1; 16]);
    let now = Instant::now();
    let held = [census.enter_inside(ip(1), device, now).unwrap(), census.enter_inside(ip(2), device, now).unwrap()];
    assert!(census.enter_inside(ip(3), device, now).is_none());
    assert!(stranger(&census, ip(1)).is_some());
    drop(held);
    assert!(census.enter_inside(ip(3), device, now).is_some());
}

#[test]
fn the_secret_of_a_proxy_lets_it_in_whatever_comes_from_its_address() {
    let census = census(8, 8);
    let now = Instant::now();
    let place = stranger(&census, ip(1)).unwrap();
    while place.admit(Brings::Credential, now).is_ok() {}
    assert!(matches!(place.admit(Brings::Credential, now), Err(Refused::TooFast)), "a wrong one is limited");
    for _ in 0..2 * STRANGER_BURST {
        assert!(place.admit(Brings::Proof, now).is_ok());
    }
    // Where strangers have all their share, or sources are no longer counted.
    let _flood: Vec<_> = (0..6).map(|_| stranger(&census, ip(2)).unwrap()).collect();
    let late = stranger(&census, ip(3)).unwrap();
    fill(&census, now);
    assert!(matches!(late.admit(Brings::Nothing, now), Err(Refused::Overloaded)));
    assert!(late.admit(Brings::Proof, now).is_ok());
}

/// Sources that were all just here.
fn fill(census: &Census, now: Instant) {
    for number in 0..=u32::try_from(MAX_SOURCES).unwrap() {
        census.guessed(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), now);
    }
}

#[test]
fn behind_a_proxy_an_address_has_a_pace_of_its_own() {
    let census = census(8, 8);
    let now = Instant::now();
    for _ in 0..STRANGER_BURST {
        assert!(census.may_guess(ip(1), now) && census.may_ask(ip(1), now));
    }
    let shed = census.numbers().shed;
    assert!(!census.may_guess(ip(1), now) && !census.may_ask(ip(1), now));
    assert_eq!(census.numbers().shed, shed + 1, "what is refused is counted");
    assert!(census.may_guess(ip(2), now) && census.may_ask(ip(2), now));
    let later = now + Duration::from_secs(1);
    assert!(census.may_guess(ip(1), later) && census.may_ask(ip(1), later));
}

#[test]
fn where_guesses_can_not_be_counted_there_are_none() {
    let census = census(8, 8);
    let now = Instant::now();
    assert!(census.may_guess(ip(1), now));
    fill(&census, now);
    assert!(!census.may_guess(ip(1), now) && !census.may_ask(ip(1), now));
    assert!(census.may_guess(ip(1), now + Duration::from_secs(1)), "those who were here before have gone");
}
