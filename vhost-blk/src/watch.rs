//! What a worker sleeps on: an epoll(7) set, so that falling asleep costs the same with one ring and with hundreds.

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Events taken from the kernel at a time; those that are left wake the next sleep at once.
const EVENTS_MAX: usize = 64;
const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Wakes as long as the descriptor is readable.
    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.control(descriptor, epoll::EventFlags::IN)
    }

    /// Wakes with each event that is given, and once if there was one before. Nobody has to read the events.
    pub(crate) fn add_events(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.control(descriptor, epoll::EventFlags::IN | epoll::EventFlags::ET)
    }

    fn control(&self, descriptor: BorrowedFd<'_>, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, descriptor, epoll::EventData::new_u64(0), flags)?)
    }

    /// A descriptor that others have too has to be removed: closing it here is not enough.
    pub(crate) fn remove(&self, descriptor: BorrowedFd<'_>) {
        let _it_was_not_there = epoll::delete(&self.0, descriptor);
    }

    /// Sleeps until there is something, or the time is over; an interrupted sleep is a short one.
    pub(crate) fn sleep(&self, timeout: Duration) {
        if timeout < MILLISECOND {
            // epoll_wait(2) would round it up.
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            if poll(&mut polled, Some(&timespec(timeout))) == Ok(1) {
                self.take(Duration::ZERO);
            }
        } else {
            self.take(timeout);
        }
    }

    /// Which of them it was does not matter: whoever wakes looks at everything.
    fn take(&self, timeout: Duration) {
        let mut woken_by = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let _interrupted_is_fine = epoll::wait(&self.0, &mut woken_by, Some(&timespec(timeout)));
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::Watch;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::write;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);
    const SHORTEST: Duration = Duration::from_micros(700);

    #[expect(clippy::disallowed_methods, reason = "how long a sleep was is a matter of real time")]
    fn slept(watch: &Watch, timeout: Duration) -> Duration {
        let start = Instant::now();
        watch.sleep(timeout);
        start.elapsed()
    }

    #[test]
    fn each_event_wakes_once_and_a_state_as_long_as_it_lasts() {
        let watch = Watch::new().expect("a set");
        let event = eventfd(0, EventfdFlags::empty()).expect("an event");
        write(&event, &[1; 8]).expect("given before anybody looks");
        watch.add_events(event.as_fd()).expect("a place");
        assert!(slept(&watch, LONG) < LONG);
        assert!(slept(&watch, SHORT) >= SHORT, "it is still readable, but no news");
        write(&event, &[1; 8]).expect("given");
        assert!(slept(&watch, LONG) < LONG);
        watch.remove(event.as_fd());
        write(&event, &[1; 8]).expect("given");
        assert!(slept(&watch, SHORT) >= SHORT);
        assert!(slept(&watch, SHORTEST) >= SHORTEST);
        watch.add_events(event.as_fd()).expect("a place");
        assert!(slept(&watch, SHORTEST) < SHORT, "it is there");
        assert!(slept(&watch, SHORT) >= SHORT, "and was taken");
        watch.remove(event.as_fd());
        watch.add(event.as_fd()).expect("a place");
        for _ in 0..3 {
            assert!(slept(&watch, LONG) < LONG);
        }
    }
}
