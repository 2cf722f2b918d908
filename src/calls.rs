//! Requests of this process to one volume, through an engine channel of their own: many at once, and then all answers.

use crate::explain;
use crate::failure::Failure;
use std::time::Duration;
use thinpool::{Action, Attachment, Channel, Payload, Pool, Request};

/// How long to sleep before looking for completions anyway.
const NAP: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Calls<'a> {
    attachment: Attachment,
    channel: Channel,
    what: &'a str,
}

impl<'a> Calls<'a> {
    /// `what` is the first line of failures.
    pub(crate) fn new(pool: &Pool, attachment: Attachment, what: &'a str) -> Result<Self, Failure> {
        let channel = pool.channel().map_err(|error| explain::engine(what, &error))?;
        Ok(Self { attachment, channel, what })
    }

    pub(crate) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Submits all actions and waits for all replies; payloads come in the order of the actions.
    pub(crate) fn call(&mut self, actions: Vec<Action>) -> Result<Vec<Payload>, Failure> {
        let mut payloads: Vec<Option<Payload>> = actions.iter().map(|_| None).collect();
        let mut failed = None;
        let mut waiting = actions.into_iter().zip(0_u64..);
        let mut held = None;
        let mut replies = Vec::new();
        loop {
            while let Some(request) = held.take().or_else(|| {
                waiting.next().map(|(action, tag)| Request {
                    tag,
                    attachment: self.attachment.clone(),
                    action,
                })
            }) {
                if let Err(refused) = self.channel.submit(request) {
                    held = Some(refused);
                    break;
                }
            }
            self.channel.poll(&mut replies);
            for reply in replies.drain(..) {
                let index = usize::try_from(reply.tag).expect("a tag is an index");
                match reply.result {
                    Ok(payload) => payloads[index] = Some(payload),
                    Err(error) => failed = Some(error),
                }
            }
            if held.is_none() && self.channel.in_flight() == 0 {
                break;
            }
            self.channel.wait(NAP);
        }
        match failed {
            Some(error) => Err(explain::request(self.what, error)),
            None => {
                Ok(payloads.into_iter().map(|payload| payload.expect("every request is answered")).collect())
            }
        }
    }
}
