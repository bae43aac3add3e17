use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use minato_engine::image::{
    Digest, ImageOrigin, LayerPhase, LoadImageError, PullPhase, PullProgress,
    build,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{registry::arch, support::*};

async fn load(
    store: &TestStore,
    bytes: &[u8],
    name: Option<&str>,
) -> Result<Vec<String>, String> {
    let path = store.dir.path().join("archive.tar");
    fs::write(&path, bytes).unwrap();
    load_path(store, &path, name).await
}

async fn load_path(
    store: &TestStore,
    path: &Path,
    name: Option<&str>,
) -> Result<Vec<String>, String> {
    let name = name.map(reference);
    match store.images.load(path, name.as_ref(), None).await {
        Ok(names) => Ok(names.iter().map(ToString::to_string).collect()),
        Err(error) => Err(chain(&error)),
    }
}

fn two_layers() -> [Vec<u8>; 2] {
    [
        layer(&[("etc/a", b"lower"), ("etc/b", b"b")]),
        layer(&[("etc/a", b"upper"), ("etc/.wh.b", b"")]),
    ]
}

#[tokio::test]
async fn an_oci_archive_loads_and_survives_a_new_start() {
    let store = TestStore::new();
    let bytes = archive("demo:v1", &two_layers());
    let names = load(&store, &bytes, None).await.unwrap();
    assert_eq!(names, ["docker.io/library/demo:v1"]);
    let image = store.get("demo:v1").unwrap();
    assert_eq!(image.config, config());
    assert_eq!(image.layers.len(), 2);
    assert_eq!(read(&image, "etc/a").as_deref(), Some("upper"));
    assert_eq!(image.origin, ImageOrigin::Loaded);
    assert_eq!(image.size_bytes, 11);
    assert!(image.added_at_ms > 0);
    assert!(store.get("demo").is_none(), "another tag");
    let by_digest = format!("demo@{}", image.digest);
    assert_eq!(store.get(&by_digest).unwrap().id, image.id);
    // Loaded layers are on the disk for good.
    for layer in &image.layers {
        assert!(!layer.parent().unwrap().join("pending").exists());
    }
    let again = minato_engine::image::ImageStore::open(
        &store.root(),
        Default::default(),
    )
    .unwrap();
    assert_eq!(again.list().unwrap(), [image]);
    assert_eq!(store.count("tmp"), 0);
    let mode = fs::metadata(store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn an_oci_directory_and_a_compressed_archive_load_too() {
    let bytes = archive("demo", &two_layers());
    let store = TestStore::new();
    let dir = store.dir.path().join("layout");
    extract(&bytes, &dir);
    load_path(&store, &dir, Some("other/name:1")).await.unwrap();
    assert!(store.get("other/name:1").is_some());
    let mut gz = flate2::write::GzEncoder::new(vec![], Default::default());
    gz.write_all(&bytes).unwrap();
    let store = TestStore::new();
    load(&store, &gz.finish().unwrap(), None).await.unwrap();
    assert!(store.get("demo").is_some());
    let store = TestStore::new();
    load(&store, &zstd::encode_all(&bytes[..], 1).unwrap(), None)
        .await
        .unwrap();
    assert!(store.get("demo").is_some());
}

/// What `docker save` wrote before version 25: directories by layer, links
/// between equal layers, and no index.
fn legacy(tags: &Value, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::of(l)).collect();
    let config = json!({
        "architecture": arch(), "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let names: Vec<String> =
        (0..layers.len()).map(|n| format!("l{n}/layer.tar")).collect();
    let table =
        json!([{"Config": "abc.json", "RepoTags": tags, "Layers": names}]);
    let table = table.to_string();
    let mut parts: Vec<(&str, &[u8])> = vec![
        ("manifest.json", table.as_bytes()),
        ("abc.json", config.as_bytes()),
        ("repositories", b"{}"),
    ];
    for (name, layer) in names.iter().zip(layers) {
        parts.push((name, layer));
    }
    tar_of(&parts)
}

#[tokio::test]
async fn a_legacy_docker_archive_loads_with_all_its_tags() {
    let store = TestStore::new();
    let bytes = legacy(&json!(["demo:v1", "demo:latest"]), &two_layers());
    let names = load(&store, &bytes, None).await.unwrap();
    assert_eq!(
        names,
        ["docker.io/library/demo:v1", "docker.io/library/demo:latest"]
    );
    let image = store.get("demo").unwrap();
    assert_eq!(image.config.cmd, ["sh"]);
    assert_eq!(read(&image, "etc/a").as_deref(), Some("upper"));
    assert_eq!(store.get("demo:v1").unwrap().digest, image.digest);
}

#[tokio::test]
async fn a_legacy_archive_may_link_equal_layers() {
    let shared = layer(&[("f", b"shared")]);
    let diff = Digest::of(&shared);
    let config = json!({"rootfs": {"diff_ids": [diff, diff]}}).to_string();
    let table = json!([{"Config": "c.json", "RepoTags": ["x:1"],
        "Layers": ["one/layer.tar", "two/layer.tar"]}])
    .to_string();
    let mut tar = tar::Builder::new(tar_of(&[]));
    tar.get_mut().clear();
    for (name, bytes) in [
        ("one/layer.tar", &shared[..]),
        ("c.json", config.as_bytes()),
        ("manifest.json", table.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "two/layer.tar", "../one/layer.tar").unwrap();
    let store = TestStore::new();
    load(&store, &tar.into_inner().unwrap(), None).await.unwrap();
    // overlayfs refuses one directory twice.
    assert_eq!(store.get("x:1").unwrap().layers.len(), 1);
}

#[tokio::test]
async fn a_newer_docker_archive_takes_names_from_either_table() {
    let bytes = archive("ignored", &two_layers());
    let store = TestStore::new();
    let dir = store.dir.path().join("layout");
    extract(&bytes, &dir);
    let index = fs::read(dir.join("index.json")).unwrap();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    // Only a tag, as `docker save` writes beside its own annotation.
    index["manifests"][0]["annotations"] =
        json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    let error = load_path(&store, &dir, None).await.unwrap_err();
    assert!(error.contains("give a name"), "{error}");
    let manifest: Digest =
        serde_json::from_value(index["manifests"][0]["digest"].clone())
            .unwrap();
    let manifest =
        fs::read(dir.join("blobs/sha256").join(manifest.hex())).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config =
        manifest["config"]["digest"].as_str().unwrap().replace(':', "/");
    let table = json!([{"Config": format!("blobs/{config}"), "RepoTags": ["named:7"], "Layers": []}]);
    fs::write(dir.join("manifest.json"), table.to_string()).unwrap();
    let names = load_path(&store, &dir, None).await.unwrap();
    assert_eq!(names, ["docker.io/library/named:7"]);
}

#[tokio::test]
async fn broken_archives_are_refused_and_leave_nothing() {
    let store = TestStore::new();
    let good = archive("demo", &two_layers());
    let cases: [(&str, Vec<u8>); 7] = [
        ("neither an OCI layout nor", tar_of(&[("a", b"b")])),
        ("could not load", b"not a tar".repeat(100)),
        ("archive is broken", good[..good.len() / 2].to_vec()),
        ("is not valid", tar_of(&[("index.json", b"{")])),
        ("lacks blobs/sha256/", tar_of(&[("index.json", &index_of(b"x"))])),
        (
            "wrong digest",
            tar_of(&[
                ("index.json", &index_of(b"x")),
                (&format!("blobs/sha256/{}", Digest::of(b"x").hex()), b"y"),
            ]),
        ),
        ("2 layers, the manifest 1", legacy_with_a_layer_less()),
    ];
    for (expected, bytes) in cases {
        let error = load(&store, &bytes, Some("x")).await.unwrap_err();
        assert!(error.contains(expected), "{expected:?} in {error:?}");
    }
    assert_eq!((store.count("layers"), store.count("tmp")), (0, 0));
    assert!(store.images.list().unwrap().is_empty());
}

fn index_of(manifest: &[u8]) -> Vec<u8> {
    let entry = json!({"digest": Digest::of(manifest), "size": manifest.len()});
    json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes()
}

fn legacy_with_a_layer_less() -> Vec<u8> {
    let config =
        json!({"rootfs": {"diff_ids": [Digest::of(b"1"), Digest::of(b"2")]}});
    let table =
        json!([{"Config": "c.json", "RepoTags": null, "Layers": ["l"]}]);
    tar_of(&[
        ("manifest.json", table.to_string().as_bytes()),
        ("c.json", config.to_string().as_bytes()),
        ("l", b""),
    ])
}

#[tokio::test]
async fn a_hostile_or_damaged_layer_is_never_seen() {
    let store = TestStore::new();
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut hostile = tar::Builder::new(vec![]);
    hostile.append(&header, &b""[..]).unwrap();
    let bytes = archive("bad", &[hostile.into_inner().unwrap()]);
    let error = load(&store, &bytes, None).await.unwrap_err();
    assert!(error.contains("outside of its root"), "{error}");
    // A bit that flipped in the layer, behind the tables.
    let [lower, _] = two_layers();
    let mut bytes = archive("bad", std::slice::from_ref(&lower));
    let at = bytes.windows(5).rposition(|w| w == b"lower").unwrap();
    bytes[at] ^= 1;
    let error = load(&store, &bytes, None).await.unwrap_err();
    assert!(error.contains("layer digest mismatch"), "{error}");
    assert_eq!((store.count("layers"), store.count("tmp")), (0, 0));
    assert!(store.get("bad").is_none());
}

#[tokio::test]
async fn a_name_can_be_given_to_one_image_only() {
    let store = TestStore::new();
    let [a, b] = [("a", b"a"), ("b", b"b")]
        .map(|(name, data)| archive(name, &[layer(&[("f", data)])]));
    let dir = store.dir.path().join("two");
    extract(&a, &dir);
    let first: Value =
        serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap())
            .unwrap();
    extract(&b, &dir);
    let mut both: Value =
        serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap())
            .unwrap();
    both["manifests"]
        .as_array_mut()
        .unwrap()
        .push(first["manifests"][0].clone());
    fs::write(dir.join("index.json"), both.to_string()).unwrap();
    let given = reference("c");
    let error = store.images.load(&dir, Some(&given), None).await.unwrap_err();
    assert!(matches!(error, LoadImageError::SeveralImages(2)), "{error:?}");
    store.images.load(&dir, None, None).await.unwrap();
    assert!(store.get("a").is_some() && store.get("b").is_some());
}

#[tokio::test]
async fn progress_ends_with_every_byte_done() {
    let store = TestStore::new();
    let path = store.dir.path().join("a.tar");
    fs::write(&path, archive("demo", &two_layers())).unwrap();
    let (sender, receiver) = watch::channel(PullProgress::default());
    store.images.load(&path, None, Some(sender)).await.unwrap();
    let progress = receiver.borrow().clone();
    assert_eq!(progress.phase, PullPhase::Done);
    assert!(progress.layers.iter().all(|l| l.phase == LayerPhase::Done));
    let (done, total) = progress.bytes();
    assert!(done == total && total > 0);
}

#[tokio::test]
async fn removing_gives_back_what_nobody_uses() {
    let store = TestStore::new();
    let shared = layer(&[("shared", b"12345")]);
    let own = layer(&[("own", b"123")]);
    load(&store, &archive("a", &[shared.clone(), own]), None).await.unwrap();
    load(&store, &archive("b", &[shared]), None).await.unwrap();
    let usage = store.images.disk_usage().unwrap();
    assert_eq!((usage.images, usage.layers, usage.layer_bytes), (2, 2, 8));
    assert_eq!(usage.reclaimable_bytes, 0);
    let image = store.get("a").unwrap();
    // A container still stands on it.
    let removed = store.images.remove(&image.reference, &image.layers).unwrap();
    assert_eq!((removed.was_known, removed.layers), (true, 0));
    assert_eq!(store.images.disk_usage().unwrap().reclaimable_bytes, 3);
    let pruned = store.images.prune(&[]).unwrap();
    assert_eq!((pruned.layers, pruned.bytes), (1, 3));
    assert!(store.get("a").is_none() && store.get("b").is_some());
    let again = store.images.remove(&image.reference, &[]).unwrap();
    assert!(!again.was_known);
    store.images.remove(&reference("b"), &[]).unwrap();
    assert_eq!((store.count("layers"), store.count("blobs/sha256")), (0, 0));
    let empty = || store.count("trash") == 0;
    wait_for("the trash to be empty", empty).await;
}

#[tokio::test]
async fn an_image_with_a_part_gone_counts_as_absent() {
    let store = TestStore::new();
    load(&store, &archive("a", &two_layers()), None).await.unwrap();
    let image = store.get("a").unwrap();
    fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
    assert!(store.get("a").is_none());
    load(&store, &archive("a", &two_layers()), None).await.unwrap();
    assert!(store.get("a").is_some());
}

#[tokio::test]
async fn a_start_after_a_crash_cleans_up() {
    let store = TestStore::new();
    load(&store, &archive("a", &two_layers()), None).await.unwrap();
    let image = store.get("a").unwrap();
    let root = store.root();
    drop(store.images);
    fs::create_dir_all(root.join("tmp/1-0/fs/half")).unwrap();
    // As after a power cut before the layer reached the disk.
    let layer = image.layers[1].parent().unwrap().to_owned();
    fs::write(layer.join("pending"), "another boot").unwrap();
    let images =
        minato_engine::image::ImageStore::open(&root, Default::default())
            .unwrap();
    assert!(!root.join("tmp/1-0").exists());
    assert!(!layer.exists() && images.get(&image.reference).unwrap().is_none());
    let own_boot = image.layers[0].parent().unwrap();
    assert!(own_boot.exists(), "the synced layer stays");
}

#[tokio::test]
async fn a_directory_becomes_an_image_and_skopeo_agrees() {
    let store = TestStore::new();
    let root = store.dir.path().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/tool"), "#!").unwrap();
    fs::set_permissions(
        root.join("bin/tool"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    symlink("tool", root.join("bin/link")).unwrap();
    let mut bytes = vec![];
    let name = reference("built:1");
    build::oci_archive(&root, &name, &config(), &mut bytes).unwrap();
    let mut again = vec![];
    build::oci_archive(&root, &name, &config(), &mut again).unwrap();
    assert!(bytes == again, "the same bytes each time");
    load(&store, &bytes, None).await.unwrap();
    let image = store.get("built:1").unwrap();
    let tool = image.layers[0].join("bin/tool");
    assert_eq!(
        fs::metadata(&tool).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(
        fs::read_link(tool.with_file_name("link")).unwrap(),
        PathBuf::from("tool")
    );
    skopeo_agrees(&store, &image.digest).await;
}

/// The oracle, where it is installed.
async fn skopeo_agrees(store: &TestStore, digest: &Digest) {
    let archive = store.dir.path().join("archive.tar");
    let target = store.dir.path().join("saved.tar");
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("docker-archive:{}:saved:2", target.display()))
        .output();
    let Ok(copied) = copied else { return };
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let names = load_path(store, &target, None).await.unwrap();
    assert_eq!(names, ["docker.io/library/saved:2"]);
    let saved = store.get("saved:2").unwrap();
    assert_eq!(saved.layers, store.get("built:1").unwrap().layers);
    // The manifest that this format lacks is made up, to the same bytes.
    assert_eq!(saved.digest, *digest);
}
