//! `minato up`: everything in one process.

mod background;
mod engine;
mod link;
mod objects;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use minato_agent::agent::{Agent, Services};
use minato_agent::config::{AgentConfig, TaskEndpoint};
use minato_agent::endpoint::{EndpointSocket, Fallback};
use minato_client::{ApiClient, Credentials, Endpoint};
use minato_control::logs::LogStore;
use minato_control::{Caller, Config, ControlPlane, coverage};
use minato_core::env::Clock;
use minato_core::service::Pace;
use minato_gateway::{Gateway, Limits, Server, Trust};
use minato_store::{Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{self, UpArgs};
use crate::home::{Home, KeyPair, Keys, Registry, Running};
use crate::machine::{HostSize, RandomIds, SystemClock};
use crate::out::say;

pub(crate) use engine::take_down;

/// The cluster that the local agent joins.
const CLUSTER: &str = "default";

/// The signal by which `minato down` says that tasks are about to be stopped
/// and are not to be replaced.
const REST: SignalKind = SignalKind::user_defined1();

pub(crate) fn run(home: &Home, args: &UpArgs) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("Minato must be root to run containers; run it with sudo");
    }
    if let Ok(running) = home.running() {
        bail!(
            "Minato is already running at {} with the data directory {}",
            running.endpoint(),
            home.dir().display()
        );
    }
    home.create()?;
    home.create_run_dir()?;
    if args.detach {
        return background::start(home);
    }
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MINATO_LOG")
                .unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(serve(home, args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(home: &Home, args: &UpArgs) -> Result<()> {
    let keys = home.keys(&RandomIds)?;
    let registry = Registry::of(&args.mirror, &args.insecure_registry);
    home.set_registry(&registry)?;
    // Signals are taken before anything is started that they should end.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut rest = signal(REST)?;

    let (control, store) = control(home, args, &keys).await?;
    let gateway = gateway(&control, args, &keys);
    let limits = Limits::default();
    let server = Server::bind(args.listen, gateway.clone(), limits).await?;
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let serving = TaskTracker::new();
    serving.spawn(server.serve(stop.clone()));

    let running =
        Running::here(address.to_string(), &args.account_id, &args.region);
    let vpc_cidr = args.vpc_cidr.as_deref();
    let subnets = control
        .default_network(&args.account_id, &args.region, vpc_cidr)
        .await
        .context("could not set up the default VPC (--vpc-cidr)")?;
    let engine = engine::open(home, args, &registry, subnets).await?;
    let agent = agent(home, args, &keys, &control, gateway, engine).await?;
    home.set_running(&running)?;
    say!(
        "Minato is ready at {}: eval \"$(minato env --data-dir {})\"",
        running.endpoint(),
        home.dir().display()
    )?;
    std::io::stdout().flush().context("could not say that it is ready")?;

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = rest.recv() => control.rest(),
        }
    }
    // Tasks run on; the next start finds them.
    stop.cancel();
    serving.close();
    serving.wait().await;
    drop(agent);
    control.close().await;
    store.close();
    home.clear_running();
    Ok(())
}

/// Opens what is stored and the control plane over it.
async fn control(
    home: &Home,
    args: &UpArgs,
    keys: &Keys,
) -> Result<(ControlPlane, Store)> {
    let tables = minato_control::tables::tables();
    let store =
        Store::open_dir(&home.journal(), tables, StoreOptions::default())
            .context("could not open the journal")?;
    let logs =
        LogStore::open(&home.logs()).context("could not open the logs")?;
    let config = Config {
        credentials: keys.credentials(&args.account_id),
        poll_endpoint: format!("http://{}", args.listen),
        pace: match args.pace {
            args::Pace::Fast => Pace::FAST,
            args::Pace::Aws => Pace::AWS,
        },
        reserved_ranges: args
            .bridge_cidr
            .iter()
            .map(ToString::to_string)
            .collect(),
        ..Config::new(
            &args.account_id,
            &args.region,
            home.seal_key(args.seal_key_file.as_deref())?,
        )
    };
    let control = ControlPlane::open(
        config,
        store.clone(),
        logs,
        Arc::new(SystemClock),
        Arc::new(RandomIds),
    )
    .await
    .context("could not open the control plane")?;
    Ok((control, store))
}

fn gateway(
    control: &ControlPlane,
    args: &UpArgs,
    keys: &Keys,
) -> Gateway<ControlPlane> {
    let trust = if args.any_credentials {
        eprintln!(
            "minato: --any-credentials: signatures are NOT checked; whoever \
             reaches {}, and every container, may do everything",
            args.listen
        );
        Trust::AnyCredentials(Caller {
            account: args.account_id.clone(),
            arn: format!("arn:aws:iam::{}:root", args.account_id),
            user_id: args.account_id.clone(),
            access_key_id: keys.root.access_key_id.clone(),
        })
    } else {
        Trust::Signatures
    };
    let services = coverage::all().into_iter().map(|one| one.service).collect();
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(RandomIds));
    Gateway::new(control.clone(), services, trust, clock, ids)
}

/// Whether the kernel has what `enableFaultInjection` needs.
async fn can_inject_faults() -> bool {
    let probe = minato_engine::network::probe_faults;
    matches!(tokio::task::spawn_blocking(probe).await, Ok(Ok(())))
}

/// Starts the agent of this host, which calls the gateway in memory.
async fn agent(
    home: &Home,
    args: &UpArgs,
    keys: &Keys,
    control: &ControlPlane,
    gateway: Gateway<ControlPlane>,
    runtime: engine::Runtime,
) -> Result<Agent> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let KeyPair { access_key_id, secret_access_key } = keys.agent.clone();
    let client = ApiClient::new(
        gateway.clone(),
        Endpoint::in_memory(),
        Credentials { access_key_id, secret_access_key, session_token: None },
        &args.region,
        Arc::clone(&clock),
    );
    let size = HostSize::measure();
    let config = AgentConfig {
        cpu_units: size.cpu_units,
        memory_mib: size.memory_mib,
        auto_scaling_group: args.auto_scaling_group.clone(),
        task_endpoint: match args.no_endpoint_injection {
            true => TaskEndpoint::Own,
            false => TaskEndpoint::AndApi,
        },
        efs: args.efs.iter().cloned().collect(),
        s3: objects::config(args)?,
        efs_access_points: args.efs_access_point.iter().cloned().collect(),
        volumes: minato_engine::volume::support(),
        fault_injection: can_inject_faults().await,
        ipv6: runtime.has_ipv6(),
        ..AgentConfig::new(CLUSTER, &args.region, home.agent())
    };
    let listener = runtime
        .listen_endpoint()
        .await
        .context("could not listen for calls of containers")?;
    let fallback = Fallback::new(gateway);
    let socket = EndpointSocket { listener, fallback };
    let services = Services {
        runtime: Arc::new(runtime),
        api: Arc::new(link::ClientApi::new(client)),
        clock,
        ids: Arc::new(RandomIds),
        credentials: Arc::default(),
        config,
    };
    let connector =
        link::InProcess::new(control.clone(), &args.account_id, &args.region);
    Agent::start(Arc::new(services), Arc::new(connector), Some(socket))
        .await
        .context("could not start the agent")
}
