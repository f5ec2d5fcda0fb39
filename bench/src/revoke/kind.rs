//! The kinds of flow that are held open, and how each is asked for.

/// One kind of open flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP/1.1: an answer that doesn't end.
    Download,
    /// HTTP/1.1: a body that doesn't end.
    Upload,
    /// HTTP/1.1: server-sent events.
    Events,
    /// A WebSocket on HTTP/1.1.
    WebSocket,
    /// A body that doesn't end, on a stream of HTTP/2.
    Http2,
    /// The same on a stream of HTTP/3.
    Http3,
    /// A CONNECT tunnel on HTTP/1.1.
    Connect1,
    /// A CONNECT tunnel on a stream of HTTP/2.
    Connect2,
    /// A body that doesn't end, to an app behind a connector.
    ViaHttp,
    /// A CONNECT tunnel on a stream of HTTP/2, to what is behind a connector.
    ViaConnect,
}

/// How a flow is carried between client and gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A connection of its own.
    Http1,
    /// A stream of a connection that others share.
    Http2,
    /// The same in HTTP/3.
    Http3,
}

impl Kind {
    pub(crate) const ALL: [Kind; 10] = [
        Kind::Download,
        Kind::Upload,
        Kind::Events,
        Kind::WebSocket,
        Kind::Http2,
        Kind::Http3,
        Kind::Connect1,
        Kind::Connect2,
        Kind::ViaHttp,
        Kind::ViaConnect,
    ];

    /// Its name in paths and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Download => "download",
            Kind::Upload => "upload",
            Kind::Events => "events",
            Kind::WebSocket => "websocket",
            Kind::Http2 => "http2",
            Kind::Http3 => "http3",
            Kind::Connect1 => "connect-h1",
            Kind::Connect2 => "connect-h2",
            Kind::ViaHttp => "via-http",
            Kind::ViaConnect => "via-connect",
        }
    }

    /// What it is, for people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Kind::Download => "download (HTTP/1.1)",
            Kind::Upload => "upload (HTTP/1.1)",
            Kind::Events => "server-sent events (HTTP/1.1)",
            Kind::WebSocket => "WebSocket (HTTP/1.1)",
            Kind::Http2 => "upload (HTTP/2 stream)",
            Kind::Http3 => "upload (HTTP/3 stream)",
            Kind::Connect1 => "CONNECT (HTTP/1.1)",
            Kind::Connect2 => "CONNECT (HTTP/2 stream)",
            Kind::ViaHttp => "upload through a connector",
            Kind::ViaConnect => "CONNECT through a connector",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) const fn carrier(self) -> Carrier {
        match self {
            Kind::Download | Kind::Upload | Kind::Events | Kind::WebSocket | Kind::Connect1 | Kind::ViaHttp => {
                Carrier::Http1
            }
            Kind::Http2 | Kind::Connect2 | Kind::ViaConnect => Carrier::Http2,
            Kind::Http3 => Carrier::Http3,
        }
    }

    /// Label of the resource that it goes to.
    pub(crate) const fn resource(self) -> &'static str {
        match self {
            Kind::Download | Kind::Upload | Kind::Events | Kind::WebSocket | Kind::Http2 | Kind::Http3 => "app",
            Kind::Connect1 | Kind::Connect2 => "tcp",
            Kind::ViaHttp => "far-app",
            Kind::ViaConnect => "far-tcp",
        }
    }

    /// Whether it is a tunnel.
    pub(crate) const fn tunnels(self) -> bool {
        matches!(self, Kind::Connect1 | Kind::Connect2 | Kind::ViaConnect)
    }

    /// Whether it is the client who sends, so that there is a last byte of hers at the upstream. The others are
    /// answers: there the end that the upstream sees is all that arrives.
    pub(crate) const fn client_sends(self) -> bool {
        !matches!(self, Kind::Download | Kind::Events)
    }

    /// Whether it passes through a connector.
    pub(crate) const fn is_far(self) -> bool {
        matches!(self, Kind::ViaHttp | Kind::ViaConnect)
    }
}
