//! What can be done with an open socket, whoever has opened it.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use crate::error::{EAGAIN, EINTR, ZmqError};
use crate::ffi::{DONTWAIT, SNDMORE, Symbols};
use crate::message::Message;
use crate::option::EVENTS;

/// An open socket, used by one thread at a time; whoever makes one vouches for it.
///
/// Nothing outside this crate gets hold of one, not even by a reference: two that were exchanged
/// would outlive what keeps them open.
pub(crate) struct Handle {
    address: NonNull<c_void>,
    symbols: &'static Symbols,
}

impl Handle {
    /// The socket at `address`.
    ///
    /// # Safety
    ///
    /// `address` must be that of an open socket of the libzmq of `symbols`. Until the handle is
    /// dropped, the socket must stay open, and be used through the handle only, by no more than one
    /// thread at a time.
    #[inline]
    pub(crate) unsafe fn new(address: NonNull<c_void>, symbols: &'static Symbols) -> Self {
        Self { address, symbols }
    }

    /// For libzmq's functions: that of an open socket.
    #[inline]
    pub(crate) fn address(&self) -> *mut c_void {
        self.address.as_ptr()
    }

    pub(crate) fn symbols(&self) -> &'static Symbols {
        self.symbols
    }

    /// Appends the parts of the next message; `false` where none is ready.
    ///
    /// libzmq delivers "all message parts or none": once the first is there, so are the others.
    /// Parts received before an error stay appended.
    #[inline]
    pub(crate) fn receive(&mut self, parts: &mut Vec<Message>) -> Result<bool, ZmqError> {
        let Some(mut part) = self.part()? else {
            return Ok(false);
        };
        while part.more() {
            parts.push(part);
            part = match self.part()? {
                Some(next) => next,
                None => return Err(self.symbols.error("zmq_msg_recv", EAGAIN)),
            };
        }
        parts.push(part);
        Ok(true)
    }

    #[inline]
    fn part(&mut self) -> Result<Option<Message>, ZmqError> {
        let mut message = Message::new(self.symbols);
        loop {
            // SAFETY: the message is initialised; for the socket see `new`.
            let size =
                unsafe { (self.symbols.msg_recv)(message.as_raw(), self.address(), DONTWAIT) };
            if size >= 0 {
                return Ok(Some(message));
            }
            match self.symbols.errno() {
                EAGAIN => return Ok(None),
                EINTR => {}
                number => return Err(self.symbols.error("zmq_msg_recv", number)),
            }
        }
    }

    /// Sends a message of these parts, copied; waits where it must.
    pub(crate) fn send<'p>(
        &mut self,
        parts: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<(), ZmqError> {
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() { SNDMORE } else { 0 };
            if !self.send_part(part, flags)? {
                // The time that `ZMQ_SNDTIMEO` allows is over.
                return Err(self.symbols.error("zmq_send", EAGAIN));
            }
        }
        Ok(())
    }

    /// Sends a message of these parts, copied; `false` where libzmq would have to wait.
    ///
    /// libzmq takes "all message parts or none": where it has taken the first, it takes the others,
    /// or takes none because the peer has gone meanwhile.
    #[inline]
    pub(crate) fn try_send(&mut self, parts: &[&[u8]]) -> Result<bool, ZmqError> {
        let Some((last, others)) = parts.split_last() else {
            return Ok(true);
        };
        for part in others {
            if !self.send_part(part, DONTWAIT | SNDMORE)? {
                return Ok(false);
            }
        }
        self.send_part(last, DONTWAIT)
    }

    #[inline]
    fn send_part(&mut self, part: &[u8], flags: c_int) -> Result<bool, ZmqError> {
        loop {
            // SAFETY: the bytes are readable as long as `part` is borrowed, and copied; for the
            // socket see `new`.
            let taken = unsafe {
                (self.symbols.send)(self.address(), part.as_ptr().cast(), part.len(), flags)
            };
            if taken >= 0 {
                return Ok(true);
            }
            match self.symbols.errno() {
                EAGAIN => return Ok(false),
                EINTR => {}
                number => return Err(self.symbols.error("zmq_send", number)),
            }
        }
    }

    /// Sends a message of these parts, which are not copied; see `Socket::try_send_owned`.
    pub(crate) fn try_send_owned(&mut self, parts: &mut Vec<Message>) -> Result<bool, ZmqError> {
        let Some((last, others)) = parts.split_last_mut() else {
            return Ok(true);
        };
        let mut is_begun = false;
        for part in others {
            if !self.send_message(part, DONTWAIT | SNDMORE)? {
                return self.refused(is_begun);
            }
            is_begun = true;
        }
        if !self.send_message(last, DONTWAIT)? {
            return self.refused(is_begun);
        }
        parts.clear();
        Ok(true)
    }

    fn refused(&self, is_begun: bool) -> Result<bool, ZmqError> {
        if is_begun { Err(self.symbols.error("zmq_msg_send", EAGAIN)) } else { Ok(false) }
    }

    fn send_message(&mut self, part: &mut Message, flags: c_int) -> Result<bool, ZmqError> {
        loop {
            // SAFETY: the message is initialised, and stays so: "zmq_msg_t structure passed to
            // zmq_msg_send() is nullified on a successful call". For the socket see `new`.
            let taken = unsafe { (self.symbols.msg_send)(part.as_raw(), self.address(), flags) };
            if taken >= 0 {
                return Ok(true);
            }
            match self.symbols.errno() {
                EAGAIN => return Ok(false),
                EINTR => {}
                number => return Err(self.symbols.error("zmq_msg_send", number)),
            }
        }
    }

    /// What the socket is ready for, as `zmq_poll` flags; its signal is taken with it.
    #[inline]
    pub(crate) fn events(&mut self) -> Result<i32, ZmqError> {
        self.get(EVENTS)
    }

    /// An integer option.
    pub(crate) fn get(&self, option: c_int) -> Result<i32, ZmqError> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>();
        let get = self.symbols.getsockopt;
        // SAFETY: there is room for `length` bytes, and no more are written; for the socket see
        // `new`.
        let done = unsafe { get(self.address(), option, (&raw mut value).cast(), &raw mut length) };
        if done == 0 { Ok(value) } else { Err(self.symbols.failure("zmq_getsockopt")) }
    }
}
