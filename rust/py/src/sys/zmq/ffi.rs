//! libzmq's functions, by the addresses they have in this process. No logic.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

use super::ZmqError;

/// `zmq_msg_t` of libzmq 4: 64 opaque bytes, aligned as a pointer.
#[repr(C, align(8))]
pub(super) struct RawMessage(pub(super) [u8; 64]);

/// `ZMQ_DONTWAIT`.
pub(super) const DONTWAIT: c_int = 1;

/// `ZMQ_SNDMORE`.
pub(super) const SNDMORE: c_int = 2;

/// `ZMQ_EVENTS`.
pub(super) const EVENTS: c_int = 15;

/// The only major version whose `zmq_msg_t` is known to be the above.
const MAJOR: c_int = 4;

type Version = unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int);

/// The functions, with the types of `zmq.h`.
#[derive(Clone, Copy)]
pub(super) struct Symbols {
    /// `int zmq_errno (void)`.
    pub(super) errno: unsafe extern "C" fn() -> c_int,
    /// `int zmq_msg_init (zmq_msg_t *msg)`: "initialise an empty message"; always succeeds.
    pub(super) msg_init: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    /// `int zmq_msg_recv (zmq_msg_t *msg, void *socket, int flags)`: the message must be
    /// initialised; returns its bytes, or -1 and sets `errno`.
    pub(super) msg_recv: unsafe extern "C" fn(*mut RawMessage, *mut c_void, c_int) -> c_int,
    /// `int zmq_msg_close (zmq_msg_t *msg)`: exactly once for each initialised message.
    pub(super) msg_close: unsafe extern "C" fn(*mut RawMessage) -> c_int,
    /// `void *zmq_msg_data (zmq_msg_t *msg)`: valid until the message is closed or moved.
    pub(super) msg_data: unsafe extern "C" fn(*mut RawMessage) -> *mut c_void,
    /// `size_t zmq_msg_size (const zmq_msg_t *msg)`.
    pub(super) msg_size: unsafe extern "C" fn(*const RawMessage) -> usize,
    /// `int zmq_msg_more (const zmq_msg_t *msg)`: 1 where more parts follow.
    pub(super) msg_more: unsafe extern "C" fn(*const RawMessage) -> c_int,
    /// `int zmq_send (void *socket, const void *buf, size_t len, int flags)`: copies the bytes;
    /// returns their number, or -1 and sets `errno`.
    pub(super) send: unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int) -> c_int,
    /// `int zmq_getsockopt (void *socket, int option, void *value, size_t *length)`.
    pub(super) getsockopt:
        unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, *mut usize) -> c_int,
}

static SYMBOLS: OnceLock<Symbols> = OnceLock::new();

/// The functions, where [`load`] has found them.
pub(super) fn symbols() -> Option<&'static Symbols> {
    SYMBOLS.get()
}

/// Finds the functions in the pyzmq extension at `path` and keeps them for the process.
pub(crate) fn load(path: &Path, version: (c_int, c_int, c_int)) -> Result<(), ZmqError> {
    if SYMBOLS.get().is_none() {
        let found = find(path, version)?;
        // Where another thread was faster, it has found the same.
        SYMBOLS.get_or_init(|| found);
    }
    Ok(())
}

#[cfg(not(unix))]
fn find(_: &Path, _: (c_int, c_int, c_int)) -> Result<Symbols, ZmqError> {
    Err(ZmqError::unavailable("this platform has no way to find pyzmq's libzmq".to_owned()))
}

#[cfg(unix)]
fn find(path: &Path, version: (c_int, c_int, c_int)) -> Result<Symbols, ZmqError> {
    use libloading::os::unix::{Library, RTLD_LAZY};

    // SAFETY: RTLD_NOLOAD opens only what is loaded already, so no initialiser runs.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | no_load()) }
        .map_err(|error| ZmqError::unavailable(format!("{}: {error}", path.display())))?;
    check_version(symbol(&library, "zmq_version")?, version)?;
    let symbols = Symbols {
        errno: symbol(&library, "zmq_errno")?,
        msg_init: symbol(&library, "zmq_msg_init")?,
        msg_recv: symbol(&library, "zmq_msg_recv")?,
        msg_close: symbol(&library, "zmq_msg_close")?,
        msg_data: symbol(&library, "zmq_msg_data")?,
        msg_size: symbol(&library, "zmq_msg_size")?,
        msg_more: symbol(&library, "zmq_msg_more")?,
        send: symbol(&library, "zmq_send")?,
        getsockopt: symbol(&library, "zmq_getsockopt")?,
    };
    // The addresses stay valid because the library is never unloaded: neither does Python unload
    // extensions, nor is the reference taken above given back.
    std::mem::forget(library);
    Ok(symbols)
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
    symbol.map(|found| *found).map_err(|error| ZmqError::unavailable(format!("{name}: {error}")))
}

#[cfg(unix)]
fn check_version(function: Version, wanted: (c_int, c_int, c_int)) -> Result<(), ZmqError> {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: `void zmq_version (int *major, int *minor, int *patch)` writes three integers.
    unsafe { function(&raw mut major, &raw mut minor, &raw mut patch) };
    let found = (major, minor, patch);
    if found != wanted {
        let text = format!("found libzmq {found:?}, but pyzmq uses {wanted:?}");
        return Err(ZmqError::unavailable(text));
    }
    if major != MAJOR {
        return Err(ZmqError::unavailable(format!("libzmq {found:?} is not of version {MAJOR}")));
    }
    Ok(())
}
