//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use minato_agent::config::{EfsAccessPoint, EfsTarget};
use minato_agent::objects::S3Endpoint;
use minato_control::PlaceVpcError;
use minato_engine::network::Ipv4Cidr;

use crate::home::Home;
use crate::out::{BROKEN_PIPE, is_reader_gone};
use crate::{
    chaos, doctor, down, env, exec, explain, image, logs, ps, rehearse, run,
    stop, up,
};

/// Wrong usage, as clap has it too.
pub(crate) const USAGE: u8 = 2;

/// Runs Amazon ECS workloads on this machine.
///
/// `minato up` starts it; then `eval "$(minato env)"` points the AWS CLI, the
/// SDKs and Terraform at it.
#[derive(Debug, Parser)]
#[command(name = "minato", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    home: HomeArgs,
    #[command(subcommand)]
    command: Command,
}

/// Which Minato is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct HomeArgs {
    /// Data directory: which Minato is meant
    #[arg(
        long,
        global = true,
        env = "MINATO_DATA_DIR",
        default_value = "/var/lib/minato",
        value_name = "DIR"
    )]
    data_dir: PathBuf,
}

impl HomeArgs {
    /// The home meant.
    pub(crate) fn home(&self) -> Result<Home> {
        Home::at(&self.data_dir)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start Minato: control plane, agent and engine in one process
    #[command(after_help = "\
Examples:
  minato up
  minato up --data-dir ~/minato --listen 127.0.0.1:4566 --detach")]
    Up(Box<UpArgs>),
    /// Stop Minato, and its tasks unless told otherwise
    #[command(after_help = "\
Examples:
  minato down
  minato down --keep-tasks      tasks run on; the next `minato up` finds them")]
    Down(DownArgs),
    /// Print what points AWS clients at Minato
    #[command(after_help = "Example:\n  eval \"$(minato env)\"")]
    Env,
    /// Register a task definition, run it and show its logs; Ctrl-C stops it
    #[command(after_help = "\
Examples:
  minato run examples/web/task-definition.json
  minato run task.json --count 3 --env LEVEL=debug --detach")]
    Run(RunArgs),
    /// List tasks
    #[command(after_help = "Example:\n  minato ps --all")]
    Ps(PsArgs),
    /// Show the output of a task's containers
    #[command(after_help = "Example:\n  minato logs -f 4d5e")]
    Logs(LogsArgs),
    /// Run a command in a task's container, with this terminal
    #[command(after_help = "\
Examples:
  minato exec 4d5e                          a shell
  minato exec 4d5e --container web -- env
The task must have been started with enableExecuteCommand.
Exit status: the command's.")]
    Exec(ExecArgs),
    /// Stop tasks
    #[command(after_help = "Example:\n  minato stop 4d5e")]
    Stop(StopArgs),
    /// Say why a task or a service is not as it should be, in one paragraph
    #[command(
        after_help = "Example:\n  minato explain 4d5e       # a task\n  minato explain web        # a service"
    )]
    Explain(ExplainArgs),
    /// Do to tasks what AWS does to them on a bad day
    #[command(
        subcommand,
        after_help = "\
Examples:
  minato chaos spot web             # all Spot tasks of a service
  minato chaos spot web --count 1   # the oldest of them
  minato chaos spot 4d5e            # one task"
    )]
    Chaos(ChaosCommand),
    /// Play a plan in the simulator: what would happen if
    ///
    /// Hosts, services and what befalls them come from the plan; the control
    /// plane is this one. It needs no running Minato and starts no container.
    #[command(after_help = "\
Examples:
  minato rehearse examples/rehearse/rollback.yaml
  minato rehearse plan.yaml --svg plan.svg

A plan (times are such as 500ms, 90s, 1m30s):
  play: 5m
  pace: fast                    # or aws: as slow as AWS where it waits
  hosts:
    - {name: host, count: 3, cpu: 2048, memory: 4096, zones: [a, b]}
  services:
    web: {desiredCount: 6, maximumPercent: 150, circuitBreaker: rollback}
  events:
    - {at: 1m, deploy: web, tasks: {fault: crash}}
    - {at: 2m, lose: host-1}
  expect:
    web: {lowestHealthy: 5, rollout: ROLLED_BACK}

Events: deploy, scale, lose, return, disconnect, drain, activate, spot, restart.
Exit status: 1 if something expected did not come, 2 if the plan is wrong.")]
    Rehearse(RehearseArgs),
    /// List, pull, load and remove images
    #[command(
        subcommand,
        after_help = "\
Examples:
  minato image pull nginx
  docker save web | gzip > web.tar.gz && minato image load web.tar.gz"
    )]
    Image(ImageCommand),
    /// Find what this machine lacks, and say how to mend it
    #[command(after_help = "\
Examples:
  minato doctor
  minato doctor --coverage | less   every operation, and how far it works")]
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  minato completions bash > /etc/bash_completion.d/minato")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:4566", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Account of the root credential
    #[arg(long, default_value = "000000000000", value_parser = account)]
    pub(crate) account_id: String,
    /// Region where a call does not say
    #[arg(long, default_value = "us-east-1")]
    pub(crate) region: String,
    /// Accept any credentials, unchecked: for throw-away CI only
    #[arg(long)]
    pub(crate) any_credentials: bool,
    /// Go to the background once ready
    #[arg(long)]
    pub(crate) detach: bool,
    /// Range of the default VPC, whose subnets awsvpc tasks have their
    /// addresses of; kept for later starts [default: 172.31.0.0/16]
    #[arg(long, value_name = "CIDR", value_parser = vpc_cidr)]
    pub(crate) vpc_cidr: Option<String>,
    /// File with the key that seals secrets at rest: 64 hexadecimal digits, as
    /// `openssl rand -hex 32` writes them. The variable MINATO_SEAL_KEY may
    /// hold the digits instead [default: seal.key in the data directory]
    #[arg(long, env = "MINATO_SEAL_KEY_FILE", value_name = "FILE")]
    pub(crate) seal_key_file: Option<PathBuf>,
    /// How patient the service scheduler is: `fast` acts at once, `aws` waits
    /// as long as AWS does, for rehearsals
    #[arg(long, value_enum, default_value_t = Pace::Fast)]
    pub(crate) pace: Pace,
    /// Auto Scaling group that this machine counts as part of, for capacity
    /// providers of that group
    #[arg(long, value_name = "NAME", value_parser = group)]
    pub(crate) auto_scaling_group: Option<String>,
    /// Range of bridge-mode containers; free one by default
    #[arg(long, value_name = "CIDR")]
    pub(crate) bridge_cidr: Option<Ipv4Cidr>,
    /// Do not set AWS_ENDPOINT_URL in containers: their SDKs call AWS itself,
    /// unless told otherwise
    #[arg(long)]
    pub(crate) no_endpoint_injection: bool,
    /// What stands for an EFS file system: a directory, which must be there,
    /// or one of an NFS server, as nfs://ADDRESS/PATH
    #[arg(long, value_name = "FILESYSTEM=DIR", value_parser = efs)]
    pub(crate) efs: Vec<(String, EfsTarget)>,
    /// An EFS access point: the directory that it shows as the root. It has
    /// no POSIX user
    #[arg(
        long,
        value_name = "ACCESSPOINT=FILESYSTEM:/PATH",
        value_parser = efs_access_point
    )]
    pub(crate) efs_access_point: Vec<(String, EfsAccessPoint)>,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// Mirror of a registry, asked before it: docker.io=http://127.0.0.1:5000
    #[arg(long, value_name = "REGISTRY=URL", value_parser = mirror)]
    pub(crate) mirror: Vec<(String, String)>,
    /// Registry host that may be asked without TLS
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
}

/// Where environment files of containers are fetched from.
#[derive(Clone, Debug, Args)]
pub(crate) struct S3Args {
    /// Server that speaks as S3 does, for environment files of containers; a
    /// task that has some is not placed without it. Real S3 is such as
    /// `https://s3.us-east-1.amazonaws.com`
    #[arg(long, env = "MINATO_S3_ENDPOINT", value_name = "URL", value_parser = S3Endpoint::parse)]
    pub(crate) s3_endpoint: Option<S3Endpoint>,
    /// Region that requests to it are signed for [default: that of --region]
    #[arg(long, env = "MINATO_S3_REGION", requires = "s3_endpoint")]
    pub(crate) s3_region: Option<String>,
    /// File with the key for it, in the form of ~/.aws/credentials. The
    /// variables MINATO_S3_ACCESS_KEY_ID and MINATO_S3_SECRET_ACCESS_KEY may
    /// hold the key instead [default: that of each task's execution role,
    /// which no server outside Minato knows]
    #[arg(
        long,
        env = "MINATO_S3_CREDENTIALS_FILE",
        value_name = "FILE",
        requires = "s3_endpoint"
    )]
    pub(crate) s3_credentials_file: Option<PathBuf>,
}

fn account(text: &str) -> Result<String, String> {
    let is_account =
        text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_account
        .then(|| text.to_owned())
        .ok_or_else(|| "an account id has 12 digits".to_owned())
}

fn vpc_cidr(text: &str) -> Result<String, PlaceVpcError> {
    minato_control::check_vpc_cidr(text)?;
    Ok(text.to_owned())
}

fn group(text: &str) -> Result<String, String> {
    let is_name = (1..=255).contains(&text.chars().count())
        && !text.chars().any(|letter| letter.is_control() || letter == ':');
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        "a group's name has 1 to 255 characters, no colon".to_owned()
    })
}

fn efs(text: &str) -> Result<(String, EfsTarget), String> {
    let (id, dir) = text
        .split_once('=')
        .ok_or_else(|| "expected FILESYSTEM=DIR".to_owned())?;
    if !is_efs_id(id, "fs-") {
        return Err("a file system's id is such as fs-0123abcd".to_owned());
    }
    if let Some(url) = dir.strip_prefix("nfs://") {
        let nfs = || {
            let (server, path) = url.split_once('/')?;
            let server = server.trim_matches(['[', ']']).parse().ok()?;
            let export = PathBuf::from(format!("/{path}"));
            Some(EfsTarget::Nfs { server, export })
        };
        let target = nfs().ok_or_else(|| {
            "expected nfs://ADDRESS/PATH, with an IP address".to_owned()
        })?;
        return Ok((id.to_owned(), target));
    }
    let dir = std::fs::canonicalize(dir).map_err(|error| error.to_string())?;
    if !dir.is_dir() {
        return Err("that is not a directory".to_owned());
    }
    Ok((id.to_owned(), EfsTarget::Dir(dir)))
}

fn is_efs_id(id: &str, prefix: &str) -> bool {
    let digits = id.strip_prefix(prefix).unwrap_or_default();
    (8..=40).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn efs_access_point(text: &str) -> Result<(String, EfsAccessPoint), String> {
    let split = || {
        let (id, rest) = text.split_once('=')?;
        let (file_system, root) = rest.split_once(':')?;
        let is_good = is_efs_id(id, "fsap-")
            && is_efs_id(file_system, "fs-")
            && root.starts_with('/');
        let point = EfsAccessPoint {
            file_system_id: file_system.to_owned(),
            root: PathBuf::from(root),
        };
        is_good.then(|| (id.to_owned(), point))
    };
    split().ok_or_else(|| {
        "expected such as fsap-0123abcd=fs-0123abcd:/team".to_owned()
    })
}

fn mirror(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(_, url)| url.starts_with("http"))
        .map(|(registry, url)| (registry.to_owned(), url.to_owned()))
        .ok_or_else(|| "expected REGISTRY=URL".to_owned())
}

/// Arguments of `down`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DownArgs {
    /// Leave tasks running
    #[arg(long)]
    pub(crate) keep_tasks: bool,
}

/// How patient the service scheduler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// As fast as the machine allows
    Fast,
    /// AWS's own timings
    Aws,
}

/// Where a task may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum LaunchType {
    /// On the host's container instance
    Ec2,
    /// On what the host has left
    Fargate,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// File with the input of RegisterTaskDefinition, as JSON
    #[arg(value_name = "TASKDEF.json")]
    pub(crate) file: PathBuf,
    /// How many copies
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(crate) count: u8,
    /// Where to run; by default as the definition's requiresCompatibilities
    #[arg(long, ignore_case = true)]
    pub(crate) launch_type: Option<LaunchType>,
    /// Environment for every container, over the definition's
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Cluster
    #[arg(long, default_value = "default")]
    pub(crate) cluster: String,
    /// Start it and return
    #[arg(long, short)]
    pub(crate) detach: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE".to_owned())
}

/// Arguments of `ps`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PsArgs {
    /// Stopped tasks too
    #[arg(long, short)]
    pub(crate) all: bool,
}

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// Task: its id, the beginning of it, or its ARN
    pub(crate) task: String,
    /// Only this container
    #[arg(long, short)]
    pub(crate) container: Option<String>,
    /// Go on as lines come, until the task ends
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Arguments of `exec`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExecArgs {
    /// Task: its id, the beginning of it, or its ARN
    pub(crate) task: String,
    /// The container, where the task has several
    #[arg(long, short)]
    pub(crate) container: Option<String>,
    /// Command and arguments
    #[arg(last = true, default_value = "/bin/sh")]
    pub(crate) command: Vec<String>,
}

/// Arguments of `stop`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StopArgs {
    /// Tasks: ids, beginnings of ids, or ARNs
    #[arg(required = true)]
    pub(crate) tasks: Vec<String>,
    /// Reason that the task will show
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Service by name, or task by its id or the beginning of it; ARNs too
    #[arg(value_name = "SERVICE|TASK")]
    pub(crate) what: String,
}

/// Arguments of `rehearse`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RehearseArgs {
    /// The plan
    #[arg(value_name = "PLAN.yaml")]
    pub(crate) plan: PathBuf,
    /// Draw the healthy tasks through time
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// `chaos` and what it can do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ChaosCommand {
    /// Take the Spot capacity from under tasks: SIGTERM now, SIGKILL when
    /// their stopTimeout, at most two minutes, is over
    Spot {
        /// Service by name, or task by its id or the beginning of it; ARNs
        /// too
        #[arg(value_name = "SERVICE|TASK")]
        what: String,
        /// At most so many tasks of a service, the oldest first
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        count: Option<i32>,
    },
}

/// `image` and what it can do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    Ls,
    /// Pull an image from its registry
    Pull {
        /// Reference, such as nginx or 127.0.0.1:5000/web:1
        reference: String,
    },
    /// Load a `docker save` archive or an OCI layout
    Load {
        /// Archive or directory
        file: PathBuf,
        /// Name for an image that brings none
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove an image
    Rm {
        /// Reference
        reference: String,
    },
}

/// Arguments of `doctor`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the table of all operations and how far each works
    #[arg(long)]
    pub(crate) coverage: bool,
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) if is_reader_gone(&error) => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            eprintln!("minato: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let home = cli.home.home()?;
    match cli.command {
        Command::Up(args) => up::run(&home, &args),
        Command::Down(args) => down::run(&home, args),
        Command::Env => env::run(&home),
        Command::Run(args) => run::run(&home, &args),
        Command::Ps(args) => ps::run(&home, &args),
        Command::Logs(args) => logs::run(&home, &args),
        Command::Exec(args) => exec::run(&home, &args),
        Command::Stop(args) => stop::run(&home, &args),
        Command::Explain(args) => explain::run(&home, &args),
        Command::Rehearse(args) => rehearse::run(&args),
        Command::Chaos(command) => chaos::run(&home, &command),
        Command::Image(command) => image::run(&home, &command),
        Command::Doctor(args) => doctor::run(&home, args),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            let mut script = vec![];
            clap_complete::generate(shell, &mut command, "minato", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_values_are_refused() {
        for line in [
            "minato up --account-id 12",
            "minato up --mirror docker.io",
            "minato up --efs fs-0123abcd",
            "minato up --efs fs-0123abcd=nfs://server/x",
            "minato up --efs fs-0123abcd=nfs://192.0.2.1",
            "minato up --efs-access-point fsap-0123abcd=fs-0123abcd",
            "minato up --efs-access-point fsap-0123abcd=fs-0123abcd:x",
            "minato up --efs fs-0123abcg=/",
            "minato up --efs fs-0123abcd=/dev/null",
            "minato up --s3-endpoint 127.0.0.1:9000",
            "minato up --s3-endpoint http://127.0.0.1:9000/bucket",
            "minato up --s3-credentials-file f",
            "minato up --vpc-cidr 1.2.3.4",
            "minato up --vpc-cidr 10.0.0.0/8",
            "minato up --bridge-cidr 10.0.0.1",
            "minato up --auto-scaling-group a:b",
            "minato run t.json --env =x",
            "minato run t.json --count 11",
            "minato stop",
            "minato chaos spot web --count 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
