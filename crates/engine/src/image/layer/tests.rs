use std::{fs, io::Write as _};

use tempfile::TempDir;

use super::*;

fn tar_of(files: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for n in 0..files {
        let data = format!("{n}").repeat(1000);
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("f{n}"), data.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let fast = flate2::Compression::fast();
    let mut encoder = flate2::write::GzEncoder::new(vec![], fast);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn run(
    blob: &[u8],
    digests: LayerDigests,
) -> (Result<Unpacked, UnpackLayerError>, TempDir) {
    let root = TempDir::new().unwrap();
    let limits = UnpackLimits::default();
    (unpack_layer(blob, digests, root.path(), &limits), root)
}

fn digests(blob: &[u8], tar: &[u8]) -> LayerDigests {
    LayerDigests { blob: Some(Digest::of(blob)), diff_id: Digest::of(tar) }
}

#[test]
fn every_compression_gives_the_same_files() {
    let tar = tar_of(300);
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let half = tar.len() / 2;
    let two_members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    for blob in [tar.clone(), gzip(&tar), zstd, two_members] {
        let (result, root) = run(&blob, digests(&blob, &tar));
        assert_eq!(result.unwrap().entries, 300);
        let last = fs::read_to_string(root.path().join("f299")).unwrap();
        assert_eq!(last, "299".repeat(1000));
    }
}

#[test]
fn padding_behind_the_archive_counts_for_the_digest() {
    let mut tar = tar_of(1);
    tar.resize(tar.len() + 700_000, 0);
    let blob = gzip(&tar);
    run(&blob, digests(&blob, &tar)).0.unwrap();
}

#[test]
fn wrong_digests_are_told_apart() {
    let tar = tar_of(3);
    let blob = gzip(&tar);
    let other = Digest::of(b"other");
    let mut wrong = digests(&blob, &tar);
    wrong.blob = Some(other);
    let error = run(&blob, wrong).0.unwrap_err().to_string();
    assert!(error.starts_with("layer digest mismatch"), "{error}");
    let mut wrong = digests(&blob, &tar);
    wrong.diff_id = other;
    let error = run(&blob, wrong).0.unwrap_err().to_string();
    assert!(error.starts_with("diff id digest mismatch"), "{error}");
}

#[test]
fn a_broken_stream_is_the_error_and_nothing_hangs() {
    let tar = tar_of(2000);
    let gz = gzip(&tar);
    for blob in [&gz[..gz.len() / 2], &gz[..gz.len() - 4], &gz[..10]] {
        let result = run(blob, digests(blob, &tar)).0;
        assert!(
            matches!(result, Err(UnpackLayerError::Archive { .. })),
            "{result:?}"
        );
    }
    let cut = &tar[..tar.len() / 2 + 100];
    assert!(run(cut, digests(cut, &tar)).0.is_err());
    for magic in [&b"BZh91AY"[..], b"\xfd7zXZ\0\0"] {
        let error = run(magic, digests(magic, magic)).0.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("not supported"), "{source}");
    }
}

#[test]
fn a_refused_entry_stops_the_inflating_thread() {
    // Far more data behind the bad entry than fits between the threads.
    let mut tar = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"../x");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(512);
    bytes.extend(tar_of(20_000));
    let error = run(&bytes, digests(&bytes, &bytes)).0.unwrap_err();
    assert!(matches!(error, UnpackLayerError::EscapesRoot { .. }), "{error:?}");
}

#[test]
fn a_gzip_bomb_stops_at_the_limit() {
    let mut header = tar::Header::new_gnu();
    header.set_size(64 << 20);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(vec![]);
    let zeros = io::Read::take(io::repeat(0), 64 << 20);
    tar.append_data(&mut header, "zeros", zeros).unwrap();
    let blob = gzip(&tar.into_inner().unwrap());
    let root = TempDir::new().unwrap();
    let limits = UnpackLimits { bytes: 1 << 20, ..UnpackLimits::default() };
    let digests = digests(&blob, b"");
    let error = unpack_layer(&blob[..], digests, root.path(), &limits);
    assert!(
        matches!(error, Err(UnpackLayerError::TooLarge { .. })),
        "{error:?}"
    );
}
