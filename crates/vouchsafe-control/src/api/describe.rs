//! What each part of a request and each kind of answer adds to the description of the API. It is read off the types of
//! the handlers, so it can't say anything else than they do.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use vouchsafe_wire::api::{Problem, Published};

use super::answer::{Answer, Created, Lines, NoContent, Publication};
use super::extract::{Body, By, IfMatch, Path, Query};
use super::paged::Paged;

/// One operation while it is described.
pub(super) struct Sketch<'g> {
    schemas: &'g mut SchemaGenerator,
    /// Of the parts of the path, in order.
    pub(super) path: Vec<Value>,
    /// Parameters of the query part.
    pub(super) query: Vec<Value>,
    /// Header fields.
    pub(super) headers: Vec<Value>,
    /// The body.
    pub(super) body: Option<Value>,
    /// Answers by status.
    pub(super) answers: BTreeMap<String, Value>,
}

impl<'g> Sketch<'g> {
    /// Of an operation that takes nothing and never answers.
    pub(super) fn new(schemas: &'g mut SchemaGenerator) -> Self {
        Self { schemas, path: Vec::new(), query: Vec::new(), headers: Vec::new(), body: None, answers: BTreeMap::new() }
    }

    fn schema<T: JsonSchema>(&mut self) -> Schema {
        self.schemas.subschema_for::<T>()
    }

    fn answer(&mut self, status: StatusCode, kind: &str, schema: &Value) {
        let description = status.canonical_reason().unwrap_or_default();
        let answer = json!({ "description": description, "content": { kind: { "schema": schema } } });
        self.answers.insert(status.as_str().to_owned(), answer);
    }
}

/// A part of a request that a handler takes.
pub(super) trait Part {
    /// Adds what it takes.
    fn describe(sketch: &mut Sketch<'_>);
}

impl<S> Part for State<S> {
    fn describe(_: &mut Sketch<'_>) {}
}

impl Part for By {
    fn describe(_: &mut Sketch<'_>) {}
}

impl Part for IfMatch {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.headers.push(json!({
            "name": "If-Match",
            "in": "header",
            "required": false,
            "description": "The `ETag` of what was read. The change is refused with 412 when that is no longer what there is.",
            "schema": { "type": "string", "pattern": "^(\\*|\"[!#-~]{1,64}\")$" },
        }));
    }
}

impl<T: JsonSchema> Part for Path<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.schema::<T>();
        match schema.get("prefixItems").and_then(Value::as_array) {
            Some(parts) => sketch.path.extend(parts.iter().cloned()),
            None => sketch.path.push(schema.into()),
        }
    }
}

impl<T: JsonSchema> Part for Query<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = T::json_schema(sketch.schemas);
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut member = member.clone();
            let description = member.as_object_mut().and_then(|member| member.remove("description"));
            no_null(&mut member);
            bounded(&mut member);
            sketch.query.push(json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str()),
                "description": description.unwrap_or_default(),
                "schema": member,
            }));
        }
    }
}

/// What may be left out is left out of a query: it has no way to say null.
fn no_null(schema: &mut Value) {
    if let Some(others) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        others.retain(|other| other.get("type").is_none_or(|kind| kind != "null"));
        if let [only] = others.as_slice() {
            *schema = only.clone();
        }
    }
    let Some(kinds) = schema.get_mut("type") else { return };
    if let Some(kind) = kinds.as_array().and_then(|all| all.iter().find(|kind| *kind != "null")).cloned() {
        *kinds = kind;
    }
}

/// Says of a number how large it may be: what is too large is no number of that kind, and so badly formed.
fn bounded(schema: &mut Value) {
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint64") => u64::MAX,
        Some("uint32") => u64::from(u32::MAX),
        _ => return,
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("maximum").or_insert_with(|| most.into());
    }
}

impl<T: JsonSchema> Part for Body<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.schema::<T>();
        sketch.body = Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }));
    }
}

/// What a handler answers with.
pub(super) trait Outcome {
    /// Adds its status and body.
    fn describe(sketch: &mut Sketch<'_>);
}

impl<T: Outcome> Outcome for Answer<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        T::describe(sketch);
        let problem = sketch.schema::<Problem>();
        let description = "What is wrong, in words and by code (RFC 9457).";
        let content = json!({ "application/problem+json": { "schema": problem } });
        sketch.answers.insert("default".to_owned(), json!({ "description": description, "content": content }));
    }
}

impl<T: JsonSchema> Outcome for Json<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.schema::<T>();
        sketch.answer(StatusCode::OK, "application/json", schema.as_value());
    }
}

impl<T: JsonSchema> Outcome for Paged<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        <Json<Vec<T>> as Outcome>::describe(sketch);
        let link = json!({
            "description": "Where the next page is, with `rel=\"next\"` (RFC 8288); absent on the last.",
            "schema": { "type": "string" },
        });
        if let Some(answer) = sketch.answers.get_mut(StatusCode::OK.as_str()).and_then(Value::as_object_mut) {
            answer.insert("headers".to_owned(), json!({ "Link": link }));
        }
    }
}

impl<T: JsonSchema> Outcome for Created<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.schema::<T>();
        sketch.answer(StatusCode::CREATED, "application/json", schema.as_value());
    }
}

impl Outcome for NoContent {
    fn describe(sketch: &mut Sketch<'_>) {
        let status = StatusCode::NO_CONTENT;
        sketch.answers.insert(status.as_str().to_owned(), json!({ "description": "Done." }));
    }
}

impl<T: JsonSchema> Outcome for Lines<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let line = sketch.schema::<T>();
        let kind = json!({ "type": "string", "description": "Lines of JSON.", "x-line": line });
        sketch.answer(StatusCode::OK, "application/x-ndjson", &kind);
    }
}

impl Outcome for String {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer(StatusCode::OK, "text/plain", &json!({ "type": "string" }));
    }
}

impl Outcome for &'static str {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.answer(StatusCode::OK, "text/plain", &json!({ "type": "string" }));
    }
}

impl Outcome for Publication {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.schema::<Published>();
        sketch.answer(StatusCode::OK, "application/json", schema.as_value());
        sketch.answer(StatusCode::ACCEPTED, "application/json", schema.as_value());
    }
}

/// A handler whose parts and answer are known by its type; `Parts` tells apart how many it takes.
pub(super) trait Described<Parts> {
    /// Adds all of them. The handler itself is not called.
    fn describe(&self, sketch: &mut Sketch<'_>);
}

macro_rules! described {
    ($(($($part:ident),*))*) => {$(
        impl<Call, Future, Out, $($part),*> Described<($($part,)*)> for Call
        where
            Call: Fn($($part),*) -> Future,
            Future: std::future::Future<Output = Out>,
            Out: Outcome,
            $($part: Part,)*
        {
            fn describe(&self, sketch: &mut Sketch<'_>) {
                $($part::describe(sketch);)*
                Out::describe(sketch);
            }
        }
    )*};
}

described! { () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }

/// The parts of a path that are named in it, with what each may be.
pub(super) fn path_parameters(path: &str, schemas: &[Value]) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let any = json!({ "type": "string" });
    let parameter = |(at, name)| {
        let mut schema = schemas.get(at).unwrap_or(&any).clone();
        bounded(&mut schema);
        if let Some(schema) = schema.as_object_mut().filter(|schema| schema.get("type") == Some(&json!("string"))) {
            // Every name and id is such a word; what isn't is nobody's, or a path that could be read in two ways.
            schema.insert("pattern".to_owned(), json!("^[A-Za-z0-9][A-Za-z0-9._+@-]*$"));
            schema.insert("maxLength".to_owned(), json!(64));
        }
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    names.enumerate().map(parameter).collect()
}

/// Members of an object that have something to say.
pub(super) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let told = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(told.collect::<Map<_, _>>())
}
