//! Long lists, a page at a time: `limit` and `after` ask for one, and the header `Link` (RFC 8288) says where the next one is.
//!
//! A page begins behind a key and not at a number, so that what comes and goes meanwhile shifts nothing: whatever was there
//! all the time is on exactly one page.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use url::form_urlencoded;
use vouchsafe_wire::api::PageQuery;

use super::answer::{Answer, ApiError};

/// Most entries of a page, and how many it has unless asked otherwise.
const MOST: u32 = 1_000;

/// Which page is asked for.
pub(super) struct Page {
    /// The key of the last entry before it; the first page has none.
    pub(super) after: Option<String>,
    /// Entries of it.
    limit: u32,
}

impl Page {
    /// Reads what was asked.
    ///
    /// # Errors
    /// 422 when there is no such page.
    pub(super) fn of(query: PageQuery) -> Answer<Self> {
        let PageQuery { limit, after } = query;
        let limit = limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            let title = format!("`limit` is `{limit}`, but must be 1 to {MOST}");
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, None));
        }
        Ok(Self { after, limit })
    }

    /// How many entries to read: one more than it has tells whether there is another.
    pub(super) fn wanted(&self) -> u32 {
        self.limit + 1
    }

    /// The page, from so many entries, of which `key` is what they are ordered by.
    pub(super) fn fill<T>(&self, path: &str, mut entries: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|last| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string()).append_pair("after", &key(last));
            format!("<{path}?{}>; rel=\"next\"", query.finish())
        });
        Paged { entries, next }
    }
}

/// A page of a list.
pub(super) struct Paged<T> {
    entries: Vec<T>,
    next: Option<String>,
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.entries).into_response();
        if let Some(next) = self.next.and_then(|next| HeaderValue::try_from(next).ok()) {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

/// The parts of a key that was made of several words by [`joined`]; nothing, when it wasn't.
pub(super) fn parts<const N: usize>(after: Option<&str>) -> Answer<Option<[&str; N]>> {
    let Some(after) = after else { return Ok(None) };
    let words: Vec<&str> = after.split(' ').collect();
    <[&str; N]>::try_from(words).map(Some).map_err(|_| no_place())
}

/// What is said to who asks for a page behind something that is no key.
pub(super) fn no_place() -> ApiError {
    let title = "`after` is no place in this list".to_owned();
    let hint = Some("take it from the `Link` of the page before".to_owned());
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, hint)
}

/// A key of several words, none of which has a blank.
pub(super) fn joined(words: &[&str]) -> String {
    words.join(" ")
}
