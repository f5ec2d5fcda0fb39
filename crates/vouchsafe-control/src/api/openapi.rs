//! The description of the API (OpenAPI 3.1), made from its routes once.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use vouchsafe_model::action::Action;
use vouchsafe_runtime::limits;

use super::describe::{Described, Sketch, object, path_parameters};
use super::idempotency;

/// Where it stands. Those who look for it know no other place.
pub(super) const PATH: &str = "/api/openapi.json";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// Answers with it.
pub(super) async fn serve() -> Response {
    let kind = HeaderValue::from_static("application/vnd.oai.openapi+json;version=3.1");
    ([(header::CONTENT_TYPE, kind)], DOCUMENT.as_str()).into_response()
}

/// Operations, as they are found.
pub(super) struct Operations {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Operations {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { schemas: settings.into_generator(), paths: Map::new() }
    }

    /// Adds one: its method in lower case, its path, and its handler by name and by type.
    pub(super) fn add<Parts>(&mut self, method: &str, path: &str, name: &str, handler: &impl Described<Parts>) {
        let mut sketch = Sketch::new(&mut self.schemas);
        handler.describe(&mut sketch);
        let Sketch { path: parts, query, headers, body, answers, .. } = sketch;
        let mut parameters = path_parameters(path, &parts);
        parameters.extend(query);
        parameters.extend(headers);
        if method == "post" {
            parameters.push(json!({
                "name": idempotency::KEY.as_str(),
                "in": "header",
                "required": false,
                "description": "Under the same key the same request is carried out once, and answered alike for a day.",
                "schema": { "type": "string", "pattern": "^\"[A-Za-z0-9_-]{1,255}\"$" },
            }));
        }
        let action = if method == "get" { Action::ConsoleRead } else { Action::ConsoleWrite };
        // `/v1/users/{name}` is about users.
        let about = path.split('/').nth(2).unwrap_or_default();
        let operation = object([
            ("operationId", Some(name.replace(" :: ", "::").replace("::", ".").into())),
            ("summary", Some(summary(name).into())),
            ("tags", Some(json!([about]))),
            ("x-action", Some(action.as_str().into())),
            ("parameters", (!parameters.is_empty()).then(|| parameters.into())),
            ("requestBody", body),
            ("responses", Some(json!(answers))),
        ]);
        if let Some(item) = self.paths.entry(path).or_insert_with(|| json!({})).as_object_mut() {
            item.insert(method.to_owned(), operation);
        }
    }
}

/// `directory::add_user` reads "Add user".
fn summary(handler: &str) -> String {
    let name = handler.rsplit(':').next().unwrap_or_default().trim().replace('_', " ");
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn document() -> Value {
    let mut operations = Operations::new();
    super::describe(&mut operations);
    let Operations { mut schemas, paths } = operations;
    let schemas = schemas.take_definitions(true);
    let description = format!(
        "Everything that an administrator may do. The same policies decide about it as about any other access: `x-action` \
         is the action, and `context.request.operation` is method and path. Bodies are at most {} bytes. Every failure is a \
         problem (RFC 9457) with a stable `type`. The specification in words is `docs/spec/api.md`.",
        limits::MAX_OWN_BODY_BYTES
    );
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "vouchsafe",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "device": [], "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "device": { "type": "mutualTLS", "description": "The certificate of an enrolled device." },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token (RFC 9068) that is bound to the device's certificate (RFC 8705).",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::ROUTES;

    #[test]
    fn every_route_is_described_once_with_its_action_and_its_failures() {
        let document = document();
        let mut names = BTreeSet::new();
        for (method, path) in ROUTES {
            let operation = &document["paths"][path][method];
            let action = if *method == "get" { "console:read" } else { "console:write" };
            assert_eq!(operation["x-action"], action, "{method} {path}");
            assert!(operation["responses"]["default"]["content"]["application/problem+json"].is_object(), "{path}");
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named = named.filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(named, path.matches('{').count(), "{method} {path}");
        }
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(described, ROUTES.len());
    }

    #[test]
    fn a_body_and_a_query_are_told_as_they_are_read() {
        let document = document();
        let new_user = &document["components"]["schemas"]["NewUser"];
        assert_eq!(new_user["required"], json!(["name"]));
        assert_eq!(new_user["additionalProperties"], false);
        let audit = &document["paths"]["/v1/audit"]["get"]["parameters"];
        let limit = audit.as_array().unwrap().iter().find(|parameter| parameter["name"] == "limit").unwrap();
        assert_eq!(limit["required"], false);
        assert_eq!(limit["schema"]["type"], "integer");
        let created = &document["paths"]["/v1/users"]["post"]["responses"];
        assert_eq!(created["201"]["content"]["application/json"]["schema"]["$ref"], "#/components/schemas/Invited");
        let version = &document["paths"]["/v1/policy/history/{version}"]["get"]["parameters"][0]["schema"];
        assert_eq!(version["type"], "integer");
    }
}
