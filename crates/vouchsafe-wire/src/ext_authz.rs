//! The messages of Envoy's external authorisation (`envoy.service.auth.v3.Authorization`), as far as we read and write
//! them. Numbers are those of `envoy/service/auth/v3/external_auth.proto` and `attribute_context.proto`,
//! `envoy/config/core/v3/{address,base}.proto`, `envoy/type/v3/http_status.proto` and `google/rpc/status.proto`; what
//! else a message has is skipped.

use std::collections::HashMap;

use prost::Message;

/// Whether a request may pass.
#[derive(Clone, PartialEq, Message)]
pub struct CheckRequest {
    /// What it is.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<AttributeContext>,
}

/// A request, and between whom.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeContext {
    /// The client.
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    /// The request.
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
}

/// One end of a connection. Its certificate (5) and principal (4) are not read: nobody proves them to us.
#[derive(Clone, PartialEq, Message)]
pub struct Peer {
    /// Where it is.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// An address; other kinds than a socket's are left out.
#[derive(Clone, PartialEq, Message)]
pub struct Address {
    /// Of a socket.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// The address of a socket.
#[derive(Clone, PartialEq, Message)]
pub struct SocketAddress {
    /// An IP address in text form.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// A request of any protocol.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Of HTTP.
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// A request of HTTP.
#[derive(Clone, PartialEq, Message)]
pub struct HttpRequest {
    /// Its method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// Its fields, by lower-case name; those of one name joined.
    #[prost(map = "string, string", tag = "3")]
    pub headers: HashMap<String, String>,
    /// Path and query.
    #[prost(string, tag = "4")]
    pub path: String,
    /// Host and port.
    #[prost(string, tag = "5")]
    pub host: String,
    /// `http` or `https`.
    #[prost(string, tag = "6")]
    pub scheme: String,
    /// Its fields one by one, instead of `headers`, where Envoy is told to (`encode_raw_headers`).
    #[prost(message, optional, tag = "13")]
    pub header_map: Option<HeaderMap>,
}

/// Fields in order.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMap {
    /// The fields.
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<HeaderValue>,
}

/// A field.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Its value, where it need not be UTF-8.
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: bytes::Bytes,
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub struct CheckResponse {
    /// It passes when the code is 0, and not otherwise.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// What the client is told.
    #[prost(message, optional, tag = "2")]
    pub denied_response: Option<DeniedHttpResponse>,
    /// What is changed of the request before it goes on.
    #[prost(message, optional, tag = "3")]
    pub ok_response: Option<OkHttpResponse>,
}

/// A status of gRPC.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Its code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Words.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What a client is told whose request doesn't pass.
#[derive(Clone, PartialEq, Message)]
pub struct DeniedHttpResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Fields.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// The body.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// A status of HTTP.
#[derive(Clone, PartialEq, Message)]
pub struct HttpStatus {
    /// Its code; an enumeration whose numbers are those codes.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// A field, and what becomes of others of that name.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValueOption {
    /// The field.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// Whether it stands beside others (`google.protobuf.BoolValue`).
    #[prost(message, optional, tag = "2")]
    pub append: Option<bool>,
}

/// What is changed of a request that passes.
#[derive(Clone, PartialEq, Message)]
pub struct OkHttpResponse {
    /// Fields that are set.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Fields that are taken away.
    #[prost(string, repeated, tag = "5")]
    pub headers_to_remove: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as protobuf writes them, by hand: `BoolValue` of false is an empty message, which is there all the same.
    #[test]
    fn that_others_are_overwritten_is_said_outright() {
        let option = HeaderValueOption {
            header: Some(HeaderValue { key: "a".into(), value: "b".into(), raw_value: bytes::Bytes::new() }),
            append: Some(false),
        };
        assert_eq!(option.encode_to_vec(), [0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b', 0x12, 0]);
        assert_eq!(HeaderValueOption::decode(&option.encode_to_vec()[..]).unwrap(), option);
    }

    #[test]
    fn what_is_not_read_is_skipped() {
        // AttributeContext with a destination (2) and a request whose time (1) is given.
        let bytes = [0x0a, 12, 0x12, 2, 0x0a, 0, 0x22, 6, 0x0a, 0, 0x12, 2, 0x2a, 0];
        let read = CheckRequest::decode(&bytes[..]).unwrap();
        let http = read.attributes.unwrap().request.unwrap().http.unwrap();
        assert_eq!(http, HttpRequest::default());
    }
}
