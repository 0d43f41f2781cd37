//! A safe face over as much of libzmq as is needed, by the addresses it has in this process.
//!
//! The contracts quoted are those of libzmq's manual pages, version 4.3.

use std::ffi::{CString, c_char, c_int, c_long, c_short, c_void};
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

type Pointer = *mut c_void;

/// `zmq_msg_t` of libzmq 4: 64 opaque bytes, aligned as a pointer.
#[repr(C, align(8))]
struct RawMessage([u8; 64]);

/// `zmq_pollitem_t` on Unix.
#[repr(C)]
struct PollItem {
    socket: Pointer,
    fd: c_int,
    events: c_short,
    revents: c_short,
}

/// The functions, with the types of `zmq.h`.
struct Symbols {
    ctx_new: unsafe extern "C" fn() -> Pointer,
    socket: unsafe extern "C" fn(Pointer, c_int) -> Pointer,
    close: unsafe extern "C" fn(Pointer) -> c_int,
    setsockopt: unsafe extern "C" fn(Pointer, c_int, *const c_void, usize) -> c_int,
    getsockopt: unsafe extern "C" fn(Pointer, c_int, Pointer, *mut usize) -> c_int,
    bind: unsafe extern "C" fn(Pointer, *const c_char) -> c_int,
    connect: unsafe extern "C" fn(Pointer, *const c_char) -> c_int,
    send: unsafe extern "C" fn(Pointer, *const c_void, usize, c_int) -> c_int,
    msg_init: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    msg_recv: unsafe extern "C" fn(*mut RawMessage, Pointer, c_int) -> c_int,
    msg_close: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    msg_data: unsafe extern "C" fn(*mut RawMessage) -> Pointer,
    msg_size: unsafe extern "C" fn(*const RawMessage) -> usize,
    msg_more: unsafe extern "C" fn(*const RawMessage) -> c_int,
    poll: unsafe extern "C" fn(*mut PollItem, c_int, c_long) -> c_int,
    proxy: unsafe extern "C" fn(Pointer, Pointer, Pointer) -> c_int,
    errno: unsafe extern "C" fn() -> c_int,
}

static SYMBOLS: OnceLock<Symbols> = OnceLock::new();

const EAGAIN: c_int = 11;
const EINTR: c_int = 4;
const DONTWAIT: c_int = 1;
const SNDMORE: c_int = 2;
const POLLIN: c_short = 1;

/// `ZMQ_IDENTITY`: by which a router knows this peer.
pub const ROUTING_ID: c_int = 5;
/// `ZMQ_SUBSCRIBE`.
pub const SUBSCRIBE: c_int = 6;
/// `ZMQ_LINGER`: milliseconds for which closing waits for what is unsent.
pub const LINGER: c_int = 17;
/// `ZMQ_SNDHWM`: messages that may wait to be sent; 0 is no limit.
pub const SNDHWM: c_int = 23;
/// `ZMQ_RCVHWM`: messages that may wait to be received; 0 is no limit.
pub const RCVHWM: c_int = 24;
/// `ZMQ_ROUTER_HANDOVER`: a new peer takes over the identity of an old one.
pub const ROUTER_HANDOVER: c_int = 56;
const FD: c_int = 14;

/// What a socket is for, by `zmq.h`'s numbers.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `ZMQ_PUB`.
    Publish = 1,
    /// `ZMQ_SUB`.
    Subscribe = 2,
    /// `ZMQ_DEALER`.
    Dealer = 5,
    /// `ZMQ_ROUTER`.
    Router = 6,
}

/// Loads libzmq from `path`, once for the process.
pub fn load(path: &Path) -> Result<()> {
    // SAFETY: libzmq's initialisers have no conditions; the path is that of the copy pyzmq uses.
    let library = unsafe { libloading::Library::new(path) }
        .with_context(|| format!("libzmq at {}", path.display()))?;
    let symbols = Symbols {
        ctx_new: symbol(&library, "zmq_ctx_new")?,
        socket: symbol(&library, "zmq_socket")?,
        close: symbol(&library, "zmq_close")?,
        setsockopt: symbol(&library, "zmq_setsockopt")?,
        getsockopt: symbol(&library, "zmq_getsockopt")?,
        bind: symbol(&library, "zmq_bind")?,
        connect: symbol(&library, "zmq_connect")?,
        send: symbol(&library, "zmq_send")?,
        msg_init: symbol(&library, "zmq_msg_init")?,
        msg_recv: symbol(&library, "zmq_msg_recv")?,
        msg_close: symbol(&library, "zmq_msg_close")?,
        msg_data: symbol(&library, "zmq_msg_data")?,
        msg_size: symbol(&library, "zmq_msg_size")?,
        msg_more: symbol(&library, "zmq_msg_more")?,
        poll: symbol(&library, "zmq_poll")?,
        proxy: symbol(&library, "zmq_proxy")?,
        errno: symbol(&library, "zmq_errno")?,
    };
    // The addresses stay valid because the library is never unloaded.
    std::mem::forget(library);
    SYMBOLS.set(symbols).map_err(|_| anyhow!("libzmq was loaded twice"))
}

/// Looks one function up; `T` must be its type.
fn symbol<T: Copy>(library: &libloading::Library, name: &str) -> Result<T> {
    // SAFETY: the caller names functions of zmq.h and their types as zmq.h declares them.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|symbol| *symbol).with_context(|| name.to_owned())
}

fn symbols() -> Result<&'static Symbols> {
    SYMBOLS.get().context("libzmq is not loaded")
}

/// The error of the libzmq call that has just failed.
fn failure(symbols: &Symbols, what: &str) -> anyhow::Error {
    // SAFETY: `int zmq_errno (void)` has no conditions.
    let number = unsafe { (symbols.errno)() };
    anyhow!("{what}: {}", std::io::Error::from_raw_os_error(number))
}

/// A libzmq context. It lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Context(Pointer);

impl Context {
    /// A new context with one I/O thread.
    pub fn new() -> Result<Self> {
        let symbols = symbols()?;
        // SAFETY: `void *zmq_ctx_new ()` has no conditions.
        let context = unsafe { (symbols.ctx_new)() };
        if context.is_null() {
            return Err(failure(symbols, "zmq_ctx_new"));
        }
        Ok(Self(context))
    }

    /// A new socket.
    pub fn socket(self, kind: Kind) -> Result<Socket> {
        let symbols = symbols()?;
        // SAFETY: the context is valid: it ends with the process.
        let raw = unsafe { (symbols.socket)(self.0, kind as c_int) };
        if raw.is_null() {
            return Err(failure(symbols, "zmq_socket"));
        }
        Ok(Socket { raw, symbols })
    }
}

/// A libzmq socket, closed when dropped.
pub struct Socket {
    raw: Pointer,
    symbols: &'static Symbols,
}

// SAFETY: zmq_socket(3): a socket may be migrated to another thread with a full fence memory
// barrier, which handing it to a new thread is. It is not shared: there is no `Sync`.
unsafe impl Send for Socket {}

impl Socket {
    /// Sets an integer option.
    pub fn set(&self, option: c_int, value: c_int) -> Result<()> {
        self.set_bytes(option, &value.to_ne_bytes())
    }

    /// Sets an option that is a string of bytes.
    pub fn set_bytes(&self, option: c_int, value: &[u8]) -> Result<()> {
        let set = self.symbols.setsockopt;
        // SAFETY: the socket is valid; value and length describe one slice, which is only read.
        let status = unsafe { set(self.raw, option, value.as_ptr().cast(), value.len()) };
        self.check(status, "zmq_setsockopt")
    }

    /// The file descriptor that becomes readable, edge-triggered, when there may be something.
    pub fn fd(&self) -> Result<c_int> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>();
        let get = self.symbols.getsockopt;
        // SAFETY: the socket is valid; `ZMQ_FD` is one int on Unix.
        let status = unsafe { get(self.raw, FD, (&raw mut value).cast(), &raw mut length) };
        self.check(status, "zmq_getsockopt")?;
        Ok(value)
    }

    /// Binds to an endpoint.
    pub fn bind(&self, endpoint: &str) -> Result<()> {
        let text = CString::new(endpoint)?;
        // SAFETY: the socket is valid and the text ends with a null byte.
        let status = unsafe { (self.symbols.bind)(self.raw, text.as_ptr()) };
        self.check(status, endpoint)
    }

    /// Connects to an endpoint.
    pub fn connect(&self, endpoint: &str) -> Result<()> {
        let text = CString::new(endpoint)?;
        // SAFETY: the socket is valid and the text ends with a null byte.
        let status = unsafe { (self.symbols.connect)(self.raw, text.as_ptr()) };
        self.check(status, endpoint)
    }

    fn check(&self, status: c_int, what: &str) -> Result<()> {
        if status == 0 { Ok(()) } else { Err(failure(self.symbols, what)) }
    }

    /// Sends one message, waiting where it must.
    pub fn send<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let mut frames = frames.into_iter().peekable();
        while let Some(frame) = frames.next() {
            let flags = if frames.peek().is_some() { SNDMORE } else { 0 };
            self.send_frame(frame, flags)?;
        }
        Ok(())
    }

    fn send_frame(&self, frame: &[u8], flags: c_int) -> Result<()> {
        loop {
            let send = self.symbols.send;
            // SAFETY: the socket is valid; the bytes are copied before the call returns.
            let status = unsafe { send(self.raw, frame.as_ptr().cast(), frame.len(), flags) };
            if status >= 0 {
                return Ok(());
            }
            // SAFETY: `int zmq_errno (void)` has no conditions.
            if unsafe { (self.symbols.errno)() } != EINTR {
                return Err(failure(self.symbols, "zmq_send"));
            }
        }
    }

    /// Receives one whole message into `frames` if there is one. Where there is none, everything
    /// that the descriptor has told of is taken note of.
    pub fn receive(&self, frames: &mut Vec<Frame>) -> Result<bool> {
        frames.clear();
        loop {
            let Some(frame) = self.receive_frame()? else {
                if frames.is_empty() {
                    return Ok(false);
                }
                bail!("libzmq gave a part of a message");
            };
            let more = frame.has_more();
            frames.push(frame);
            if !more {
                return Ok(true);
            }
        }
    }

    fn receive_frame(&self) -> Result<Option<Frame>> {
        let mut frame = Frame::new(self.symbols);
        loop {
            // SAFETY: the message is initialised and the socket is valid.
            let got = unsafe { (self.symbols.msg_recv)(&raw mut frame.raw, self.raw, DONTWAIT) };
            if got >= 0 {
                return Ok(Some(frame));
            }
            // SAFETY: `int zmq_errno (void)` has no conditions.
            match unsafe { (self.symbols.errno)() } {
                EAGAIN => return Ok(None),
                EINTR => {}
                _ => return Err(failure(self.symbols, "zmq_msg_recv")),
            }
        }
    }

    /// Echoes for ever, as a kernel's heartbeat does.
    pub fn echo(&self) {
        // SAFETY: the socket is valid; a router may be both ends of a proxy.
        unsafe { (self.symbols.proxy)(self.raw, self.raw, ptr::null_mut()) };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: closed exactly once, here.
        unsafe { (self.symbols.close)(self.raw) };
    }
}

/// Waits until one of two sockets may be received from, or `milliseconds` are over.
pub fn wait(sockets: [&Socket; 2], milliseconds: c_long) -> Result<()> {
    let symbols = symbols()?;
    let mut items =
        sockets.map(|socket| PollItem { socket: socket.raw, fd: 0, events: POLLIN, revents: 0 });
    // SAFETY: both sockets are valid, and the count is that of the items.
    let status = unsafe { (symbols.poll)(items.as_mut_ptr(), 2, milliseconds) };
    // SAFETY: `int zmq_errno (void)` has no conditions.
    if status < 0 && unsafe { (symbols.errno)() } != EINTR {
        return Err(failure(symbols, "zmq_poll"));
    }
    Ok(())
}

/// One frame as libzmq keeps it; its bytes are not copied.
pub struct Frame {
    raw: RawMessage,
    symbols: &'static Symbols,
}

impl Frame {
    fn new(symbols: &'static Symbols) -> Self {
        let mut raw = RawMessage([0; 64]);
        // SAFETY: `int zmq_msg_init (zmq_msg_t *)` writes the 64 bytes and cannot fail.
        unsafe { (symbols.msg_init)(&raw mut raw) };
        Self { raw, symbols }
    }

    fn has_more(&self) -> bool {
        // SAFETY: the message is initialised.
        unsafe { (self.symbols.msg_more)(&raw const self.raw) != 0 }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the message is initialised.
        let length = unsafe { (self.symbols.msg_size)(&raw const self.raw) };
        if length == 0 {
            return &[];
        }
        // SAFETY: zmq_msg_data only computes the address, whatever its prototype lacks in `const`.
        let data = unsafe { (self.symbols.msg_data)((&raw const self.raw).cast_mut()) };
        // SAFETY: libzmq keeps `length` bytes at `data` until the message is closed or moved within
        // libzmq; small messages lie in `raw` itself, which the borrow keeps in its place.
        unsafe { std::slice::from_raw_parts(data.cast(), length) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, closed exactly once, here.
        unsafe { (self.symbols.msg_close)(&raw mut self.raw) };
    }
}
