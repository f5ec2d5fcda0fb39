//! Circumstances of which one lies between any two that policies tell apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vouchsafe_model::action::Action;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::{DeviceName, Tag, UserName};
use vouchsafe_model::resource::{Resource, ResourceSpec};
use vouchsafe_model::subject::{DeviceFacts, Grade};

use crate::engine::Entry;
use crate::evaluator::{Inputs, Mentions};
use crate::request::{KeyAgreement, OwnedDetail};

/// Most tags of which every combination is tried.
const MAX_TAGS: usize = 4;
/// Most points of one grid.
const MAX_POINTS: usize = 50_000;
/// A name that stands for a user whom no policy names.
const SOMEBODY_ELSE: &str = "somebody-else";

const BOTH: [KeyAgreement; 2] = [KeyAgreement::Other, KeyAgreement::PostQuantum];

/// Values to try, each with each.
pub(super) struct Grid {
    pub(super) devices: Vec<Option<DeviceFacts>>,
    pub(super) times: Vec<SystemTime>,
    /// Seconds since the sign-in.
    pub(super) ages: Vec<u64>,
    pub(super) ips: Vec<IpAddr>,
    pub(super) details: Vec<OwnedDetail>,
    agreements: &'static [KeyAgreement],
    /// Whether nothing lies between that isn't tried.
    pub(super) exact: bool,
}

impl Grid {
    pub(super) fn of(
        policies: &[&Entry],
        user: &UserName,
        resource: &Resource,
        host: &str,
        action: Action,
        now: SystemTime,
    ) -> Self {
        let conditions = || policies.iter().filter_map(|entry| entry.condition.as_deref());
        let mentions = Mentions::of(conditions());
        let mut inputs = Inputs::default();
        conditions().for_each(|condition| inputs.add(condition.inputs()));
        let mut exact = !mentions.beyond && !inputs.numbers_themselves();
        let devices = devices(&mentions, user, &mut exact);
        let ends = policies.iter().filter_map(|entry| entry.ends());
        let mut grid = Self {
            devices,
            times: times(&inputs, ends, now),
            ages: ages(&inputs),
            ips: ips(&mentions),
            details: details(&mentions, resource, host, action),
            agreements: if inputs.agreement() { &BOTH } else { &[KeyAgreement::Other] },
            exact,
        };
        if grid.points() > MAX_POINTS {
            grid.exact = false;
            grid.times.truncate(1);
            while grid.points() > MAX_POINTS && (grid.details.len() > 1 || grid.ips.len() > 1) {
                grid.details.truncate(grid.details.len().div_ceil(2));
                grid.ips.truncate(grid.ips.len().div_ceil(2));
            }
        }
        grid
    }

    pub(super) fn points(&self) -> usize {
        let lengths = [self.devices.len(), self.times.len(), self.ages.len(), self.ips.len(), self.details.len()];
        lengths.into_iter().fold(self.agreements.len(), usize::saturating_mul)
    }

    /// What is asked for, on each kind of connection.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&OwnedDetail, KeyAgreement)> {
        self.details.iter().flat_map(|detail| self.agreements.iter().map(move |agreement| (detail, *agreement)))
    }
}

fn devices(mentions: &Mentions, user: &UserName, exact: &mut bool) -> Vec<Option<DeviceFacts>> {
    let tags: Vec<Tag> = mentions.tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
    let mut sets: Vec<BTreeSet<Tag>> = vec![BTreeSet::new()];
    if tags.len() <= MAX_TAGS {
        for tag in &tags {
            let with = sets.iter().cloned().map(|mut set| {
                set.insert(tag.clone());
                set
            });
            let with: Vec<_> = with.collect();
            sets.extend(with);
        }
    } else {
        *exact = false;
        sets.extend(tags.iter().map(|tag| BTreeSet::from([tag.clone()])));
        sets.push(tags.iter().cloned().collect());
    }
    let mut owners = vec![Some(user.clone())];
    if mentions.owner {
        owners.push(None);
        owners.extend(UserName::parse(SOMEBODY_ELSE).ok().map(Some));
        owners.extend(mentions.owners.iter().filter_map(|owner| UserName::parse(owner).ok()).map(Some));
    }
    let names = mentions.device_names.iter().map(String::as_str).chain(["device"]);
    let names: Vec<DeviceName> = names.filter_map(|name| DeviceName::parse(name).ok()).collect();
    let mut devices = vec![None];
    for grade in [Grade::Software, Grade::Hardware, Grade::HardwareAttested] {
        for name in &names {
            for owner in &owners {
                for tags in &sets {
                    devices.push(Some(DeviceFacts {
                        id: DeviceId::from_random([0; 16]),
                        name: name.clone(),
                        grade,
                        owner: owner.clone(),
                        tags: tags.clone(),
                    }));
                }
            }
        }
    }
    devices
}

/// Now, and what lies ahead: a policy that is past makes no difference any more.
fn times(inputs: &Inputs, ends: impl Iterator<Item = SystemTime>, now: SystemTime) -> Vec<SystemTime> {
    let second = Duration::from_secs(1);
    let compared = inputs
        .times()
        .iter()
        .filter_map(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(*millis).ok()?)));
    let around = |at: SystemTime| [at.checked_sub(second), Some(at), at.checked_add(second)].into_iter().flatten();
    let ahead: BTreeSet<SystemTime> = compared.chain(ends).flat_map(around).filter(|at| *at > now).collect();
    std::iter::once(now).chain(ahead).collect()
}

fn ages(inputs: &Inputs) -> Vec<u64> {
    let around = |age: &i64| [age.saturating_sub(1), *age, age.saturating_add(1)];
    let compared = inputs.ages().iter().flat_map(around).filter_map(|age| u64::try_from(age).ok());
    let mut ages: BTreeSet<u64> = compared.chain([0]).collect();
    if inputs.numbers_themselves() {
        ages.extend([60, 3_600, 86_400]);
    }
    ages.into_iter().collect()
}

/// Networks lie in each other or apart, so each of what they leave of each other begins or ends at an
/// end of one, or right beside it.
fn ips(mentions: &Mentions) -> Vec<IpAddr> {
    let mut ips = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
    if !mentions.reads_ip {
        return ips;
    }
    ips.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1))]);
    ips.extend([IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    ips.push(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)));
    for network in &mentions.networks {
        let (address, length) = match network.split_once('/') {
            Some((address, length)) => (address, length.parse::<u32>().ok()),
            None => (network.as_str(), None),
        };
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                let host = 32_u32.saturating_sub(length.unwrap_or(32));
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                let (first, last) = (address.to_bits() & mask, address.to_bits() | !mask);
                let ends = [first.checked_sub(1), Some(first), Some(last), last.checked_add(1)];
                ips.extend(ends.into_iter().flatten().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))));
            }
            Ok(IpAddr::V6(address)) => {
                let host = 128_u32.saturating_sub(length.unwrap_or(128));
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                let (first, last) = (address.to_bits() & mask, address.to_bits() | !mask);
                let ends = [first.checked_sub(1), Some(first), Some(last), last.checked_add(1)];
                ips.extend(ends.into_iter().flatten().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
            }
            Err(_) => {}
        }
    }
    let mut seen = BTreeSet::new();
    ips.retain(|ip| seen.insert(*ip));
    ips
}

fn details(mentions: &Mentions, resource: &Resource, host: &str, action: Action) -> Vec<OwnedDetail> {
    match action {
        Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => {
            let reading = ["GET", "HEAD", "OPTIONS"];
            let usual: &[&str] = match action {
                Action::HttpWrite => &["POST", "PUT", "PATCH", "DELETE"],
                Action::HttpRead if !mentions.methods.is_empty() => &reading,
                _ => &["GET"],
            };
            let usual = if mentions.methods.is_empty() { usual.get(..1).unwrap_or_default() } else { usual };
            let is_read = |method: &str| reading.contains(&method);
            let mentioned = mentions.methods.iter().map(String::as_str).filter(|method| match action {
                Action::HttpRead => is_read(method),
                Action::HttpWrite => !is_read(method),
                _ => false,
            });
            let methods: BTreeSet<&str> = usual.iter().copied().chain(mentioned).collect();
            let paths = if mentions.paths.is_read { mentions.paths.values(&["/", "/~"]) } else { vec!["/".to_owned()] };
            let mut details = Vec::new();
            for method in methods {
                for path in &paths {
                    let (method, host, path) = (method.to_owned(), host.to_owned(), path.clone());
                    details.push(OwnedDetail::Http { method, host, path });
                }
            }
            details
        }
        Action::NetConnect => {
            let port = match &resource.spec {
                ResourceSpec::Tcp(tcp) => tcp.port,
                ResourceSpec::Udp(udp) => udp.port,
                ResourceSpec::Http(_) | ResourceSpec::Console => 0,
            };
            vec![OwnedDetail::Net { port }]
        }
        Action::ConsoleRead | Action::ConsoleWrite => {
            let usual = if action == Action::ConsoleRead { "GET /v1/status" } else { "POST /v1/policy/publish" };
            let operations = mentions.operations.values(&[usual]);
            operations.into_iter().map(|operation| OwnedDetail::Console { operation }).collect()
        }
    }
}
