//! `resource`: what can be reached.

pub(crate) mod mode;
mod progress;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use http::Method;
use vouchsafe_model::name::{ResourceGroupName, ResourceName, SiteName, Tag};
use vouchsafe_wire::resource::ResourceDoc;

use super::{agreed, done, list, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};

const RESOURCES: &str = "/v1/resources/";

/// What to do with resources.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Adds a resource, or replaces the one of that name. Nobody may reach it until a policy says so.
    #[command(subcommand)]
    Add(Box<Add>),
    /// Lists resources.
    #[command(after_help = "Example:\n  vouchsafe resource list")]
    List,
    /// Shows one resource.
    #[command(after_help = "Example:\n  vouchsafe resource show wiki")]
    Show {
        /// Name.
        name: ResourceName,
    },
    /// Says what becomes of a denial: it stands (`enforce`), passes with a warning (`warn`), or is only written down
    /// (`observe`). The last two hold within a boundary and until an end, and then enforce by themselves.
    #[command(
        after_help = "Examples:\n  vouchsafe resource mode wiki observe --from 10.0.0.0/8 --owner alice --reason \"moving in\" --for 14d\n  vouchsafe resource mode wiki warn\n  vouchsafe resource mode wiki enforce"
    )]
    Mode(mode::Args),
    /// Says how far a resource is on its way to being enforced: accesses, who would be denied, and whether it is safe
    /// to go on.
    #[command(after_help = "Example:\n  vouchsafe resource progress wiki --days 14")]
    Progress(progress::Args),
    /// Removes a resource: what is open to it is cut within the second.
    #[command(after_help = "Example:\n  vouchsafe resource remove wiki --yes")]
    Remove {
        /// Name.
        name: ResourceName,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which kind of resource to add.
#[derive(Debug, Subcommand)]
pub(crate) enum Add {
    /// A web app or HTTP API.
    #[command(
        after_help = "Example:\n  vouchsafe resource add http wiki http://10.0.0.7:3000 --group intranet --tag docs"
    )]
    Http {
        /// Name, which becomes the first label of its host name.
        name: ResourceName,
        /// Where it listens: `http://host:port` or `https://host:port`.
        #[arg(value_name = "URL")]
        upstream: String,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        via: Via,
        /// File with the authorities that may vouch for an https upstream (PEM) [default: the public ones].
        #[arg(long, value_name = "FILE")]
        upstream_ca: Option<PathBuf>,
        /// Host name that the upstream sees: the public one, or its own.
        #[arg(long, value_name = "WHICH")]
        host_header: Option<HostHeader>,
        /// How the upstream learns who asks: by signed assertion alone, or also in plain headers.
        #[arg(long, value_name = "HOW")]
        identity_headers: Option<IdentityHeaders>,
        /// Version of HTTP that the upstream is spoken to in.
        #[arg(long, value_name = "WHICH")]
        upstream_protocol: Option<UpstreamProtocol>,
        /// Oldest version of TLS that an https upstream may choose.
        #[arg(long, value_name = "VERSION")]
        upstream_tls: Option<UpstreamTls>,
        /// Seconds to connect to the upstream [default: 5].
        #[arg(long, value_name = "SECONDS")]
        connect_timeout: Option<u64>,
        /// Seconds until the response head has to come [default: 60].
        #[arg(long, value_name = "SECONDS")]
        response_timeout: Option<u64>,
        /// Seconds that an exchange or WebSocket may be silent [default: 600].
        #[arg(long, value_name = "SECONDS")]
        idle_timeout: Option<u64>,
        /// Whether a request is recorded on disk before it goes upstream, or soon after.
        #[arg(long, value_name = "WHEN")]
        audit: Option<AuditTiming>,
        /// Port at which a proxy of yours serves the app's name, and asks a gateway (`--proxies`) [default: none may].
        #[arg(long, value_name = "PORT")]
        proxy_port: Option<std::num::NonZeroU16>,
        #[command(flatten)]
        paths: Paths,
    },
    /// Any service on a TCP port, such as a database.
    #[command(after_help = "Example:\n  vouchsafe resource add tcp finance-db 10.0.0.5:5432 --sensitivity restricted")]
    Tcp {
        /// Name, which becomes the first label of its host name.
        name: ResourceName,
        /// Where it listens.
        #[arg(value_name = "HOST:PORT")]
        upstream: String,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        via: Via,
        /// Port under which it is asked for [default: the upstream's].
        #[arg(long)]
        port: Option<u16>,
    },
    /// Any service on a UDP port, such as a name server.
    #[command(after_help = "Example:\n  vouchsafe resource add udp office-dns 10.0.0.5:53")]
    Udp {
        /// Name, which becomes the first label of its host name.
        name: ResourceName,
        /// Where it listens.
        #[arg(value_name = "HOST:PORT")]
        upstream: String,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        via: Via,
        /// Port under which it is asked for [default: the upstream's].
        #[arg(long)]
        port: Option<u16>,
        /// Seconds without a datagram after which a flow ends [default: 120].
        #[arg(long, value_name = "SECONDS")]
        idle_timeout: Option<u64>,
    },
}

/// What an app needs of its paths. Each kept spelling is permitted only if its other readings are too.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Paths")]
pub(crate) struct Paths {
    /// `%2F` in paths, which some servers take for `/` [default: refuse].
    #[arg(long, value_name = "RULE")]
    encoded_slashes: Option<Leeway>,
    /// `//` in paths, which some servers take for `/` [default: refuse].
    #[arg(long, value_name = "RULE")]
    double_slashes: Option<Leeway>,
    /// `;…` in paths, which some servers leave out [default: refuse].
    #[arg(long, value_name = "RULE")]
    path_parameters: Option<Leeway>,
    /// Whether `/Admin` and `/admin` are one to the app: then paths are lower-cased before they are decided
    /// on and sent [default: sensitive].
    #[arg(long, value_name = "RULE")]
    path_case: Option<PathCase>,
}

/// What every kind has.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Group of resources it belongs to; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<ResourceGroupName>,
    /// Label for policies to read; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// How much harm a leak would do [default: internal].
    #[arg(long, value_name = "LEVEL")]
    sensitivity: Option<Sensitivity>,
    /// One line for people.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Seconds that a gateway may serve it beyond the lease when it doesn't hear from its controller
    /// [default: 0].
    #[arg(long, value_name = "SECONDS")]
    offline_grace: Option<u64>,
}

/// What those have whose upstream a connector can dial.
#[derive(Debug, clap::Args)]
pub(crate) struct Via {
    /// Site whose connectors dial the upstream; the gateway dials it when there is none.
    #[arg(long, value_name = "SITE")]
    via: Option<SiteName>,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, ValueEnum)]
        pub(crate) enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            fn word(self) -> String {
                match self { $($name::$variant => $word,)* }.to_owned()
            }
        }
    )*};
}

words! {
    /// How much harm a leak would do.
    Sensitivity {
        /// Anyone may know.
        Public = "public",
        /// For the organisation.
        Internal = "internal",
        /// For those who need it.
        Confidential = "confidential",
        /// Grave harm.
        Restricted = "restricted",
    }
    /// Which host name the upstream sees.
    HostHeader {
        /// The public one.
        Public = "public",
        /// Its own.
        Upstream = "upstream",
    }
    /// How the upstream learns who asks.
    IdentityHeaders {
        /// By the signed assertion alone.
        Assertion = "assertion",
        /// Also in plain headers.
        Plain = "plain",
    }
    /// Version of HTTP that the upstream is spoken to in.
    UpstreamProtocol {
        /// HTTP/2 where an https upstream chooses it, else HTTP/1.1.
        Auto = "auto",
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2, by prior knowledge with http://.
        H2 = "h2",
    }
    /// Oldest version of TLS that an upstream may choose.
    UpstreamTls {
        /// TLS 1.2 or 1.3.
        #[value(name = "1.2")]
        Tls12 = "1.2",
        /// TLS 1.3.
        #[value(name = "1.3")]
        Tls13 = "1.3",
    }
    /// When a request is recorded.
    AuditTiming {
        /// Before the response, synced soon after.
        Soon = "soon",
        /// On disk before it goes upstream.
        Before = "before",
    }
    /// What becomes of a spelling of paths that servers read differently.
    Leeway {
        /// Answered with 400.
        Refuse = "refuse",
        /// Sent on as it is, if the policy permits every way to read it.
        Keep = "keep",
    }
    /// Whether case tells paths apart.
    PathCase {
        /// It does.
        Sensitive = "sensitive",
        /// It doesn't: paths are brought to lower case.
        Fold = "fold",
    }
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    match verb {
        Verb::Add(add) => {
            let doc = add.into_doc()?;
            doc.to_resource().map_err(|error| VerbError::usage(error.to_string()))?;
            let client = AdminClient::open(call).await?;
            let kept: ResourceDoc = client.send(Method::PUT, &path(RESOURCES, &doc.name, ""), &doc).await?;
            show(call, &kept, |kept| facts(call, kept))
        }
        Verb::List => {
            let resources: Vec<ResourceDoc> = AdminClient::open(call).await?.get_all("/v1/resources").await?;
            show(call, &resources, |resources| call.out.table(&table(resources)))
        }
        Verb::Show { name } => {
            let resource: ResourceDoc = AdminClient::open(call).await?.get(&path(RESOURCES, name.as_str(), "")).await?;
            show(call, &resource, |resource| facts(call, resource))
        }
        Verb::Mode(args) => mode::run(args, call).await,
        Verb::Progress(args) => progress::run(args, call).await,
        Verb::Remove { name, yes } => {
            agreed(call, yes, &format!("Remove resource `{name}`, and the grants to it?"))?;
            AdminClient::open(call).await?.delete(&path(RESOURCES, name.as_str(), "")).await?;
            done(call, &format!("removed resource {name}"))
        }
    }
}

impl Via {
    fn word(self) -> Option<String> {
        self.via.map(|site| site.to_string())
    }
}

impl Add {
    fn into_doc(self) -> Result<ResourceDoc, VerbError> {
        let doc = |name: ResourceName, kind: &str, upstream, common: Common| ResourceDoc {
            name: name.to_string(),
            kind: kind.to_owned(),
            upstream,
            groups: common.groups.iter().map(ToString::to_string).collect(),
            tags: common.tags.iter().map(ToString::to_string).collect(),
            sensitivity: common.sensitivity.map(Sensitivity::word),
            description: common.description,
            offline_grace: common.offline_grace,
            ..ResourceDoc::default()
        };
        Ok(match self {
            Add::Tcp { name, upstream, common, via, port } => {
                ResourceDoc { port, via: via.word(), ..doc(name, "tcp", upstream, common) }
            }
            Add::Udp { name, upstream, common, via, port, idle_timeout } => {
                ResourceDoc { port, idle_timeout, via: via.word(), ..doc(name, "udp", upstream, common) }
            }
            Add::Http {
                name,
                upstream,
                common,
                via,
                upstream_ca,
                host_header,
                identity_headers,
                upstream_protocol,
                upstream_tls,
                connect_timeout,
                response_timeout,
                idle_timeout,
                audit,
                proxy_port,
                paths,
            } => ResourceDoc {
                via: via.word(),
                upstream_ca: upstream_ca.as_deref().map(authorities).transpose()?,
                host_header: host_header.map(HostHeader::word),
                identity_headers: identity_headers.map(IdentityHeaders::word),
                upstream_protocol: upstream_protocol.map(UpstreamProtocol::word),
                upstream_tls: upstream_tls.map(UpstreamTls::word),
                connect_timeout,
                response_timeout,
                idle_timeout,
                audit: audit.map(AuditTiming::word),
                encoded_slashes: paths.encoded_slashes.map(Leeway::word),
                double_slashes: paths.double_slashes.map(Leeway::word),
                path_parameters: paths.path_parameters.map(Leeway::word),
                path_case: paths.path_case.map(PathCase::word),
                proxy_port,
                ..doc(name, "http", upstream, common)
            },
        })
    }
}

fn authorities(file: &Path) -> Result<String, VerbError> {
    let failed = |why: String| VerbError::failed(format!("can't use `{}`", file.display())).cause(why);
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    vouchsafe_runtime::tls::certificates(&text, "the file").map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

fn sensitivity(resource: &ResourceDoc) -> Cell {
    match resource.sensitivity.as_deref().unwrap_or("internal") {
        level @ "restricted" => Cell::new(Style::Bad, level),
        level @ "confidential" => Cell::new(Style::Warn, level),
        level => Cell::new(Style::Plain, level),
    }
}

fn table(resources: &[ResourceDoc]) -> Table {
    let mut table =
        Table::new(&["name", "kind", "upstream", "via", "sensitivity", "mode", "groups", "tags", "description…"]);
    for resource in resources {
        table.row([
            Cell::new(Style::Bold, &resource.name),
            (&resource.kind).into(),
            (&resource.upstream).into(),
            resource.via.as_deref().unwrap_or("–").into(),
            sensitivity(resource),
            mode::cell(resource),
            list(&resource.groups).into(),
            list(&resource.tags).into(),
            (&resource.description).into(),
        ]);
    }
    table
}

fn facts(call: &Call, resource: &ResourceDoc) -> std::io::Result<()> {
    let ResourceDoc {
        name,
        kind,
        upstream,
        groups,
        tags,
        sensitivity,
        description,
        offline_grace,
        via,
        port,
        upstream_ca,
        host_header,
        identity_headers,
        upstream_protocol,
        upstream_tls,
        connect_timeout,
        response_timeout,
        idle_timeout,
        audit,
        encoded_slashes,
        double_slashes,
        path_parameters,
        path_case,
        proxy_port,
        mode: _,
        observe: _,
    } = resource;
    let safe = |text: &str| clean(text).into_owned();
    let mut facts = vec![
        ("kind", safe(kind)),
        ("upstream", safe(upstream)),
        ("sensitivity", safe(sensitivity.as_deref().unwrap_or("internal"))),
        ("groups", safe(&list(groups))),
        ("tags", safe(&list(tags))),
    ];
    facts.extend(mode::words(resource));
    let mut also = |name, value: Option<String>| facts.extend(value.map(|value| (name, safe(&value))));
    also("via", via.clone());
    also("port", port.map(|port| port.to_string()));
    also("upstream CA", upstream_ca.as_ref().map(|_| "own".to_owned()));
    also("host header", host_header.clone());
    also("identity", identity_headers.clone());
    also("protocol", upstream_protocol.clone());
    also("oldest TLS", upstream_tls.clone());
    let seconds = |given: Option<u64>| given.map(|seconds| format!("{seconds} s"));
    also("connect within", seconds(*connect_timeout));
    also("answer within", seconds(*response_timeout));
    also("idle at most", seconds(*idle_timeout));
    also("offline grace", seconds(*offline_grace));
    also("audit", audit.clone());
    also("encoded slashes", encoded_slashes.clone());
    also("double slashes", double_slashes.clone());
    also("path parameters", path_parameters.clone());
    also("path case", path_case.clone());
    also("proxy port", proxy_port.map(|port| port.to_string()));
    also("description", (!description.is_empty()).then(|| description.clone()));
    call.out.line(&call.out.paint(Style::Bold, &clean(name)))?;
    call.out.facts(&facts)
}
