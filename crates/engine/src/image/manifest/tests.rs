use serde_json::json;

use super::*;

fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
    let name = format!("{os}/{architecture}/{variant:?}");
    let mut entry = Descriptor::of(OCI_MANIFEST, name.as_bytes());
    entry.platform = Some(Platform {
        architecture: architecture.into(),
        os: os.into(),
        variant: variant.map(Into::into),
    });
    entry
}

fn platform(architecture: &str, variant: Option<&str>) -> Platform {
    entry("linux", architecture, variant).platform.unwrap()
}

#[test]
fn the_best_fitting_platform_is_chosen() {
    let amd64 = entry("linux", "amd64", None);
    let amd64_v3 = entry("linux", "amd64", Some("v3"));
    let arm64 = entry("linux", "arm64", None);
    let arm64_v8 = entry("linux", "arm64", Some("v8"));
    let armv6 = entry("linux", "arm", Some("v6"));
    let armv7 = entry("linux", "arm", Some("v7"));
    let index = |manifests: &[&Descriptor]| Index {
        schema_version: 2,
        manifests: manifests.iter().map(|d| (*d).clone()).collect(),
    };
    let windows = entry("windows", "amd64", None);
    let attestation = entry("unknown", "unknown", None);
    let all = index(&[
        &attestation,
        &windows,
        &amd64_v3,
        &amd64,
        &arm64,
        &arm64_v8,
        &armv6,
        &armv7,
    ]);
    let amd = platform("amd64", None);
    let arm = platform("arm64", Some("v8"));
    assert_eq!(all.select(&amd).unwrap(), &amd64);
    assert_eq!(all.select(&arm).unwrap(), &arm64_v8);
    assert_eq!(all.select(&platform("arm", Some("v7"))).unwrap(), &armv7);
    assert_eq!(index(&[&arm64]).select(&arm).unwrap(), &arm64);
    let error = index(&[&windows, &amd64_v3]).select(&amd).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/amd64 in the manifest list entries"
    );
    let bare = Descriptor::of(OCI_MANIFEST, b"x");
    assert_eq!(index(&[&windows, &bare]).select(&amd).unwrap(), &bare);
}

#[test]
fn a_config_takes_dockers_nulls() {
    let bytes = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["sh"], "Entrypoint": null, "Env": ["A=b"],
            "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
            "Labels": null, "StopSignal": "SIGQUIT", "User": "1:2"},
        "rootfs": {"type": "layers", "diff_ids": null}
    });
    let config = ConfigFile::parse(bytes.to_string().as_bytes()).unwrap();
    assert_eq!(config.config.cmd, ["sh"]);
    assert_eq!(config.config.volumes, ["/data"]);
    assert_eq!(config.config.exposed_ports, ["80/tcp"]);
    assert_eq!(config.config.stop_signal.as_deref(), Some("SIGQUIT"));
    let again = serde_json::to_vec(&config).unwrap();
    assert_eq!(ConfigFile::parse(&again).unwrap().config, config.config);
    let none = ConfigFile::parse(br#"{"config":null}"#).unwrap();
    assert_eq!(none.config, ImageConfig::default());
}

#[test]
fn manifests_and_indexes_are_told_apart_and_junk_is_refused() {
    let digest = Digest::of(b"");
    let descriptor = json!({"digest": digest, "size": 0});
    let manifest =
        json!({"schemaVersion": 2, "config": descriptor, "layers": []});
    let parse = |value: &serde_json::Value| {
        Content::parse(value.to_string().as_bytes())
    };
    assert!(matches!(parse(&manifest), Ok(Content::Manifest(_))));
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    assert!(matches!(parse(&index), Ok(Content::Index(_))));
    let v1 = json!({"schemaVersion": 1, "fsLayers": []});
    assert_eq!(parse(&v1).unwrap_err(), ManifestError::Schema1);
    assert!(parse(&json!({"schemaVersion": 2})).is_err());
    assert!(parse(&json!([1])).is_err());
    let many =
        json!({"config": descriptor, "layers": vec![descriptor.clone(); 501]});
    assert_eq!(parse(&many).unwrap_err(), ManifestError::TooManyLayers(501));
}

#[test]
fn an_artifact_and_a_wrong_platform_are_named() {
    let mut manifest = Manifest {
        schema_version: 2,
        media_type: String::new(),
        config: Descriptor::of(
            "application/vnd.cncf.helm.config.v1+json",
            b"{}",
        ),
        layers: vec![Descriptor::of(OCI_LAYER, b"")],
    };
    let config = ConfigFile {
        os: "linux".into(),
        architecture: "s390x".into(),
        ..ConfigFile::default()
    };
    assert!(matches!(
        config.pair(&manifest),
        Err(ManifestError::NotAnImage(_))
    ));
    manifest.config.media_type = OCI_CONFIG.into();
    assert!(matches!(
        config.pair(&manifest),
        Err(ManifestError::LayerCount { .. })
    ));
    let error = platform("amd64", None).check(&config).unwrap_err();
    assert!(
        error.to_string().contains("linux/s390x cannot be used"),
        "{error}"
    );
}
