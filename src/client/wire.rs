//! The stream of a connection, in the clear or by TLS.

use super::{Error, Target, login::Login};
use crate::config::Address;
#[cfg(feature = "tls")]
use crate::protocol::tls::Session;
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

/// How long each address of a broker may take to answer when a connection is made.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// When a silent peer is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The stream of a connection. It reads and writes as the mode and the timeouts of its TCP stream have it.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<Box<Session>>,
}

impl Wire {
    /// Connects. A read takes no longer than 10 s.
    pub fn connect(target: &Target) -> Result<Wire, Error> {
        let Address { host, port } = target.parsed()?;
        let found = (host.as_str(), port).to_socket_addrs();
        let connected = found.and_then(|found| connect_to_any(&found.collect::<Vec<_>>()));
        let stream = connected.map_err(|cause| Error::Connection { address: target.address().into(), cause })?;
        #[cfg(feature = "tls")]
        let tls =
            target.config().map(|config| secure(&stream, config.clone(), target, &host)).transpose()?.map(Box::new);
        Ok(Wire {
            stream,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Whether nobody between the two ends can read along: by TLS, or within this machine.
    pub fn is_private(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return true;
        }
        self.stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// Who the target says it is, if it does; an error where others could read that.
    pub(super) fn login_of<'a>(&self, target: &'a Target) -> Result<Option<&'a Login>, Error> {
        let login = target.known_as();
        if login.is_some() && !self.is_private() {
            let why = "others could read the password on the way to the broker; speak TLS with it";
            return Err(Error::Invalid(why.into()));
        }
        Ok(login)
    }

    /// The `Authorization` of an HTTP request on behalf of the target (Basic, RFC 7617), if it says who it is; an error where others
    /// could read that, or the user's name cannot be said so.
    pub fn authorization(&self, target: &Target) -> Result<Option<String>, Error> {
        self.login_of(target)?.map(Login::authorization).transpose()
    }

    /// The TCP stream, for its mode and to shut it down.
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        result = TcpStream::connect_timeout(address, OPEN_TIMEOUT);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(OPEN_TIMEOUT))?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    Ok(stream)
}

#[cfg(feature = "tls")]
fn secure(
    stream: &TcpStream,
    config: std::sync::Arc<rustls::ClientConfig>,
    target: &Target,
    host: &str,
) -> Result<Session, Error> {
    let address = target.address();
    let name = rustls::pki_types::ServerName::try_from(host.to_string());
    let name = name.map_err(|_| Error::Invalid(format!("'{host}' is no name that a certificate can have")))?;
    let client = rustls::ClientConnection::new(config, name)
        .map_err(|error| Error::Invalid(format!("no TLS with {address}: {error}")))?;
    let session = Session::new(client, Vec::new());
    match session.handshake(stream, OPEN_TIMEOUT) {
        Ok(()) => Ok(session),
        // Who is not trusted now will not be by trying again.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Error::Invalid(format!("no TLS with the broker at {address}: {error}")))
        }
        Err(cause) => Err(Error::Connection { address: address.into(), cause }),
    }
}

impl Read for &Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.read(&self.stream, into);
        }
        (&self.stream).read(into)
    }
}

/// Under TLS, what a write would have had to wait for is to be written again.
impl Write for &Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.write(&self.stream, bytes);
        }
        (&self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "tls")]
impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(tls) = &self.tls {
            // Nobody waits for a broker that does not read.
            drop(self.stream.set_nonblocking(true).and_then(|()| tls.close(&self.stream)));
        }
    }
}
