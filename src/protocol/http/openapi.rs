//! The OpenAPI 3.1 document of the API, made from the table of routes.

#[cfg(feature = "users")]
use super::login;
use super::{
    exchange::Exchange,
    refusal::Stop,
    route::{JSON, Route},
};
use serde_json::{Map, Value, json};

/// `GET /api/openapi.json`
pub(super) fn document(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut paths = Map::new();
    for route in exchange.routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    let error = json!({
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": { "type": "string", "description": "Kafka's name of the error" },
            "message": { "type": "string", "description": "a sentence for whoever asked" },
        },
    });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "plainlog",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A message broker: topics, records and groups over HTTP.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "paths": paths,
        "components": { "schemas": { "Error": error } },
    });
    #[cfg(feature = "users")]
    secure(exchange, &mut document)?;
    exchange.json(200, &document)
}

/// Tells how to say who one is, where the broker asks that.
#[cfg(feature = "users")]
fn secure(exchange: &Exchange<'_, '_>, document: &mut Value) -> Result<(), Stop> {
    let Some(broker) = login::with_users(exchange.broker) else { return Ok(()) };
    let basic = json!({ "type": "http", "scheme": "basic", "description": "a user's name and password" });
    let session = json!({
        "type": "apiKey",
        "in": "cookie",
        "name": login::cookie_name(exchange.output)?,
        "description": "a session, which POST /api/login opens",
    });
    #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "certificates are one more way"))]
    let mut schemes = json!({ "basic": basic, "session": session });
    if broker.takes_tokens() {
        let description = "a token of the issuer that the broker was told of";
        schemes["bearer"] =
            json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": description });
    }
    #[cfg(feature = "tls")]
    if broker.config().security.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        schemes["certificate"] = json!({ "type": "mutualTLS", "description": "the client's certificate" });
    }
    // Any of them will do.
    let any = schemes.as_object().into_iter().flatten().map(|(name, _)| json!({ name: [] }));
    document["security"] = any.collect();
    for route in exchange.routes {
        if login::is_for_everybody(broker, route.path[1..].split('/')) {
            document["paths"][route.path][route.method.to_ascii_lowercase()]["security"] = json!([]);
        }
    }
    document["components"]["securitySchemes"] = schemes;
    Ok(())
}

fn operation(route: &Route) -> Value {
    let in_path = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.query.iter().map(|known| {
        json!({ "name": known.name, "in": "query", "description": known.means, "schema": { "type": "string" } })
    });
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.does,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "it was done", "content": content(route.gives) },
            "default": {
                "description": "it was refused",
                "content": { JSON: { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    if !route.takes.is_empty() {
        operation["requestBody"] = json!({ "required": true, "content": content(route.takes) });
    }
    operation
}

fn content(types: &[&str]) -> Map<String, Value> {
    types.iter().map(|name| (name.to_string(), json!({}))).collect()
}

/// `getTopicsTopic` for `GET /api/topics/{topic}`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    route.method.to_ascii_lowercase() + &words.map(capital).collect::<String>()
}
