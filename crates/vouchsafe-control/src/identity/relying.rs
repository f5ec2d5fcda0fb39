//! WebAuthn as we use it: discoverable passkeys with user verification, bound to the sign-in host.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;
use vouchsafe_model::id::UserId;
use vouchsafe_model::name::UserName;
use webauthn_rs::prelude::{
    CredentialID, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Url, Webauthn, WebauthnBuilder, WebauthnError,
};

use crate::context::Settings;

/// Why a ceremony failed. Callers learn only that it did.
#[derive(Debug, thiserror::Error)]
pub(super) enum CeremonyError {
    /// webauthn-rs refused it.
    #[error("the authenticator's answer was refused")]
    Refused(#[from] WebauthnError),
    /// A value of the ceremony has not the shape it must have.
    #[error("the ceremony's {0} is unreadable")]
    Unreadable(&'static str),
    /// The authenticator did not verify the user.
    #[error("the authenticator did not verify the user")]
    UserNotVerified,
    /// The passkey can't be found again without a user name.
    #[error("the authenticator made no discoverable passkey")]
    NotDiscoverable,
    /// The passkey is another user's.
    #[error("the passkey belongs to another user handle")]
    ForeignHandle,
}

/// Our side of WebAuthn.
pub(super) struct RelyingParty {
    webauthn: Webauthn,
}

/// A ceremony begun: what goes to the browser, and what stays here.
pub(super) struct Begun {
    pub(super) options: Value,
    pub(super) state: String,
}

impl RelyingParty {
    pub(super) fn new(settings: &Settings) -> Result<Self, CeremonyError> {
        let id = settings.domain.host(super::guard::AUTH_LABEL);
        let origin = Url::parse(&settings.issuer()).map_err(|_| CeremonyError::Unreadable("origin"))?;
        let webauthn = WebauthnBuilder::new(&id, &origin)?.rp_name("vouchsafe").build()?;
        Ok(Self { webauthn })
    }

    /// Begins a registration. The authenticator refuses to make a second passkey beside those given.
    pub(super) fn begin_registration(
        &self,
        user: &UserName,
        id: UserId,
        present: &[String],
    ) -> Result<Begun, CeremonyError> {
        let exclude = present
            .iter()
            .map(|id| URL_SAFE_NO_PAD.decode(id))
            .collect::<Result<Vec<CredentialID>, _>>()
            .map_err(|_| CeremonyError::Unreadable("list of passkeys"))?;
        let (options, state) =
            self.webauthn.start_passkey_registration(handle(id), user.as_str(), user.as_str(), Some(exclude))?;
        let mut options =
            serde_json::to_value(options.public_key).map_err(|_| CeremonyError::Unreadable("set of options"))?;
        // Discoverable, so that nobody ever types a user name. webauthn-rs asks for it only if it likes.
        let selection = options
            .get_mut("authenticatorSelection")
            .and_then(Value::as_object_mut)
            .ok_or(CeremonyError::Unreadable("set of options"))?;
        selection.insert("residentKey".to_owned(), json!("required"));
        selection.insert("requireResidentKey".to_owned(), json!(true));
        Ok(Begun { options, state: to_state(&state)? })
    }

    /// Finishes a registration.
    pub(super) fn finish_registration(&self, state: &str, credential: &Value) -> Result<Passkey, CeremonyError> {
        let state: PasskeyRegistration = of_state(state)?;
        let discoverable = credential.pointer("/clientExtensionResults/credProps/rk");
        if discoverable == Some(&Value::Bool(false)) {
            return Err(CeremonyError::NotDiscoverable);
        }
        let credential: RegisterPublicKeyCredential =
            serde_json::from_value(credential.clone()).map_err(|_| CeremonyError::Unreadable("credential"))?;
        let passkey = self.webauthn.finish_passkey_registration(&credential, &state)?;
        // The library demands it already; a passkey of which it does not say so is not kept.
        let verified =
            serde_json::to_value(&passkey).ok().and_then(|value| value.pointer("/cred/user_verified")?.as_bool());
        if verified == Some(true) { Ok(passkey) } else { Err(CeremonyError::UserNotVerified) }
    }

    /// Begins an authentication without a user name.
    pub(super) fn begin_authentication(&self) -> Result<Begun, CeremonyError> {
        let (options, state) = self.webauthn.start_discoverable_authentication()?;
        // Without `mediation` the browser shows its chooser at once; a button started this.
        let options =
            serde_json::to_value(options.public_key).map_err(|_| CeremonyError::Unreadable("set of options"))?;
        Ok(Begun { options, state: to_state(&state)? })
    }

    /// Reads an authenticator's answer and tells which credential it is of (base64url).
    pub(super) fn identify(&self, credential: &Value) -> Result<(PublicKeyCredential, String), CeremonyError> {
        let credential: PublicKeyCredential =
            serde_json::from_value(credential.clone()).map_err(|_| CeremonyError::Unreadable("credential"))?;
        let id = URL_SAFE_NO_PAD.encode(credential.get_credential_id());
        Ok((credential, id))
    }

    /// Finishes an authentication with the passkey that was identified, and brings its counter up
    /// to date.
    pub(super) fn finish_authentication(
        &self,
        state: &str,
        credential: &PublicKeyCredential,
        passkey: &mut Passkey,
        id: UserId,
    ) -> Result<(), CeremonyError> {
        let (claimed, _) = self.webauthn.identify_discoverable_authentication(credential)?;
        if claimed != handle(id) {
            return Err(CeremonyError::ForeignHandle);
        }
        let state: DiscoverableAuthentication = of_state(state)?;
        let result = self.webauthn.finish_discoverable_authentication_v2(credential, state, &*passkey)?;
        if !result.user_verified() {
            return Err(CeremonyError::UserNotVerified);
        }
        passkey.update_credential(&result);
        Ok(())
    }
}

/// What authenticators know a user by (WebAuthn §5.4.3): opaque, and the same for all her passkeys.
fn handle(id: UserId) -> Uuid {
    let digest = digest(&SHA256, format!("vouchsafe user handle v1\0{id}").as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    Uuid::from_bytes(bytes)
}

fn to_state<T: serde::Serialize>(state: &T) -> Result<String, CeremonyError> {
    serde_json::to_string(state).map_err(|_| CeremonyError::Unreadable("state"))
}

fn of_state<T: serde::de::DeserializeOwned>(state: &str) -> Result<T, CeremonyError> {
    serde_json::from_str(state).map_err(|_| CeremonyError::Unreadable("state"))
}
