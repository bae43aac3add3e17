//! Connections to receivers of log records.

use std::fmt;
use std::future::ready;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};

use super::files::LogFiles;
use super::forward::{NotAnAck, acknowledged};
use crate::task::plan::LogAddress;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a receiver may take to read records, and then to say what it has.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);
/// The log router's socket, in the directory that it shares with the host.
const ROUTER_SOCKET: &str = "fluent.sock";

/// Records did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SendLogError {
    /// There is no connection.
    #[error("dial {to}")]
    Connect {
        /// Where to.
        to: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("write to {to}")]
    Write {
        /// Where to.
        to: String,
        /// Why.
        source: io::Error,
    },
    /// The receiver does not speak the protocol.
    #[error("{to} answered something else than an acknowledgement")]
    Answer {
        /// Who.
        to: String,
    },
}

/// Where a container's records go.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) address: LogAddress,
    /// The directory with the router's socket.
    pub(crate) router_dir: PathBuf,
    /// The newest of the files.
    pub(crate) file: PathBuf,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            LogAddress::Tcp(to) => write!(f, "tcp {to}"),
            LogAddress::Udp(to) => write!(f, "udp {to}"),
            LogAddress::Unix(path) => write!(f, "unix {}", path.display()),
            LogAddress::Unixgram(path) => {
                write!(f, "unixgram {}", path.display())
            }
            LogAddress::Router => f.write_str("the log router"),
            LogAddress::Files { .. } => {
                write!(f, "file {}", self.file.display())
            }
        }
    }
}

/// A stream in both directions.
pub(crate) trait Wire:
    AsyncRead + AsyncWrite + Send + Sync + Unpin
{
}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// A connection to a receiver.
pub(crate) enum Connection {
    Stream(Box<dyn Wire>),
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
    Files(LogFiles),
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(
        to: &Destination,
    ) -> Result<Connection, SendLogError> {
        let open = tokio::time::timeout(CONNECT_TIMEOUT, connect(to));
        let opened = open.await.unwrap_or_else(|late| Err(late.into()));
        opened.map_err(|source| SendLogError::Connect {
            to: to.to_string(),
            source,
        })
    }

    /// Sends records one after the other.
    pub(crate) async fn send(
        &mut self,
        to: &Destination,
        records: &[Vec<u8>],
    ) -> Result<(), SendLogError> {
        let sent = match self {
            Connection::Stream(stream) => {
                let send = send_stream(&mut **stream, records);
                // Of one that reads nothing the buffers are full some time.
                let sent = tokio::time::timeout(ACK_TIMEOUT, send).await;
                sent.unwrap_or_else(|late| Err(late.into()))
            }
            Connection::Udp(socket) => {
                for record in records {
                    // A datagram is not promised to arrive, and an error may
                    // be that of an earlier one.
                    if let Err(error) = socket.send(record).await {
                        tracing::debug!(%to, %error, "datagram not sent");
                    }
                }
                Ok(())
            }
            Connection::Unixgram(socket) => {
                send_datagrams(socket, records).await
            }
            Connection::Files(files) => files.append(records).await,
        };
        sent.map_err(|source| SendLogError::Write {
            to: to.to_string(),
            source,
        })
    }

    /// Waits until the receiver has said that it has all of them.
    pub(crate) async fn acknowledged(
        &mut self,
        to: &Destination,
        ids: &[String],
    ) -> Result<(), SendLogError> {
        let Connection::Stream(stream) = self else { return Ok(()) };
        let read = read_acks(&mut **stream, ids);
        let read = tokio::time::timeout(ACK_TIMEOUT, read).await;
        match read.unwrap_or_else(|late| Err(AckError::Io(late.into()))) {
            Ok(()) => Ok(()),
            Err(AckError::Io(source)) => {
                Err(SendLogError::Write { to: to.to_string(), source })
            }
            Err(AckError::Not) => {
                Err(SendLogError::Answer { to: to.to_string() })
            }
        }
    }
}

async fn connect(to: &Destination) -> io::Result<Connection> {
    Ok(match &to.address {
        LogAddress::Tcp(address) => {
            Connection::Stream(Box::new(TcpStream::connect(address).await?))
        }
        LogAddress::Udp(address) => {
            let found = tokio::net::lookup_host(address).await?.next();
            let found = found.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let own = if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(own).await?;
            socket.connect(found).await?;
            Connection::Udp(socket)
        }
        LogAddress::Unix(path) => {
            Connection::Stream(Box::new(UnixStream::connect(path).await?))
        }
        LogAddress::Unixgram(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Connection::Unixgram(socket)
        }
        LogAddress::Router => {
            let socket = router_socket(&to.router_dir)?;
            // By its descriptor: its path may be too long for an address.
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            let stream = UnixStream::connect(path).await?;
            Connection::Stream(Box::new(stream))
        }
        LogAddress::Files { max_size_bytes, max_files } => {
            let files = LogFiles::open(&to.file, *max_size_bytes, *max_files);
            Connection::Files(files.await?)
        }
    })
}

/// The router's socket itself: the router writes the directory, and a link
/// in it must not lead this process to another socket of the host's.
fn router_socket(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let dir_flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = rustix::fs::open(dir, dir_flags, Mode::empty())?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let socket =
        rustix::fs::openat2(&dir, ROUTER_SOCKET, flags, Mode::empty(), within)?;
    let stat = rustix::fs::fstat(&socket)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::other("fluent.sock is not a socket"));
    }
    Ok(socket)
}

async fn send_stream(
    stream: &mut dyn Wire,
    records: &[Vec<u8>],
) -> io::Result<()> {
    // A receiver that is gone takes the first write without an error.
    let mut byte = [0; 1];
    tokio::select! {
        biased;
        read = stream.read(&mut byte) => if read? == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        },
        () = ready(()) => {}
    }
    stream.write_all(&records.concat()).await?;
    stream.flush().await
}

async fn send_datagrams(
    socket: &UnixDatagram,
    records: &[Vec<u8>],
) -> io::Result<()> {
    for record in records {
        match socket.send(record).await {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(MESSAGE_SIZE) => {
                tracing::warn!("a log record was too long for its socket");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `EMSGSIZE`.
const MESSAGE_SIZE: i32 = rustix::io::Errno::MSGSIZE.raw_os_error();

enum AckError {
    Io(io::Error),
    Not,
}

impl From<NotAnAck> for AckError {
    fn from(_: NotAnAck) -> AckError {
        AckError::Not
    }
}

async fn read_acks(
    stream: &mut dyn Wire,
    ids: &[String],
) -> Result<(), AckError> {
    let mut bytes = vec![];
    // In order: the connection's other side answers as it reads.
    for id in ids {
        let len = loop {
            if let Some((found, len)) = acknowledged(&bytes)? {
                if found != id {
                    return Err(AckError::Not);
                }
                break len;
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) => {
                    let gone = io::ErrorKind::UnexpectedEof;
                    return Err(AckError::Io(gone.into()));
                }
                Ok(_) => {}
                Err(error) => return Err(AckError::Io(error)),
            }
        };
        bytes.drain(..len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_does_not_read_is_given_up() {
        let (own, _theirs) = tokio::io::duplex(16);
        let mut connection = Connection::Stream(Box::new(own));
        let to = Destination {
            address: LogAddress::Router,
            router_dir: PathBuf::new(),
            file: PathBuf::new(),
        };
        let sent = connection.send(&to, &[vec![0; 1000]]).await;
        let Err(SendLogError::Write { source, .. }) = sent else {
            panic!("{sent:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
    }
}
