use http::HeaderValue;
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::body::full;

use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn only_navigations_are_sent_anywhere() {
    let html = ("accept", "text/html,application/xhtml+xml");
    assert!(navigates(&Method::GET, &headers(&[html])));
    assert!(navigates(&Method::GET, &headers(&[html, ("sec-fetch-mode", "navigate")])));
    assert!(navigates(&Method::POST, &headers(&[html, ("sec-fetch-mode", "navigate")])));
    assert!(!navigates(&Method::POST, &headers(&[html])), "a program that takes anything");
    assert!(!navigates(&Method::GET, &headers(&[html, ("sec-fetch-mode", "cors")])), "a script");
    assert!(!navigates(&Method::GET, &headers(&[("accept", "application/json")])));
}

#[tokio::test]
async fn forms_are_kept_as_they_are_or_not_at_all() {
    let form = "application/x-www-form-urlencoded; charset=UTF-8";
    let kept =
        async |kind: &str, body: &[u8]| small_form(&headers(&[("content-type", kind)]), full(body.to_vec())).await;
    let (fields, bytes) = kept(form, b"name=Zo%C3%AB&text=a%0D%0Ab&empty=&name=two").await.unwrap();
    let expected = [("name", "Zoë"), ("text", "a\r\nb"), ("empty", ""), ("name", "two")];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(bytes, 43);
    assert!(kept("multipart/form-data; boundary=x", b"--x--").await.is_none());
    assert!(kept(form, b"a=%FF").await.is_none(), "no UTF-8");
    assert!(kept(form, b"a=%00").await.is_none());
    assert!(kept(form, b"_charset_=x").await.is_none(), "a browser would fill it in");
    assert!(kept(form, &vec![b'a'; MAX_DRAFT_BYTES + 1]).await.is_none());
    assert!(kept(form, "a=&".repeat(MAX_DRAFT_FIELDS + 1).as_bytes()).await.is_none());
}

#[test]
fn the_way_back_is_on_this_host_and_the_count_rises() {
    let names = Names::new(BaseDomain::parse("corp.example").unwrap(), 8443);
    let answer = begin(&names, "wiki", "/page?x=1", Some("draft-id"), 1);
    let location = answer.headers()[LOCATION].to_str().unwrap();
    assert!(location.starts_with("https://auth.corp.example:8443/sign-in?app=wiki&state="), "{location}");
    assert!(location.ends_with("&fresh=1"));
    let set: Vec<&str> = answer.headers().get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
    assert!(set.iter().any(|cookie| cookie.starts_with("__Host-vouchsafe-step-up=2; ")), "{set:?}");
    let pending = set.iter().find_map(|cookie| cookie.strip_prefix("__Host-vouchsafe-pending=")).unwrap();
    let (_, wanted) = pending.split(';').next().unwrap().split_once('.').unwrap();
    let (url, cookie) = onward(&names, "wiki", wanted);
    assert_eq!(url, "https://wiki.corp.example:8443/.vouchsafe/resume");
    assert!(cookie.unwrap().starts_with("__Host-vouchsafe-draft=draft-id; "));
    let (url, cookie) = onward(&names, "wiki", wanted.split_once('.').unwrap().0);
    assert_eq!((url.as_str(), cookie), ("https://wiki.corp.example:8443/page?x=1", None));
    let origin = "https://wiki.corp.example:8443";
    let before = |referer: &str| page_before(&headers(&[("referer", referer)]), origin);
    assert_eq!(before("https://wiki.corp.example:8443/form?a=b#c"), "/form?a=b");
    for foreign in
        ["https://wiki.corp.example:8443.evil.example/x", "https://evil.example/", "", "https://wiki.corp.example:8443"]
    {
        assert_eq!(before(foreign), "/", "{foreign}");
    }
}

#[test]
fn a_count_that_can_not_be_read_is_enough() {
    let count = |value: &str| sent_before(&headers(&[(COOKIE.as_str(), value)]));
    assert_eq!(count("x=1"), 0);
    assert_eq!(count("__Host-vouchsafe-step-up=2"), 2);
    assert!(count("__Host-vouchsafe-step-up=999") >= MOST && count("__Host-vouchsafe-step-up=") >= MOST);
}
