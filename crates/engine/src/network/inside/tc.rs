//! Queueing disciplines: latency and loss on an interface.
//!
//! As the upstream agent has `tc` do it: a `prio` discipline at the root
//! whose third band takes everything, `netem` at its first band, and `u32`
//! filters that send chosen destinations there. The order among filters is
//! their priority; each priority has one protocol.

use std::io;

use super::super::netlink::{
    Attributes, NLM_F_CREATE, NLM_F_EXCL, Request, Socket, text, u32_at,
};
use super::super::route::ignoring;
use super::fault::{Impairment, ImpairmentKind};
use super::range::IpRange;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TC_U32_TERMINAL: u8 = 1;

const ROOT: u32 = u32::MAX;
/// `1:`, `1:1`, `1:3` and `10:`, upstream's numbers.
const PRIO: u32 = 0x0001_0000;
const IMPAIRED: u32 = 0x0001_0001;
const SPARED: u32 = 0x0001_0003;
const NETEM: u32 = 0x0010_0000;

/// `tc`'s default: packets that may be on their way at once.
const NETEM_LIMIT: u32 = 1000;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Impairs what goes to `sources` but not to `except`. What was made by
/// halves is taken away again.
pub(super) fn impair(
    socket: &mut Socket,
    link: u32,
    impairment: &Impairment,
    sources: &[IpRange],
    except: &[IpRange],
) -> io::Result<()> {
    // One that was set up by somebody else is not replaced.
    socket.call(&root(link))?;
    let made = fill(socket, link, impairment, sources, except);
    if made.is_err() {
        let _ = clear(socket, link);
    }
    made
}

fn fill(
    socket: &mut Socket,
    link: u32,
    impairment: &Impairment,
    sources: &[IpRange],
    except: &[IpRange],
) -> io::Result<()> {
    socket.call(&netem(link, impairment))?;
    for (ranges, class, priorities) in
        [(except, SPARED, [1, 2]), (sources, IMPAIRED, [3, 4])]
    {
        for range in ranges {
            let priority = priorities[usize::from(range.is_ipv6())];
            socket.call(&filter(link, priority, *range, class))?;
        }
    }
    Ok(())
}

/// Takes our disciplines off an interface; the filters go with them. Those
/// of the host's administrator stay, whatever their handle.
pub(super) fn clear(socket: &mut Socket, link: u32) -> io::Result<()> {
    let mut found = false;
    let request = Request::new(RTM_GETQDISC, 0, &header(link, 0, 0, 0));
    socket.dump(&request, |kind, payload| {
        found |= kind == RTM_NEWQDISC && is_ours(payload, link);
    })?;
    if !found {
        return Ok(());
    }
    let request = Request::new(RTM_DELQDISC, 0, &header(link, PRIO, ROOT, 0));
    // Gone since, or the interface is.
    let cleared = ignoring(socket.call(&request), libc::ENOENT);
    ignoring(cleared, libc::EINVAL)
}

/// What impairs an interface, if anything does.
pub(super) fn impairment(
    socket: &mut Socket,
    link: u32,
) -> io::Result<Option<ImpairmentKind>> {
    let mut found = None;
    let request = Request::new(RTM_GETQDISC, 0, &header(link, 0, 0, 0));
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWQDISC {
            found = found.or_else(|| parse(payload, link));
        }
    })?;
    Ok(found)
}

fn parse(payload: &[u8], link: u32) -> Option<ImpairmentKind> {
    // A dump has all interfaces' in it.
    if u32_at(payload, 4)? != link || u32_at(payload, 12)? != IMPAIRED {
        return None;
    }
    let attributes = Attributes(payload.get(HEADER_BYTES..)?);
    if text(attributes.value(TCA_KIND)?) != "netem" {
        return None;
    }
    // struct tc_netem_qopt: latency, limit, loss, ...
    let options = attributes.value(TCA_OPTIONS)?;
    if u32_at(options, 8)? > 0 {
        return Some(ImpairmentKind::PacketLoss);
    }
    Some(ImpairmentKind::Latency)
}

fn root(link: u32) -> Request {
    let mut request = Request::new(
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_EXCL,
        &header(link, PRIO, ROOT, 0),
    );
    request.string(TCA_KIND, "prio").attribute(TCA_OPTIONS, &bands());
    request
}

/// One at the same place that is not ours: with `tc`'s own options.
#[cfg(test)]
pub(super) fn others_root(socket: &mut Socket, link: u32) -> io::Result<()> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let header = header(link, PRIO, ROOT, 0);
    let mut request = Request::new(RTM_NEWQDISC, flags, &header);
    let mut options = 3u32.to_ne_bytes().to_vec();
    options
        .extend_from_slice(&[1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    request.string(TCA_KIND, "prio").attribute(TCA_OPTIONS, &options);
    socket.call(&request)
}

/// struct `tc_prio_qopt`: three bands; all priorities to the last, as nobody
/// else has them.
fn bands() -> Vec<u8> {
    let mut options = 3u32.to_ne_bytes().to_vec();
    options.extend_from_slice(&[2; 16]);
    options
}

/// Whether a discipline is the one that [`root`] makes.
fn is_ours(payload: &[u8], link: u32) -> bool {
    let attributes = Attributes(payload.get(HEADER_BYTES..).unwrap_or(&[]));
    let options = attributes.value(TCA_OPTIONS);
    u32_at(payload, 4) == Some(link)
        && u32_at(payload, 8) == Some(PRIO)
        && u32_at(payload, 12) == Some(ROOT)
        && attributes.value(TCA_KIND).is_some_and(|kind| text(kind) == "prio")
        && options.is_some_and(|options| options.starts_with(&bands()))
}

fn netem(link: u32, impairment: &Impairment) -> Request {
    let mut request = Request::new(
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_EXCL,
        &header(link, NETEM, IMPAIRED, 0),
    );
    let (delay, jitter, loss) = match *impairment {
        Impairment::Latency { delay_ms, jitter_ms } => {
            (nanos(delay_ms), nanos(jitter_ms), 0)
        }
        Impairment::PacketLoss { percent } => (0, 0, probability(percent)),
    };
    // struct tc_netem_qopt; the times come in nanoseconds after it.
    let mut options = Vec::new();
    for number in [0, NETEM_LIMIT, loss, 0, 0, 0] {
        options.extend_from_slice(&number.to_ne_bytes());
    }
    request.string(TCA_KIND, "netem").nested(TCA_OPTIONS, |o| {
        o.raw(&options)
            .attribute(TCA_NETEM_LATENCY64, &delay.to_ne_bytes())
            .attribute(TCA_NETEM_JITTER64, &jitter.to_ne_bytes());
    });
    request
}

fn nanos(milliseconds: u64) -> i64 {
    const NANOS: u64 = 1_000_000;
    i64::try_from(milliseconds.saturating_mul(NANOS)).unwrap_or(i64::MAX)
}

/// Of 2^32, as netem counts.
fn probability(percent: u8) -> u32 {
    let share = u64::from(u32::MAX) * u64::from(percent.min(100)) / 100;
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// Sends what goes to `range` to a class.
fn filter(link: u32, priority: u32, range: IpRange, class: u32) -> Request {
    let protocol = if range.is_ipv6() { ETH_P_IPV6 } else { ETH_P_IP };
    let info = (priority << 16) | u32::from(protocol.to_be());
    let mut request = Request::new(
        RTM_NEWTFILTER,
        NLM_F_CREATE | NLM_F_EXCL,
        &header(link, 0, PRIO, info),
    );
    let selector = selector(range);
    request.string(TCA_KIND, "u32").nested(TCA_OPTIONS, |o| {
        o.u32(TCA_U32_CLASSID, class).attribute(TCA_U32_SEL, &selector);
    });
    request
}

/// struct tc_u32_sel with a key for each word of the destination.
fn selector(range: IpRange) -> Vec<u8> {
    let (address, mask) = range.bytes();
    let first: usize = if range.is_ipv6() { 24 } else { 16 };
    let words = address.chunks(4).zip(mask.chunks(4)).enumerate();
    let keys = u8::try_from(address.len() / 4).unwrap_or(0);
    let mut bytes = vec![TC_U32_TERMINAL, 0, keys, 0];
    bytes.extend_from_slice(&[0; 12]);
    for (at, (word, mask)) in words {
        let offset = u32::try_from(first + at * 4).unwrap_or(0);
        bytes.extend_from_slice(mask);
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(&offset.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes
}

const HEADER_BYTES: usize = 20;

/// struct tcmsg
fn header(
    link: u32,
    handle: u32,
    parent: u32,
    info: u32,
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header[16..20].copy_from_slice(&info.to_ne_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_a_share_of_all_numbers() {
        assert_eq!(probability(0), 0);
        assert_eq!(probability(50), u32::MAX / 2);
        assert_eq!(probability(100), u32::MAX);
    }

    #[test]
    fn a_delay_beyond_all_bounds_is_the_longest() {
        assert_eq!(nanos(200), 200_000_000);
        assert_eq!(nanos(u64::MAX), i64::MAX);
    }

    #[test]
    fn a_filter_has_a_key_for_each_word() {
        let four = selector("10.0.0.0/8".parse().unwrap());
        assert_eq!((four.len(), four[2]), (32, 1));
        assert_eq!(four[16..24], [255, 0, 0, 0, 10, 0, 0, 0]);
        let six = selector("fd00::/8".parse().unwrap());
        assert_eq!((six.len(), six[2]), (16 + 4 * 16, 4));
        assert_eq!(u32_at(&six, 16 + 8), Some(24));
    }
}
