//! Passing on what a gateway says to a browser, frame by frame as it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernelwire_core::wire::rfc6455::read::{Batch, Control, FrameError, Reader, Sender};
use parking_lot::Mutex;

use crate::desk::Told;
use crate::outbox::Outbox;
use crate::sys::tcp::Came;

/// Bytes that are received at once.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Bytes that one turn receives, at most, before others have theirs.
const TURN_BYTES: usize = 1 << 20;

/// Bytes of a message from which on it is passed on as it comes. If the gateway goes in the middle of
/// one, the browser's connection is lost with it; of one that is shorter, nothing is passed on then.
const AT_ONCE_BYTES: u64 = 1 << 20;

/// What a reception counts for besides its bytes: a peer may send them one by one.
const RECEPTION_COST: usize = 4 << 10;

/// How often what has come is acknowledged: so many times at once, and then so many a second.
const ACKNOWLEDGED_AT_ONCE: f64 = 20.0;
const ACKNOWLEDGED_PER_SECOND: f64 = 200.0;

/// How a relay has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The gateway has ended the stream, or somebody here has closed it.
    Stream,
    /// The connection is broken, with this error.
    Broken(i32),
    /// The gateway has sent what is no frame.
    Fault(FrameError),
}

/// What the event loop has to answer, or to know. Of several pings or pongs, the last one counts.
///
/// Source: RFC 6455, section 5.5.3.
#[derive(Debug, Default)]
pub struct News {
    /// The payload of a ping.
    pub ping: Option<Vec<u8>>,
    /// The payload of a pong.
    pub pong: Option<Vec<u8>>,
    /// The frame with which the gateway closes.
    pub close: Option<Control>,
    /// That nothing more comes.
    pub ended: Option<Ended>,
}

/// A gateway's websocket that is read by the engine's thread, and whose messages go to a browser.
///
/// Nothing of it is read while more than `limit` bytes wait for the browser, until half of that does.
pub struct Relay {
    token: u64,
    key: usize,
    /// The key of the browser's outbox.
    feeds: usize,
    limit: AtomicU64,
    is_paused: AtomicBool,
    /// Whether something was sent to the gateway since something was last acknowledged.
    is_asked: AtomicBool,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// The bits of the time at which the gateway was last heard.
    heard: AtomicU64,
    news: Mutex<News>,
}

impl Relay {
    /// `limit` is in bytes; 0 is none.
    pub(crate) fn new(token: u64, key: usize, feeds: usize, limit: u64) -> Self {
        Self {
            token,
            key,
            feeds,
            limit: AtomicU64::new(limit),
            is_paused: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            news: Mutex::default(),
        }
    }

    /// The engine's name for it.
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// How many messages were passed on, and the bytes of their frames.
    #[must_use]
    pub fn passed(&self) -> (u64, u64) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// When the gateway was last heard, or was last not listened to, on the monotonic clock; 0 before
    /// that.
    #[must_use]
    pub fn heard_at(&self) -> f64 {
        f64::from_bits(self.heard.load(Ordering::Relaxed))
    }

    /// Whether nothing is read because the browser does not read.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// The key of the outbox that it feeds.
    pub(crate) fn feeds(&self) -> usize {
        self.feeds
    }

    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Notes that something was sent to the gateway: what answers it is acknowledged at once.
    pub fn note_request(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
    }

    /// Takes what was told by [`Told::RELAY`].
    pub fn take_news(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    fn note_heard(&self, now: f64) {
        self.heard.store(now.to_bits(), Ordering::Relaxed);
    }
}

/// What a link needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Something that comes, or nothing at all.
    Nothing,
    /// Another turn.
    Turn,
    /// Room for the browser.
    Room,
}

/// What the engine's thread has of a relay.
pub(crate) struct Link {
    relay: Arc<Relay>,
    pub(crate) from: Arc<Outbox>,
    pub(crate) to: Arc<Outbox>,
    /// What was read by somebody else.
    begun: Vec<u8>,
    reader: Reader,
    /// When as much would have been acknowledged as was, at its rate.
    acknowledged: f64,
    /// When what has come is to be acknowledged.
    acknowledges_at: Option<f64>,
    is_over: bool,
    pub(crate) is_ready: bool,
}

impl Link {
    pub(crate) fn new(relay: Arc<Relay>, from: Arc<Outbox>, to: Arc<Outbox>, begun: &[u8]) -> Self {
        Self {
            relay,
            from,
            to,
            begun: begun.to_vec(),
            reader: Reader::new(Sender::Server, None).at_once_from(AT_ONCE_BYTES),
            acknowledged: 0.0,
            acknowledges_at: None,
            is_over: false,
            is_ready: false,
        }
    }

    pub(crate) fn key(&self) -> usize {
        self.relay.key
    }

    /// When [`Link::acknowledge`] is to be called.
    pub(crate) fn acknowledges_at(&self) -> Option<f64> {
        self.acknowledges_at
    }

    /// Receives and passes on what has come, at the time `now`.
    pub(crate) fn relay(&mut self, buffer: &mut [u8], now: f64) -> Next {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            self.take(&begun, now);
        }
        let mut work = 0;
        while !self.is_over {
            if self.is_full(1) {
                self.relay.is_paused.store(true, Ordering::SeqCst);
                return Next::Room;
            }
            if work >= TURN_BYTES {
                return Next::Turn;
            }
            match self.from.receive(buffer) {
                Came::Bytes(size) => {
                    self.take(buffer.get(..size).unwrap_or_default(), now);
                    work += size + RECEPTION_COST;
                }
                Came::Nothing => {
                    if work > 0 {
                        self.acknowledge(now);
                    }
                    return Next::Nothing;
                }
                Came::End => self.end(Ended::Stream),
                Came::Broken(error) => self.end(Ended::Broken(error)),
            }
        }
        Next::Nothing
    }

    /// Whether it has waited for room, and there is enough: half of what may wait.
    pub(crate) fn goes_on(&self, now: f64) -> bool {
        if !self.relay.is_paused() || self.is_full(2) {
            return false;
        }
        self.relay.note_heard(now);
        self.relay.is_paused.store(false, Ordering::SeqCst);
        true
    }

    /// Tells the gateway's system that everything has come, or notes when to do so.
    ///
    /// Jupyter Server in a gateway leaves `TCP_NODELAY` unset, so that each small message waits there
    /// until the one before it is acknowledged, which takes 40 ms otherwise. In a dialogue that is done
    /// at once, in a flood at a rate: what comes meanwhile comes together.
    pub(crate) fn acknowledge(&mut self, now: f64) {
        if self.relay.is_asked.swap(false, Ordering::Relaxed) {
            self.acknowledged = 0.0;
        }
        let due = self.acknowledged - ACKNOWLEDGED_AT_ONCE / ACKNOWLEDGED_PER_SECOND;
        self.acknowledges_at = (due > now).then_some(due);
        if self.acknowledges_at.is_none() {
            self.acknowledged = self.acknowledged.max(now) + ACKNOWLEDGED_PER_SECOND.recip();
            self.from.acknowledge();
        }
    }

    /// Whether more than a part of what may wait for the browser does.
    fn is_full(&self, divisor: u64) -> bool {
        let limit = self.relay.limit.load(Ordering::SeqCst);
        limit > 0 && self.to.unsent() > limit / divisor
    }

    /// Passes on what these bytes make whole, and long messages as they come.
    fn take(&mut self, bytes: &[u8], now: f64) {
        self.relay.note_heard(now);
        let mut batch = Batch::default();
        let fault = self.reader.read(bytes, &mut batch).err();
        if !batch.frames.is_empty() {
            self.relay.messages.fetch_add(batch.messages as u64, Ordering::Relaxed);
            self.relay.bytes.fetch_add(batch.frames.len() as u64, Ordering::Relaxed);
            self.to.pass_on(batch.frames, self.reader.is_inside());
        }
        if batch.controls.is_empty() && fault.is_none() {
            return;
        }
        let mut news = self.relay.news.lock();
        for control in batch.controls {
            match control {
                Control::Ping(payload) => news.ping = Some(payload),
                Control::Pong(payload) => news.pong = Some(payload),
                Control::Close { .. } => {
                    self.is_over = true;
                    news.close = Some(control);
                }
            }
        }
        if let Some(error) = fault {
            self.is_over = true;
            news.ended = Some(Ended::Fault(error));
        }
        drop(news);
        self.tell();
    }

    /// Notes that nothing more is read: a message that was begun will not go on.
    pub(crate) fn cut(&self) {
        if self.reader.is_inside() {
            self.to.cut();
        }
    }

    fn end(&mut self, ended: Ended) {
        self.is_over = true;
        self.cut();
        self.relay.news.lock().ended.get_or_insert(ended);
        self.tell();
    }

    fn tell(&self) {
        self.from.desk().tell(self.relay.token, Told::RELAY);
    }
}
