//! Transfers that are longer than what the engine gets at a time, part after part.
//!
//! SIZE_MAX and SEG_MAX are an offer: a driver that does not take it may ask for all that a chain may have, 2^32 bytes
//! (virtio 1.2, section 2.7.5.2). The drivers of UEFI firmware do, with up to 1 GiB in one segment when they load a
//! kernel.

use crate::chain::{Chain, Span, split};
use crate::limits::PART_BYTES_MAX;
use crate::request::Command;

/// What of a transfer is still to do, and its memory. Nearly always nothing.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    command: Option<Command>,
    spans: Vec<Span>,
}

impl Rest {
    /// Keeps all of a legal request; [`Rest::next`] begins it with its first part.
    pub(crate) fn keep(&mut self, command: Command, chain: &mut Chain) {
        self.command = Some(command);
        self.spans.clear();
        std::mem::swap(spans_of(command, chain), &mut self.spans);
    }

    /// The first part of a legal request whose data the chain names; both have only this part afterwards.
    pub(crate) fn cut(&mut self, command: Command, chain: &mut Chain) -> Command {
        let (first, rest) = command.split(u64::from(PART_BYTES_MAX));
        self.command = rest;
        self.spans.clear();
        if rest.is_some() {
            split(spans_of(command, chain), PART_BYTES_MAX, &mut self.spans);
        }
        first
    }

    /// What is still to do.
    pub(crate) fn command(&self) -> Option<Command> {
        self.command
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.command.is_none()
    }

    /// The next part; the chain names its memory and nothing else.
    pub(crate) fn next(&mut self, chain: &mut Chain) -> Option<Command> {
        let command = self.command.take()?;
        chain.readable.clear();
        chain.writable.clear();
        std::mem::swap(spans_of(command, chain), &mut self.spans);
        Some(self.cut(command, chain))
    }
}

/// Where the data of a transfer is.
fn spans_of(command: Command, chain: &mut Chain) -> &mut Vec<Span> {
    match command {
        Command::Read(_) => &mut chain.writable,
        _ => &mut chain.readable,
    }
}

#[cfg(test)]
mod tests {
    use super::{PART_BYTES_MAX, Rest};
    use crate::chain::{Chain, Span, total};
    use crate::request::{Command, Range};
    use vm_memory::GuestAddress;

    fn span(address: u64, length: u32) -> Span {
        Span { address: GuestAddress(address), length }
    }

    #[test]
    fn what_is_no_longer_than_a_part_stays_whole() {
        let part = u64::from(PART_BYTES_MAX);
        for command in [
            Command::Write(Range { offset: 512, length: part }),
            Command::Flush,
            Command::Discard(Range { offset: 0, length: part * 4 }),
        ] {
            let mut rest = Rest::default();
            let mut chain = Chain { readable: vec![span(0, PART_BYTES_MAX)], writable: vec![span(7, 0)] };
            assert_eq!(rest.cut(command, &mut chain), command);
            assert!(rest.is_empty() && rest.next(&mut chain).is_none());
            assert_eq!(chain.readable, [span(0, PART_BYTES_MAX)]);
        }
    }

    #[test]
    fn parts_follow_each_other_on_the_disk_and_in_memory() {
        let part = u64::from(PART_BYTES_MAX);
        let range = Range { offset: 4096, length: 2 * part + 1024 };
        // The first part ends within the second span, the second at the end of one.
        let lengths = [1000, PART_BYTES_MAX, PART_BYTES_MAX - 1000, 0, 24, 1000];
        let spans: Vec<Span> =
            (0..).zip(lengths).map(|(number, length)| span(number << 32, length)).collect();
        for (kind, is_read) in
            [(Command::Read as fn(Range) -> Command, true), (Command::Write as fn(Range) -> Command, false)]
        {
            let (mut rest, mut chain) = (Rest::default(), Chain::default());
            let place = if is_read { &mut chain.writable } else { &mut chain.readable };
            place.clone_from(&spans);
            let mut found = vec![rest.cut(kind(range), &mut chain)];
            let mut memory = Vec::new();
            loop {
                let (used, unused) = if is_read {
                    (&chain.writable, &chain.readable)
                } else {
                    (&chain.readable, &chain.writable)
                };
                assert!(unused.is_empty());
                memory.push(used.iter().filter(|span| span.length > 0).copied().collect::<Vec<Span>>());
                match rest.next(&mut chain) {
                    Some(next) => found.push(next),
                    None => break,
                }
            }
            let expected = [(4096, part), (4096 + part, part), (4096 + 2 * part, 1024)];
            assert_eq!(found, expected.map(|(offset, length)| kind(Range { offset, length })));
            assert_eq!(memory[0], [span(0, 1000), span(1 << 32, PART_BYTES_MAX - 1000)]);
            let second = [span((1 << 32) + part - 1000, 1000), span(2 << 32, PART_BYTES_MAX - 1000)];
            assert_eq!(memory[1], second);
            assert_eq!(memory[2], [span(4 << 32, 24), span(5 << 32, 1000)]);
            assert_eq!(memory.iter().map(|part| total(part)).sum::<u64>(), range.length);
        }
    }
}
