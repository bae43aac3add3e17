//! One Minato in a network namespace and a data directory of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::boto::{Boto, CallError};
use crate::ending::run_to_end;
use crate::leftovers::Traces;
use crate::programs::{image_archive, minato_program};
use crate::wait_for;

/// Where a site's Minato listens, in its own namespace.
const LISTEN: &str = "127.0.0.1:4566";
/// Longest wait for what a loaded machine does in a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The cluster that the local agent joins.
const CLUSTER: &str = "default";

/// A Minato, its namespace and its clients.
#[derive(Debug)]
pub struct Site {
    // Fields are dropped in this order; `Drop` ends the processes before.
    boto: Option<Boto>,
    minato: Option<Child>,
    network: Child,
    traces: Option<Traces>,
    environment: Vec<(String, String)>,
    boot_id: Option<String>,
    dir: TempDir,
    /// Further arguments of `minato up`.
    arguments: Vec<String>,
}

impl Site {
    /// Starts a Minato that has the tests' image.
    pub fn start() -> Result<Site> {
        Site::start_with(&[])
    }

    /// The same with further arguments of `minato up`.
    pub fn start_with(arguments: &[&str]) -> Result<Site> {
        let mut site = Site::prepare()?;
        site.arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        site.minato(&["image", "load", &image_archive().to_string_lossy()])?;
        site.up()?;
        Ok(site)
    }

    fn prepare() -> Result<Site> {
        let dir = tempfile::Builder::new().prefix("minato-e2e-").tempdir()?;
        fs::create_dir(dir.path().join("data"))?;
        Ok(Site {
            boto: None,
            minato: None,
            network: namespace()?,
            traces: None,
            environment: vec![],
            boot_id: None,
            arguments: vec![],
            dir,
        })
    }

    /// Starts `minato up` and waits until it is ready.
    pub fn up(&mut self) -> Result<()> {
        let mut command = self.command(&minato_program()?.to_string_lossy());
        if let Some(boot_id) = &self.boot_id {
            let file = self.dir.path().join("boot_id");
            fs::write(&file, boot_id)?;
            command.env("MINATO_BOOT_ID_FILE", file);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("minato.log"))?;
        let mut child = command
            .args(["up", "--listen", LISTEN])
            .args(&self.arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut said =
            BufReader::new(child.stdout.take().context("no output")?);
        let pid = child.id();
        self.minato = Some(child);
        let mut line = String::new();
        said.read_line(&mut line)?;
        ensure!(line.contains("is ready"), "minato up: {line}\n{}", self.log());
        self.traces = Some(self.find_traces(pid)?);
        self.environment = parse_environment(&self.minato(&["env"])?);
        Ok(())
    }

    fn find_traces(&self, pid: u32) -> Result<Traces> {
        for entry in fs::read_dir("/run/minato")? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path().join("running.json"));
            let running: Value =
                serde_json::from_str(&text.unwrap_or_default())
                    .unwrap_or(Value::Null);
            if running["pid"] == json!(pid) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let data = self.dir.path().join("data");
                return Ok(Traces { name, data });
            }
        }
        bail!("the running Minato (pid {pid}) is nowhere below /run/minato")
    }

    /// Kills Minato as a crash would: no warning, and only its own process.
    pub fn kill_minato(&mut self) -> Result<()> {
        let mut child = self.minato.take().context("no Minato runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits for a Minato that was taken down by hand.
    pub fn forget_minato(&mut self) -> Result<()> {
        let mut child = self.minato.take().context("no Minato runs")?;
        let status = child.wait()?;
        ensure!(status.success(), "minato up ended with {status}");
        Ok(())
    }

    /// Ends Minato in good order; its tasks run on.
    pub fn down_keeping_tasks(&mut self) -> Result<()> {
        self.minato(&["down", "--keep-tasks"]).with_context(|| self.log())?;
        self.forget_minato()
    }

    /// Everything but the disk is lost, as when the machine is restarted.
    pub fn reboot(&mut self, boot_id: &str) -> Result<()> {
        self.kill_minato()?;
        self.boto = None;
        ensure!(self.traces()?.destroy(), "could not clear the site away");
        let _ = self.network.kill();
        self.network.wait()?;
        self.network = namespace()?;
        self.boot_id = Some(boot_id.to_owned());
        self.up()
    }

    /// What Minato has in the kernel.
    pub fn traces(&self) -> Result<&Traces> {
        self.traces.as_ref().context("Minato was never ready")
    }

    /// The process of `minato up`.
    pub fn minato_pid(&self) -> Option<u32> {
        self.minato.as_ref().map(Child::id)
    }

    /// Whether `minato up` still runs.
    pub fn is_up(&mut self) -> bool {
        let status = self.minato.as_mut().map(Child::try_wait);
        matches!(status, Some(Ok(None)))
    }

    /// What `minato up` said on its standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("minato.log"))
            .unwrap_or_default()
    }

    /// A directory for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A program in the site's network, set up to talk to its Minato.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.network.id()))
            .args(["--", program])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("MINATO_DATA_DIR", self.dir.path().join("data"))
            .env("AWS_PAGER", "")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE");
        command
    }

    /// A socket that listens in the site's network.
    pub fn listen(&self, address: &str) -> Result<TcpListener> {
        let path = format!("/proc/{}/ns/net", self.network.id());
        let namespace = File::open(path)?;
        // A thread of its own, because it stays in that network.
        std::thread::scope(|scope| {
            let bound = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(TcpListener::bind(address)?)
            });
            bound.join().unwrap_or_else(|_| bail!("the thread panicked"))
        })
    }

    /// Runs a program of the site's network; its output, if it succeeded.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = run_to_end(self.command(program).args(args), b"")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{program} {} failed ({}): {text}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Runs a `minato` command.
    pub fn minato(&self, args: &[&str]) -> Result<String> {
        self.run(&minato_program()?.to_string_lossy(), args)
    }

    /// Runs the AWS CLI; its answer as JSON.
    pub fn aws(&self, args: &[&str]) -> Result<Value> {
        let text = self.run("aws", args)?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("aws said {text}"))
    }

    /// The boto3 of this site.
    pub fn boto(&mut self) -> Result<&mut Boto> {
        if self.boto.is_none() {
            self.boto = Some(Boto::start(self.command("python3"))?);
        }
        self.boto.as_mut().context("boto3 was just started")
    }

    /// Calls an operation through boto3.
    pub fn call(
        &mut self,
        service: &str,
        name: &str,
        input: Value,
    ) -> Result<Value> {
        let answer: Result<Value, CallError> =
            self.boto()?.call(service, name, input);
        answer.with_context(|| format!("{name}; Minato said: {}", self.log()))
    }

    /// Runs a task of `definition` and says what RunTask answered.
    pub fn run_task(
        &mut self,
        definition: Value,
        launch_type: &str,
    ) -> Result<Value> {
        let is_awsvpc = definition["networkMode"] == "awsvpc";
        let family = definition["family"].clone();
        self.call("ecs", "register_task_definition", definition)?;
        let mut input = json!({
            "cluster": CLUSTER, "taskDefinition": family, "launchType": launch_type
        });
        if is_awsvpc {
            let subnets = self.call("ec2", "describe_subnets", json!({}))?;
            let subnet = subnets["Subnets"][0]["SubnetId"].clone();
            input["networkConfiguration"] =
                json!({ "awsvpcConfiguration": { "subnets": [subnet] } });
        }
        self.call("ecs", "run_task", input)
    }

    /// As [`Site::run_task`], which must start one task; its ARN.
    pub fn start_task(
        &mut self,
        definition: Value,
        launch_type: &str,
    ) -> Result<String> {
        let answer = self.run_task(definition, launch_type)?;
        let arn = answer["tasks"][0]["taskArn"].as_str();
        Ok(arn.with_context(|| format!("no task: {answer}"))?.to_owned())
    }

    /// One task as DescribeTasks shows it.
    pub fn task(&mut self, arn: &str) -> Result<Value> {
        let input = json!({ "cluster": CLUSTER, "tasks": [arn] });
        let mut answer = self.call("ecs", "describe_tasks", input)?;
        Ok(answer["tasks"][0].take())
    }

    /// Waits until a task has a status; the task.
    pub fn wait_task(&mut self, arn: &str, status: &str) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait_for(PATIENCE, || match self.task(arn) {
            Ok(task) => {
                last = task;
                let is_there = last["lastStatus"] == status;
                let is_over = last["lastStatus"] == "STOPPED";
                (is_there || is_over).then_some(())
            }
            Err(error) => {
                last = json!(error.to_string());
                None
            }
        });
        ensure!(
            found.is_some() && last["lastStatus"] == status,
            "the task is not {status}: {last:#}\nMinato said: {}",
            self.log()
        );
        Ok(last)
    }

    /// Asks for a task's end and waits for it; the task.
    pub fn stop_task(&mut self, arn: &str) -> Result<Value> {
        let input =
            json!({ "cluster": CLUSTER, "task": arn, "reason": "test" });
        self.call("ecs", "stop_task", input)?;
        self.wait_task(arn, "STOPPED")
    }

    /// Every message of a log group, or of those of its streams that begin
    /// with `prefix`, in the order of FilterLogEvents.
    pub fn messages(
        &mut self,
        group: &str,
        prefix: &str,
    ) -> Result<Vec<String>> {
        let mut input = json!({ "logGroupName": group });
        if !prefix.is_empty() {
            input["logStreamNamePrefix"] = json!(prefix);
        }
        let pages = self.boto()?.pages("logs", "filter_log_events", input)?;
        let events =
            pages.as_array().into_iter().flatten().flat_map(|page| {
                page["events"].as_array().into_iter().flatten()
            });
        Ok(events
            .filter_map(|event| event["message"].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// Takes Minato down and fails if anything of it is left.
    pub fn finish(mut self) -> Result<()> {
        self.boto = None;
        self.minato(&["down"]).with_context(|| self.log())?;
        self.forget_minato()?;
        let left = self.traces()?.all();
        ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        let devices = self.run("cat", &["/proc/net/dev"])?;
        // Two lines of heading, and loopback.
        ensure!(devices.lines().count() == 3, "left behind:\n{devices}");
        // Where there is no nft to ask, the rest must do.
        let mut nft = self.command("nft");
        let rules = run_to_end(nft.args(["list", "ruleset"]), b"")?;
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        ensure!(!rules.contains("minato"), "left behind:\n{rules}");
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.minato {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(traces) = &self.traces
            && !traces.destroy()
        {
            eprintln!("could not clear away: {:?}", traces.all());
        }
        let _ = self.network.kill();
        let _ = self.network.wait();
    }
}

/// A process that holds a new network namespace with loopback up.
fn namespace() -> Result<Child> {
    let mut holder = Command::new("unshare")
        .args(["-n", "sh", "-c"])
        .arg("ip link set lo up && echo up && exec sleep 3600")
        .stdout(Stdio::piped())
        .spawn()
        .context("could not run unshare")?;
    let mut line = String::new();
    let said = holder.stdout.take().context("no output")?;
    BufReader::new(said).read_line(&mut line)?;
    ensure!(line == "up\n", "tests with containers need root");
    Ok(holder)
}

/// The variables that `minato env` exports.
fn parse_environment(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("export "))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
