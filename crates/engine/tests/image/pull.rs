use std::time::Duration;

use bytes::Bytes;
use minato_engine::image::{
    Image, LayerPhase, PullBehavior, PullImageError, PullOptions, PullPhase,
    PullProgress, RegistryAuth, UnpackLimits,
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    registry::{Access, Fault, INDEX, MANIFEST, Registry, arch, quick},
    support::*,
};

/// `name` at this registry.
fn at(registry: &Registry, name: &str) -> String {
    format!("{}/{name}", registry.host)
}

async fn pull(store: &TestStore, name: &str) -> Result<Image, String> {
    pull_with(store, name, PullOptions::default()).await
}

async fn pull_with(
    store: &TestStore,
    name: &str,
    options: PullOptions,
) -> Result<Image, String> {
    let pulled = store.images.pull(&reference(name), options).await;
    pulled.map_err(|error| chain(&error))
}

fn basic(username: &str, password: &str) -> Option<RegistryAuth> {
    Some(RegistryAuth::Basic {
        username: username.into(),
        password: password.into(),
    })
}

fn gz(files: &[(&str, &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let tar = layer(files);
    (gzip(&tar), tar)
}

/// A layer whose blob is long enough to break in the middle.
fn large() -> (Vec<u8>, Vec<u8>) {
    let mut noise = vec![0u8; 300_000];
    let mut x = 12345u32;
    for byte in &mut noise {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = x.to_le_bytes()[3];
    }
    gz(&[("noise", &noise)])
}

fn quick_store() -> TestStore {
    TestStore::with(quick())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_docker_hub_comes_from_its_mirror() {
    let registry = Registry::start().await;
    let plain = layer(&[("c", b"plain")]);
    let zstd = layer(&[("b", b"zstd")]);
    let layers = [
        gz(&[("a", b"gzip"), ("b", b"hidden")]),
        (zstd::encode_all(&zstd[..], 3).unwrap(), zstd),
        (plain.clone(), plain),
    ];
    let digest = registry.push("library/nginx", "latest", &layers);
    let store = TestStore::with(registry.as_mirror());
    let image = pull(&store, "nginx").await.unwrap();
    assert_eq!(image.digest, digest);
    assert_eq!(image.manifest, digest);
    assert_eq!(image.reference.to_string(), "docker.io/library/nginx:latest");
    assert_eq!(image.config.cmd, ["library/nginx"]);
    let found = ["a", "b", "c"].map(|name| read(&image, name).unwrap());
    assert_eq!(found, ["gzip", "zstd", "plain"]);
    assert_eq!(store.get("nginx").unwrap(), image);
    assert_eq!((store.count("tmp"), store.count("layers")), (0, 3));
    // Again: one HEAD tells that nothing changed.
    let before = registry.log().len();
    assert_eq!(pull(&store, "nginx").await.unwrap(), image);
    let log = registry.log().split_off(before);
    assert_eq!(log, ["HEAD /v2/library/nginx/manifests/latest"]);
}

#[tokio::test]
async fn a_moved_tag_is_noticed_and_shared_layers_stay() {
    let registry = Registry::start().await;
    let base = gz(&[("base", b"1")]);
    registry.push("app", "v1", std::slice::from_ref(&base));
    let store = quick_store();
    let name = at(&registry, "app:v1");
    let before = pull(&store, &name).await.unwrap();
    registry.push("app", "v1", &[base.clone(), gz(&[("new", b"2")])]);
    let after = pull(&store, &name).await.unwrap();
    assert_ne!(before.digest, after.digest);
    assert_eq!(after.layers[0], before.layers[0]);
    let blob = minato_engine::image::Digest::of(&base.0).to_string();
    assert_eq!(registry.count(&format!("GET /v2/app/blobs/{blob}")), 1);
}

#[tokio::test]
async fn an_index_gives_this_machines_image_and_keeps_its_own_digest() {
    let registry = Registry::start().await;
    let own = registry.push_for("multi", None, &[gz(&[("f", b"own")])], arch());
    let other =
        registry.push_for("multi", None, &[gz(&[("f", b"other")])], "s390x");
    let entry = |digest, architecture| {
        json!({"mediaType": MANIFEST, "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "manifests": [entry(other, "s390x"), entry(own, arch())]});
    let digest = registry.manifest("multi", Some("1"), INDEX, &index);
    let store = quick_store();
    let image = pull(&store, &at(&registry, "multi:1")).await.unwrap();
    assert_eq!((image.digest, image.manifest), (digest, own));
    assert_eq!(read(&image, "f").as_deref(), Some("own"));
    let pinned = at(&registry, &format!("multi@{digest}"));
    assert_eq!(pull(&store, &pinned).await.unwrap().id, image.id);
    let foreign =
        json!({"schemaVersion": 2, "manifests": [entry(other, "s390x")]});
    registry.manifest("multi", Some("2"), INDEX, &foreign);
    let error = pull(&store, &at(&registry, "multi:2")).await.unwrap_err();
    assert!(error.starts_with("no matching manifest for linux/"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_dockers_words() {
    let registry = Registry::start().await;
    let store = TestStore::with(registry.as_mirror());
    // The mirror's answer, as Docker Hub itself is out of reach here.
    let error = pull(&store, "nginx:nope").await.unwrap_err();
    assert_eq!(
        error,
        "manifest for nginx:nope not found: manifest unknown: manifest unknown"
    );
    let error = pull(&store, &at(&registry, "unknown/x")).await.unwrap_err();
    assert!(
        error.ends_with(
            "not found: name unknown: repository name not known to registry"
        ),
        "{error}"
    );
    registry.access(Access::Closed);
    let error = pull(&store, &at(&registry, "x")).await.unwrap_err();
    assert_eq!(
        error,
        format!(
            "pull access denied for {}/x, repository does not exist or may require 'docker login': unauthorized: authentication required",
            registry.host
        )
    );
    let gone = format!("{}/x", { Registry::start().await }.host.clone());
    let error = pull(&store, &gone).await.unwrap_err();
    assert!(
        error.starts_with("could not reach registry 127.0.0.1:"),
        "{error}"
    );
    let v1 = json!({"schemaVersion": 1, "fsLayers": []});
    registry.access(Access::Open);
    registry.manifest("old", Some("latest"), MANIFEST, &v1);
    let error = pull(&store, &at(&registry, "old")).await.unwrap_err();
    assert!(error.contains("schema 1"), "{error}");
}

#[tokio::test]
async fn the_next_mirror_helps_out() {
    let (empty, full) = (Registry::start().await, Registry::start().await);
    full.push("library/app", "latest", &[gz(&[("f", b"x")])]);
    let mut config = empty.as_mirror();
    let mirrors = config.registries.mirrors.get_mut("docker.io").unwrap();
    mirrors.push(format!("http://{}", full.host));
    let store = TestStore::with(config);
    pull(&store, "app").await.unwrap();
    assert_eq!(
        empty.count("blobs"),
        0,
        "the one with the manifest comes first"
    );
}

#[tokio::test]
async fn basic_credentials_are_sent_only_where_wanted() {
    let registry = Registry::start().await;
    registry.push("app", "latest", &[gz(&[("f", b"x")])]);
    // base64 of AWS:secret.
    registry.access(Access::Basic("QVdTOnNlY3JldA==".into()));
    let store = quick_store();
    let name = at(&registry, "app");
    let error = pull(&store, &name).await.unwrap_err();
    assert!(error.starts_with("pull access denied for"), "{error}");
    let wrong =
        PullOptions { auth: basic("AWS", "wrong"), ..Default::default() };
    let error = pull_with(&store, &name, wrong).await.unwrap_err();
    assert!(error.starts_with("pull access denied for"), "{error}");
    let right =
        PullOptions { auth: basic("AWS", "secret"), ..Default::default() };
    pull_with(&store, &name, right).await.unwrap();
    let right = basic("AWS", "secret").unwrap();
    assert!(!format!("{right:?}").contains("secret"));
}

#[tokio::test]
async fn a_token_is_fetched_once_and_renewed_when_refused() {
    let registry = Registry::start().await;
    registry.push("app", "latest", &[gz(&[("f", b"x")]), gz(&[("g", b"y")])]);
    registry.access(Access::Token { basic: None, lifetime: 300 });
    let store = quick_store();
    pull(&store, &at(&registry, "app")).await.unwrap();
    assert_eq!(registry.count("/token"), 1);
    let asked = "/token?x=1&service=test&scope=repository%3Aapp%3Apull";
    assert_eq!(registry.count(asked), 1, "{:?}", registry.log());
    // Another client's token makes ours invalid.
    let other = quick_store();
    pull(&other, &at(&registry, "app")).await.unwrap();
    registry.push("app", "latest", &[gz(&[("h", b"z")])]);
    pull(&store, &at(&registry, "app")).await.unwrap();
    assert_eq!(registry.count("/token"), 3);
}

#[tokio::test]
async fn tokens_for_users_need_the_right_password() {
    let registry = Registry::start().await;
    registry.push("app", "latest", &[gz(&[("f", b"x")])]);
    let access = Access::Token { basic: Some("bWU6cHc=".into()), lifetime: 1 };
    registry.access(access);
    let store = quick_store();
    let name = at(&registry, "app");
    let auth = |auth| PullOptions { auth, ..Default::default() };
    let error =
        pull_with(&store, &name, auth(basic("me", "no"))).await.unwrap_err();
    assert_eq!(
        error,
        format!(
            "{}: unauthorized: incorrect username or password",
            registry.host
        )
    );
    let refresh = Some(RegistryAuth::IdentityToken("refresh".into()));
    pull_with(&store, &name, auth(refresh)).await.unwrap();
    pull_with(&quick_store(), &name, auth(basic("me", "pw"))).await.unwrap();
    assert!(registry.count("account=me") > 0);
    let n = registry.count("/token");
    let ready = Some(RegistryAuth::Bearer(format!("token-{}", n - 1)));
    pull_with(&quick_store(), &name, auth(ready)).await.unwrap();
    assert_eq!(registry.count("/token"), n);
}

#[tokio::test]
async fn passing_failures_are_repeated_and_lasting_ones_end() {
    let registry = Registry::start().await;
    registry.push("app", "latest", &[gz(&[("f", b"x")])]);
    let limit = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    registry.fault("manifests", 1, Fault::Status(429, limit));
    registry.fault("manifests", 1, Fault::Status(503, ""));
    registry.fault("blobs", 2, Fault::Status(500, ""));
    let store = quick_store();
    pull(&store, &at(&registry, "app")).await.unwrap();
    registry.push("app", "v2", &[gz(&[("f", b"2")])]);
    registry.fault("manifests/v2", 99, Fault::Status(429, limit));
    let error = pull(&store, &at(&registry, "app:v2")).await.unwrap_err();
    assert_eq!(
        error,
        "toomanyrequests: You have reached your pull rate limit."
    );
    assert_eq!(registry.count("GET /v2/app/manifests/v2"), 3);
    registry.push("app", "v3", &[gz(&[("f", b"3")])]);
    registry.fault("blobs", 99, Fault::Status(502, ""));
    let error = pull(&store, &at(&registry, "app:v3")).await.unwrap_err();
    assert!(
        error.contains("received unexpected HTTP status: 502 Bad Gateway"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let registry = Registry::start().await;
    let big = large();
    let digest = registry.push("app", "latest", std::slice::from_ref(&big));
    for after in [100_000, 50_000, 20_000, 60_000] {
        registry.fault(&blob_path(&big.0), 1, Fault::Break(after));
    }
    registry.fault(&blob_path(&big.0), 1, Fault::IgnoreRange);
    let store = quick_store();
    let image = pull(&store, &at(&registry, "app")).await.unwrap();
    assert_eq!((image.digest, image.size_bytes), (digest, 300_000));
    // More breaks than attempts: each brought bytes.
    assert_eq!(registry.count("[bytes="), 4, "{:?}", registry.log());
}

fn blob_path(blob: &[u8]) -> String {
    format!("blobs/{}", minato_engine::image::Digest::of(blob))
}

#[tokio::test]
async fn a_silent_registry_is_given_up() {
    let registry = Registry::start().await;
    let big = large();
    registry.push("app", "latest", std::slice::from_ref(&big));
    let mut config = quick();
    let timeouts = &mut config.registries.timeouts;
    timeouts.document = Duration::from_millis(300);
    timeouts.inactivity = Duration::from_millis(300);
    let store = TestStore::with(config);
    registry.fault("manifests", 1, Fault::Silence);
    let error = pull(&store, &at(&registry, "app")).await.unwrap_err();
    assert!(error.contains("did not answer within 0.3 seconds"), "{error}");
    registry.fault(&blob_path(&big.0), 99, Fault::Stall(0));
    let error = pull(&store, &at(&registry, "app")).await.unwrap_err();
    assert!(error.contains("did not answer within 0.3 seconds"), "{error}");
    assert_eq!((store.count("tmp"), store.count("layers")), (0, 0));
}

#[tokio::test]
async fn wrong_bytes_are_never_seen() {
    let registry = Registry::start().await;
    let (good, bad) = (gz(&[("f", b"good")]), gz(&[("f", b"evil")]));
    let digest = registry.push("app", "latest", std::slice::from_ref(&good));
    let store = quick_store();
    let name = at(&registry, "app");
    let swap = Fault::Bytes(Bytes::from(bad.0.clone()));
    registry.fault(&blob_path(&good.0), 1, swap);
    let error = pull(&store, &name).await.unwrap_err();
    assert!(
        error.starts_with("failed to register layer sha256:")
            || error.contains("broke off"),
        "{error}"
    );
    // A manifest other than its digest says.
    let swap = Fault::Bytes(Bytes::from_static(b"{}"));
    registry.fault("manifests", 1, swap.clone());
    let error = pull(&store, &name).await.unwrap_err();
    assert!(error.starts_with("manifest digest mismatch"), "{error}");
    registry.fault("manifests", 1, swap);
    let pinned = at(&registry, &format!("app@{digest}"));
    let error = pull(&store, &pinned).await.unwrap_err();
    assert!(error.starts_with("manifest digest mismatch"), "{error}");
    // A blob that does not end where it should.
    let longer = [good.0.clone(), vec![0; 10]].concat();
    registry.fault(&blob_path(&good.0), 1, Fault::Bytes(longer.into()));
    let error = pull(&store, &name).await.unwrap_err();
    assert!(error.contains("is longer than"), "{error}");
    // A layer that is not what the config says, though its blob is sound.
    let lying = (good.0.clone(), layer(&[("f", b"claimed")]));
    registry.push("liar", "latest", &[lying]);
    let error = pull(&store, &at(&registry, "liar")).await.unwrap_err();
    assert!(error.contains("diff id digest mismatch"), "{error}");
    assert_eq!((store.count("tmp"), store.count("layers")), (0, 0));
    assert!(store.images.list().unwrap().is_empty());
}

#[tokio::test]
async fn oversized_documents_and_bombs_are_refused() {
    let registry = Registry::start().await;
    let bomb = gz(&[("zeros", &vec![0; 3 << 20])]);
    registry.push("app", "latest", &[bomb]);
    let mut config = quick();
    config.limits = UnpackLimits { bytes: 1 << 20, ..UnpackLimits::default() };
    let store = TestStore::with(config);
    let error = pull(&store, &at(&registry, "app")).await.unwrap_err();
    assert!(error.contains("unpacks to more than 1048576 bytes"), "{error}");
    let huge = Bytes::from(vec![b' '; 5 << 20]);
    registry.fault("manifests", 1, Fault::Bytes(huge));
    let error = pull(&store, &at(&registry, "app")).await.unwrap_err();
    assert!(error.contains("more than 4194304 bytes"), "{error}");
    assert_eq!((store.count("tmp"), store.count("layers")), (0, 0));
}

#[tokio::test]
async fn a_redirect_does_not_take_credentials_along() {
    let (registry, storage) =
        (Registry::start().await, Registry::start().await);
    let files = gz(&[("f", b"x")]);
    registry.push("app", "latest", std::slice::from_ref(&files));
    registry.access(Access::Basic("bWU6cHc=".into()));
    storage.blob(&files.0);
    let path = blob_path(&files.0);
    let target = format!("http://{}/v2/elsewhere/{path}", storage.host);
    registry.fault(&path, 1, Fault::Redirect(target));
    let store = quick_store();
    let options = PullOptions { auth: basic("me", "pw"), ..Default::default() };
    pull_with(&store, &at(&registry, "app"), options).await.unwrap();
    assert_eq!(storage.log(), [format!("GET /v2/elsewhere/{path}")]);
    registry.push("loop", "latest", &[]);
    let round = Fault::Redirect("/v2/loop/manifests/latest".into());
    registry.fault("loop/manifests", 99, round);
    let options = PullOptions { auth: basic("me", "pw"), ..Default::default() };
    let error =
        pull_with(&store, &at(&registry, "loop"), options).await.unwrap_err();
    assert!(error.contains("too many redirects"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_wait_it_is_pulled_once() {
    let registry = Registry::start().await;
    let big = large();
    let slow = Fault::Slow(Duration::from_millis(1));
    registry.fault(&blob_path(&big.0), 1, slow);
    registry.push("app", "latest", std::slice::from_ref(&big));
    registry.push("other", "latest", &[big.clone(), gz(&[("f", b"x")])]);
    let store = quick_store();
    let mut waiters = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (images, name) = (store.images.clone(), at(&registry, "app"));
        waiters.spawn(async move {
            let name = reference(&name);
            let pull = images.pull(&name, PullOptions::default());
            // The first ones lose patience; the others go on.
            let patience =
                Duration::from_millis(if n < 5 { 20 } else { 60_000 });
            tokio::time::timeout(patience, pull).await.map(Result::unwrap)
        });
    }
    // Another image with the same layer waits for it too.
    let other = pull(&store, &at(&registry, "other")).await.unwrap();
    assert_eq!(other.layers.len(), 2);
    let results = waiters.join_all().await;
    assert!(results.iter().filter(|result| result.is_ok()).count() >= 15);
    assert_eq!(
        registry.count(&format!("GET /v2/app/{}", blob_path(&big.0)))
            + registry.count(&format!("GET /v2/other/{}", blob_path(&big.0))),
        1
    );
    assert_eq!(registry.count("GET /v2/app/manifests/latest"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_nobody_waits_for_ends_and_leaves_nothing() {
    let registry = Registry::start().await;
    let big = large();
    registry.push("app", "latest", std::slice::from_ref(&big));
    registry.fault(&blob_path(&big.0), 1, Fault::Stall(50_000));
    let store = quick_store();
    let (sender, mut receiver) = watch::channel(PullProgress::default());
    let (images, name) =
        (store.images.clone(), reference(&at(&registry, "app")));
    let task = tokio::spawn(async move {
        let options =
            PullOptions { progress: Some(sender), ..Default::default() };
        images.pull(&name, options).await.map(|_| ())
    });
    let begun = receiver.wait_for(|progress| progress.bytes().0 > 0);
    drop(
        tokio::time::timeout(Duration::from_secs(20), begun)
            .await
            .unwrap()
            .unwrap(),
    );
    // Bytes are counted as they come in, which is before the first is unpacked.
    wait_for("the unpacker to begin", || store.count("tmp") == 1).await;
    // While it runs, what it has added is not collected.
    assert_eq!(store.images.prune(&[]).unwrap().layers, 0);
    assert_eq!(store.count("tmp"), 1);
    task.abort();
    wait_for("the unpacker to give up", || store.count("tmp") == 0).await;
    pull(&store, &at(&registry, "app")).await.unwrap();
}

#[tokio::test]
async fn behaviors_say_when_the_registry_is_asked() {
    let registry = Registry::start().await;
    registry.push("app", "latest", &[gz(&[("f", b"x")])]);
    let store = quick_store();
    let name = at(&registry, "app");
    let with = |behavior| PullOptions { behavior, ..Default::default() };
    // Only loaded: `once` pulls, `prefer-cached` does not.
    let path = store.dir.path().join("a.tar");
    std::fs::write(&path, archive(&name, &[layer(&[("f", b"loaded")])]))
        .unwrap();
    store.images.load(&path, None, None).await.unwrap();
    let cached = pull_with(&store, &name, with(PullBehavior::PreferCached))
        .await
        .unwrap();
    assert_eq!(
        (read(&cached, "f").as_deref(), registry.count("manifests")),
        (Some("loaded"), 0)
    );
    let once =
        pull_with(&store, &name, with(PullBehavior::Once)).await.unwrap();
    assert_eq!(read(&once, "f").as_deref(), Some("x"));
    let asked = registry.count("manifests");
    pull_with(&store, &name, with(PullBehavior::Once)).await.unwrap();
    assert_eq!(registry.count("manifests"), asked);
    // The registry fails: `default` takes what is here, `always` does not.
    registry.access(Access::Closed);
    let fallen_back =
        pull_with(&store, &name, with(PullBehavior::Default)).await.unwrap();
    assert_eq!(fallen_back, once);
    let error =
        pull_with(&store, &name, with(PullBehavior::Always)).await.unwrap_err();
    assert!(error.starts_with("pull access denied"), "{error}");
    for word in ["default", "always", "once", "prefer-cached"] {
        assert_eq!(word.parse::<PullBehavior>().unwrap().to_string(), word);
    }
    assert!("never".parse::<PullBehavior>().is_err());
}

#[tokio::test]
async fn progress_counts_every_byte() {
    let registry = Registry::start().await;
    let (shared, own) = (gz(&[("s", b"shared")]), large());
    registry.push("base", "latest", std::slice::from_ref(&shared));
    registry.push("app", "latest", &[shared.clone(), own.clone()]);
    let store = quick_store();
    pull(&store, &at(&registry, "base")).await.unwrap();
    let (sender, receiver) = watch::channel(PullProgress::default());
    let options = PullOptions { progress: Some(sender), ..Default::default() };
    pull_with(&store, &at(&registry, "app"), options).await.unwrap();
    let progress = receiver.borrow().clone();
    assert_eq!(progress.phase, PullPhase::Done);
    let phases: Vec<LayerPhase> =
        progress.layers.iter().map(|l| l.phase).collect();
    assert_eq!(phases, [LayerPhase::AlreadyExists, LayerPhase::Done]);
    let total = (shared.0.len() + own.0.len()) as u64;
    assert_eq!(progress.bytes(), (total, total));
}

#[tokio::test]
async fn errors_are_shared_by_all_that_wait() {
    let registry = Registry::start().await;
    let store = quick_store();
    let name = reference(&at(&registry, "none"));
    let pulls =
        (0..5).map(|_| store.images.pull(&name, PullOptions::default()));
    for result in futures_util::future::join_all(pulls).await {
        assert!(
            matches!(result, Err(PullImageError::Registry(_))),
            "{result:?}"
        );
    }
    assert_eq!(registry.count("GET /v2/none/manifests"), 1);
}

#[tokio::test]
async fn a_host_without_network_does_not_wait_for_what_it_has() {
    let registry = Registry::start().await;
    let name = at(&registry, "app");
    // A registry that accepts and then says nothing is the slowest kind.
    registry.fault("manifests", 99, Fault::Silence);
    let mut config = quick();
    config.registries.timeouts.document = Duration::from_millis(300);
    let store = TestStore::with(config);
    let path = store.dir.path().join("a.tar");
    std::fs::write(&path, archive(&name, &[layer(&[("f", b"loaded")])]))
        .unwrap();
    store.images.load(&path, None, None).await.unwrap();
    for _ in 0..5 {
        let image = pull(&store, &name).await.unwrap();
        assert_eq!(read(&image, "f").as_deref(), Some("loaded"));
    }
    assert_eq!(registry.count("manifests"), 1, "asked once, then left alone");
    // Without a fallback it is asked all the same.
    let options =
        PullOptions { behavior: PullBehavior::Always, ..Default::default() };
    assert!(pull_with(&store, &name, options).await.is_err());
    assert_eq!(registry.count("manifests"), 2);
}
