//! What is attached to a task: volumes of its own, and room to write in.

use std::collections::BTreeMap;

use minato_wire::acs::Attachment;

use super::decode::{DecodeTaskError, malformed, unsupported};
use super::plan::EbsPlan;
use crate::runtime::Format;

/// Bytes in the GiB that volumes are counted in.
const GIB: u64 = 1 << 30;

/// Largest volume of EBS, in GiB.
const GIB_MAX: u64 = 64 << 10;

/// Attachments, as far as they are no network interfaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attached {
    /// Volumes by their names in the task definition.
    pub(super) volumes: BTreeMap<String, EbsPlan>,
    /// Room for what the task writes.
    pub(super) disk_bytes: Option<u64>,
}

/// Reads attachments (`acs-protocol.md`, 4.2): those of type `amazonebs`, and
/// of older form those whose `resourceType` is `EphemeralStorage`.
pub(super) fn decode_attachments(
    given: &[Attachment],
) -> Result<Attached, DecodeTaskError> {
    let mut attached = Attached::default();
    for attachment in given {
        let property = |name: &str| {
            let mut all = attachment.attachment_properties.iter();
            let found = all.find(|property| property.name == name)?;
            Some(found.value.as_str()).filter(|value| !value.is_empty())
        };
        let kind = attachment.attachment_type.as_deref();
        match (kind, property("resourceType")) {
            (Some("amazonebs"), _) => {
                let name = property("volumeName")
                    .ok_or_else(|| malformed("a volume without a name"))?;
                let plan = decode_ebs(property)?;
                attached.volumes.insert(name.to_owned(), plan);
            }
            (_, Some("EphemeralStorage")) => {
                attached.disk_bytes = Some(size(property("requestedSize"))?);
            }
            (kind, resource) => {
                let kind = kind.or(resource).unwrap_or_default();
                return Err(unsupported(format!(
                    "an attachment of type {kind:?}"
                )));
            }
        }
    }
    Ok(attached)
}

fn decode_ebs<'a>(
    property: impl Fn(&str) -> Option<&'a str>,
) -> Result<EbsPlan, DecodeTaskError> {
    let id = property("volumeId").unwrap_or_default();
    // It names a file.
    if !is_volume_id(id) {
        return Err(malformed(format!("{id:?} is not the id of a volume")));
    }
    let format = match property("fileSystem") {
        None | Some("xfs") => Format::Xfs,
        Some("ext4") => Format::Ext4,
        Some("ext3") => Format::Ext3,
        Some(other) => {
            return Err(unsupported(format!("the file system {other:?}")));
        }
    };
    Ok(EbsPlan {
        volume_id: id.to_owned(),
        bytes: size(property("volumeSizeGib"))?,
        format,
        delete_on_termination: property("deleteOnTermination")
            .is_none_or(|value| value == "true"),
    })
}

/// Whether it is `vol-` and hexadecimal digits.
pub(crate) fn is_volume_id(id: &str) -> bool {
    let digits = id.strip_prefix("vol-").unwrap_or_default();
    (1..=32).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn size(given: Option<&str>) -> Result<u64, DecodeTaskError> {
    given
        .and_then(|gib| gib.parse::<u64>().ok())
        .filter(|gib| (1..=GIB_MAX).contains(gib))
        .map(|gib| gib * GIB)
        .ok_or_else(|| malformed(format!("a volume of {given:?} GiB")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decode(
        kind: Option<&str>,
        properties: &[(&str, &str)],
    ) -> Result<Attached, DecodeTaskError> {
        let properties: Vec<Value> = properties
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let given = json!([{
            "attachmentArn": "arn", "attachmentType": kind,
            "attachmentProperties": properties,
        }]);
        let given: Vec<Attachment> = serde_json::from_value(given).unwrap();
        decode_attachments(&given)
    }

    #[test]
    fn a_volume_and_room_to_write() {
        let ebs = [
            ("volumeId", "vol-0123"),
            ("volumeName", "db"),
            ("volumeSizeGib", "2"),
        ];
        let plan = EbsPlan {
            volume_id: "vol-0123".into(),
            bytes: 2 * GIB,
            format: Format::Xfs,
            delete_on_termination: true,
        };
        let volumes = decode(Some("amazonebs"), &ebs).unwrap().volumes;
        assert_eq!(volumes, [("db".to_owned(), plan)].into());
        let room =
            [("resourceType", "EphemeralStorage"), ("requestedSize", "21")];
        assert_eq!(decode(None, &room).unwrap().disk_bytes, Some(21 * GIB));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (id, gib, format) in [
            ("vol-../../etc", "1", "xfs"),
            ("", "1", "xfs"),
            ("vol-1", "0", "xfs"),
            ("vol-1", "-1", "xfs"),
            ("vol-1", "99999999999999999999", "xfs"),
            ("vol-1", "1", "ntfs"),
        ] {
            let ebs = [
                ("volumeId", id),
                ("volumeName", "db"),
                ("volumeSizeGib", gib),
                ("fileSystem", format),
            ];
            decode(Some("amazonebs"), &ebs).unwrap_err();
        }
        decode(Some("amazonebs"), &[("volumeId", "vol-1")]).unwrap_err();
        decode(Some("else"), &[]).unwrap_err();
        decode(None, &[("resourceType", "ElasticBlockStorage")]).unwrap_err();
    }
}
