//! What listens, joined with what the configurations and the firewall say about it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::drafts::{self, Draft};
use crate::finding::{Area, Evidence, Severity};
use crate::firewall::{Firewall, Protocol, Reach};
use crate::kinds::{self, Kind};
use crate::listening::Socket;
use crate::notes::Notes;
use crate::postgres::Database;
use crate::ssh::Ssh;
use crate::web::{Bind, Site};

/// Who can open a connection, as far as this host decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// Whoever reaches the host.
    Everybody,
    /// A rule of the firewall could not be judged, or the rules were not read.
    Unknown,
    /// Some networks.
    Networks,
    /// Only processes of the host itself.
    ThisHost,
    /// The firewall lets nobody in.
    Nobody,
}

impl Who {
    /// As a person reads it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Unknown => "not known",
            Self::Networks => "some networks",
            Self::ThisHost => "this host only",
            Self::Nobody => "nobody",
        }
    }
}

/// What a service is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// OpenSSH.
    Ssh,
    /// PostgreSQL.
    Postgres,
    /// A web server or proxy with TLS.
    Https,
    /// A web server or proxy without TLS.
    Http,
    /// vouchsafe itself.
    Vouchsafe,
    /// Anything else.
    Other,
}

/// Something that listens.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    /// What people call it.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Addresses; `*` for every one.
    pub addresses: Vec<String>,
    /// Port.
    pub port: u16,
    /// Name of the process, where it could be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// What it is.
    pub what: What,
    /// Who can open a connection.
    pub who: Who,
    /// The networks that can, where it is some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Whether what is sent is encrypted, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// Names of the sites that it serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// A configuration says so; whether it runs was not seen.
    pub configured_only: bool,
    /// Where it can be seen.
    pub evidence: Vec<Evidence>,
    #[serde(skip)]
    pub(crate) bound: Vec<IpAddr>,
}

/// All services, and a draft for each that can have one.
#[derive(Debug, Default)]
pub(crate) struct Services {
    pub all: Vec<Service>,
    pub drafts: Vec<Draft>,
}

/// Ports and processes that should not be met on the network.
static RISKY: &[(&Kind, &str, u16, &str)] = &[
    (&kinds::LISTEN_DATA_STORE, "redis-server", 6379, "Redis"),
    (&kinds::LISTEN_DATA_STORE, "valkey-server", 6379, "Valkey"),
    (&kinds::LISTEN_DATA_STORE, "mysqld", 3306, "MySQL"),
    (&kinds::LISTEN_DATA_STORE, "mariadbd", 3306, "MariaDB"),
    (&kinds::LISTEN_DATA_STORE, "mongod", 27017, "MongoDB"),
    (&kinds::LISTEN_DATA_STORE, "memcached", 11211, "memcached"),
    (&kinds::LISTEN_DATA_STORE, "", 9200, "Elasticsearch"),
    (&kinds::LISTEN_DATA_STORE, "", 5984, "CouchDB"),
    (&kinds::LISTEN_DATA_STORE, "", 9042, "Cassandra"),
    (&kinds::LISTEN_DATA_STORE, "influxd", 8086, "InfluxDB"),
    (&kinds::LISTEN_CLEARTEXT, "telnetd", 23, "Telnet"),
    (&kinds::LISTEN_CLEARTEXT, "", 21, "FTP"),
    (&kinds::LISTEN_CLEARTEXT, "", 512, "rexec"),
    (&kinds::LISTEN_CLEARTEXT, "", 513, "rlogin"),
    (&kinds::LISTEN_CLEARTEXT, "rpcbind", 111, "rpcbind"),
    (&kinds::LISTEN_CLEARTEXT, "", 5900, "VNC"),
    (&kinds::LISTEN_CLEARTEXT, "Xorg", 6000, "X11"),
    (&kinds::LISTEN_MANAGEMENT, "dockerd", 2375, "the container engine"),
    (&kinds::LISTEN_MANAGEMENT, "etcd", 2379, "etcd"),
    (&kinds::LISTEN_MANAGEMENT, "kubelet", 10250, "the kubelet"),
    (&kinds::LISTEN_MANAGEMENT, "consul", 8500, "Consul"),
    (&kinds::LISTEN_MANAGEMENT, "", 10000, "Webmin"),
];

/// Joins everything.
pub(crate) fn join(
    sockets: &[Socket],
    ssh: &Ssh,
    databases: &[Database],
    sites: &[Site],
    firewall: &Firewall,
    notes: &mut Notes,
) -> Services {
    let mut services = Services::default();
    let places = if sockets.is_empty() { configured(ssh, databases, sites) } else { gathered(sockets) };
    for place in places {
        services.all.push(service(place, ssh, databases, sites, firewall));
    }
    services.all.sort_by(|one, two| (one.who, one.port, one.protocol).cmp(&(two.who, two.port, two.protocol)));
    for service in &services.all {
        judge(service, notes);
    }
    services.drafts = drafts::of(&services.all, databases, sites);
    services
}

/// One port of one process, with all its addresses.
#[derive(Debug)]
struct Place {
    protocol: Protocol,
    port: u16,
    process: Option<String>,
    addresses: Vec<IpAddr>,
    evidence: Vec<Evidence>,
    configured_only: bool,
}

fn gathered(sockets: &[Socket]) -> Vec<Place> {
    let mut places: BTreeMap<(Protocol, u16, Option<&str>, bool), Place> = BTreeMap::new();
    for socket in sockets {
        // What listens to this host only is apart from what listens to others.
        let key = (socket.protocol, socket.port, socket.process.as_deref(), socket.address.is_loopback());
        let place = places.entry(key).or_insert_with(|| Place {
            protocol: socket.protocol,
            port: socket.port,
            process: socket.process.clone(),
            addresses: Vec::new(),
            evidence: Vec::new(),
            configured_only: false,
        });
        if !place.addresses.contains(&socket.address) {
            place.addresses.push(socket.address);
            place.evidence.push(socket.seen.clone());
        }
    }
    places.into_values().collect()
}

/// What should listen, where nobody could look at what does.
fn configured(ssh: &Ssh, databases: &[Database], sites: &[Site]) -> Vec<Place> {
    let every = || vec![IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];
    let place = |port, process: &str, addresses, seen| Place {
        protocol: Protocol::Tcp,
        port,
        process: Some(process.to_owned()),
        addresses,
        evidence: vec![seen],
        configured_only: true,
    };
    let mut places: Vec<Place> = Vec::new();
    if ssh.configured {
        let seen = |port: &u16| Evidence::file("/etc/ssh/sshd_config", format!("port {port}"));
        places.extend(ssh.ports.iter().map(|port| place(*port, "sshd", every(), seen(port))));
    }
    for database in databases {
        let addresses: Vec<IpAddr> = database
            .listens
            .iter()
            .flat_map(|one| match one.as_str() {
                "*" => every(),
                "localhost" => vec![std::net::Ipv4Addr::LOCALHOST.into()],
                other => other.parse().into_iter().collect(),
            })
            .collect();
        if !addresses.is_empty() {
            let seen =
                Evidence::file(&format!("{}/postgresql.conf", database.place), format!("port {}", database.port));
            places.push(place(database.port, "postgres", addresses, seen));
        }
    }
    for site in sites {
        for bind in &site.binds {
            let addresses = bind.address.map_or_else(every, |address| vec![address]);
            let process = process_of(site.area);
            let same =
                places.iter_mut().find(|known| known.port == bind.port && known.process.as_deref() == Some(process));
            match same {
                Some(known) => {
                    let new: Vec<IpAddr> = addresses.into_iter().filter(|one| !known.addresses.contains(one)).collect();
                    known.addresses.extend(new);
                }
                None => places.push(place(bind.port, process, addresses, site.seen.clone())),
            }
        }
    }
    places
}

fn process_of(area: Area) -> &'static str {
    match area {
        Area::Nginx => "nginx",
        Area::Haproxy => "haproxy",
        Area::Apache => "apache2",
        Area::Caddy => "caddy",
        _ => "",
    }
}

/// Whether a process is the one that a configuration is of. Where the process isn't known, its port decides.
fn is_of(place_process: Option<&str>, area: Area) -> bool {
    match (area, place_process) {
        (_, None) => true,
        (Area::Apache, Some(name)) => matches!(name, "apache2" | "httpd"),
        (area, Some(name)) => name == process_of(area),
    }
}

/// Whether a site is at that place.
fn is_at(bind: &Bind, place: &Place) -> bool {
    bind.port == place.port
        && place
            .addresses
            .iter()
            .any(|address| bind.address.is_none_or(|bound| bound == *address || address.is_unspecified()))
}

fn service(place: Place, ssh: &Ssh, databases: &[Database], sites: &[Site], firewall: &Firewall) -> Service {
    let tcp = place.protocol == Protocol::Tcp;
    let process = place.process.as_deref();
    let here: Vec<(&Site, &Bind)> = sites
        .iter()
        .filter(|site| tcp && is_of(process, site.area))
        .flat_map(|site| site.binds.iter().find(|bind| is_at(bind, &place)).map(|bind| (site, bind)))
        .collect();
    let database = databases.iter().find(|database| {
        tcp && database.port == place.port && process.is_none_or(|name| matches!(name, "postgres" | "postmaster"))
    });
    let is_ssh =
        tcp && (process == Some("sshd") || (process.is_none() && ssh.configured && ssh.ports.contains(&place.port)));
    let (what, name, encrypted) = if process == Some("vouchsafe") {
        (What::Vouchsafe, "vouchsafe".to_owned(), Some(true))
    } else if is_ssh {
        (What::Ssh, "SSH".to_owned(), Some(true))
    } else if let Some(database) = database {
        (What::Postgres, "PostgreSQL".to_owned(), (!database.tls).then_some(false))
    } else if let Some((first, bind)) = here.first() {
        let tls = here.iter().all(|(_, bind)| bind.tls);
        let what = match (first.is_stream, bind.tls) {
            (true, _) => What::Other,
            (false, true) => What::Https,
            (false, false) => What::Http,
        };
        let name =
            if here.len() == 1 { first.label() } else { format!("{} sites ({})", here.len(), first.area.name()) };
        (what, name, if first.is_stream && !tls { None } else { Some(tls) })
    } else {
        let known = RISKY.iter().find(|risky| tcp && !risky.1.is_empty() && process == Some(risky.1));
        let name = known.map(|risky| risky.3.to_owned()).or_else(|| place.process.clone());
        (What::Other, name.unwrap_or_else(|| format!("port {}", place.port)), None)
    };
    let (who, networks) = who(&place, firewall);
    let names: Vec<String> = here.iter().flat_map(|(site, _)| site.names.iter().take(1).cloned()).take(200).collect();
    let every = place.addresses.iter().any(IpAddr::is_unspecified);
    Service {
        name,
        protocol: if tcp { "tcp" } else { "udp" },
        addresses: if every {
            vec!["*".to_owned()]
        } else {
            place.addresses.iter().take(50).map(ToString::to_string).collect()
        },
        port: place.port,
        process: place.process,
        what,
        who,
        networks,
        encrypted,
        sites: names,
        configured_only: place.configured_only,
        evidence: place.evidence.into_iter().take(10).collect(),
        bound: place.addresses,
    }
}

fn who(place: &Place, firewall: &Firewall) -> (Who, Vec<IpNet>) {
    if place.addresses.iter().all(IpAddr::is_loopback) {
        return (Who::ThisHost, Vec::new());
    }
    // A socket for every address of IPv6 mostly takes IPv4 as well.
    let v6 = place.addresses.iter().any(IpAddr::is_ipv6);
    let v4 = place.addresses.iter().any(|address| address.is_ipv4() || address.is_unspecified());
    let mut reach = Reach::Nobody;
    for (asked, is_v6) in [(v4, false), (v6, true)] {
        if asked {
            reach = reach.or(firewall.reach(place.protocol, place.port, is_v6));
        }
    }
    match reach {
        Reach::Everybody => (Who::Everybody, Vec::new()),
        Reach::Unknown => (Who::Unknown, Vec::new()),
        Reach::Nobody => (Who::Nobody, Vec::new()),
        Reach::Only(networks) => (Who::Networks, networks),
    }
}

fn judge(service: &Service, notes: &mut Notes) {
    if matches!(service.who, Who::ThisHost | Who::Nobody) || service.what == What::Vouchsafe {
        return;
    }
    let place = format!("{}/{}", service.port, service.protocol);
    let to = match service.who {
        Who::Networks => "some networks",
        Who::Unknown => "others than this host",
        Who::Everybody | Who::ThisHost | Who::Nobody => "everybody who reaches this host",
    };
    let risky = RISKY.iter().find(|(_, process, port, _)| {
        service.what == What::Other
            && service.protocol == "tcp"
            && match &service.process {
                Some(name) if !process.is_empty() => name == process,
                _ => service.port == *port,
            }
    });
    if let Some((kind, _, _, name)) = risky {
        let severity = if service.who == Who::Networks { Severity::Medium } else { kind.severity };
        let what = format!("{name} on port {place} listens to {to}.");
        notes.find_as(kind, severity, &place, what, service.evidence.clone());
        return;
    }
    if service.who != Who::Everybody || (service.protocol == "udp" && matches!(service.port, 68 | 546 | 5353)) {
        return;
    }
    let severity = match service.what {
        What::Https | What::Http => Severity::Low,
        What::Ssh | What::Postgres | What::Other if service.protocol == "tcp" => Severity::Medium,
        What::Ssh | What::Postgres | What::Other | What::Vouchsafe => Severity::Low,
    };
    let name =
        if service.process.is_none() && service.what == What::Other { "A process" } else { service.name.as_str() };
    let what = format!("{} on port {place} listens to {to}.", crate::text::short(name, 80));
    notes.find_as(&kinds::LISTEN_EVERYBODY, severity, place, what, service.evidence.clone());
}
