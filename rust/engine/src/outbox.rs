//! The only writer of a websocket's descriptor.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use kernelwire_core::log::{Budget, CursorId, Piece, Wait};
use parking_lot::{Mutex, MutexGuard};

use crate::desk::{Desk, Told};
use crate::part::Received;
use crate::pieces::{Rest, rest_of, send_pieces};
use crate::shared::SharedLog;
use crate::sys::tcp::{Came, Sent, acknowledge, receive, send};

/// What one turn of writing reads from a cursor, at most.
const BUDGET: Budget = Budget { messages: 1024, bytes: 256 << 10 };

/// Bytes that one turn sends, at most, before others have theirs.
const TURN_BYTES: u64 = 1 << 20;

/// Time that one turn takes, at most.
const TURN_TIME: Duration = Duration::from_micros(500);

/// The opcode of a frame that closes. Source: RFC 6455, section 5.2.
const CLOSE: u8 = 0x8;

/// Where nothing can be sent.
const NOWHERE: RawFd = -1;

/// What an outbox needs, from whoever has just written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Need {
    /// Nothing: it goes on by itself, when something comes or the socket has room.
    Nothing,
    /// Another turn.
    Turn,
    /// Another turn at this time of the monotonic clock, if not sooner.
    Time(f64),
    /// An answer to the hold of this number.
    Answer(u64),
    /// To be closed: too much waits that the client needs.
    Close,
    /// To be closed: the connection is broken, with this error.
    Broken(i32),
}

/// A part of a frame, or several frames, that the socket has not taken.
enum Chunk {
    /// Of the cursor's, copied.
    Bytes(Box<[u8]>),
    /// A large part of the cursor's, shared with the log.
    Large(Arc<Received>),
    /// A frame of the event loop's.
    Frame(Received),
    /// Messages of another peer's, as it has framed them, and whether the last of them is to go on.
    Relayed(Vec<u8>, bool),
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Large(part) => part.as_ref().as_ref(),
            Self::Frame(frame) => frame.as_ref(),
            Self::Relayed(frames, _) => frames,
        }
    }
}

/// What the socket has not taken, in its order.
#[derive(Default)]
struct Unsent {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first that are sent.
    sent: usize,
    bytes: u64,
}

/// What was sent: bytes of the cursor's, and of the event loop's frames.
#[derive(Default)]
struct Progress {
    cursor: u64,
    frames: u64,
}

/// How an attempt to send has ended.
enum Ended {
    All,
    Blocked,
    Broken(i32),
}

impl Unsent {
    fn push(&mut self, chunk: Chunk) {
        self.bytes = self.bytes.saturating_add(chunk.as_ref().len() as u64);
        self.chunks.push_back(chunk);
    }

    /// Adds what is left of a piece of the cursor's; bytes are copied.
    fn push_rest(&mut self, rest: Rest<'_>) {
        let (part, skip) = match rest {
            Rest::Bytes(bytes) => return self.push(Chunk::Bytes(bytes.into())),
            Rest::Large(part, skip) => (part, skip),
        };
        let is_first = self.chunks.is_empty();
        self.push(Chunk::Large(part));
        if is_first {
            self.sent = skip;
            self.bytes = self.bytes.saturating_sub(skip as u64);
        }
    }

    /// Sends what the socket takes.
    fn send(&mut self, descriptor: RawFd) -> (Progress, Ended) {
        let mut progress = Progress::default();
        while let Some(chunk) = self.chunks.front() {
            let rest = chunk.as_ref().get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                self.chunks.pop_front();
                self.sent = 0;
                continue;
            }
            let taken = match send(descriptor, rest) {
                // Until it takes nothing: only then will it tell that there is room again.
                Sent::Taken(0) => return (progress, Ended::Blocked),
                Sent::Taken(taken) => taken,
                Sent::Broken(error) => return (progress, Ended::Broken(error)),
            };
            match chunk {
                Chunk::Bytes(_) | Chunk::Large(_) => progress.cursor += taken as u64,
                Chunk::Frame(_) => progress.frames += taken as u64,
                Chunk::Relayed(..) => {}
            }
            self.sent = self.sent.saturating_add(taken);
            self.bytes = self.bytes.saturating_sub(taken as u64);
        }
        (progress, Ended::All)
    }

    /// Whether any of it is the cursor's.
    fn has_cursors(&self) -> bool {
        self.chunks.iter().any(|chunk| matches!(chunk, Chunk::Bytes(_) | Chunk::Large(_)))
    }
}

/// What whoever has the writer's role works with.
#[allow(clippy::struct_excessive_bools)] // Each of these may be so without the others.
struct Writer {
    /// The socket; none once it was closed.
    descriptor: Option<RawFd>,
    /// Whether a frame was begun that will not be finished: nothing more may be sent.
    is_torn: bool,
    /// Whether a frame was left that closes: nothing follows it.
    is_closing: bool,
    /// Whether the socket has taken nothing: it tells when it has room again.
    is_blocked: bool,
    /// Whether a message of another peer's was begun, and is to go on.
    is_inside: bool,
    /// Frames that wait for its end.
    behind: Vec<Chunk>,
    /// Where what is written comes from.
    source: Option<(Arc<SharedLog>, CursorId)>,
    unsent: Unsent,
    pieces: Vec<Piece>,
    /// The hold that the event loop knows of.
    known_hold: Option<u64>,
    /// Whether it knows that the connection must be closed.
    is_ending: bool,
}

/// The only writer of a websocket's descriptor: whoever has its role, a thread at a time. Where a
/// [`Relay`](crate::Relay) reads from it, that goes through here as well, so that closing ends both.
///
/// Blocks of the cursor's and frames of the event loop are never torn apart: each begins where the one
/// before has ended. Who has a frame and finds the role taken leaves it, and it is written by the one
/// who has the role, before that gives it up for good.
pub struct Outbox {
    token: u64,
    key: usize,
    desk: Arc<Desk>,
    role: Mutex<Writer>,
    /// The same descriptor, for whoever reads; none once it was closed.
    reading: Mutex<Option<RawFd>>,
    /// Frames that were left for whoever has the role.
    left: Mutex<VecDeque<Chunk>>,
    has_left: AtomicBool,
    /// Bytes of the event loop's frames, and how many of them are sent.
    given: AtomicU64,
    sent: AtomicU64,
    /// Whether it is to be told when more of them are.
    is_awaited: AtomicBool,
    /// Bytes that wait here for the socket.
    unsent: AtomicU64,
    /// Whether another peer's message was begun that will not go on.
    is_cut: AtomicBool,
}

impl Outbox {
    /// The writer of the socket `descriptor`, which is to stay open until [`Outbox::close`]. What its
    /// event loop must know is told to `desk` under `token`; `key` is the engine's name for it.
    pub(crate) fn new(descriptor: RawFd, desk: Arc<Desk>, token: u64, key: usize) -> Self {
        Self {
            token,
            key,
            desk,
            role: Mutex::new(Writer {
                descriptor: Some(descriptor),
                is_torn: false,
                is_closing: false,
                is_blocked: false,
                is_inside: false,
                behind: Vec::new(),
                source: None,
                unsent: Unsent::default(),
                pieces: Vec::new(),
                known_hold: None,
                is_ending: false,
            }),
            reading: Mutex::new(Some(descriptor)),
            left: Mutex::default(),
            has_left: AtomicBool::new(false),
            given: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
        }
    }

    /// The engine's name for it.
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// Bytes that wait here for the socket.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        let left: usize = self.left.lock().iter().map(|frame| frame.as_ref().len()).sum();
        self.unsent.load(Ordering::SeqCst).saturating_add(left as u64)
    }

    /// Bytes of the event loop's frames that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Writes a whole frame of the event loop's, now where nothing waits before it; `false` where it has
    /// to wait: [`Told::OUTBOX`] tells when more was sent.
    pub fn put(&self, frame: Received) -> bool {
        let size = frame.as_ref().len() as u64;
        let mut left = self.left.lock();
        // In the order of the frames, or the one behind would be taken for sent with this one.
        let all = self.given.fetch_add(size, Ordering::SeqCst).saturating_add(size);
        left.push_back(Chunk::Frame(frame));
        drop(left);
        self.write_left();
        if self.sent() >= all {
            return true;
        }
        self.is_awaited.store(true, Ordering::SeqCst);
        // It may have been sent before that.
        self.sent() >= all
    }

    /// Writes messages of another peer's, in their turn; `is_inside` where the last one is to go on. No
    /// frame of the event loop's comes before it has.
    pub(crate) fn pass_on(&self, frames: Vec<u8>, is_inside: bool) {
        self.left.lock().push_back(Chunk::Relayed(frames, is_inside));
        self.write_left();
    }

    /// Writes no more if a message was begun that will not go on: the connection must be closed, which
    /// [`Told::OUTBOX`] tells.
    pub(crate) fn cut(&self) {
        let mut writer = self.role.lock();
        let _ended = self.send_unsent(&mut writer);
        if writer.is_inside {
            self.tear(&mut writer);
            self.is_cut.store(true, Ordering::SeqCst);
            self.desk.tell(self.token, Told::OUTBOX);
        }
    }

    /// Sends nothing more: a frame was begun that will not be finished.
    fn tear(&self, writer: &mut Writer) {
        writer.is_torn = true;
        writer.unsent = Unsent::default();
        self.unsent.store(0, Ordering::SeqCst);
    }

    /// Whether another peer's message was begun that will not go on: the connection must be closed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Writes what was left, or has whoever has the role do so.
    fn write_left(&self) {
        self.has_left.store(true, Ordering::SeqCst);
        // A lock that cannot be had is looked at without any order of its own.
        fence(Ordering::SeqCst);
        if let Some(writer) = self.role.try_lock() {
            // Whoever leaves something is not told what else has become of the connection.
            self.finish(writer, true, |_, _| Need::Nothing);
        }
    }

    /// Receives what has come, up to the size of `buffer`.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Came {
        match *self.reading.lock() {
            Some(descriptor) => receive(descriptor, buffer),
            None => Came::End,
        }
    }

    /// Tells the peer's system that everything has come, where ours can be told to.
    pub(crate) fn acknowledge(&self) {
        if let Some(descriptor) = *self.reading.lock() {
            acknowledge(descriptor);
        }
    }

    /// Where the socket is, until the outbox is closed.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        *self.reading.lock()
    }

    /// What its event loop is told, and under which token.
    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Writes from a cursor from now on.
    pub(crate) fn attach(&self, log: Arc<SharedLog>, cursor: CursorId) {
        let mut writer = self.role.lock();
        (writer.known_hold, writer.is_ending) = (None, false);
        writer.source = Some((log, cursor));
    }

    /// Writes no more from its cursor, which knows then exactly what was sent; gives back its log, and
    /// `true` if something of it was not sent: nothing more is written then.
    pub(crate) fn detach(&self) -> (Option<Arc<SharedLog>>, bool) {
        let mut writer = self.role.lock();
        let is_torn = writer.unsent.has_cursors();
        if is_torn {
            self.tear(&mut writer);
        }
        let log = writer.source.take().map(|(log, _)| log);
        // Somebody may have found the role taken.
        self.finish(writer, true, |_, _| Need::Nothing);
        (log, is_torn)
    }

    /// Writes no more at all: the socket may be closed when this returns. Gives the descriptor back,
    /// once.
    pub(crate) fn close(&self) -> Option<RawFd> {
        self.reading.lock().take();
        let mut writer = self.role.lock();
        // A close frame may have been left: this is the last chance to send it.
        let _ended = self.send_unsent(&mut writer);
        writer.unsent = Unsent::default();
        self.left.lock().clear();
        self.unsent.store(0, Ordering::SeqCst);
        writer.descriptor.take()
    }

    /// Writes what is next, at the time `now`; what is needed then.
    pub fn pump(&self, now: f64) -> Need {
        self.finish(self.role.lock(), false, |outbox, writer| outbox.write(writer, now))
    }

    /// Notes that the socket has room; whether that was waited for.
    pub(crate) fn has_room(&self) -> bool {
        std::mem::take(&mut self.role.lock().is_blocked)
    }

    /// Writes what is next, and tells the event loop what it does not know yet.
    pub(crate) fn pump_and_tell(&self, now: f64) -> Need {
        self.finish(self.role.lock(), true, |outbox, writer| outbox.write(writer, now))
    }

    /// Works in the writer's role, once more as long as somebody has left a frame meanwhile; `tells` the
    /// event loop what it does not know yet of what is needed.
    fn finish<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        tells: bool,
        work: impl Fn(&Self, &mut Writer) -> Need,
    ) -> Need {
        loop {
            let known = (writer.known_hold, writer.is_ending);
            let need = match self.send_unsent(&mut writer) {
                Ended::Broken(error) => writer.ending(Need::Broken(error)),
                Ended::All | Ended::Blocked => work(self, &mut writer),
            };
            if tells && (writer.known_hold, writer.is_ending) != known {
                self.desk.tell(self.token, Told::OUTBOX);
            }
            drop(writer);
            fence(Ordering::SeqCst);
            // Who leaves a frame says so before trying to take the role, which was free by then, or
            // is seen here.
            if !self.has_left.load(Ordering::SeqCst) {
                return need;
            }
            match self.role.try_lock() {
                Some(again) => writer = again,
                None => return need,
            }
        }
    }

    /// Sends what waits: the rest of a block, and frames that were left.
    fn send_unsent(&self, writer: &mut Writer) -> Ended {
        if self.has_left.swap(false, Ordering::SeqCst) {
            let left = std::mem::take(&mut *self.left.lock());
            for chunk in left {
                writer.take(chunk);
            }
        }
        let ended = self.try_send(writer);
        self.unsent.store(writer.unsent.bytes, Ordering::SeqCst);
        ended
    }

    fn try_send(&self, writer: &mut Writer) -> Ended {
        let Some(descriptor) = writer.descriptor.filter(|_| !writer.is_torn) else {
            writer.unsent = Unsent::default();
            return Ended::Blocked;
        };
        if writer.is_blocked {
            return Ended::Blocked;
        }
        let (Progress { cursor, frames }, ended) = writer.unsent.send(descriptor);
        writer.is_blocked = matches!(ended, Ended::Blocked);
        if let Some((log, id)) = &writer.source
            && cursor > 0
        {
            log.lock().acknowledge(*id, cursor);
        }
        if frames > 0 {
            let sent = self.sent.fetch_add(frames, Ordering::SeqCst).saturating_add(frames);
            if self.is_awaited.swap(false, Ordering::SeqCst) {
                // What was given is looked at after that: who gives something later says so again.
                if sent < self.given.load(Ordering::SeqCst) {
                    self.is_awaited.store(true, Ordering::SeqCst);
                }
                self.desk.tell(self.token, Told::OUTBOX);
            }
        }
        ended
    }

    /// Writes what the cursor has.
    fn write(&self, writer: &mut Writer, now: f64) -> Need {
        let (began, mut done) = (Instant::now(), 0_u64);
        loop {
            let (Some(descriptor), Some((log, id)), false) =
                (writer.descriptor, writer.source.clone(), writer.is_closing)
            else {
                return Need::Nothing;
            };
            let mut core = log.lock();
            writer.pieces.clear();
            // Also where the socket takes nothing: what has to wait is taken in, joined and skipped.
            let Some(wait) = core.read(id, now, BUDGET, &mut writer.pieces) else {
                return Need::Nothing;
            };
            let can_send = writer.unsent.chunks.is_empty() && !writer.is_torn && !writer.is_inside;
            let to = if can_send { descriptor } else { NOWHERE };
            let (sent, error) = send_pieces(&core, id, &writer.pieces, to);
            let Writer { pieces, unsent, .. } = &mut *writer;
            rest_of(&core, id, pieces, sent).for_each(|rest| unsent.push_rest(rest));
            core.acknowledge(id, sent);
            MutexGuard::unlock_fair(core);
            done = done.saturating_add(sent);
            if let Some(error) = error {
                return writer.ending(Need::Broken(error));
            }
            if let Ended::Broken(error) = self.send_unsent(writer) {
                return writer.ending(Need::Broken(error));
            }
            let is_enough = done >= TURN_BYTES || began.elapsed() >= TURN_TIME;
            let has_room = writer.unsent.chunks.is_empty();
            match wait {
                Wait::Until(time) => return Need::Time(time),
                Wait::Hold(hold) => {
                    writer.known_hold = Some(hold.number);
                    return Need::Answer(hold.number);
                }
                Wait::Close => return writer.ending(Need::Close),
                Wait::Budget if is_enough => return Need::Turn,
                Wait::Room if is_enough && has_room => return Need::Turn,
                Wait::Budget => {}
                Wait::Room if has_room && !writer.pieces.is_empty() => {}
                _ => return Need::Nothing,
            }
        }
    }
}

impl Writer {
    /// Takes what was left to be sent: each in its turn, but for what would be inside a message.
    fn take(&mut self, chunk: Chunk) {
        if self.is_closing {
            return;
        }
        match &chunk {
            Chunk::Relayed(_, is_inside) => self.is_inside = *is_inside,
            _ if self.is_inside => return self.behind.push(chunk),
            _ => {
                let head = chunk.as_ref().first();
                self.is_closing = head.is_some_and(|head| head & 0xF == CLOSE);
            }
        }
        self.unsent.push(chunk);
        if !self.is_inside {
            for chunk in std::mem::take(&mut self.behind) {
                self.take(chunk);
            }
        }
    }

    /// Notes that the event loop is about to know that the connection must be closed.
    fn ending(&mut self, need: Need) -> Need {
        self.is_ending = true;
        need
    }
}
