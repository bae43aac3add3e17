//! Answers of the query protocols.

use serde_json::Value;

use crate::model::{
    List, Map, Member, Operation, Protocol, Service, Shape, Structure,
};
use crate::{ApiError, Timestamp};

pub(super) fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Ec2Query => "text/xml;charset=UTF-8",
        Protocol::Query | Protocol::AwsJson(_) => "text/xml",
    }
}

/// An operation's answer.
pub(super) fn output(
    service: &Service,
    protocol: Protocol,
    operation: &Operation,
    output: &Value,
    request_id: &str,
) -> String {
    let is_ec2 = protocol == Protocol::Ec2Query;
    let mut xml = Xml::new(is_ec2);
    let root = format!("{}Response", operation.name);
    xml.open_with(&root, &namespace(service, is_ec2));
    if is_ec2 {
        xml.text("requestId", request_id);
        match operation.output {
            Some(Shape::Structure(structure)) => {
                xml.members(structure, output);
            }
            _ => xml.text("return", "true"),
        }
    } else {
        if let Some(Shape::Structure(structure)) = operation.output {
            match operation.result_wrapper {
                Some(wrapper) => xml.within(wrapper, |xml| {
                    xml.members(structure, output);
                }),
                None => xml.members(structure, output),
            }
        }
        xml.within("ResponseMetadata", |xml| {
            xml.text("RequestId", request_id);
        });
    }
    xml.close(&root);
    xml.text
}

/// An error of a query service.
pub(super) fn query_error(
    service: Option<&Service>,
    error: &ApiError,
    request_id: &str,
) -> String {
    let mut xml = Xml::new(false);
    let namespace = service.map(|service| namespace(service, false));
    xml.open_with("ErrorResponse", &namespace.unwrap_or_default());
    xml.within("Error", |xml| {
        let fault = if error.status() < 500 { "Sender" } else { "Receiver" };
        xml.text("Type", fault);
        xml.text("Code", error.code());
        xml.text("Message", error.message());
    });
    xml.text("RequestId", request_id);
    xml.close("ErrorResponse");
    xml.text
}

/// An error of EC2.
pub(super) fn ec2_error(error: &ApiError, request_id: &str) -> String {
    let mut xml = Xml::new(true);
    xml.within("Response", |xml| {
        xml.within("Errors", |xml| {
            xml.within("Error", |xml| {
                xml.text("Code", error.code());
                xml.text("Message", error.message());
            });
        });
        xml.text("RequestID", request_id);
    });
    xml.text
}

/// EC2 ends its namespace with a slash, the model does not.
fn namespace(service: &Service, is_ec2: bool) -> String {
    let name = service.xml_namespace.unwrap_or_default();
    match is_ec2 && !name.ends_with('/') {
        true => format!("{name}/"),
        false => name.to_owned(),
    }
}

/// Indented XML: two spaces in `query`, four and a declaration in EC2.
struct Xml {
    text: String,
    depth: usize,
    is_ec2: bool,
}

impl Xml {
    fn new(is_ec2: bool) -> Xml {
        let mut text = String::with_capacity(1024);
        if is_ec2 {
            text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        }
        Xml { text, depth: 0, is_ec2 }
    }

    fn indent(&mut self) {
        let width = if self.is_ec2 { 4 } else { 2 };
        for _ in 0..self.depth * width {
            self.text.push(' ');
        }
    }

    fn tag(&mut self, before: &str, name: &str, after: &str) {
        self.indent();
        for part in ["<", before, name, after, ">\n"] {
            self.text.push_str(part);
        }
    }

    fn open_with(&mut self, name: &str, namespace: &str) {
        let attribute = match namespace {
            "" => String::new(),
            namespace => format!(" xmlns=\"{}\"", escaped(namespace)),
        };
        self.tag("", name, &attribute);
        self.depth += 1;
    }

    fn close(&mut self, name: &str) {
        self.depth -= 1;
        self.tag("/", name, "");
    }

    fn within(&mut self, name: &str, write: impl FnOnce(&mut Xml)) {
        self.tag("", name, "");
        self.depth += 1;
        write(self);
        self.close(name);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.indent();
        let escaped = escaped(text);
        for part in ["<", name, ">", &escaped, "</", name, ">\n"] {
            self.text.push_str(part);
        }
    }

    fn members(&mut self, structure: &Structure, value: &Value) {
        for member in structure.members {
            match value.get(member.name) {
                None | Some(Value::Null) => {}
                Some(value) => self.member(member, value),
            }
        }
    }

    fn member(&mut self, member: &Member, value: &Value) {
        let name = member.location_name.unwrap_or(member.name);
        match (member.shape, value) {
            (Shape::List(list @ List { flattened: true, .. }), value) => {
                let name = list.location_name.unwrap_or(name);
                for item in value.as_array().into_iter().flatten() {
                    self.value(name, list.member, item);
                }
            }
            (shape, value) => self.value(name, shape, value),
        }
    }

    fn value(&mut self, name: &str, shape: &Shape, value: &Value) {
        match shape {
            Shape::Structure(structure) => {
                self.filled(name, |xml| xml.members(structure, value));
            }
            Shape::List(list) => self.filled(name, |xml| {
                let fallback = if xml.is_ec2 { "item" } else { "member" };
                let item_name = list.location_name.unwrap_or(fallback);
                for item in value.as_array().into_iter().flatten() {
                    xml.value(item_name, list.member, item);
                }
            }),
            Shape::Map(map) => self.filled(name, |xml| xml.map(map, value)),
            Shape::Timestamp => {
                let time = serde_json::from_value::<Timestamp>(value.clone());
                let text = match time {
                    Ok(time) => self.time(time),
                    Err(_) => plain(value),
                };
                self.text(name, &text);
            }
            Shape::String(_)
            | Shape::Integer(_)
            | Shape::Long(_)
            | Shape::Double(_)
            | Shape::Boolean
            | Shape::Blob
            | Shape::Document => self.text(name, &plain(value)),
        }
    }

    /// An element with others in it, or `<name/>` without any.
    fn filled(&mut self, name: &str, write: impl FnOnce(&mut Xml)) {
        let start = self.text.len();
        self.tag("", name, "");
        let inner = self.text.len();
        self.depth += 1;
        write(self);
        if self.text.len() == inner {
            self.depth -= 1;
            self.text.truncate(start);
            self.tag("", name, "/");
        } else {
            self.close(name);
        }
    }

    fn map(&mut self, map: &Map, value: &Value) {
        for (key, value) in value.as_object().into_iter().flatten() {
            self.within("entry", |xml| {
                xml.text("key", key);
                xml.value("value", map.value, value);
            });
        }
    }

    /// ISO 8601; EC2 always has milliseconds, the others never.
    fn time(&self, time: Timestamp) -> String {
        let seconds = Timestamp::from_millis(time.as_secs() * 1000).to_iso();
        if !self.is_ec2 {
            return seconds;
        }
        let millis = time.as_millis().rem_euclid(1000);
        let seconds = seconds.trim_end_matches('Z');
        format!("{seconds}.{millis:03}Z")
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Escaped, with the characters that XML 1.0 cannot hold replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#xd;"),
            '\t' | '\n' => escaped.push(char),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            char => escaped.push(char),
        }
    }
    escaped
}
