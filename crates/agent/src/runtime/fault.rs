//! Network faults, as the agent asks the engine for them.

use minato_engine::network::{AttachError, Network};
pub use minato_engine::network::{
    Blackhole, Direction, FaultSite, Impairment, ImpairmentKind, IpRange, Port,
    Protocol, ProxyRules,
};

use super::{RuntimeError, RuntimeErrorKind};

/// Something to do about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultCall {
    /// Begins to drop a port's packets.
    BlackholeStart(Blackhole),
    /// Lets them through again.
    BlackholeStop(Port),
    /// Asks whether they are dropped.
    BlackholeStatus(Port),
    /// Begins to impair what the task sends.
    ImpairmentStart {
        /// How.
        impairment: Impairment,
        /// Of what goes to these.
        sources: Vec<IpRange>,
        /// But not to these.
        except: Vec<IpRange>,
    },
    /// Ends an impairment.
    ImpairmentStop(ImpairmentKind),
    /// Asks whether there is one.
    ImpairmentStatus(ImpairmentKind),
}

/// What became of a [`FaultCall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// The fault is there.
    Running,
    /// The fault is not there.
    NotRunning,
    /// Nothing was started: this impairment is there.
    Conflict(ImpairmentKind),
}

pub(super) async fn call(
    network: &Network,
    site: &FaultSite,
    call: &FaultCall,
) -> Result<FaultAnswer, RuntimeError> {
    let done = perform(network, site, call).await;
    done.map_err(|error| RuntimeError::chain(RuntimeErrorKind::Other, &error))
}

async fn perform(
    network: &Network,
    site: &FaultSite,
    call: &FaultCall,
) -> Result<FaultAnswer, AttachError> {
    match call {
        FaultCall::BlackholeStart(blackhole) => {
            network.blackhole_start(site, blackhole).await?;
            Ok(FaultAnswer::Running)
        }
        FaultCall::BlackholeStop(port) => {
            network.blackhole_stop(site, *port).await?;
            Ok(FaultAnswer::NotRunning)
        }
        FaultCall::BlackholeStatus(port) => {
            Ok(answer(network.is_blackhole(site, *port).await?))
        }
        FaultCall::ImpairmentStart { impairment, sources, except } => {
            let found = network.impair(site, *impairment, sources, except);
            Ok(match found.await? {
                None => FaultAnswer::Running,
                Some(kind) => FaultAnswer::Conflict(kind),
            })
        }
        FaultCall::ImpairmentStop(kind) => {
            network.impairment_stop(site, *kind).await?;
            Ok(FaultAnswer::NotRunning)
        }
        FaultCall::ImpairmentStatus(kind) => {
            Ok(answer(network.impairment(site).await? == Some(*kind)))
        }
    }
}

fn answer(is_running: bool) -> FaultAnswer {
    if is_running { FaultAnswer::Running } else { FaultAnswer::NotRunning }
}
