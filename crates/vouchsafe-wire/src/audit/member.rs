//! The members that a record can have, in the order of the canonical form.

/// What a member holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text that is never long by itself, such as an id.
    Text,
    /// A text that is cut at [`super::MAX_TEXT_BYTES`].
    Long,
    /// A list of texts without a bound of its own.
    List,
    /// A list of at most [`super::MAX_LIST_ENTRIES`] texts.
    Bounded,
    /// A number of 64 bits.
    Number,
    /// A number of 16 bits.
    Short,
    /// The word of a [`super::Kind`].
    Kind,
    /// [`super::FORMAT`] or [`super::FORMER_FORMAT`].
    Format,
}

macro_rules! members {
    ($($name:ident = $word:literal, $shape:ident;)*) => {
        /// A member of a record. The order of the variants is that of the canonical form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Member { $(
            #[doc = concat!("`", $word, "`")]
            $name,
        )* }

        impl Member {
            /// Every member, in order.
            pub const ALL: &'static [Member] = &[$(Member::$name,)*];

            /// Its name in the record.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Member::$name => $word,)* }
            }

            /// Its name as it stands in the record behind another member, with quotes and colon.
            pub(super) const fn opening(self) -> &'static str {
                match self { $(Member::$name => concat!(",\"", $word, "\":"),)* }
            }

            pub(super) const fn shape(self) -> Shape {
                match self { $(Member::$name => Shape::$shape,)* }
            }

            /// Whether [`super::FORMER_FORMAT`] doesn't know it.
            pub(super) const fn is_newer(self) -> bool {
                matches!(self, Member::DeviceName | Member::DeviceOwner | Member::DeviceTags)
            }
        }
    };
}

members! {
    Action = "action", Long;
    Advice = "advice", Bounded;
    AuthMethods = "auth_methods", List;
    AuthTimeUs = "auth_time_us", Number;
    BytesIn = "bytes_in", Number;
    BytesOut = "bytes_out", Number;
    Connector = "connector", Text;
    Detail = "detail", Long;
    Device = "device", Text;
    DeviceName = "device_name", Text;
    DeviceOwner = "device_owner", Text;
    DeviceTags = "device_tags", Bounded;
    DurationUs = "duration_us", Number;
    Epoch = "epoch", Number;
    Flow = "flow", Text;
    Grade = "grade", Text;
    Groups = "groups", Bounded;
    Host = "host", Long;
    Id = "id", Text;
    Ip = "ip", Text;
    Kind = "kind", Kind;
    Method = "method", Long;
    Outcome = "outcome", Text;
    Passed = "passed", Text;
    Path = "path", Long;
    Policies = "policies", Bounded;
    PolicyVersion = "policy_version", Number;
    Port = "port", Short;
    Protocol = "protocol", Text;
    Proxy = "proxy", Text;
    Reason = "reason", Long;
    Repeated = "repeated", Number;
    Resource = "resource", Long;
    Seq = "seq", Number;
    Session = "session", Text;
    Source = "source", Text;
    Status = "status", Short;
    Target = "target", Long;
    TimeUs = "time_us", Number;
    Tls = "tls", Long;
    User = "user", Long;
    V = "v", Format;
    Via = "via", Text;
    Words = "words", Long;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_variants_is_that_of_the_names() {
        assert!(Member::ALL.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str() && pair[0] < pair[1]));
    }
}
