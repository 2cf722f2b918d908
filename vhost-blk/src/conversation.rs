//! What one monitor says, message after message. Most is for the library and, through it, for the session; what the library
//! does not know or cannot use is taken from the stream before it.

use crate::back_channel::BackChannel;
use crate::message::{Header, OutOfStep};
use crate::session::{Session, goes_on};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use vhost::vhost_user::BackendReqHandler;
use vhost::vhost_user::message::FrontendReq;

pub(crate) struct Conversation {
    /// The same stream as the handler's.
    stream: UnixStream,
    session: Arc<Mutex<Session>>,
    handler: BackendReqHandler<Mutex<Session>>,
}

impl Conversation {
    /// The session's rings are taken back when the conversation is dropped.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub(crate) fn new(stream: UnixStream, session: Session) -> io::Result<Self> {
        let session = Arc::new(Mutex::new(session));
        let handler = BackendReqHandler::from_stream(stream.try_clone()?, session.clone());
        Ok(Self { stream, session, handler })
    }

    /// Waits for one message and does what it says. False when the conversation is over.
    pub(crate) fn hear(&mut self, found: &parking_lot::Mutex<Option<BackChannel>>) -> bool {
        let header = Header::peek(&self.stream);
        match header.map(|header| (header, FrontendReq::try_from(header.request))) {
            Some((header, Ok(FrontendReq::SET_STATUS))) if self.speaks_of_status() => {
                return self.set_status(header).is_ok();
            }
            Some((header, Ok(FrontendReq::GET_STATUS))) if self.speaks_of_status() => {
                return self.tell_status(header).is_ok();
            }
            Some((_, Ok(FrontendReq::SET_BACKEND_REQ_FD))) => {
                if let Some(back_channel) = BackChannel::overhear(&self.stream) {
                    *found.lock() = Some(back_channel);
                }
            }
            _ => {}
        }
        goes_on(&self.handler.handle_request())
    }

    fn set_status(&self, header: Header) -> Result<(), OutOfStep> {
        let status = header.take(&self.stream)?.ok_or(OutOfStep)?;
        let status = u8::try_from(status).map_err(|_| OutOfStep)?;
        let acknowledges = self.with_session(|session| {
            session.set_status(status);
            session.acknowledges()
        });
        if acknowledges && header.needs_reply() { header.reply(&self.stream, 0) } else { Ok(()) }
    }

    fn tell_status(&self, header: Header) -> Result<(), OutOfStep> {
        match header.take(&self.stream)? {
            None => header.reply(&self.stream, u64::from(self.with_session(|session| session.status()))),
            Some(_) => Err(OutOfStep),
        }
    }

    fn speaks_of_status(&self) -> bool {
        self.with_session(|session| session.speaks_of_status())
    }

    fn with_session<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        act(&mut self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
