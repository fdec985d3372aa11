//! The server's side of TLS: the handshake, who that makes the client, and what is said to those who do not speak it.

use super::{Spoken, end, sniff};
use crate::{
    config::Config,
    protocol::{connection, transport::Transport},
    security::{Principal, Turns, tls::Identity},
};
use std::{
    io::{self, ErrorKind},
    net::Shutdown,
    time::Duration,
};

/// How long a handshake may take in all.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Who the broker is, if it speaks TLS.
pub(super) fn open(config: &Config) -> io::Result<Option<Identity>> {
    let Some(tls) = config.security.tls.clone() else { return Ok(None) };
    if tls.client_ca.is_some() && !config.security.users {
        let why = "certificates say who clients are, which takes users: configure both or neither";
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let (identity, fault) = Identity::open(tls).map_err(|why| io::Error::new(ErrorKind::InvalidInput, why))?;
    if let Some(fault) = fault {
        crate::tell::tell(format_args!("clients will refuse {fault}"));
    }
    Ok(Some(identity))
}

/// Reads the files again if they have changed, or in any case if it `must`, and tells what came of it.
pub(super) fn look(identity: &Identity, must: bool) {
    match identity.look(must) {
        None => {}
        Some(Ok(())) => {
            crate::tell::tell(format_args!("the certificate was read again and goes for connections from now on"))
        }
        Some(Err(why)) => {
            crate::tell::tell(format_args!("the certificate was read again and the old one stays: {why}"))
        }
    }
}

/// Shakes hands within `most`, in turn; whom the client's certificate names, if it showed one.
pub(super) fn shake_hands(
    transport: &Transport,
    identity: &Identity,
    most: Duration,
    turns: &Turns,
) -> io::Result<Option<Principal>> {
    look(identity, false);
    let connection = rustls::ServerConnection::new(identity.server()).map_err(io::Error::other)?;
    let session = transport.secure(connection, most.min(HANDSHAKE), Some(turns)).map_err(|error| {
        // Why is on its way to the client, and must not be lost to a reset.
        drop(end(transport));
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                io::Error::new(ErrorKind::TimedOut, "no TLS handshake in time")
            }
            kind => io::Error::new(kind, format!("no TLS handshake: {error}")),
        }
    })?;
    let principal = identity.principal(session.peer_certificates().as_deref());
    principal
        .map_err(|why| io::Error::new(ErrorKind::PermissionDenied, format!("its certificate makes it nobody: {why}")))
}

/// Tells a client that speaks without TLS where that is not allowed, if it can read it.
pub(super) fn refuse(transport: &Transport, spoken: Spoken) -> io::Result<()> {
    let why = "this port speaks TLS only";
    let line = match spoken {
        Spoken::Text => {
            format!("ERROR INVALID_REQUEST {why}: give --tls, or use openssl s_client -quiet -connect HOST:PORT\n")
        }
        Spoken::Http => sniff::without_tls(why),
        _ => {
            transport.shutdown(Shutdown::Both);
            return Ok(());
        }
    };
    transport.set_read_timeout(connection::SILENCE)?;
    transport.write_all(line.as_bytes())?;
    end(transport)
}

#[cfg(test)]
mod tests;
