//! Names that people choose, validated once and compared byte by byte.
//!
//! All are lower-case ASCII, so no two names look alike by case folding or Unicode tricks, and
//! none needs escaping in a policy, a host name, a log line or a file name.

use std::borrow::Borrow;
use std::fmt;

use crate::id::GrantId;

/// Failure to accept a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid {kind}: {rule}")]
pub struct NameError {
    /// What the name was meant for, such as `user name`.
    pub kind: &'static str,
    /// The text as given, shortened and with control characters escaped.
    pub given: String,
    /// The rule that it breaks, in words.
    pub rule: &'static str,
}

/// First labels under the base domain that are vouchsafe's own and can't name a resource.
pub const RESERVED_LABELS: [&str; 6] = ["auth", "console", "api", "gw", "www", "vouchsafe"];

fn shorten(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

const WORD_RULE: &str = "1 to 64 characters of a-z, 0-9, `.`, `_`, `-`, `+` or `@`, starting with a letter or digit";

fn is_word(text: &str) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'@')
    };
    text.len() <= 64
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && text.bytes().all(inner)
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn check_word(text: &str) -> Result<(), &'static str> {
    if is_word(text) { Ok(()) } else { Err(WORD_RULE) }
}

fn check_resource(text: &str) -> Result<(), &'static str> {
    if !is_label(text) {
        return Err("1 to 63 characters of a-z, 0-9 or `-`, not starting or ending with `-` (it becomes a host name)");
    }
    if text.starts_with("xn--") {
        return Err("internationalised labels (`xn--`) are not accepted: two of them can look the same");
    }
    if RESERVED_LABELS.contains(&text) {
        return Err("this name is vouchsafe's own");
    }
    Ok(())
}

fn check_domain(text: &str) -> Result<(), &'static str> {
    let rule = "a lower-case host name of at most 180 characters with at least two labels, no trailing dot";
    let labels = text.split('.').count();
    if text.len() <= 180 && labels >= 2 && text.split('.').all(is_label) { Ok(()) } else { Err(rule) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Accepts a name, unchanged, when it follows the rule.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(rule) => Err(NameError { kind: $kind, given: shorten(text), rule }),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as text that may be kept without a copy.
            #[must_use]
            pub fn to_shared(&self) -> std::sync::Arc<str> {
                std::sync::Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": 1 })
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// Name of a user. Immutable, and never given to another person after a deletion, since
    /// policies and audit records refer to it; it is the Cedar id in `User::"name"`.
    UserName, "user name", check_word;
    /// Name of a group of users; the Cedar id in `Group::"name"`.
    GroupName, "group name", check_word;
    /// Display name of a device; its identity is the [`crate::id::DeviceId`].
    DeviceName, "device name", check_word;
    /// Name of a gateway; its identity is the [`crate::id::GatewayId`].
    GatewayName, "gateway name", check_word;
    /// Name of a site: a network that connectors reach and gateways don't.
    SiteName, "site name", check_word;
    /// Name of a resource: the first label of its host name; the Cedar id in `Http::"name"`.
    ResourceName, "resource name", check_resource;
    /// Name of a group of resources; the Cedar id in `ResourceGroup::"name"`.
    ResourceGroupName, "resource group name", check_word;
    /// Free label on a device or resource, for policies to read.
    Tag, "tag", check_word;
    /// Value of `@id` of a policy, or id of a grant.
    PolicyName, "policy id", check_word;
    /// Name of a webhook: a place that is told what happens.
    WebhookName, "webhook name", check_word;
    /// Name of a stream: a place that gets every audit record.
    StreamName, "stream name", check_word;
    /// Domain under which all names of one installation live; also its SPIFFE trust domain.
    BaseDomain, "base domain", check_domain;
}

impl ResourceName {
    /// Name of the one built-in resource, our own console and API. No user can give it to
    /// another: [`ResourceName::parse`] refuses it.
    #[must_use]
    pub fn console() -> Self {
        Self("console".into())
    }
}

impl BaseDomain {
    /// The host name `label.<base domain>`.
    #[must_use]
    pub fn host(&self, label: &str) -> String {
        format!("{label}.{self}")
    }

    /// The single label in front of this domain, when `host` is exactly `label.<base domain>`.
    /// `host` must be lower-case already; a trailing dot or deeper name gives `None`.
    #[must_use]
    pub fn label_of<'h>(&self, host: &'h str) -> Option<&'h str> {
        let label = host.strip_suffix(self.as_str())?.strip_suffix('.')?;
        is_label(label).then_some(label)
    }
}

impl PolicyName {
    /// Whether it is the id of a grant, which decisions name among policies. No policy may be called like one.
    #[must_use]
    pub fn is_of_grant(&self) -> bool {
        self.as_str().strip_prefix(GrantId::PREFIX).is_some_and(|rest| rest.starts_with('_'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_or_need_escaping_are_refused() {
        for bad in ["", "Alice", "alice ", "аlice", "alice\u{200b}", "a\"b", "a\nb", "-a", "a/b", &"a".repeat(65)] {
            assert!(UserName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["alice", "alice.b", "a@example.org", "0x", "svc_deploy-1"] {
            assert!(UserName::parse(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn a_resource_name_is_one_host_label_and_not_one_of_ours() {
        for bad in ["gw", "auth", "a.b", "a_b", "-a", "a-", "xn--e1awd7f", "A", ""] {
            assert!(ResourceName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(ResourceName::parse("finance-db").is_ok());
    }

    #[test]
    fn label_of_takes_exactly_one_label() {
        let domain = BaseDomain::parse("corp.example").expect("valid");
        assert_eq!(domain.label_of("wiki.corp.example"), Some("wiki"));
        for other in ["corp.example", "a.b.corp.example", "wikicorp.example", "wiki.corp.example.", ".corp.example"] {
            assert_eq!(domain.label_of(other), None, "{other}");
        }
    }
}
