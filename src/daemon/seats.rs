//! Connections to the API, each in a seat: a user may have so many and no more, so that nobody keeps others out by connecting.

use super::access::Peer;
use axum::serve::Listener;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// Connections of one user at one time.
const SEATS_MAX: usize = 64;

/// Hangs up on whoever has no seat left.
#[derive(Debug)]
pub(super) struct Seating {
    listener: UnixListener,
    taken: Taken,
}

/// Seats by user.
#[derive(Debug, Clone, Default)]
struct Taken(Arc<Mutex<BTreeMap<u32, usize>>>);

/// One seat; given back when it is dropped.
#[derive(Debug)]
struct Seat {
    taken: Taken,
    user: u32,
}

/// A connection in its seat.
#[derive(Debug)]
pub(super) struct Seated {
    stream: UnixStream,
    peer: Peer,
    _seat: Seat,
}

impl Seating {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, taken: Taken::default() }
    }
}

impl Taken {
    fn take(&self, user: u32) -> Option<Seat> {
        let mut seats = self.lock();
        let count = seats.entry(user).or_default();
        if *count >= SEATS_MAX {
            return None;
        }
        *count += 1;
        Some(Seat { taken: self.clone(), user })
    }

    /// A thread that panicked has left the count as it was or as it should be.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.taken.lock();
        let left = seats.get(&self.user).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            seats.remove(&self.user);
        } else {
            seats.insert(self.user, left);
        }
    }
}

impl Seated {
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }
}

impl Listener for Seating {
    type Io = Seated;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Seated, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Of whom the kernel says nothing is nobody's guest.
            let Ok(credentials) = stream.peer_cred() else { continue };
            let peer = Peer { user: credentials.uid(), group: credentials.gid(), pid: credentials.pid() };
            if let Some(seat) = self.taken.take(peer.user) {
                return (Seated { stream, peer, _seat: seat }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{SEATS_MAX, Taken};

    #[test]
    fn a_user_takes_so_many_seats_and_no_others() {
        let taken = Taken::default();
        let seats: Vec<_> = (0..SEATS_MAX).map(|_| taken.take(7).expect("a seat")).collect();
        assert!(taken.take(7).is_none());
        let other = taken.take(8).expect("another user's");
        drop(seats);
        drop(other);
        assert!(taken.lock().is_empty());
        assert!(taken.take(7).is_some());
    }
}
