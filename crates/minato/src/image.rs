//! `minato image`. Image stores may be opened by several processes, so these
//! commands work with and without a running Minato.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use minato_engine::image::{
    ImageReference, ImageStore, ProgressSender, PullOptions, PullProgress,
};
use tokio::sync::watch;

use crate::api::block_on;
use crate::args::ImageCommand;
use crate::home::Home;
use crate::out::say;

pub(crate) fn run(home: &Home, command: &ImageCommand) -> Result<ExitCode> {
    home.create()?;
    block_on(async {
        let config = home.registry()?.config();
        let images = ImageStore::open(&home.images(), config)
            .context("could not open the image store")?;
        match command {
            ImageCommand::Ls => list(&images)?,
            ImageCommand::Pull { reference } => {
                let reference = parse(reference)?;
                let pulled = with_progress(&reference, |progress| {
                    let progress = Some(progress);
                    let options =
                        PullOptions { progress, ..Default::default() };
                    images.pull(&reference, options)
                })
                .await
                .with_context(|| format!("could not pull {reference}"))?;
                say!("pulled {reference} {}", pulled.digest)?;
            }
            ImageCommand::Load { file, name } => {
                let name = name.as_deref().map(parse).transpose()?;
                let loaded = images.load(file, name.as_ref(), None).await?;
                for reference in loaded {
                    say!("loaded {reference}")?;
                }
            }
            ImageCommand::Rm { reference } => {
                let removed =
                    images.remove(&parse(reference)?, &in_use(home)?)?;
                if !removed.was_known {
                    bail!("there is no image {reference}");
                }
                say!(
                    "removed {reference}, {} freed",
                    HumanBytes(removed.bytes)
                )?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn parse(reference: &str) -> Result<ImageReference> {
    reference
        .parse()
        .with_context(|| format!("{reference:?} is no image reference"))
}

fn list(images: &ImageStore) -> Result<()> {
    say!("{:<50}  {:<19}  SIZE", "IMAGE", "DIGEST")?;
    for image in images.list()? {
        let digest = image.digest.to_string();
        say!(
            "{:<50}  {:<19}  {}",
            image.reference.to_string(),
            digest.chars().take(19).collect::<String>(),
            HumanBytes(image.size_bytes)
        )?;
    }
    Ok(())
}

/// Layers of the containers that are there: they must outlive their names.
fn in_use(home: &Home) -> Result<Vec<PathBuf>> {
    let containers =
        minato_engine::container::layers_in_use(&home.containers());
    containers.context("could not read which layers are in use")
}

/// Shows a bar while images come in.
async fn with_progress<T, F>(
    reference: &ImageReference,
    pull: impl FnOnce(ProgressSender) -> F,
) -> T
where
    F: Future<Output = T>,
{
    let (sender, mut seen) = watch::channel(PullProgress::default());
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(
        "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(reference.to_string());
    let pulling = pull(sender);
    tokio::pin!(pulling);
    loop {
        tokio::select! {
            pulled = &mut pulling => {
                bar.finish_and_clear();
                return pulled;
            }
            Ok(()) = seen.changed() => {
                let (done, total) = seen.borrow_and_update().bytes();
                bar.set_length(total);
                bar.set_position(done);
            }
        }
    }
}
