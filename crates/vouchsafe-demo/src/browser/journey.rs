//! What a person does in a browser: accept an invitation, sign in, open an app, approve a device,
//! sign out. The endpoints are those of `docs/spec/webauthn.md`; the pages are the real ones.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{Browser, BrowserError, Page};
use crate::authenticator::{Authenticator, AuthenticatorError};

/// Failure of a journey.
#[derive(Debug, thiserror::Error)]
pub enum JourneyError {
    /// A page could not be had.
    #[error(transparent)]
    Browser(#[from] BrowserError),
    /// The passkey could not be made or used.
    #[error(transparent)]
    Authenticator(#[from] AuthenticatorError),
    /// The link is no invitation.
    #[error("the link is not an invitation: it must be `https://auth.…/invite#…`")]
    NotAnInvitation,
    /// The server refused a step.
    #[error("`{url}` answered {status}: {said}")]
    Refused {
        /// Where.
        url: Url,
        /// Status.
        status: StatusCode,
        /// Its words, shortened.
        said: String,
    },
    /// A page has no form of that kind.
    #[error("the page `{url}` has no form for `{action}`")]
    NoForm {
        /// The page.
        url: Url,
        /// Path that the form should go to.
        action: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    ceremony: String,
    public_key: Value,
}

#[derive(Deserialize)]
struct Finished {
    next: String,
}

impl Browser {
    /// Accepts an invitation: opens its page, registers a passkey, and lands where the server sends
    /// the new user, signed in.
    ///
    /// # Errors
    /// [`JourneyError`].
    pub async fn accept_invite(
        &self,
        link: &str,
        authenticator: &mut Authenticator,
        passkey_name: &str,
    ) -> Result<Page, JourneyError> {
        let mut page = Url::parse(link).map_err(|_| JourneyError::NotAnInvitation)?;
        let token = page.fragment().filter(|token| !token.is_empty()).ok_or(JourneyError::NotAnInvitation)?.to_owned();
        page.set_fragment(None);
        accepted(self.get(&page).await?)?;
        let start = at(&page, "/webauthn/register/start")?;
        let started: Started = accepted(self.post_json(&start, &json!({"invite": token})).await?)?.json()?;
        let credential = authenticator.create(&started.public_key, &page.origin().ascii_serialization())?;
        let answer = json!({"ceremony": started.ceremony, "name": passkey_name, "credential": credential});
        let finish = at(&page, "/webauthn/register/finish")?;
        let finished: Finished = accepted(self.post_json(&finish, &answer).await?)?.json()?;
        Ok(self.get(&at(&page, &finished.next)?).await?)
    }

    /// Signs in without a user name on the sign-in host `auth`, and opens what the server says is
    /// next. `next` is the path that was asked for, when one was.
    ///
    /// # Errors
    /// [`JourneyError`].
    pub async fn sign_in(
        &self,
        auth: &Url,
        authenticator: &Authenticator,
        next: Option<&str>,
    ) -> Result<Page, JourneyError> {
        let start = at(auth, "/webauthn/authenticate/start")?;
        let started: Started = accepted(self.post_json(&start, &json!({})).await?)?.json()?;
        let credential = authenticator.get(&started.public_key, &auth.origin().ascii_serialization())?;
        let mut answer = json!({"ceremony": started.ceremony, "credential": credential});
        if let (Some(next), Some(members)) = (next, answer.as_object_mut()) {
            members.insert("next".to_owned(), Value::from(next));
        }
        // As the page does that asks for a fresh sign-in.
        if let (true, Some(members)) = (auth.query_pairs().any(|(name, _)| name == "fresh"), answer.as_object_mut()) {
            members.insert("fresh".to_owned(), Value::from(true));
        }
        let finish = at(auth, "/webauthn/authenticate/finish")?;
        let finished: Finished = accepted(self.post_json(&finish, &answer).await?)?.json()?;
        Ok(self.get(&at(auth, &finished.next)?).await?)
    }

    /// Opens an app's address; when that ends on the sign-in page, signs in and goes on.
    ///
    /// # Errors
    /// [`JourneyError`]; a refusal by the app's policy is a page, not an error.
    pub async fn open(&self, url: &Url, authenticator: &Authenticator) -> Result<Page, JourneyError> {
        let page = self.get(url).await?;
        if page.url.path() != "/sign-in" || page.url.host_str() == url.host_str() {
            return Ok(page);
        }
        let next = match page.url.query() {
            Some(query) => format!("/sign-in?{query}"),
            None => "/sign-in".to_owned(),
        };
        self.sign_in(&page.url, authenticator, Some(&next)).await
    }

    /// Approves the sign-in of a device (RFC 8628): opens the link that the device shows and presses
    /// the button. The browser must be signed in.
    ///
    /// # Errors
    /// [`JourneyError`].
    pub async fn approve_device(&self, verification: &Url) -> Result<Page, JourneyError> {
        self.press(verification, "/device", Some("approve")).await
    }

    /// Signs out at the sign-in host: opens its page and presses the button.
    ///
    /// # Errors
    /// [`JourneyError`].
    pub async fn sign_out(&self, auth: &Url) -> Result<Page, JourneyError> {
        self.press(&at(auth, "/")?, "/sign-out", None).await
    }

    /// Opens a page and presses a button of its form for `action`: the one with that value, or the
    /// only one. What stands in the form goes along.
    async fn press(&self, url: &Url, action: &'static str, button: Option<&str>) -> Result<Page, JourneyError> {
        let page = accepted(self.get(url).await?)?;
        let fields = form_fields(&page.text(), action, button)
            .ok_or_else(|| JourneyError::NoForm { url: page.url.clone(), action })?;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        accepted(self.post_form(&at(&page.url, action)?, &fields).await?)
    }
}

/// Fails unless the answer is a success. What a sign-in page answers with 401 is its page, not a failure
/// of the journey, so callers of `get` don't use this.
fn accepted(page: Page) -> Result<Page, JourneyError> {
    if page.status.is_success() {
        return Ok(page);
    }
    let said: String = page.text().chars().filter(|c| !c.is_control()).take(300).collect();
    Err(JourneyError::Refused { url: page.url, status: page.status, said })
}

fn at(base: &Url, path: &str) -> Result<Url, BrowserError> {
    base.join(path).map_err(|_| BrowserError::Address { url: path.to_owned() })
}

/// Names and values that the first form for `action` sends when the button with the value `button`
/// is pressed; `None` when there is no such form or button.
fn form_fields(html: &str, action: &str, button: Option<&str>) -> Option<Vec<(String, String)>> {
    let form = html.split("<form").skip(1).find(|form| {
        let tag = form.split('>').next().unwrap_or_default();
        attribute(tag, "action").as_deref() == Some(action)
    })?;
    let form = form.split("</form").next()?;
    let named = |rest: &str| {
        let tag = rest.split('>').next()?;
        Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))
    };
    let mut fields: Vec<(String, String)> = form.split("<input").skip(1).filter_map(named).collect();
    if let Some(wanted) = button {
        fields.push(form.split("<button").skip(1).filter_map(named).find(|(_, value)| value == wanted)?);
    }
    Some(fields)
}

/// Value of an attribute in double quotes, which is how our pages are written.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(
        value
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_right_form_are_found() {
        let html = r#"<form method="post" action="/sign-out"><input type="hidden" name="csrf" value="one"></form>
            <form action="/device" method="post"><input name="csrf" type="hidden" value="a&amp;b&quot;">
            <input type="text" name="empty"><button name="answer" value="approve">Approve</button>
            <button name="answer" value="refuse">Refuse</button></form><input name="outside" value="x">"#;
        let expected = [("csrf", "a&b\""), ("empty", ""), ("answer", "refuse")];
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(form_fields(html, "/device", Some("refuse")), Some(expected));
        assert_eq!(form_fields(html, "/sign-out", None), Some(vec![("csrf".to_owned(), "one".to_owned())]));
        assert_eq!(form_fields(html, "/device", Some("other")), None);
        assert_eq!(form_fields(html, "/other", None), None);
    }
}
