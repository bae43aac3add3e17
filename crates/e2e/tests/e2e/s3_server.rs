//! A real S3 server beside a Minato that asks it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use minato_e2e::Site;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;

const ADDRESS: &str = "127.0.0.1:9000";
const URL: &str = "http://127.0.0.1:9000";
const KEY_ID: &str = "AKIAOFTHESERVER";
/// The key that the server takes.
pub(crate) const SECRET: &str = "the/secret+of=s3";

/// A site, and the directory with the buckets of the server that it asks.
pub(crate) struct WithS3 {
    pub(crate) site: Site,
    buckets: tempfile::TempDir,
    /// Serves until it is dropped.
    _runtime: tokio::runtime::Runtime,
}

impl WithS3 {
    /// Starts both; the site asks with this secret.
    pub(crate) fn start(secret: &str, more: &[&str]) -> Result<WithS3> {
        let buckets = tempfile::tempdir()?;
        let key = buckets.path().join("key");
        let text = format!(
            "[default]\naws_access_key_id = {KEY_ID}\n\
             aws_secret_access_key = {secret}\n"
        );
        std::fs::write(&key, text)?;
        let file = key.to_string_lossy();
        let own = ["--s3-endpoint", URL, "--s3-credentials-file", &file];
        let site = Site::start_with(&[&own, more].concat())?;
        std::fs::remove_file(&key)?;
        let _runtime = serve(&site, buckets.path());
        Ok(WithS3 { site, buckets, _runtime })
    }

    /// Where an object is, or a bucket.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.buckets.path().join(name)
    }

    /// Puts an object: `bucket/key`.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Serves the buckets in the site's network, to whoever has the key.
fn serve(site: &Site, buckets: &Path) -> tokio::runtime::Runtime {
    let listener = site.listen(ADDRESS).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut service = S3ServiceBuilder::new(FileSystem::new(buckets).unwrap());
    service.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
    let service = service.build();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                let socket = TokioIo::new(socket);
                let _ = server.serve_connection(socket, service).await;
            });
        }
    });
    runtime
}
