//! Makes a loadable image of a directory, with no tool but this one:
//! `mkimage --root DIR --name REF [--cmd ARG]... [--entrypoint ARG]...
//! [--env NAME=VALUE]... [--workdir DIR] [--user USER] [--stop-signal SIG]
//! [--expose PORT/PROTO]... [--volume DIR]... -o out.tar`

use std::{error::Error, fs::File, path::PathBuf, process::ExitCode};

use minato_engine::image::{ImageConfig, ImageReference, build};

struct Options {
    root: PathBuf,
    name: ImageReference,
    out: PathBuf,
    config: ImageConfig,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut error: Option<&dyn Error> = Some(&*error);
            while let Some(cause) = error {
                eprintln!("mkimage: {cause}");
                error = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn parse(
    mut args: impl Iterator<Item = String>,
) -> Result<Options, Box<dyn Error>> {
    let (mut root, mut name, mut out) = (None, None, None);
    let mut config = ImageConfig::default();
    while let Some(flag) = args.next() {
        let value =
            args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--root" => root = Some(PathBuf::from(value)),
            "--name" => name = Some(value.parse()?),
            "--cmd" => config.cmd.push(value),
            "--entrypoint" => config.entrypoint.push(value),
            "--env" => config.env.push(value),
            "--workdir" => config.working_dir = value,
            "--user" => config.user = value,
            "--stop-signal" => config.stop_signal = Some(value),
            "--expose" => config.exposed_ports.push(value),
            "--volume" => config.volumes.push(value),
            "-o" | "--output" => out = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown option {flag}").into()),
        }
    }
    Ok(Options {
        root: root.ok_or("--root is missing")?,
        name: name.ok_or("--name is missing")?,
        out: out.ok_or("-o is missing")?,
        config,
    })
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut out = File::create(&options.out)?;
    let Options { root, name, config, .. } = options;
    Ok(build::oci_archive(root, name, config, &mut out)?)
}
