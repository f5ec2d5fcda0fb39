//! Pages that only say something.

use axum::response::Response;
use http::StatusCode;
use maud::html;

use super::layout::narrow;

/// A page with one sentence, and one way on: a path of ours and its words.
pub(crate) fn page(status: StatusCode, words: &str, action: Option<(&str, &str)>) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "Nothing here",
        StatusCode::UNAUTHORIZED => "Sign in",
        StatusCode::TOO_MANY_REQUESTS => "Please wait",
        status if status.is_server_error() => "Something went wrong",
        _ => "That did not work",
    };
    super::html(
        status,
        narrow(
            title,
            html! {
                h1 { (title) }
                p { (words) }
                @if let Some((path, label)) = action { a .button href=(path) { (label) } }
            },
        ),
    )
}

/// After signing out.
pub(crate) fn signed_out() -> Response {
    super::html(
        StatusCode::OK,
        narrow(
            "Signed out",
            html! {
                h1 { "Signed out" }
                p { "Your session has ended, here and in every app that it was open in." }
                a .button href="/sign-in" { "Sign in again" }
            },
        ),
    )
}
