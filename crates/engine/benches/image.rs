//! Pull and unpack of one 90 MB layer from a registry on this machine,
//! beside the bare steps that it is made of.
//!
//! Cases: `sha256` of the blob, `gunzip` to nowhere, `untar` of the plain tar
//! with the tar crate, all three one after the other, and `pull` (HTTP, both
//! digests, gunzip, unpacking for overlayfs, durable names) for gzip and zstd.
//! Every run has a fresh directory; nothing is deleted until the end, since
//! ext4 makes files several times slower right after deletions.
//!
//! `cargo bench -p minato-engine --bench image [-- RUNS]`
#![expect(clippy::unwrap_used, reason = "a bench has nobody to report to")]

use std::{
    convert::Infallible,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use minato_engine::image::{
    Digest, ImageReference, ImageStore, ImageStoreConfig, PullOptions,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

const LAYER_BYTES: u64 = 90 << 20;
/// A kernel's worth of scripts and programs: many small files, some large.
const SOURCES: [&str; 4] =
    ["/usr/lib/python3", "/usr/lib/git-core", "/usr/share/perl", "/usr/lib"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runs = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(3);
    let (tar, files) = make_layer();
    let gzip = gzip(&tar);
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    println!(
        "layer: {} bytes tar, {files} entries, gzip {} bytes, zstd {} bytes",
        tar.len(),
        gzip.len(),
        zstd.len()
    );
    let work = TempDir::new_in(std::env::temp_dir()).unwrap();
    let mut fresh = (0..).map(|n| work.path().join(format!("{n}")));
    let mut next = || fresh.next().unwrap();
    measure("sha256 of the gzip blob", runs, || {
        Digest::of(&gzip);
    });
    measure("sha256 of the tar", runs, || {
        Digest::of(&tar);
    });
    measure("gunzip to nowhere", runs, || {
        let mut decoder = flate2::read::GzDecoder::new(&gzip[..]);
        io::copy(&mut decoder, &mut io::sink()).unwrap();
    });
    measure("untar (tar crate, no digests)", runs, || untar(&tar[..], &next()));
    measure("sha256, gunzip, sha256, untar in a row", runs, || {
        Digest::of(&gzip);
        let mut plain = vec![];
        flate2::read::GzDecoder::new(&gzip[..])
            .read_to_end(&mut plain)
            .unwrap();
        Digest::of(&plain);
        untar(&plain[..], &next());
    });
    for (name, blob) in [("gzip", &gzip), ("zstd", &zstd)] {
        pull_case(name, blob, &tar, runs, &mut next);
    }
}

fn pull_case(
    name: &str,
    blob: &[u8],
    tar: &[u8],
    runs: usize,
    next: &mut impl FnMut() -> PathBuf,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let host = runtime.block_on(serve(blob, tar));
    let reference: ImageReference = format!("{host}/bench").parse().unwrap();
    measure(&format!("pull {name} over HTTP, complete"), runs, || {
        let images =
            ImageStore::open(&next(), ImageStoreConfig::default()).unwrap();
        let pulled = images.pull(&reference, PullOptions::default());
        let image = runtime.block_on(pulled).unwrap();
        assert_eq!(image.layers.len(), 1);
    });
}

fn measure(name: &str, runs: usize, mut run: impl FnMut()) {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, worst) = (times[runs / 2], times[runs - 1]);
    println!(
        "{name:<42} best {:7.0} ms  median {:7.0} ms  worst {:7.0} ms",
        ms(times[0]),
        ms(median),
        ms(worst)
    );
    io::stdout().flush().unwrap();
}

fn untar(bytes: &[u8], to: &Path) {
    fs::create_dir(to).unwrap();
    let mut archive = tar::Archive::new(bytes);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.unpack(to).unwrap();
}

/// Packs files of this machine, the same ones each time.
fn make_layer() -> (Vec<u8>, usize) {
    let mut tar = tar::Builder::new(vec![]);
    let mut files = 0;
    let mut pending: Vec<PathBuf> =
        SOURCES.iter().rev().map(PathBuf::from).collect();
    while let Some(path) = pending.pop() {
        if tar.get_ref().len() as u64 > LAYER_BYTES {
            break;
        }
        let Ok(file) = fs::symlink_metadata(&path) else { continue };
        if file.is_dir() {
            let mut children: Vec<PathBuf> = fs::read_dir(&path)
                .unwrap()
                .map(|child| child.unwrap().path())
                .collect();
            children.sort_by(|a, b| b.cmp(a));
            pending.extend(children);
        } else if file.is_file() && file.len() < 8 << 20 {
            let name = path.strip_prefix("/").unwrap();
            tar.append_path_with_name(&path, name).unwrap();
            files += 1;
        }
    }
    (tar.into_inner().unwrap(), files)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    let mut encoder = flate2::write::GzEncoder::new(vec![], level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Serves one image of one layer.
async fn serve(blob: &[u8], tar: &[u8]) -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(tar)]},
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"digest": Digest::of(config.as_bytes()), "size": config.len()},
        "layers": [{"digest": Digest::of(blob), "size": blob.len()}],
    })
    .to_string();
    let blobs: Vec<(String, Bytes)> = [
        ("manifests/latest".to_owned(), Bytes::from(manifest)),
        (format!("blobs/{}", Digest::of(config.as_bytes())), config.into()),
        (format!("blobs/{}", Digest::of(blob)), Bytes::copy_from_slice(blob)),
    ]
    .into();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let blobs = blobs.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<_>| {
                    let path = request.uri().path().to_owned();
                    let found =
                        blobs.iter().find(|(name, _)| path.ends_with(name));
                    let body = found.map(|(_, bytes)| bytes.clone());
                    let mut response = Response::new(Full::new(
                        body.clone().unwrap_or_default(),
                    ));
                    if body.is_none() {
                        *response.status_mut() = StatusCode::NOT_FOUND;
                    }
                    async move { Ok::<_, Infallible>(response) }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(
                    TokioExecutor::new(),
                );
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    host
}
