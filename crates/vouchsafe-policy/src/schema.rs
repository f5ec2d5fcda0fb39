//! The Cedar schema that is shipped, and the typed names that are built from it.
//!
//! Every `EntityUid` of the crate is made here, of a type and an id: no name ever becomes part
//! of a policy's text.

use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema, Validator};
use vouchsafe_model::action::Action;
use vouchsafe_model::resource::ResourceKind;

use crate::diagnostic::Diagnostic;
use crate::evaluator::Verb;

const TEXT: &str = include_str!("schema.cedarschema");

/// The strict Cedar schema that all policies are checked against, as `vouchsafe policy schema` prints it.
#[must_use]
pub fn schema_text() -> &'static str {
    TEXT
}

/// The schema read once, with the names in it.
pub(crate) struct Words {
    pub(crate) schema: Schema,
    pub(crate) validator: Validator,
    pub(crate) types: Types,
    /// Parent of all actions.
    pub(crate) access: EntityUid,
    actions: Vec<(Action, EntityUid, Verb)>,
}

/// Entity types of the schema.
pub(crate) struct Types {
    pub(crate) user: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) device: EntityTypeName,
    pub(crate) resource_group: EntityTypeName,
    http: EntityTypeName,
    tcp: EntityTypeName,
    udp: EntityTypeName,
    console: EntityTypeName,
}

impl Types {
    pub(crate) fn of_kind(&self, kind: ResourceKind) -> &EntityTypeName {
        match kind {
            ResourceKind::Http => &self.http,
            ResourceKind::Tcp => &self.tcp,
            ResourceKind::Udp => &self.udp,
            ResourceKind::Console => &self.console,
        }
    }
}

impl Words {
    /// The shipped schema.
    ///
    /// # Errors
    /// Never with the schema as shipped (a test says so); the error spares every caller a panic.
    pub(crate) fn get() -> Result<&'static Self, Box<Diagnostic>> {
        static WORDS: LazyLock<Result<Words, String>> =
            LazyLock::new(|| Words::read().map_err(|error| error.to_string()));
        let broken = |error| Box::new(Diagnostic::general("schema", format!("the shipped schema is broken: {error}")));
        WORDS.as_ref().map_err(broken)
    }

    fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let (schema, _) = Schema::from_cedarschema_str(TEXT)?;
        let name = EntityTypeName::from_str;
        let types = Types {
            user: name("User")?,
            group: name("Group")?,
            device: name("Device")?,
            resource_group: name("ResourceGroup")?,
            http: name(ResourceKind::Http.entity_type())?,
            tcp: name(ResourceKind::Tcp.entity_type())?,
            udp: name(ResourceKind::Udp.entity_type())?,
            console: name(ResourceKind::Console.entity_type())?,
        };
        let action = name("Action")?;
        let actions = Action::ALL.iter().map(|each| {
            let uid = uid(&action, each.as_str());
            let verb = Verb::new(&uid);
            (*each, uid, verb)
        });
        let validator = Validator::new(schema.clone());
        Ok(Self { schema, validator, types, access: uid(&action, "access"), actions: actions.collect() })
    }

    /// The Cedar id of an action.
    pub(crate) fn action(&self, action: Action) -> Option<&EntityUid> {
        self.actions.iter().find(|(each, _, _)| *each == action).map(|(_, uid, _)| uid)
    }

    /// An action as Cedar's evaluator takes it.
    pub(crate) fn verb(&self, action: Action) -> Option<&Verb> {
        self.actions.iter().find(|(each, _, _)| *each == action).map(|(_, _, verb)| verb)
    }

    /// Every action with its Cedar id.
    pub(crate) fn actions(&self) -> impl Iterator<Item = (Action, &EntityUid)> {
        self.actions.iter().map(|(action, uid, _)| (*action, uid))
    }
}

/// An entity id of a type and any text at all.
pub(crate) fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shipped_schema_is_complete() {
        let words = Words::get().expect("schema");
        assert!(words.schema.is_complete());
    }

    #[test]
    fn every_action_applies_to_exactly_its_kinds() {
        let words = Words::get().expect("schema");
        let kinds = [ResourceKind::Http, ResourceKind::Tcp, ResourceKind::Udp, ResourceKind::Console];
        for (action, uid) in words.actions() {
            let told: BTreeSet<String> = words
                .schema
                .resources_for_action(uid)
                .unwrap_or_else(|| panic!("{action} is not in the schema"))
                .map(ToString::to_string)
                .collect();
            let meant = kinds.into_iter().filter(|kind| kind.actions().contains(&action));
            assert_eq!(told, meant.map(|kind| kind.entity_type().to_owned()).collect(), "{action}");
        }
        let told = words.schema.actions().count();
        assert_eq!(told, Action::ALL.len() + 1, "an action of the schema is missing in the model, or the reverse");
    }

    proptest! {
        /// A213: text becomes an id as a whole, whatever is in it, and never anything else.
        #[test]
        fn a213_any_text_is_only_ever_an_id(id in any::<String>()) {
            let words = Words::get().expect("schema");
            let made = uid(&words.types.user, &id);
            prop_assert_eq!(made.id().unescaped(), id.as_str());
            prop_assert_eq!(made.type_name(), &words.types.user);
            let read: EntityUid = made.to_string().parse().expect("what Cedar prints, Cedar reads");
            prop_assert_eq!(read, made);
        }
    }
}
