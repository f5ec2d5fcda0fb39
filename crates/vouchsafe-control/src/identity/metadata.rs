//! What others may know of us without asking first: keys and endpoints.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use vouchsafe_wire::device::{GRANT_DEVICE_CODE, GRANT_REFRESH};

use super::Service;
use super::refusal::Refusal;
use crate::store::gateways;

/// `GET /.well-known/jwks.json` (RFC 7517 §5).
pub(super) async fn jwks(State(service): State<Service>) -> Result<Json<Value>, Refusal> {
    let mut read = service.context.store.read().await?;
    let of_gateways = gateways::assertion_points(&mut read).await?;
    Ok(Json(service.context.ca.jwks(&of_gateways)))
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414, RFC 8705 §3.3, RFC 8628 §4).
pub(super) async fn authorization_server(State(service): State<Service>) -> Json<Value> {
    let issuer = service.context.settings.issuer();
    let gateway = service.context.settings.origin("gw");
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "token_endpoint": format!("{gateway}/oauth/token"),
        "device_authorization_endpoint": format!("{gateway}/oauth/device_authorization"),
        "revocation_endpoint": format!("{gateway}/oauth/revoke"),
        "grant_types_supported": [GRANT_DEVICE_CODE, GRANT_REFRESH],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": true,
    }))
}
