//! What an event loop is told by the engine, and the descriptor that wakes it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// What has happened, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told(pub u8);

impl Told {
    /// Something was appended to a log that the event loop reads, or awaits.
    pub const APPENDED: Self = Self(1);
    /// Something was read that an activity watcher should follow.
    pub const ACTIVITY: Self = Self(2);
    /// An outbox needs the event loop: a message is held, the client must be closed, the connection is
    /// broken, or frames that waited are sent.
    pub const OUTBOX: Self = Self(4);
    /// A subscription has failed for good.
    pub const FAILED: Self = Self(8);
    /// A relay has read what the event loop has to answer, or has ended.
    pub const RELAY: Self = Self(16);
}

/// What one event loop is told. It is woken once, and then not until it has asked.
pub struct Desk {
    theirs: UnixStream,
    ours: UnixStream,
    /// Whether the event loop has been woken, and has not asked since.
    is_woken: AtomicBool,
    told: Mutex<BTreeMap<u64, Told>>,
}

impl Desk {
    /// A desk on which nothing lies.
    pub fn new() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let (is_woken, told) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { theirs, ours, is_woken, told })
    }

    /// The descriptor that is readable when something lies here.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.theirs.as_raw_fd()
    }

    /// Tells the event loop something about whatever has this token.
    pub fn tell(&self, token: u64, what: Told) {
        let mut told = self.told.lock();
        let bits = told.entry(token).or_default();
        bits.0 |= what.0;
        drop(told);
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            // A full pipe has woken it already; a broken one has nobody behind it.
            drop((&self.ours).write(&[1]));
        }
    }

    /// Takes everything off the desk; the event loop is woken again by what comes then.
    pub fn take(&self) -> Vec<(u64, Told)> {
        let mut bytes = [0; 16];
        while (&self.theirs).read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
        // Before it is looked at: what comes in between wakes once more.
        self.is_woken.store(false, Ordering::SeqCst);
        std::mem::take(&mut *self.told.lock()).into_iter().collect()
    }
}
