//! What can be done to a resource.

use std::fmt;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One action of a request, as policies name it: `Action::"http:read"`.
        /// The parent `Action::"access"` stands for all of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// Every action that exists.
            pub const ALL: &'static [Action] = &[$(Action::$name,)*];

            /// The Cedar id of the action.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Action::$name => $text,)* }
            }
        }

        impl std::str::FromStr for Action {
            type Err = UnknownAction;
            fn from_str(text: &str) -> Result<Self, UnknownAction> {
                match text { $($text => Ok(Action::$name),)* _ => Err(UnknownAction { given: text.chars().take(40).collect() }) }
            }
        }
    };
}

actions! {
    /// GET, HEAD and OPTIONS.
    HttpRead = "http:read",
    /// Every other method.
    HttpWrite = "http:write",
    /// WebSocket and other upgrades.
    HttpUpgrade = "http:upgrade",
    /// A TCP connection to a `tcp` resource.
    NetConnect = "net:connect",
    /// Reading through our own console and API.
    ConsoleRead = "console:read",
    /// Changing something through our own console and API.
    ConsoleWrite = "console:write",
}

/// An action of a name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not an action: use http:read, http:write, http:upgrade, net:connect, console:read or console:write"
)]
pub struct UnknownAction {
    /// The text as given, shortened.
    pub given: String,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for Action {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl schemars::JsonSchema for Action {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Action".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words: Vec<_> = Self::ALL.iter().map(|action| action.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": words })
    }
}

impl<'de> serde::Deserialize<'de> for Action {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
