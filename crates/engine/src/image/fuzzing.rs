//! Ways in for `fuzz/`, which only fuzzing builds have.

use std::path::Path;

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

use super::{
    UnpackLayerError, UnpackLimits,
    manifest::{ConfigFile, Content, Platform},
    registry::challenge,
};

/// Reads bytes as a manifest or an index, as a config, and as the challenge
/// of a registry.
pub fn documents(bytes: &[u8]) {
    let host = Platform::host();
    if let Ok(Content::Index(index)) = Content::parse(bytes) {
        let _ = index.select(&host);
    }
    if let Ok(config) = ConfigFile::parse(bytes) {
        let _ = host.check(&config);
    }
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, value);
        let _ = challenge::parse(&headers);
    }
}

/// Unpacks an uncompressed layer.
///
/// # Errors
///
/// As the layers of an image that is pulled.
pub fn unpack_layer(
    mut bytes: &[u8],
    root: &Path,
    limits: &UnpackLimits,
) -> Result<(), UnpackLayerError> {
    super::unpack::unpack(&mut bytes, root, limits).map(|_| ())
}
