//! Writes Rust from a model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::GENERATED_MARK;
use super::model::{Model, Operation, Reference, Shape};
use super::names::{field, snake, type_name, variant};
use super::services::Selection;

/// Files of one service's module, by path below it.
pub(super) type Files = BTreeMap<String, String>;

/// Shapes used by operations of more than one file.
const SHARED: &str = "shared";

/// Generates one service.
pub(super) fn service(selection: &Selection, model: &Model) -> Result<Files> {
    let served: Vec<&str> = model
        .operations
        .keys()
        .map(String::as_str)
        .filter(|name| {
            selection.serves.is_none_or(|serves| serves.contains(name))
        })
        .collect();
    for wanted in selection.serves.unwrap_or_default() {
        if !served.contains(wanted) {
            bail!("{} has no operation {wanted}", selection.name);
        }
    }
    let emitter = Emitter { selection, model, served };
    let homes = emitter.homes()?;
    let names: BTreeSet<&str> = homes.values().copied().collect();
    let mut files = Files::new();
    for name in &names {
        let shapes: Vec<&str> = homes
            .iter()
            .filter(|(_, home)| *home == name)
            .map(|(shape, _)| *shape)
            .collect();
        files.insert(format!("{name}.rs"), emitter.types(&shapes)?);
        files.insert(format!("schema/{name}.rs"), emitter.schemas(&shapes)?);
    }
    files.insert("schema/mod.rs".to_owned(), schema_root(&names));
    files.insert("error.rs".to_owned(), emitter.errors());
    files.insert("mod.rs".to_owned(), emitter.root(&names)?);
    Ok(files)
}

struct Emitter<'a> {
    selection: &'a Selection,
    model: &'a Model,
    served: Vec<&'a str>,
}

impl<'a> Emitter<'a> {
    fn shape(&self, name: &str) -> Result<&'a Shape> {
        self.model
            .shapes
            .get(name)
            .with_context(|| format!("the model has no shape {name}"))
    }

    /// The file an operation belongs to.
    fn file_of(&self, operation: &str) -> &'a str {
        let matching = self.selection.files.iter().find(|(_, words)| {
            words.iter().any(|word| operation.contains(word))
        });
        matching
            .or(self.selection.files.last())
            .map_or(SHARED, |(file, _)| file)
    }

    /// The file of every shape that a served operation reaches.
    fn homes(&self) -> Result<BTreeMap<&'a str, &'a str>> {
        let mut homes: BTreeMap<&'a str, &'a str> = BTreeMap::new();
        for name in &self.served {
            let operation = &self.model.operations[*name];
            let home = self.file_of(name);
            let ends = operation.input.iter().chain(&operation.output);
            let mut pending: Vec<&'a str> =
                ends.map(|end| end.shape.as_str()).collect();
            let mut seen = BTreeSet::new();
            while let Some(shape) = pending.pop() {
                if !seen.insert(shape) {
                    continue;
                }
                homes
                    .entry(shape)
                    .and_modify(|other| {
                        if *other != home {
                            *other = SHARED;
                        }
                    })
                    .or_insert(home);
                pending.extend(self.shape(shape)?.uses());
            }
        }
        Ok(homes)
    }

    fn types(&self, shapes: &[&str]) -> Result<String> {
        let mut text =
            header("use serde::{Deserialize, Serialize};\nuse super::*;\n");
        for name in shapes {
            let shape = self.shape(name)?;
            match shape.kind.as_str() {
                "structure" if !shape.document => {
                    self.structure(&mut text, name, shape)?;
                }
                "string" if !shape.values.is_empty() => {
                    enumeration(&mut text, name, shape)?;
                }
                _ => {}
            }
        }
        Ok(text)
    }

    fn structure(
        &self,
        text: &mut String,
        name: &str,
        shape: &Shape,
    ) -> Result<()> {
        writeln!(
            text,
            "#[derive(Clone, Debug, Default, PartialEq, Serialize, \
             Deserialize)]\npub struct {} {{",
            type_name(name)
        )?;
        for (member, reference) in &shape.members.0 {
            writeln!(
                text,
                "#[serde(rename = {member:?}, skip_serializing_if = \
                 \"Option::is_none\")]\npub {}: Option<{}>,",
                field(member),
                self.rust_type(&reference.shape)?
            )?;
        }
        text.push_str("}\n\n");
        Ok(())
    }

    fn rust_type(&self, name: &str) -> Result<String> {
        let shape = self.shape(name)?;
        let of = |part: &Option<Reference>| {
            let part = part.as_ref().context("list or map without a part")?;
            self.rust_type(&part.shape)
        };
        Ok(match shape.kind.as_str() {
            _ if shape.document => "serde_json::Value".to_owned(),
            "structure" => type_name(name),
            "string" if shape.values.is_empty() => "String".to_owned(),
            "string" => type_name(name),
            "list" => format!("Vec<{}>", of(&shape.member)?),
            "map" => format!(
                "std::collections::BTreeMap<{}, {}>",
                of(&shape.key)?,
                of(&shape.value)?
            ),
            "integer" => "i32".to_owned(),
            "long" => "i64".to_owned(),
            "double" | "float" => "f64".to_owned(),
            "boolean" => "bool".to_owned(),
            "timestamp" => "crate::Timestamp".to_owned(),
            "blob" => "crate::Blob".to_owned(),
            other => bail!("shape {name} has the unknown type {other}"),
        })
    }

    fn schemas(&self, shapes: &[&str]) -> Result<String> {
        let mut text = header("use crate::model as m;\nuse super::*;\n");
        for name in shapes {
            let shape = self.shape(name)?;
            writeln!(
                text,
                "pub static {}: m::Shape = {};\n",
                static_name(name),
                self.schema(name, shape)?
            )?;
        }
        Ok(text)
    }

    fn schema(&self, name: &str, shape: &Shape) -> Result<String> {
        let member = || shape.member.as_ref().context("a list's member");
        Ok(match shape.kind.as_str() {
            _ if shape.document => "m::Shape::Document".to_owned(),
            "structure" => {
                let members: Vec<String> = shape
                    .members
                    .0
                    .iter()
                    .map(|(name, reference)| {
                        let required = shape.required.contains(name);
                        member_schema(name, reference, required)
                    })
                    .collect();
                format!(
                    "m::Shape::Structure(m::Structure {{ name: {name:?}, \
                     members: &[{}] }})",
                    members.join(", ")
                )
            }
            "list" => format!(
                "m::Shape::List(m::List {{ member: &{}, location_name: {:?}, \
                 flattened: {}, length: {} }})",
                static_name(&member()?.shape),
                member()?.location_name,
                shape.flattened,
                whole_range(shape)
            ),
            "map" => format!(
                "m::Shape::Map(m::Map {{ key: &{}, value: &{}, length: {} }})",
                static_name(&shape.key.as_ref().context("map key")?.shape),
                static_name(&shape.value.as_ref().context("map value")?.shape),
                whole_range(shape)
            ),
            "string" => format!(
                "m::Shape::String(m::Text {{ length: {}, pattern: {}, values: \
                 &{:?} }})",
                whole_range(shape),
                match &shape.pattern {
                    None => "None".to_owned(),
                    Some(pattern) => format!("Some({pattern:?})"),
                },
                shape.values
            ),
            "integer" => format!("m::Shape::Integer({})", whole_range(shape)),
            "long" => format!("m::Shape::Long({})", whole_range(shape)),
            "double" | "float" => format!(
                "m::Shape::Double(m::Range {{ min: {:?}, max: {:?} }})",
                shape.min, shape.max
            ),
            "boolean" => "m::Shape::Boolean".to_owned(),
            "timestamp" => "m::Shape::Timestamp".to_owned(),
            "blob" => "m::Shape::Blob".to_owned(),
            other => bail!("shape {name} has the unknown type {other}"),
        })
    }

    /// Constructors for the errors that the served operations name.
    fn errors(&self) -> String {
        let mut text = header("use crate::ApiError;\n");
        let named: BTreeSet<&str> = self
            .served
            .iter()
            .flat_map(|name| &self.model.operations[*name].errors)
            .map(|error| error.shape.as_str())
            .collect();
        for (name, shape) in &self.model.shapes {
            if !shape.exception || !named.contains(name.as_str()) {
                continue;
            }
            let given = shape.error.as_ref();
            let code =
                given.and_then(|error| error.code.as_ref()).unwrap_or(name);
            let status = given
                .and_then(|error| error.http_status_code)
                .unwrap_or(if shape.fault { 500 } else { 400 });
            let _ = writeln!(
                text,
                "/// `{code}`, HTTP {status}.\npub fn {}(message: impl \
                 Into<String>) -> ApiError {{\nApiError::new({code:?}, \
                 {status}, message)\n}}\n",
                snake(name)
            );
        }
        text
    }

    fn root(&self, files: &BTreeSet<&str>) -> Result<String> {
        let metadata = &self.model.metadata;
        let mut text = header("");
        let _ = writeln!(
            text,
            "//! {}, API version {}.\n\n#![allow(missing_docs, reason = \
             \"the AWS documentation describes its shapes\")]\n#![allow(\
             unused_imports, unreachable_pub, reason = \"files with few \
             shapes use less\")]\n",
            metadata.endpoint_prefix, metadata.api_version
        );
        for file in files {
            writeln!(text, "mod {file};")?;
        }
        text.push_str("pub mod error;\npub mod schema;\n\n");
        for file in files {
            writeln!(text, "pub use {file}::*;")?;
        }
        writeln!(
            text,
            "\n/// The whole API.\npub static SERVICE: crate::model::Service = \
             crate::model::Service {{ name: {:?}, signing_name: {:?}, \
             api_version: {:?}, target_prefix: {:?}, xml_namespace: {:?}, \
             protocol: {}, operations: OPERATIONS, unserved: UNSERVED }};\n",
            self.selection.name,
            metadata.signing_name.as_ref().unwrap_or(&metadata.endpoint_prefix),
            metadata.api_version,
            metadata.target_prefix,
            metadata.xml_namespace,
            self.protocol()?
        )?;
        text.push_str("static OPERATIONS: &[crate::model::Operation] = &[\n");
        for name in &self.served {
            text.push_str(&self.operation(name)?);
        }
        let unserved: Vec<&str> = self
            .model
            .operations
            .keys()
            .map(String::as_str)
            .filter(|name| !self.served.contains(name))
            .collect();
        writeln!(text, "];\n\nstatic UNSERVED: &[&str] = &{unserved:?};")?;
        Ok(text)
    }

    fn protocol(&self) -> Result<&'static str> {
        let metadata = &self.model.metadata;
        Ok(match metadata.protocol.as_str() {
            "json" if metadata.json_version.as_deref() == Some("1.0") => {
                "crate::model::Protocol::AwsJson(crate::model::JsonVersion::V1_0)"
            }
            "json" => {
                "crate::model::Protocol::AwsJson(crate::model::JsonVersion::V1_1)"
            }
            "query" => "crate::model::Protocol::Query",
            "ec2" => "crate::model::Protocol::Ec2Query",
            other => bail!("unknown protocol {other}"),
        })
    }

    fn operation(&self, name: &str) -> Result<String> {
        let operation = &self.model.operations[name];
        let end = |end: &Option<Reference>| match end {
            None => "None".to_owned(),
            Some(end) => format!("Some(&schema::{})", static_name(&end.shape)),
        };
        let errors: Vec<&str> =
            operation.errors.iter().map(|error| error.shape.as_str()).collect();
        Ok(format!(
            "crate::model::Operation {{ name: {name:?}, input: {}, output: {}, \
             result_wrapper: {:?}, event_stream: {}, errors: &{errors:?} \
             }},\n",
            end(&operation.input),
            end(&operation.output),
            operation
                .output
                .as_ref()
                .and_then(|output| output.result_wrapper.as_ref()),
            self.has_event_stream(operation)?,
        ))
    }

    /// Whether a member of the output is a stream of events.
    fn has_event_stream(&self, operation: &Operation) -> Result<bool> {
        let Some(output) = &operation.output else { return Ok(false) };
        for member in self.shape(&output.shape)?.uses() {
            if self.shape(member)?.eventstream {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn header(imports: &str) -> String {
    format!("{GENERATED_MARK}\n\n{imports}\n")
}

fn schema_root(files: &BTreeSet<&str>) -> String {
    let mut text = header("");
    text.push_str(
        "//! The shapes of the model, under their own names.\n\n\
         #![allow(non_upper_case_globals, reason = \"the model's names\")]\n\
         #![allow(unreachable_pub, reason = \"re-exported here\")]\n\n",
    );
    for file in files {
        let _ = writeln!(text, "mod {file};\npub use {file}::*;");
    }
    text
}

fn enumeration(text: &mut String, name: &str, shape: &Shape) -> Result<()> {
    let mut taken = BTreeSet::new();
    writeln!(text, "crate::string_enum! {{ {} {{", type_name(name))?;
    for value in &shape.values {
        let mut variant = variant(value);
        while !taken.insert(variant.clone()) {
            variant.push('_');
        }
        writeln!(text, "{variant} = {value:?},")?;
    }
    text.push_str("} }\n\n");
    Ok(())
}

fn member_schema(name: &str, reference: &Reference, required: bool) -> String {
    format!(
        "m::Member {{ name: {name:?}, location_name: {:?}, query_name: {:?}, \
         required: {required}, shape: &{} }}",
        reference.location_name,
        reference.query_name,
        static_name(&reference.shape)
    )
}

/// Statics keep the model's name; a prefix keeps them apart from Rust's own.
fn static_name(shape: &str) -> String {
    shape.to_owned()
}

fn whole_range(shape: &Shape) -> String {
    let bound = |bound: Option<f64>| match bound {
        None => "None".to_owned(),
        Some(bound) => format!("Some({bound:.0})"),
    };
    match (shape.min, shape.max) {
        (None, None) => "m::Range::ANY".to_owned(),
        (min, max) => {
            format!("m::Range {{ min: {}, max: {} }}", bound(min), bound(max))
        }
    }
}
