//! TLS on one connection, without I/O: sealed bytes in and plain ones out, and the other way round.
//!
//! Sealed bytes may come in any pieces. What TLS says by itself, its handshake and its alerts, waits until somebody fetches it;
//! new keys that the client has asked for go out in front of the next words.

use crate::tls::{Access, Tls};
use rustls::ServerConnection;
use std::io::{Read, Write};

/// The client does not keep to TLS, or TLS itself fails: nothing that comes is believed any more.
#[derive(Debug)]
pub(crate) struct Broken;

#[derive(Debug)]
pub(crate) struct Tunnel {
    tls: Box<ServerConnection>,
    /// The client has said that nothing more comes.
    has_ended: bool,
}

impl Tunnel {
    pub(crate) fn new(tls: &Tls) -> Result<Self, Broken> {
        let mut connection = tls.connection().map_err(|_| Broken)?;
        connection.set_buffer_limit(None);
        Ok(Self { tls: Box::new(connection), has_ended: false })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// What the client may have, once the handshake is over.
    pub(crate) fn access(&self, tls: &Tls) -> Access {
        tls.access(&self.tls)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes what came and appends what was in it. Behind the client's last word nothing counts.
    pub(crate) fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), Broken> {
        while !sealed.is_empty() && !self.has_ended {
            self.tls.read_tls(&mut sealed).map_err(|_| Broken)?;
            let state = self.tls.process_new_packets().map_err(|_| Broken)?;
            let filled = plain.len();
            plain.resize(filled + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut plain[filled..]).map_err(|_| Broken)?;
            self.has_ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// What must be sent to say `plain`, and whatever else waits to be said.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, Broken> {
        self.tls.writer().write_all(plain).map_err(|_| Broken)?;
        self.said()
    }

    /// Whether TLS has something of its own to say: [`Tunnel::said`] and [`Tunnel::seal`] fetch it.
    pub(crate) fn wants_to_speak(&self) -> bool {
        self.tls.wants_write()
    }

    pub(crate) fn said(&mut self) -> Result<Vec<u8>, Broken> {
        let mut said = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut said).map_err(|_| Broken)?;
        }
        Ok(said)
    }

    /// The last word: nothing more comes from this side.
    pub(crate) fn goodbye(&mut self) -> Result<Vec<u8>, Broken> {
        self.tls.send_close_notify();
        self.said()
    }

    /// From here on this side seals with other keys, and asks the client to do the same.
    #[cfg(any(test, feature = "rehearsal"))]
    pub(crate) fn update_keys(&mut self) -> Result<(), Broken> {
        self.tls.refresh_traffic_keys().map_err(|_| Broken)
    }
}
