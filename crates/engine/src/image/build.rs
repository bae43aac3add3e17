//! Makes an image of a directory, for demonstrations and tests.
//!
//! One layer, no history, an OCI layout in a tar: what `minato image load`,
//! `docker load` and skopeo read. The same directory and settings give the
//! same bytes: times are zero, owners are root, names are sorted.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    Digest, ImageConfig, ImageReference,
    manifest::{
        ConfigFile, Descriptor, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER,
        OCI_MANIFEST, Platform, RootFs,
    },
};

/// Why no image was made of a directory.
#[derive(Debug, thiserror::Error)]
#[error("could not make an image of {}", .path.display())]
pub struct BuildImageError {
    path: PathBuf,
    source: io::Error,
}

/// Writes an OCI archive of a root directory to `out`.
///
/// Sockets are left out, as in any tar.
pub fn oci_archive(
    root: &Path,
    reference: &ImageReference,
    config: &ImageConfig,
    out: &mut impl io::Write,
) -> Result<(), BuildImageError> {
    let failed = |source| BuildImageError { path: root.to_owned(), source };
    let layer = layer_tar(root)?;
    write_archive(reference, config, &[layer], out).map_err(failed)
}

/// Writes an OCI archive of layers that are tars already, bottom first.
pub fn write_archive(
    reference: &ImageReference,
    config: &ImageConfig,
    layers: &[Vec<u8>],
    out: &mut impl io::Write,
) -> io::Result<()> {
    let Platform { architecture, os, .. } = Platform::host();
    let diff_ids = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = serde_json::to_vec(&ConfigFile {
        architecture,
        os,
        created: None,
        config: config.clone(),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
    })?;
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::of(OCI_CONFIG, &config),
        layers: layers
            .iter()
            .map(|layer| Descriptor::of(OCI_LAYER, layer))
            .collect(),
    })?;
    let mut entry = Descriptor::of(OCI_MANIFEST, &manifest);
    entry.annotations = [
        ("io.containerd.image.name", reference.to_string()),
        ("org.opencontainers.image.ref.name", reference.familiar()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry],
    }))?;
    let mut tar = tar::Builder::new(out);
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", &index)?;
    let mut written = vec![];
    for blob in [&manifest, &config].into_iter().chain(layers) {
        let digest = Digest::of(blob);
        if !written.contains(&digest) {
            let name = format!("blobs/sha256/{}", digest.hex());
            append(&mut tar, &name, blob)?;
            written.push(digest);
        }
    }
    tar.finish()
}

fn append(
    tar: &mut tar::Builder<impl io::Write>,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

/// Packs a directory into a plain tar.
fn layer_tar(root: &Path) -> Result<Vec<u8>, BuildImageError> {
    let mut tar = tar::Builder::new(vec![]);
    let mut pending = vec![PathBuf::new()];
    while let Some(name) = pending.pop() {
        let path = root.join(&name);
        let failed = |source| BuildImageError { path: path.clone(), source };
        let file = fs::symlink_metadata(&path).map_err(failed)?;
        if file.is_dir() {
            let mut children = vec![];
            for child in fs::read_dir(&path).map_err(failed)? {
                children.push(name.join(child.map_err(failed)?.file_name()));
            }
            children.sort_by(|a, b| b.cmp(a));
            pending.extend(children);
        }
        append_file(&mut tar, &path, &name, &file).map_err(failed)?;
    }
    tar.into_inner()
        .map_err(|source| BuildImageError { path: root.to_owned(), source })
}

fn append_file(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &Path,
    name: &Path,
    file: &fs::Metadata,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(file.permissions().mode() & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let kind = file.file_type();
    if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        return tar.append_link(&mut header, name, fs::read_link(path)?);
    }
    if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        let name = if name == Path::new("") { Path::new("./") } else { name };
        return tar.append_data(&mut header, name, io::empty());
    }
    if kind.is_file() {
        header.set_size(file.size());
        let contents = io::Read::take(fs::File::open(path)?, file.size());
        return tar.append_data(&mut header, name, contents);
    }
    if kind.is_char_device() || kind.is_block_device() {
        let device = file.rdev();
        header.set_entry_type(match kind.is_block_device() {
            true => tar::EntryType::Block,
            false => tar::EntryType::Char,
        });
        header.set_device_major(rustix::fs::major(device))?;
        header.set_device_minor(rustix::fs::minor(device))?;
        return tar.append_data(&mut header, name, io::empty());
    }
    if kind.is_fifo() {
        header.set_entry_type(tar::EntryType::Fifo);
        return tar.append_data(&mut header, name, io::empty());
    }
    Ok(())
}
