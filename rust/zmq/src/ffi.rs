//! libzmq's functions, by the addresses they have in this process. No logic.

use std::ffi::{CStr, c_char, c_int, c_long, c_short, c_void};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use crate::error::ZmqError;

/// `zmq_msg_t` of libzmq 4: 64 opaque bytes, aligned as a pointer.
#[repr(C, align(8))]
pub(crate) struct RawMessage(pub(crate) [u8; 64]);

/// `zmq_pollitem_t`, as it is on Unix: libzmq is loaded nowhere else.
#[repr(C)]
pub(crate) struct RawPollItem {
    pub(crate) socket: *mut c_void,
    pub(crate) fd: c_int,
    pub(crate) events: c_short,
    pub(crate) revents: c_short,
}

/// `ZMQ_DONTWAIT`.
pub(crate) const DONTWAIT: c_int = 1;

/// `ZMQ_SNDMORE`.
pub(crate) const SNDMORE: c_int = 2;

/// `ZMQ_HAUSNUMERO`: error numbers from here on are libzmq's own.
const HAUSNUMERO: c_int = 156_384_712;

/// The only major version whose `zmq_msg_t` is known to be the above.
#[cfg(unix)]
const MAJOR: c_int = 4;

#[cfg(unix)]
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int);

/// `typedef void (zmq_free_fn) (void *data, void *hint)`.
pub(crate) type Free = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// The functions, with the types of `zmq.h`.
#[derive(Clone, Copy)]
pub(crate) struct Symbols {
    /// `int zmq_errno (void)`.
    pub(crate) errno: unsafe extern "C" fn() -> c_int,
    /// `const char *zmq_strerror (int errnum)`.
    pub(crate) strerror: unsafe extern "C" fn(c_int) -> *const c_char,
    /// `void *zmq_ctx_new (void)`: null where it fails.
    pub(crate) ctx_new: unsafe extern "C" fn() -> *mut c_void,
    /// `int zmq_ctx_term (void *context)`: waits until all its sockets are closed and have lingered;
    /// `EINTR` where it was interrupted and "can be restarted".
    pub(crate) ctx_term: unsafe extern "C" fn(*mut c_void) -> c_int,
    /// `void *zmq_socket (void *context, int type)`: null where it fails.
    pub(crate) socket: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    /// `int zmq_close (void *socket)`: exactly once for each socket.
    pub(crate) close: unsafe extern "C" fn(*mut c_void) -> c_int,
    /// `int zmq_setsockopt (void *socket, int option, const void *value, size_t length)`.
    pub(crate) setsockopt: unsafe extern "C" fn(*mut c_void, c_int, *const c_void, usize) -> c_int,
    /// `int zmq_getsockopt (void *socket, int option, void *value, size_t *length)`: writes no more
    /// than `length` bytes, and their number.
    pub(crate) getsockopt:
        unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, *mut usize) -> c_int,
    /// `int zmq_bind (void *socket, const char *endpoint)`.
    pub(crate) bind: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    /// `int zmq_connect (void *socket, const char *endpoint)`.
    pub(crate) connect: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    /// `int zmq_disconnect (void *socket, const char *endpoint)`.
    pub(crate) disconnect: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    /// `int zmq_send (void *socket, const void *buf, size_t len, int flags)`: copies the bytes;
    /// returns their number, or -1 and sets `errno`.
    pub(crate) send: unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int) -> c_int,
    /// `int zmq_msg_init (zmq_msg_t *msg)`: "initialise an empty message"; always succeeds.
    pub(crate) msg_init: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    /// `int zmq_msg_init_data (zmq_msg_t *msg, void *data, size_t size, zmq_free_fn *ffn, void
    /// *hint)`: the bytes are libzmq's until it calls `ffn`; -1 where there is no memory.
    pub(crate) msg_init_data:
        unsafe extern "C" fn(*mut RawMessage, *mut c_void, usize, Free, *mut c_void) -> c_int,
    /// `int zmq_msg_recv (zmq_msg_t *msg, void *socket, int flags)`: the message must be
    /// initialised; returns its bytes, or -1 and sets `errno`.
    pub(crate) msg_recv: unsafe extern "C" fn(*mut RawMessage, *mut c_void, c_int) -> c_int,
    /// `int zmq_msg_send (zmq_msg_t *msg, void *socket, int flags)`: the message "is nullified" where
    /// it was taken, and as it was where -1 is returned.
    pub(crate) msg_send: unsafe extern "C" fn(*mut RawMessage, *mut c_void, c_int) -> c_int,
    /// `int zmq_msg_close (zmq_msg_t *msg)`: exactly once for each initialised message.
    pub(crate) msg_close: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    /// `void *zmq_msg_data (zmq_msg_t *msg)`: valid until the message is closed or moved.
    pub(crate) msg_data: unsafe extern "C" fn(*mut RawMessage) -> *mut c_void,
    /// `size_t zmq_msg_size (const zmq_msg_t *msg)`.
    pub(crate) msg_size: unsafe extern "C" fn(*const RawMessage) -> usize,
    /// `int zmq_msg_more (const zmq_msg_t *msg)`: 1 where more parts follow.
    pub(crate) msg_more: unsafe extern "C" fn(*const RawMessage) -> c_int,
    /// `int zmq_poll (zmq_pollitem_t *items, int nitems, long timeout)`: milliseconds, -1 for ever;
    /// returns how many items have events, or -1 and sets `errno`.
    pub(crate) poll: unsafe extern "C" fn(*mut RawPollItem, c_int, c_long) -> c_int,
    /// `int zmq_proxy (void *frontend, void *backend, void *capture)`: returns only where it fails.
    pub(crate) proxy: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> c_int,
}

impl Symbols {
    /// The error number of the calling thread's last call that has failed.
    #[inline]
    pub(crate) fn errno(&self) -> c_int {
        // SAFETY: reads the calling thread's error number.
        unsafe { (self.errno)() }
    }

    /// The error of `call`, which has just failed.
    #[cold]
    pub(crate) fn failure(&self, call: &'static str) -> ZmqError {
        self.error(call, self.errno())
    }

    /// The error `number` of `call`.
    #[cold]
    pub(crate) fn error(&self, call: &'static str, number: c_int) -> ZmqError {
        ZmqError::Failed { call, number, text: self.text(number) }
    }

    fn text(&self, number: c_int) -> String {
        if number < HAUSNUMERO {
            // What libzmq asks here, `strerror`, is not everywhere safe on several threads.
            return io::Error::from_raw_os_error(number).to_string();
        }
        // SAFETY: takes any number.
        let text = unsafe { (self.strerror)(number) };
        if text.is_null() {
            return format!("error {number}");
        }
        // SAFETY: for its own numbers it returns a literal, which ends with a null byte.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

static SYMBOLS: OnceLock<Symbols> = OnceLock::new();

/// The functions, where they have been found.
pub(crate) fn symbols() -> Result<&'static Symbols, ZmqError> {
    SYMBOLS.get().ok_or_else(|| ZmqError::Unavailable("libzmq has not been loaded".to_owned()))
}

/// Loads libzmq from the file at `path`, of which a name alone is searched for as the system does,
/// and keeps its functions for the process.
///
/// The file is trusted to be what it claims: that it has the functions of libzmq 4 is checked, and
/// no more can be. Where functions are kept already, they stay, and nothing is loaded.
pub fn load(path: &Path) -> Result<(), ZmqError> {
    keep(|| find_in(path, None))
}

/// Finds libzmq's functions in the extension of pyzmq's at `path`, which must be loaded already, and
/// keeps them for the process.
///
/// They are those of the very copy that made pyzmq's sockets. `version` is what pyzmq reports, and
/// must be that copy's. Where functions are kept already, they stay.
pub fn load_from_extension(path: &Path, version: (i32, i32, i32)) -> Result<(), ZmqError> {
    keep(|| find_in(path, Some(version)))
}

fn keep(find: impl FnOnce() -> Result<Symbols, ZmqError>) -> Result<(), ZmqError> {
    if SYMBOLS.get().is_none() {
        let found = find()?;
        // Where another thread was faster, its functions stay.
        SYMBOLS.get_or_init(|| found);
    }
    Ok(())
}

#[cfg(not(unix))]
fn find_in(_: &Path, _: Option<(c_int, c_int, c_int)>) -> Result<Symbols, ZmqError> {
    Err(ZmqError::Unavailable("this platform has no way to find pyzmq's libzmq".to_owned()))
}

/// The functions of the file at `path`; it must be loaded already where a version is wanted.
#[cfg(unix)]
fn find_in(path: &Path, wanted: Option<(c_int, c_int, c_int)>) -> Result<Symbols, ZmqError> {
    use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};

    let flags = RTLD_LAZY | if wanted.is_some() { no_load() } else { RTLD_LOCAL };
    // SAFETY: RTLD_NOLOAD opens only what is loaded already, so no initialiser runs. Without it those
    // of libzmq run, which have no conditions; that the file is libzmq is for the caller of `load` to
    // see to.
    let library = unsafe { Library::open(Some(path), flags) }
        .map_err(|error| ZmqError::Unavailable(format!("{}: {error}", path.display())))?;
    check_version(symbol(&library, "zmq_version")?, wanted)?;
    let symbols = all(&library)?;
    // The addresses stay valid because the library is never unloaded: the reference taken above is
    // not given back.
    std::mem::forget(library);
    Ok(symbols)
}

#[cfg(unix)]
fn all(library: &libloading::os::unix::Library) -> Result<Symbols, ZmqError> {
    Ok(Symbols {
        errno: symbol(library, "zmq_errno")?,
        strerror: symbol(library, "zmq_strerror")?,
        ctx_new: symbol(library, "zmq_ctx_new")?,
        ctx_term: symbol(library, "zmq_ctx_term")?,
        socket: symbol(library, "zmq_socket")?,
        close: symbol(library, "zmq_close")?,
        setsockopt: symbol(library, "zmq_setsockopt")?,
        getsockopt: symbol(library, "zmq_getsockopt")?,
        bind: symbol(library, "zmq_bind")?,
        connect: symbol(library, "zmq_connect")?,
        disconnect: symbol(library, "zmq_disconnect")?,
        send: symbol(library, "zmq_send")?,
        msg_init: symbol(library, "zmq_msg_init")?,
        msg_init_data: symbol(library, "zmq_msg_init_data")?,
        msg_recv: symbol(library, "zmq_msg_recv")?,
        msg_send: symbol(library, "zmq_msg_send")?,
        msg_close: symbol(library, "zmq_msg_close")?,
        msg_data: symbol(library, "zmq_msg_data")?,
        msg_size: symbol(library, "zmq_msg_size")?,
        msg_more: symbol(library, "zmq_msg_more")?,
        poll: symbol(library, "zmq_poll")?,
        proxy: symbol(library, "zmq_proxy")?,
    })
}

/// `RTLD_NOLOAD`, which no crate in use here names.
#[cfg(unix)]
const fn no_load() -> c_int {
    if cfg!(target_vendor = "apple") { 0x10 } else { 0x4 }
}

/// Looks one function up; `T` must be its type.
#[cfg(unix)]
fn symbol<T: Copy>(library: &libloading::os::unix::Library, name: &str) -> Result<T, ZmqError> {
    // SAFETY: the callers name functions of zmq.h and their types as zmq.h declares them.
    let symbol = unsafe { library.get::<T>(name.as_bytes()) };
    symbol.map(|found| *found).map_err(|error| ZmqError::Unavailable(format!("{name}: {error}")))
}

#[cfg(unix)]
fn check_version(function: Version, wanted: Option<(c_int, c_int, c_int)>) -> Result<(), ZmqError> {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: `void zmq_version (int *major, int *minor, int *patch)` writes three integers.
    unsafe { function(&raw mut major, &raw mut minor, &raw mut patch) };
    let found = (major, minor, patch);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
        let text = format!("found libzmq {found:?}, but pyzmq uses {wanted:?}");
        return Err(ZmqError::Unavailable(text));
    }
    if major != MAJOR {
        return Err(ZmqError::Unavailable(format!("libzmq {found:?} is not of version {MAJOR}")));
    }
    Ok(())
}
