//! Kills a process that loads and removes images, and looks at what is left.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use minato_engine::image::{ImageStore, ImageStoreConfig};

use super::support::*;

/// Where the child works; set only by the test below.
const DIRECTORY: &str = "MINATO_TEST_IMAGE_CRASH_DIR";
const KILLS_MIN: u64 = 25;
const KILLS_MAX: u64 = 150;
/// Whole images that must have been looked at.
const SEEN_MIN: usize = 2;
const FILES: usize = 200;

/// The process that is killed; without the variable it has nothing to do.
#[tokio::test]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = PathBuf::from(directory);
    let images = ImageStore::open(
        &directory.join("images"),
        ImageStoreConfig::default(),
    )
    .unwrap();
    loop {
        for n in 0..2 {
            let archive = directory.join(format!("{n}.tar"));
            images.load(&archive, None, None).await.unwrap();
        }
        images.remove(&reference("crash:0"), &[]).unwrap();
        images.remove(&reference("crash:1"), &[]).unwrap();
    }
}

fn start_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::crash::child"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Two images with a layer in common.
fn write_archives(directory: &Path) {
    let files: Vec<(String, Vec<u8>)> =
        (0..FILES).map(|n| (format!("f{n}"), vec![b'x'; n])).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, data)| (name.as_str(), &data[..])).collect();
    let shared = layer(&files);
    for n in 0..2 {
        let own = layer(&[("own", format!("{n}").as_bytes())]);
        let bytes = archive(&format!("crash:{n}"), &[shared.clone(), own]);
        std::fs::write(directory.join(format!("{n}.tar")), bytes).unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_leaves_whole_images_or_none() {
    let store = TestStore::new();
    let directory = store.dir.path().to_owned();
    drop(store.images);
    write_archives(&directory);
    let root = directory.join("images");
    let (mut seen, mut kill) = (0, 0);
    // On a busy machine the child takes longer to get anywhere.
    while kill < KILLS_MIN || seen < SEEN_MIN {
        assert!(kill < KILLS_MAX, "only {seen} images were ever seen");
        kill += 1;
        let mut process = start_child(&directory);
        // Different points in the child's work, from its start on.
        tokio::time::sleep(Duration::from_millis(15 + kill * 7)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        let images =
            ImageStore::open(&root, ImageStoreConfig::default()).unwrap();
        for image in images.list().unwrap() {
            seen += 1;
            assert_eq!(image.layers.len(), 2);
            let files = std::fs::read_dir(&image.layers[0]).unwrap().count();
            assert_eq!(files, FILES, "kill {kill}");
            for n in [0, FILES - 1] {
                let file = image.layers[0].join(format!("f{n}"));
                assert_eq!(std::fs::metadata(file).unwrap().len(), n as u64);
            }
        }
    }
    // A store cleans up when it is opened by one process alone; the trash
    // thread of an earlier one may take a moment to let go.
    let is_clean = || {
        ImageStore::open(&root, ImageStoreConfig::default()).unwrap();
        std::fs::read_dir(root.join("tmp")).unwrap().count() == 0
    };
    wait_for("unfinished work to be cleaned up", is_clean).await;
}
