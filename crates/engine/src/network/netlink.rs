//! A small synchronous netlink client.
//!
//! Both families we need (routes and nftables) do their work inside the
//! `sendto` call and have queued their answers when it returns, so there is
//! nothing to wait for and no event loop to run. A socket belongs to the
//! network namespace of the thread that opened it, for good.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv,
    sendto, socket_with, sockopt,
};

use super::NetworkStepError;
use super::error::DoingStep;

/// `nlmsghdr` and `nlattr` lengths are rounded up to this.
const ALIGN: usize = 4;
const HEADER: usize = 16;
/// Netlink answers fit in pages; the kernel's own dumps use at most 32 KiB.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Create the object if it does not exist.
pub(super) const NLM_F_CREATE: u16 = 0x400;
/// Fail if the object exists.
pub(super) const NLM_F_EXCL: u16 = 0x200;
/// Add at the end of the list.
pub(super) const NLM_F_APPEND: u16 = 0x800;
/// Replace the object if it exists.
pub(super) const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_DUMP: u16 = 0x300;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Set in an attribute's type when it holds attributes.
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Route,
    Netfilter,
}

/// One request in the making: a header, a fixed part and attributes.
#[derive(Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of type `kind` that starts with the fixed part `fixed`.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        Request { kind, flags, body: fixed.to_vec() }
    }

    /// The same request about objects of another protocol family: the first
    /// byte of `nfgenmsg`.
    pub(super) fn of_family(mut self, family: u8) -> Request {
        if let Some(first) = self.body.first_mut() {
            *first = family;
        }
        self
    }

    /// Adds an attribute of plain bytes.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4)
            .unwrap_or_else(|_| unreachable!("callers bound their attributes"));
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(aligned(self.body.len()), 0);
        self
    }

    /// Adds a number in the machine's byte order, as rtnetlink wants it.
    pub(super) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as nftables wants it.
    pub(super) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Adds a string with its terminating NUL.
    pub(super) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(super) fn nested(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Request),
    ) -> &mut Self {
        let start = self.body.len();
        self.body.extend_from_slice(&[0, 0]);
        self.body.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.body.len() - start)
            .unwrap_or_else(|_| unreachable!("callers bound their attributes"));
        self.body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds bytes without a header: a struct that starts a nested attribute.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.body.extend_from_slice(bytes);
        self.body.resize(aligned(self.body.len()), 0);
        self
    }

    fn write(&self, out: &mut Vec<u8>, flags: u16, sequence: u32) {
        let length = u32::try_from(HEADER + self.body.len())
            .unwrap_or_else(|_| unreachable!("requests are small"));
        let flags = NLM_F_REQUEST | self.flags | flags;
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
        out.resize(aligned(out.len()), 0);
    }
}

/// A netlink socket in one network namespace.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open(family: Family) -> io::Result<Socket> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(NETFILTER),
        };
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket { fd, sequence: 1 })
    }

    /// As [`Socket::open`], for interfaces, addresses and routes.
    pub(super) fn route() -> Result<Socket, NetworkStepError> {
        Socket::open(Family::Route).doing("open a route netlink socket")
    }

    /// As [`Socket::open`], for nftables.
    pub(super) fn netfilter() -> Result<Socket, NetworkStepError> {
        Socket::open(Family::Netfilter).doing("open an nftables socket")
    }

    /// Sends one request and waits for its acknowledgement.
    pub(super) fn call(&mut self, request: &Request) -> io::Result<()> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        request.write(&mut bytes, NLM_F_ACK, sequence);
        self.send(&bytes)?;
        self.acknowledgements(sequence, 1)
    }

    /// Asks for one object; the answer is its payload.
    pub(super) fn get(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        request.write(&mut bytes, 0, sequence);
        self.send(&bytes)?;
        let answers = self.receive(RecvFlags::DONTWAIT)?;
        let answer = Messages(&answers).find(|a| a.sequence == sequence);
        match answer {
            Some(answer) if answer.kind == NLMSG_ERROR => {
                status(answer.payload)?;
                Ok(Vec::new())
            }
            Some(answer) => Ok(answer.payload.to_vec()),
            None => Err(io::Error::other("netlink request was not answered")),
        }
    }

    /// Sends several nftables requests as one transaction.
    pub(super) fn transaction(
        &mut self,
        requests: &[Request],
    ) -> io::Result<()> {
        // struct nfgenmsg: AF_UNSPEC, version 0, the subsystem in res_id.
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        let fixed = [0, 0, high, low];
        let mut bytes = Vec::new();
        let begin = self.next_sequence();
        Request::new(NFNL_MSG_BATCH_BEGIN, 0, &fixed)
            .write(&mut bytes, 0, begin);
        let first = self.sequence;
        for request in requests {
            let sequence = self.next_sequence();
            request.write(&mut bytes, NLM_F_ACK, sequence);
        }
        let end = self.next_sequence();
        Request::new(NFNL_MSG_BATCH_END, 0, &fixed).write(&mut bytes, 0, end);
        self.make_room(bytes.len(), requests.len())?;
        self.send(&bytes)?;
        self.acknowledgements(first, requests.len())
    }

    /// Asks for all objects; `each` sees every answer's type and payload.
    pub(super) fn dump(
        &mut self,
        request: &Request,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        request.write(&mut bytes, NLM_F_DUMP, sequence);
        self.send(&bytes)?;
        loop {
            let answers = self.receive(RecvFlags::empty())?;
            for answer in Messages(&answers) {
                if answer.sequence != sequence {
                    continue;
                }
                match answer.kind {
                    NLMSG_DONE => return status(answer.payload),
                    NLMSG_ERROR => return status(answer.payload),
                    kind => each(kind, answer.payload),
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        sequence
    }

    /// Makes the socket's buffers hold a large transaction, which must be
    /// sent in one piece, and its acknowledgements.
    fn make_room(&self, bytes: usize, requests: usize) -> io::Result<()> {
        // The least default of both, and what an answer takes at most.
        const DEFAULT_BYTES: usize = 128 * 1024;
        const ANSWER_BYTES: usize = 1024;
        if bytes > DEFAULT_BYTES {
            sockopt::set_socket_send_buffer_size_force(&self.fd, bytes)?;
        }
        let answers = requests * ANSWER_BYTES;
        if answers > DEFAULT_BYTES {
            sockopt::set_socket_recv_buffer_size_force(&self.fd, answers)?;
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = sendto(&self.fd, bytes, SendFlags::empty(), &kernel)?;
        if sent != bytes.len() {
            return Err(io::Error::other("netlink request was cut short"));
        }
        Ok(())
    }

    /// Reads what is queued until all of `count` requests are answered.
    ///
    /// The first refusal wins: those after it are its consequences.
    fn acknowledgements(&self, first: u32, count: usize) -> io::Result<()> {
        let mut refused = None;
        let mut answered = 0;
        while answered < count {
            let answers = match self.receive(RecvFlags::DONTWAIT) {
                Ok(answers) => answers,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break;
                }
                Err(error) => return Err(error),
            };
            for answer in Messages(&answers) {
                if answer.kind != NLMSG_ERROR
                    || answer.sequence.wrapping_sub(first) > u32::MAX / 2
                {
                    continue;
                }
                answered += 1;
                if let Err(error) = status(answer.payload) {
                    refused.get_or_insert(error);
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if answered < count => {
                Err(io::Error::other("netlink request was not acknowledged"))
            }
            None => Ok(()),
        }
    }

    fn receive(&self, flags: RecvFlags) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; RECEIVE_BUFFER_BYTES];
        loop {
            match recv(&self.fd, &mut bytes[..], flags | RecvFlags::TRUNC) {
                Ok((_, length)) if length > RECEIVE_BUFFER_BYTES => {
                    return Err(io::Error::other("netlink answer too long"));
                }
                Ok((_, length)) => {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
/// The number of nftables among netfilter's subsystems.
pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// The `error` of an acknowledgement: zero or a negated errno.
fn status(payload: &[u8]) -> io::Result<()> {
    let code = match payload.first_chunk::<4>() {
        Some(bytes) => i32::from_ne_bytes(*bytes),
        None => 0,
    };
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code.saturating_neg()))
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// Walks the messages of one datagram; stops at the first malformed one.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let payload = self.0.get(HEADER..length)?;
        let kind = u16_at(header, 4)?;
        let sequence = u32_at(header, 8)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(Message { kind, sequence, payload })
    }
}

/// Walks attributes, as (type, value); stops at the first malformed one.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of type `kind`.
    pub(super) fn value(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }
}

/// The number at `offset`, in the machine's byte order.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// A NUL-terminated string as sent by the kernel.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_has_the_kernels_layout() {
        let mut request = Request::new(16, NLM_F_CREATE, &[7; 4]);
        request.string(3, "lo").nested(18, |r| {
            r.u32(1, 5);
        });
        let mut bytes = Vec::new();
        request.write(&mut bytes, NLM_F_ACK, 9);
        assert_eq!(bytes.len(), 16 + 4 + 8 + 12);
        assert_eq!(u32_at(&bytes, 0), Some(40));
        assert_eq!(u16_at(&bytes, 6), Some(0x405));
        let attributes = Attributes(&bytes[20..]);
        assert_eq!(attributes.value(3), Some(&b"lo\0"[..]));
        let inner = Attributes(attributes.value(18).unwrap());
        assert_eq!(inner.value(1), Some(&5u32.to_ne_bytes()[..]));
        assert_eq!(inner.value(2), None);
    }

    #[test]
    fn an_error_code_becomes_an_error() {
        let code = (-17i32).to_ne_bytes();
        assert_eq!(status(&code).unwrap_err().raw_os_error(), Some(17));
        assert!(status(&0i32.to_ne_bytes()).is_ok());
        assert!(status(&i32::MIN.to_ne_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_walked_to_an_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(Messages(&bytes).count() <= bytes.len());
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
