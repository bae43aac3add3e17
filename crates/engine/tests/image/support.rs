//! Layers, archives and stores for the image tests.

use std::{fs, io::Write as _, path::Path};

use minato_engine::image::{
    Image, ImageConfig, ImageReference, ImageStore, ImageStoreConfig, build,
};
use tempfile::TempDir;

/// An image store in a directory of its own.
pub(crate) struct TestStore {
    pub(crate) images: ImageStore,
    pub(crate) dir: TempDir,
}

impl TestStore {
    pub(crate) fn new() -> TestStore {
        TestStore::with(ImageStoreConfig::default())
    }

    pub(crate) fn with(config: ImageStoreConfig) -> TestStore {
        let dir = TempDir::new().unwrap();
        let images = ImageStore::open(&dir.path().join("images"), config);
        TestStore { images: images.unwrap(), dir }
    }

    pub(crate) fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("images")
    }

    pub(crate) fn get(&self, name: &str) -> Option<Image> {
        self.images.get(&reference(name)).unwrap()
    }

    /// Counts the entries of a directory in the store.
    pub(crate) fn count(&self, name: &str) -> usize {
        fs::read_dir(self.root().join(name)).unwrap().count()
    }
}

pub(crate) fn reference(name: &str) -> ImageReference {
    name.parse().unwrap()
}

/// A plain layer of files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn config() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/bin/app".into()],
        cmd: vec!["serve".into()],
        env: vec!["PATH=/bin".into()],
        exposed_ports: vec!["80/tcp".into()],
        stop_signal: Some("SIGQUIT".into()),
        ..ImageConfig::default()
    }
}

/// An OCI archive of plain layers.
pub(crate) fn archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![];
    build::write_archive(&reference(name), &config(), layers, &mut out)
        .unwrap();
    out
}

/// Writes an archive's parts as files.
pub(crate) fn extract(archive: &[u8], to: &Path) {
    tar::Archive::new(archive).unpack(to).unwrap();
}

/// A tar of named parts.
pub(crate) fn tar_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
    layer(parts)
}

/// What a file holds, looked up as overlayfs would.
pub(crate) fn read(image: &Image, name: &str) -> Option<String> {
    let found = image.layers.iter().rev().map(|layer| layer.join(name));
    found.into_iter().find_map(|path| fs::read_to_string(path).ok())
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) async fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("waited 10 s for {what}");
}
