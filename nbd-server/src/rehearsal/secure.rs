//! TLS played through without sockets, for tests and for a fuzzer: a client that keeps to it, whose bytes arrive in any
//! pieces and may be damaged on the way, and what the door promises of them (W1, W3).
//!
//! Undamaged, each side hears exactly what the other has said, to its last word. Damaged, it hears the beginning of it.

use super::{certificates, client};
use crate::tls::Tls;
use crate::tunnel::Tunnel;
use rustls::{ClientConfig, ClientConnection};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;

/// The longest record beside its plain bytes, in bytes: what may have waited for its end (RFC 8446, section 5.2).
const RECORD_BYTES_MAX: usize = (1 << 14) + 256 + 5;
/// Bytes a number of the script stands for, where something is said: with the largest more than a record.
const STEP_BYTES: usize = 67;
/// Events of one script: an honest client may update its keys so often.
const EVENTS_MAX: usize = 30;

/// Certificates for both sides, made once for any number of conversations.
#[derive(Debug)]
pub struct Stage {
    tls: Tls,
    client: Arc<ClientConfig>,
}

impl Stage {
    /// # Panics
    /// When the system has no place for files.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        certificates::write(directory.path());
        let tls = Tls::load(directory.path(), Vec::new()).expect("certificates that were just written");
        Self { tls, client: client::load(directory.path()) }
    }

    /// Plays a conversation. The first byte says in which pieces arrives what is under way at its end; two bytes each are
    /// an event and how much of it. Returns how many bytes of the client's were heard.
    ///
    /// # Panics
    /// When the door breaks a promise.
    pub fn rehearse(&self, script: &[u8]) -> usize {
        let Some((piece, events)) = script.split_first() else { return 0 };
        let mut talk = Talk::new(&self.tls, &self.client);
        for event in events.chunks_exact(2).take(EVENTS_MAX) {
            talk.happen(event[0], usize::from(event[1]));
        }
        talk.end(if *piece == 0 { usize::MAX } else { usize::from(*piece) });
        talk.server_heard
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

struct Talk {
    server: Tunnel,
    client: ClientConnection,
    /// Sealed bytes under way.
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    client_said: usize,
    server_said: usize,
    server_heard: usize,
    client_heard: usize,
    client_has_closed: bool,
    server_has_closed: bool,
    is_damaged: bool,
    /// The server has given the client up, or has said goodbye.
    is_over: bool,
    /// The client does not understand the server, or has heard that it is given up.
    client_is_over: bool,
}

/// The bytes a side says, from the first one on.
fn spoken(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at * 31 + at / 256).to_le_bytes()[0]).collect()
}

impl Talk {
    fn new(tls: &Tls, config: &Arc<ClientConfig>) -> Self {
        let mut talk = Self {
            server: Tunnel::new(tls).expect("a server of TLS"),
            client: client::connection(config),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            client_said: 0,
            server_said: 0,
            server_heard: 0,
            client_heard: 0,
            client_has_closed: false,
            server_has_closed: false,
            is_damaged: false,
            is_over: false,
            client_is_over: false,
        };
        talk.fetch_from_client();
        talk
    }

    fn happen(&mut self, event: u8, amount: usize) {
        match event % 10 {
            0 => self.client_says(amount * STEP_BYTES),
            1 => self.server_says(amount * STEP_BYTES),
            2 => self.client_updates_keys(),
            3 => self.server_updates_keys(),
            4 => self.client_closes(),
            5 => self.server_closes(),
            6 => self.arrive_at_server(amount + 1),
            7 => self.arrive_at_server(usize::MAX),
            8 => self.arrive_at_client(usize::MAX),
            _ => self.damage(amount),
        }
    }

    fn client_says(&mut self, count: usize) {
        if !(self.client_has_closed || self.client_is_over) {
            self.client.writer().write_all(&spoken(self.client_said, count)).expect("room without bounds");
            self.client_said += count;
            self.fetch_from_client();
        }
    }

    fn server_says(&mut self, count: usize) {
        if self.server_may_speak() {
            let sealed = self.server.seal(&spoken(self.server_said, count)).expect("TLS that goes on");
            self.to_client.extend(sealed);
            self.server_said += count;
        }
    }

    fn client_updates_keys(&mut self) {
        if !(self.client.is_handshaking() || self.client_has_closed || self.client_is_over) {
            self.client.refresh_traffic_keys().expect("TLS 1.3");
            self.fetch_from_client();
        }
    }

    fn server_may_speak(&self) -> bool {
        !(self.server.is_handshaking() || self.server_has_closed || self.is_over)
    }

    fn server_updates_keys(&mut self) {
        if self.server_may_speak() {
            self.server.update_keys().expect("TLS 1.3");
        }
    }

    fn client_closes(&mut self) {
        if !self.client.is_handshaking() && !self.client_has_closed {
            self.client.send_close_notify();
            self.client_has_closed = true;
            self.fetch_from_client();
        }
    }

    fn server_closes(&mut self) {
        if self.server_may_speak() {
            self.to_client.extend(self.server.goodbye().expect("TLS that goes on"));
            self.server_has_closed = true;
            // The door says goodbye last, and receives nothing behind it.
            self.is_over = true;
        }
    }

    /// A bit of what is under way to the server falls over; where nothing is, a byte comes out of nowhere.
    fn damage(&mut self, place: usize) {
        self.is_damaged = true;
        match self.to_server.len() {
            0 => self.to_server.push_back(place.to_le_bytes()[0]),
            length => self.to_server[place % length] ^= 1 << (place % 8),
        }
    }

    fn fetch_from_client(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.to_server).expect("memory takes all");
        }
    }

    fn arrive_at_server(&mut self, count: usize) {
        let count = count.min(self.to_server.len());
        let piece: Vec<u8> = self.to_server.drain(..count).collect();
        if self.is_over {
            return;
        }
        let was_handshaking = self.server.is_handshaking();
        let mut plain = Vec::new();
        self.is_over = self.server.open(&piece, &mut plain).is_err();
        assert!(self.is_damaged || !self.is_over, "an honest client is heard");
        assert!(plain.len() <= piece.len() + RECORD_BYTES_MAX, "{} bytes out of {count}", plain.len());
        assert!(plain == spoken(self.server_heard, plain.len()), "what was said, in its order");
        self.server_heard += plain.len();
        if was_handshaking || self.server.wants_to_speak() {
            self.to_client.extend(self.server.said().expect("memory takes all"));
        }
    }

    fn arrive_at_client(&mut self, count: usize) {
        let count = count.min(self.to_client.len());
        let piece: Vec<u8> = self.to_client.drain(..count).collect();
        let mut left = piece.as_slice();
        while !left.is_empty() {
            if self.client.read_tls(&mut left).expect("memory gives all") == 0 {
                break;
            }
            let Ok(state) = self.client.process_new_packets() else {
                assert!(self.is_damaged, "an honest client understands");
                self.client_is_over = true;
                break;
            };
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut plain).expect("it is there");
            assert!(plain == spoken(self.client_heard, plain.len()), "what was said, in its order");
            self.client_heard += plain.len();
        }
        self.fetch_from_client();
    }

    /// Everything that is under way arrives, and what is said to it.
    fn end(&mut self, piece: usize) {
        while !(self.to_server.is_empty() && self.to_client.is_empty()) {
            while !self.to_server.is_empty() {
                self.arrive_at_server(piece);
            }
            while !self.to_client.is_empty() {
                self.arrive_at_client(piece);
            }
        }
        assert!(self.server_heard <= self.client_said && self.client_heard <= self.server_said);
        if !self.is_damaged {
            assert_eq!(self.client_heard, self.server_said, "the client hears every word");
        }
        if !(self.is_over || self.is_damaged) {
            assert_eq!(self.server_heard, self.client_said, "the server hears every word");
            assert_eq!(self.server.has_ended(), self.client_has_closed);
        }
    }
}

#[cfg(test)]
mod tests;
