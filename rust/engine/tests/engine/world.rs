//! An engine, a log, and clients of it, of which the tests are the browsers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kernelwire_core::log::{Budget, CursorId, Log, Protocol, Rules, Settings, Wait};
use kernelwire_engine::{Desk, Engine, LogGuard, Need, Outbox, Part, SharedLog, Slice, Told};
use kernelwire_zmq::load;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;

use crate::{DEADLINE, Tested, support, until};

pub(crate) const SETTINGS: Settings = Settings {
    protocol: Protocol::V1,
    rules: Rules {
        limits: None,
        overflow: kernelwire_core::log::Overflow::Drop,
        patience: f64::INFINITY,
        hide_tracebacks: false,
        one_by_one: false,
    },
    bound: u64::MAX,
};

const SLICE: Slice = Slice { messages: 64, bytes: 1 << 20, time: Duration::from_millis(1) };
const WIDE: Budget = Budget { messages: 1 << 20, bytes: u64::MAX };

/// Bytes: more than a socket takes whose peer does not read.
const MUCH: usize = 8 << 20;

pub(crate) fn engine() -> Tested<Engine> {
    load(&support::libzmq()).map_err(|error| format!("{error}: {}", support::ADVICE))?;
    Ok(Engine::start(0.0)?)
}

/// A message of a kernel's, as its parts; the content has `size` bytes or few more.
///
/// It is no output, so nobody leaves it out, joins it or has it wait.
pub(crate) fn message(number: usize, size: usize) -> Vec<Vec<u8>> {
    let header = format!(r#"{{"msg_id":"{number}","msg_type":"comm_open","version":"5.3"}}"#);
    let content = format!(r#"{{"comm_id":"{number};","data":"{}"}}"#, "o".repeat(size));
    ["topic", "<IDS|MSG>", "", &header, "{}", "{}", &content]
        .map(|part| part.as_bytes().to_vec())
        .to_vec()
}

pub(crate) fn append(core: &mut LogGuard<'_>, number: usize, size: usize) -> Tested {
    let mut parts = message(number, size).into_iter().map(|part| Part::new(part.into())).collect();
    core.append(0.0, &mut parts, |_, _| {}).map_err(|refusal| format!("{refusal:?}").into())
}

/// All that a cursor hands out, which is acknowledged.
pub(crate) fn read(core: &mut LogGuard<'_>, cursor: CursorId) -> Tested<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut pieces = Vec::new();
        let wait = core.read(cursor, 0.0, WIDE, &mut pieces).ok_or("no such cursor")?;
        let mut bytes = 0;
        for piece in &pieces {
            let piece = core.bytes(cursor, *piece).ok_or("a piece without bytes")?;
            all.extend_from_slice(piece);
            bytes += piece.len() as u64;
        }
        core.acknowledge(cursor, bytes);
        if !matches!(wait, Wait::Budget | Wait::Room) {
            return Ok(all);
        }
    }
}

/// The two ends of a connection: ours, and the browser's.
pub(crate) struct Ends {
    pub(crate) ours: OwnedFd,
    pub(crate) browser: Browser,
}

/// The end of a connection that reads.
pub(crate) enum Browser {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Read for Browser {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }
}

impl Write for Browser {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Browser {
    /// Ends its side of the stream.
    pub(crate) fn end(&self) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn wait(&self, time: Duration) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(time)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(time)),
        }
    }

    /// Exactly so many bytes, as they come.
    pub(crate) fn exactly(&mut self, bytes: usize) -> Tested<Vec<u8>> {
        let mut taken = vec![0; bytes];
        self.read_exact(&mut taken)?;
        Ok(taken)
    }

    /// What is there, up to so many bytes.
    pub(crate) fn ready(&mut self, bytes: usize) -> Tested<Vec<u8>> {
        let mut taken = vec![0; bytes];
        self.wait(Duration::from_millis(1))?;
        let read = match self.read(&mut taken) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        self.wait(DEADLINE)?;
        taken.truncate(read);
        Ok(taken)
    }

    /// All until the end of the stream.
    pub(crate) fn rest(&mut self) -> Tested<Vec<u8>> {
        let mut taken = Vec::new();
        self.read_to_end(&mut taken)?;
        Ok(taken)
    }
}

pub(crate) fn unix() -> Tested<Ends> {
    let (ours, browser) = UnixStream::pair()?;
    let browser = Browser::Unix(browser);
    browser.wait(DEADLINE)?;
    Ok(Ends { ours: ours.into(), browser })
}

pub(crate) fn tcp() -> Tested<Ends> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let browser = Browser::Tcp(TcpStream::connect(listener.local_addr()?)?);
    browser.wait(DEADLINE)?;
    Ok(Ends { ours: listener.accept()?.0.into(), browser })
}

/// An engine and what one event loop has of it.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) desk: Arc<Desk>,
    pub(crate) log: Arc<SharedLog>,
    /// A cursor that hands out what every other one should.
    reference: CursorId,
    /// An outbox for which there is nothing to do.
    bystander: (Arc<Outbox>, Ends),
    outboxes: Mutex<Vec<Weak<Outbox>>>,
    next: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> Tested<Self> {
        let engine = engine()?;
        let desk = engine.desk()?;
        let log = Arc::new(SharedLog::new(Log::new(None), SLICE));
        let reference = log.lock().open(SETTINGS);
        let ends = unix()?;
        let bystander = engine.outbox(ends.ours.as_raw_fd(), engine.desk()?, 1)?;
        Ok(Self {
            engine,
            desk,
            log,
            reference,
            bystander: (bystander, ends),
            outboxes: Mutex::default(),
            next: AtomicUsize::new(0),
        })
    }

    /// A client that is not attached to the log yet.
    pub(crate) fn client(&self, ends: Ends, token: u64) -> Tested<Client> {
        let Ends { ours, browser } = ends;
        let outbox = self.engine.outbox(ours.as_raw_fd(), Arc::clone(&self.desk), token)?;
        self.outboxes.lock().push(Arc::downgrade(&outbox));
        let cursor = self.log.lock().open(SETTINGS);
        Ok(Client { outbox, cursor, ours, browser })
    }

    pub(crate) fn attached(&self, ends: Ends, token: u64) -> Tested<Client> {
        let client = self.client(ends, token)?;
        self.engine.attach(&client.outbox, &self.log, client.cursor);
        Ok(client)
    }

    /// A client whose socket takes nothing more, with something of its cursor's left.
    pub(crate) fn stuffed(&self, ends: Ends, token: u64) -> Tested<Client> {
        let client = self.attached(ends, token)?;
        self.append_bytes(MUCH, 10_000)?;
        until(|| {
            let need = self.engine.pump(&client.outbox, 0.0);
            need == Need::Nothing && client.outbox.unsent() > 0
        })?;
        Ok(client)
    }

    /// Appends a message to the log, of which nobody is told.
    pub(crate) fn append(&self, size: usize) -> Tested {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        append(&mut self.log.lock(), number, size)
    }

    /// Appends messages of `each` bytes, `bytes` in all.
    fn append_bytes(&self, bytes: usize, each: usize) -> Tested {
        (0..bytes.div_ceil(each)).try_for_each(|_| self.append(each))
    }

    /// What every cursor of the log hands out that was open all the time; since the last call.
    pub(crate) fn expected(&self) -> Tested<Vec<u8>> {
        read(&mut self.log.lock(), self.reference)
    }

    /// Takes what the desk has for a token.
    pub(crate) fn told(&self, token: u64) -> Told {
        self.desk
            .take()
            .into_iter()
            .find_map(|(to, told)| (to == token).then_some(told))
            .unwrap_or_default()
    }

    /// Waits until the engine has seen to all that it was asked before.
    pub(crate) fn settle(&self) -> Tested {
        // The turn in which it is may have begun before that was asked.
        for _ in 0..3 {
            let before = self.engine.turns();
            self.engine.poke(&self.bystander.0);
            until(|| self.engine.turns() > before)?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // An outbox and its log have each other until then. It is not closed: its descriptor may be
        // another test's by now.
        for outbox in self.outboxes.lock().iter().filter_map(Weak::upgrade) {
            let _torn = self.engine.detach(&outbox);
        }
        self.engine.close(&self.bystander.0);
        self.engine.stop(DEADLINE);
    }
}

/// An outbox, and the two ends of its connection.
pub(crate) struct Client {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) cursor: CursorId,
    pub(crate) ours: OwnedFd,
    pub(crate) browser: Browser,
}

/// An event loop that waits for its desk alone.
pub(crate) struct EventLoop<'a> {
    poll: Poll,
    events: Events,
    desk: &'a Desk,
}

impl<'a> EventLoop<'a> {
    pub(crate) fn new(desk: &'a Desk) -> Tested<Self> {
        let poll = Poll::new()?;
        let mut source = SourceFd(&desk.descriptor());
        poll.registry().register(&mut source, Token(0), Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(8), desk })
    }

    /// Whether it is woken, within `time`; it is edge-triggered, so a second byte wakes it again.
    pub(crate) fn is_woken(&mut self, time: Duration) -> Tested<bool> {
        self.poll.poll(&mut self.events, Some(time))?;
        Ok(!self.events.is_empty())
    }

    /// What lies on the desk, once the loop is woken for it.
    pub(crate) fn next(&mut self) -> Tested<Vec<(u64, Told)>> {
        if self.is_woken(DEADLINE)? { Ok(self.desk.take()) } else { Err("never woken".into()) }
    }
}
