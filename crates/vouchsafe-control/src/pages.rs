//! Pages of the sign-in host and the console: rendered here, styled by one style sheet of our own,
//! under a content security policy that lets nothing else in.

pub(crate) mod ask;
pub(crate) mod device;
pub(crate) mod invite;
pub(crate) mod layout;
pub(crate) mod me;
pub(crate) mod message;
pub(crate) mod sign_in;

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, StatusCode, header};
use maud::Markup;
use vouchsafe_wire::ticket::hex;

const STYLE: &str = include_str!("pages/style.css");
const SCRIPT: &str = include_str!("pages/app.js");
const CONSOLE_STYLE: &str = include_str!("pages/console.css");
const CONSOLE_SCRIPT: &str = include_str!("pages/console.js");
const ICON: &str = include_str!("pages/icon.svg");

/// What a browser may do on our pages. Nothing comes from elsewhere, nothing goes elsewhere, nobody
/// frames us. Redirects of forms stay on this host, which `form-action` demands of Chromium.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A file of the pages; its path changes with its content, so browsers may keep it for ever.
struct Asset {
    path: String,
    content: &'static str,
    kind: &'static str,
}

struct Assets {
    style: Asset,
    script: Asset,
    console_style: Asset,
    console_script: Asset,
    icon: Asset,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: asset("style.css", STYLE, "text/css; charset=utf-8"),
    script: asset("app.js", SCRIPT, "text/javascript; charset=utf-8"),
    console_style: asset("console.css", CONSOLE_STYLE, "text/css; charset=utf-8"),
    console_script: asset("console.js", CONSOLE_SCRIPT, "text/javascript; charset=utf-8"),
    icon: asset("icon.svg", ICON, "image/svg+xml"),
});

fn asset(name: &str, content: &'static str, kind: &'static str) -> Asset {
    let digest = hex(digest(&SHA256, content.as_bytes()).as_ref());
    let version = digest.get(..12).unwrap_or_default();
    Asset { path: format!("/assets/{version}/{name}"), content, kind }
}

/// Serves the files of the pages.
pub(crate) fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{version}/{name}", get(serve))
}

async fn serve(Path((version, name)): Path<(String, String)>) -> Response {
    let path = format!("/assets/{version}/{name}");
    let Assets { style, script, console_style, console_script, icon } = &*ASSETS;
    match [style, script, console_style, console_script, icon].into_iter().find(|asset| asset.path == path) {
        Some(asset) => (
            [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")],
            asset.content,
        )
            .into_response(),
        None => message::page(StatusCode::NOT_FOUND, "There is nothing here.", None),
    }
}

/// Sets the headers that every answer of ours carries. What a handler says about caching stays.
pub(crate) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn html(status: StatusCode, page: Markup) -> Response {
    (status, Html(page.into_string())).into_response()
}

/// A moment as people read it.
pub(crate) fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    match time {
        Some(time) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02} UTC",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute()
        ),
        None => "-".to_owned(),
    }
}
