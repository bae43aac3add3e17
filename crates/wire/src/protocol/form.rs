//! Flat form parameters, as the query protocols send them.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map as Object, Value};

use super::{FALLBACK, NoRoute, Route, Target};
use crate::ApiError;
use crate::model::{List, Map, Member, Protocol, Service, Shape, Structure};
use crate::sigv4::RequestParts;

/// The most parameters taken. AWS's largest query inputs are lists of a
/// thousand structures of a few members.
const MAX_PARAMETERS: usize = 10_000;

/// The most dotted parts of a name; EC2's deepest inputs have about ten.
const MAX_DEPTH: usize = 24;

/// The most parts of all names together, equal beginnings counted once: what
/// bounds the memory that a request of many deep names takes.
const MAX_NODES: usize = 20_000;

/// A request's parameters, as a tree of their dotted names.
#[derive(Debug, Default)]
struct Form {
    root: Node,
    nodes: usize,
}

/// What stands under a dotted name.
#[derive(Debug, Default)]
struct Node {
    value: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Form {
    fn parse(query: Option<&str>, body: &[u8]) -> Result<Form, ApiError> {
        let mut form = Form::default();
        for (count, pair) in pairs(query, body)?.enumerate() {
            if count >= MAX_PARAMETERS {
                return Err(malformed("Too many parameters."));
            }
            let (name, value) = pair;
            form.insert(&text(name)?, text(value)?)?;
        }
        Ok(form)
    }

    fn insert(&mut self, name: &str, value: String) -> Result<(), ApiError> {
        let mut node = &mut self.root;
        for (depth, part) in name.split('.').enumerate() {
            if depth >= MAX_DEPTH {
                return Err(malformed("Parameter nested too deeply."));
            }
            if !node.children.contains_key(part) {
                self.nodes += 1;
                if self.nodes > MAX_NODES {
                    return Err(malformed("Too many parameters."));
                }
            }
            node = node.children.entry(part.to_owned()).or_default();
        }
        if node.value.replace(value).is_some() {
            return Err(duplicate(name));
        }
        Ok(())
    }
}

/// The pairs of the query and the body together, still encoded.
fn pairs<'a>(
    query: Option<&'a str>,
    body: &'a [u8],
) -> Result<impl Iterator<Item = (&'a str, &'a str)>, ApiError> {
    let body = std::str::from_utf8(body)
        .map_err(|_| malformed("The request body is not UTF-8."))?;
    Ok(query
        .unwrap_or_default()
        .split('&')
        .chain(body.trim_ascii().split('&'))
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, ""))))
}

/// The two parameters that lead to an operation. Everything else waits until
/// the signature is checked: strangers shall not make us build trees.
#[derive(Default)]
struct Named {
    action: Option<String>,
    version: Option<String>,
}

impl Named {
    fn find(query: Option<&str>, body: &[u8]) -> Result<Named, ApiError> {
        let mut named = Named::default();
        for (name, value) in pairs(query, body)? {
            let slot = match name {
                "Action" => &mut named.action,
                "Version" => &mut named.version,
                _ => continue,
            };
            if slot.replace(text(value)?).is_some() {
                return Err(duplicate(name));
            }
        }
        Ok(named)
    }
}

impl Node {
    /// The numbered children in their order; gaps close.
    fn numbered(&self) -> Vec<&Node> {
        let mut items: Vec<(u32, &Node)> = self
            .children
            .iter()
            .filter_map(|(name, node)| Some((name.parse().ok()?, node)))
            .filter(|(index, _)| *index > 0)
            .collect();
        items.sort_by_key(|(index, _)| *index);
        items.into_iter().map(|(_, node)| node).collect()
    }

    /// `Name=` without anything below it: an empty list or structure.
    fn is_blank(&self) -> bool {
        self.children.is_empty()
            && self.value.as_ref().is_none_or(String::is_empty)
    }
}

fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::new("MalformedQueryString", 400, message)
}

fn duplicate(name: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    malformed(format!("Duplicate parameter {name}."))
}

fn text(encoded: &str) -> Result<String, ApiError> {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| malformed("A parameter is not UTF-8."))
}

pub(super) fn route(
    services: &[&'static Service],
    request: &RequestParts<'_>,
    scope_service: Option<&str>,
) -> Result<Route, NoRoute> {
    let scoped = services.iter().copied().find(|service| {
        scope_service == Some(service.signing_name) && is_form(service)
    });
    let protocol = scoped.map_or(Protocol::Query, |service| service.protocol);
    let no_route =
        |protocol, service, error| NoRoute { protocol, service, error };
    let named = Named::find(request.query, request.body)
        .map_err(|error| no_route(protocol, scoped, error))?;
    let Some(action) = named.action.as_deref() else {
        // Not a form at all: most likely JSON without its headers.
        let (protocol, code) = match scoped {
            Some(service) => (service.protocol, "MissingAction"),
            None => (FALLBACK, "UnknownOperationException"),
        };
        let error = ApiError::new(code, 400, "");
        return Err(no_route(protocol, scoped, error));
    };
    let version = named.version.as_deref();
    let service = scoped.or_else(|| {
        services.iter().copied().find(|service| {
            is_form(service)
                && version.is_none_or(|version| version == service.api_version)
                && find(service, action).is_some()
        })
    });
    let Some(service) = service else {
        let error = invalid_action(action, version, protocol);
        return Err(no_route(protocol, None, error));
    };
    let protocol = service.protocol;
    let of_version =
        version.is_none_or(|version| version == service.api_version);
    match find(service, action).filter(|_| of_version) {
        Some(target) => {
            let query = request.query.map(str::to_owned);
            Ok(Route { service, protocol, target, query })
        }
        None => {
            let error = invalid_action(action, version, protocol);
            Err(no_route(protocol, Some(service), error))
        }
    }
}

fn is_form(service: &Service) -> bool {
    match service.protocol {
        Protocol::Query | Protocol::Ec2Query => true,
        Protocol::AwsJson(_) => false,
    }
}

fn find(service: &'static Service, action: &str) -> Option<Target> {
    if let Some(operation) = service.operation(action) {
        return Some(Target::Operation(operation));
    }
    let unserved = service.unserved.iter().find(|name| **name == action)?;
    Some(Target::Unserved(unserved))
}

fn invalid_action(
    action: &str,
    version: Option<&str>,
    protocol: Protocol,
) -> ApiError {
    let shown: String = action.chars().take(128).collect();
    let message = match protocol {
        Protocol::Ec2Query => {
            format!("The action {shown} is not valid for this web service.")
        }
        Protocol::Query | Protocol::AwsJson(_) => {
            let version: String =
                version.unwrap_or_default().chars().take(32).collect();
            format!("Could not find operation {shown} for version {version}")
        }
    };
    ApiError::new("InvalidAction", 400, message)
}

/// Shapes the parameters. What does not fit its type stays text, which the
/// validation then refuses with the parameter's name.
pub(super) fn decode(
    protocol: Protocol,
    shape: &Shape,
    query: Option<&str>,
    body: &[u8],
) -> Result<Value, ApiError> {
    let form = Form::parse(query, body)?;
    let is_ec2 = protocol == Protocol::Ec2Query;
    Ok(match shape {
        Shape::Structure(structure) => {
            Decoder { is_ec2 }.structure(structure, &form.root)
        }
        // Inputs are structures in every model.
        Shape::List(_)
        | Shape::Map(_)
        | Shape::String(_)
        | Shape::Integer(_)
        | Shape::Long(_)
        | Shape::Double(_)
        | Shape::Boolean
        | Shape::Timestamp
        | Shape::Blob
        | Shape::Document => Value::Object(Object::new()),
    })
}

struct Decoder {
    is_ec2: bool,
}

impl Decoder {
    fn structure(&self, structure: &Structure, node: &Node) -> Value {
        let mut members = Object::new();
        for member in structure.members {
            let name = self.name(member);
            if let Some(child) = node.children.get(name.as_str()) {
                let value = self.value(member.shape, child);
                members.insert(member.name.to_owned(), value);
                continue;
            }
            // A flattened list of `query` is called as its element is.
            if let Shape::List(List { flattened: true, .. }) = member.shape
                && let Shape::List(list) = member.shape
                && let Some(name) = list.location_name
                && let Some(child) = node.children.get(name)
            {
                let value = self.items(list, child);
                members.insert(member.name.to_owned(), value);
            }
        }
        Value::Object(members)
    }

    /// The parameter's name; EC2 begins all of them with a capital.
    fn name(&self, member: &Member) -> String {
        if !self.is_ec2 {
            return member.location_name.unwrap_or(member.name).to_owned();
        }
        if let Some(name) = member.query_name {
            return name.to_owned();
        }
        let name = member.location_name.unwrap_or(member.name);
        let mut chars = name.chars();
        match chars.next() {
            Some(first) => {
                first.to_uppercase().chain(chars).collect::<String>()
            }
            None => String::new(),
        }
    }

    fn value(&self, shape: &Shape, node: &Node) -> Value {
        let text = || node.value.clone().unwrap_or_default();
        match shape {
            Shape::Structure(structure) => self.structure(structure, node),
            Shape::List(list) => self.list(list, node),
            Shape::Map(map) => self.map(map, node),
            Shape::String(_) | Shape::Timestamp | Shape::Blob => {
                Value::from(text())
            }
            Shape::Integer(_) | Shape::Long(_) => {
                let text = text();
                text.parse::<i64>().map_or(Value::from(text), Value::from)
            }
            Shape::Double(_) => {
                let text = text();
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => Value::from(number),
                    _ => Value::from(text),
                }
            }
            Shape::Boolean => match text().to_ascii_lowercase().as_str() {
                "true" => Value::from(true),
                "false" => Value::from(false),
                _ => Value::from(text()),
            },
            Shape::Document => Value::from(text()),
        }
    }

    fn list(&self, list: &List, node: &Node) -> Value {
        if node.is_blank() {
            return Value::Array(Vec::new());
        }
        if self.is_ec2 || list.flattened {
            return self.items(list, node);
        }
        let name = list.location_name.unwrap_or("member");
        match node.children.get(name) {
            Some(items) => self.items(list, items),
            None => Value::Array(Vec::new()),
        }
    }

    fn items(&self, list: &List, node: &Node) -> Value {
        let items = node.numbered().into_iter();
        items.map(|item| self.value(list.member, item)).collect()
    }

    fn map(&self, map: &Map, node: &Node) -> Value {
        let entries = node.children.get("entry").unwrap_or(node);
        let mut object = Object::new();
        for entry in entries.numbered() {
            let key = entry.children.get("key");
            let value = entry.children.get("value");
            if let (Some(key), Some(value)) = (key, value) {
                let key = key.value.clone().unwrap_or_default();
                object.insert(key, self.value(map.value, value));
            }
        }
        Value::Object(object)
    }
}
