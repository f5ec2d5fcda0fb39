//! Instants as text, which Cedar's `datetime` has to read as we do.

pub(crate) use vouchsafe_model::moment::{parse_rfc3339, to_text};

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cedar_reads_our_text_as_we_do(millis in 0_u64..253_402_300_800_000) {
            let at = UNIX_EPOCH + Duration::from_millis(millis);
            let text = to_text(at).expect("in range");
            let cedar: cedar_policy::Expression = format!("datetime({text:?}).durationSince(datetime(\"1970-01-01\")).toMilliseconds()")
                .parse().expect("an expression");
            let no_request = cedar_policy::Request::new(
                "User::\"a\"".parse().expect("uid"),
                "Action::\"a\"".parse().expect("uid"),
                "Http::\"a\"".parse().expect("uid"),
                cedar_policy::Context::empty(),
                None,
            )
            .expect("request");
            let value = cedar_policy::eval_expression(&no_request, &cedar_policy::Entities::empty(), &cedar);
            prop_assert_eq!(value.expect("evaluates"), cedar_policy::EvalResult::Long(i64::try_from(millis).expect("fits")));
        }
    }
}
