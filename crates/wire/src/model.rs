//! The static description of an AWS API that the generated modules fill in.
//!
//! One [`Service`] per API we serve. Its shapes drive validation
//! ([`crate::validate`]) and the wire formats ([`crate::protocol`]), so neither
//! needs to know a single operation by name. The data comes from the botocore
//! models through `cargo xtask codegen`.

use std::fmt;

/// The wire format of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `POST /` with `X-Amz-Target` and a JSON body; the version is the one
    /// the service answers with, both are accepted.
    AwsJson(JsonVersion),
    /// Form-encoded input with `Action=`, XML output, `member` lists.
    Query,
    /// EC2's dialect of [`Protocol::Query`]: capitalised names, bare list
    /// indices and an output without a result wrapper.
    Ec2Query,
}

/// The version number in `application/x-amz-json-1.x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonVersion {
    /// `application/x-amz-json-1.0`.
    V1_0,
    /// `application/x-amz-json-1.1`.
    V1_1,
}

/// One AWS API.
pub struct Service {
    /// Botocore's service name and endpoint prefix, such as `ecs`.
    pub name: &'static str,
    /// The service part of a SigV4 credential scope.
    pub signing_name: &'static str,
    /// The API version, such as `2014-11-13`.
    pub api_version: &'static str,
    /// The prefix of `X-Amz-Target` before the dot, for JSON services.
    pub target_prefix: Option<&'static str>,
    /// The namespace of XML answers, for query services.
    pub xml_namespace: Option<&'static str>,
    /// The wire format.
    pub protocol: Protocol,
    /// The operations with their shapes, sorted by name.
    pub operations: &'static [Operation],
    /// Operations the model has and this build carries no shapes for; they
    /// still need a verdict in the coverage table.
    pub unserved: &'static [&'static str],
}

impl Service {
    /// Finds an operation by its exact name.
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        self.operations
            .binary_search_by(|operation| operation.name.cmp(name))
            .ok()
            .map(|index| &self.operations[index])
    }

    /// Names of all operations the AWS model has, served or not.
    pub fn operation_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let served = self.operations.iter().map(|operation| operation.name);
        served.chain(self.unserved.iter().copied())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.name).finish()
    }
}

/// One operation of a service.
pub struct Operation {
    /// The name, as in `X-Amz-Target` or `Action`.
    pub name: &'static str,
    /// The input structure, where there is one.
    pub input: Option<&'static Shape>,
    /// The output structure, where there is one.
    pub output: Option<&'static Shape>,
    /// The element around the output in query answers.
    pub result_wrapper: Option<&'static str>,
    /// Whether it answers with a stream of events
    /// ([`crate::event_stream`]) instead of one document.
    pub event_stream: bool,
    /// Codes of the errors the model lists for it.
    pub errors: &'static [&'static str],
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.name).finish()
    }
}

/// What a value may look like.
#[derive(Debug)]
pub enum Shape {
    /// Named members.
    Structure(Structure),
    /// A sequence.
    List(List),
    /// String keys to values.
    Map(Map),
    /// Text.
    String(Text),
    /// A 32-bit integer.
    Integer(Range<i64>),
    /// A 64-bit integer.
    Long(Range<i64>),
    /// A floating point number, single or double.
    Double(Range<f64>),
    /// `true` or `false`.
    Boolean,
    /// A point in time.
    Timestamp,
    /// Bytes, base64 in JSON and XML.
    Blob,
    /// Any JSON document.
    Document,
}

/// A structure's members.
#[derive(Debug)]
pub struct Structure {
    /// The shape's name in the model.
    pub name: &'static str,
    /// In the model's order.
    pub members: &'static [Member],
}

/// One member of a [`Structure`].
pub struct Member {
    /// The name in JSON and in the model.
    pub name: &'static str,
    /// The name in XML output and, for [`Protocol::Query`], in input.
    pub location_name: Option<&'static str>,
    /// EC2's override of the input name.
    pub query_name: Option<&'static str>,
    /// Whether the model requires it.
    pub required: bool,
    /// Its shape.
    pub shape: &'static Shape,
}

impl fmt::Debug for Member {
    // Shapes may be recursive; the name is enough to find the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// A list's element and limits.
pub struct List {
    /// The element's shape.
    pub member: &'static Shape,
    /// The element's XML name; `member` when the model has none.
    pub location_name: Option<&'static str>,
    /// Whether the elements stand without a list element around them.
    pub flattened: bool,
    /// Limits on the number of elements.
    pub length: Range<i64>,
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// A map's key, value and limits.
pub struct Map {
    /// The key's shape, always a string.
    pub key: &'static Shape,
    /// The value's shape.
    pub value: &'static Shape,
    /// Limits on the number of entries.
    pub length: Range<i64>,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// A string's limits.
#[derive(Debug)]
pub struct Text {
    /// Limits on the number of characters.
    pub length: Range<i64>,
    /// A regular expression that the whole string must match.
    pub pattern: Option<&'static str>,
    /// The only values allowed; empty means any.
    pub values: &'static [&'static str],
}

/// An inclusive range, open where `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range<T> {
    /// The smallest value allowed.
    pub min: Option<T>,
    /// The largest value allowed.
    pub max: Option<T>,
}

impl<T> Range<T> {
    /// No limits.
    pub const ANY: Range<T> = Range { min: None, max: None };
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether `value` lies within.
    pub fn holds(&self, value: T) -> bool {
        self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
    }
}
