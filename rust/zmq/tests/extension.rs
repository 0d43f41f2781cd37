//! Sockets that somebody else has opened, in the libzmq that this process has loaded already.
#![cfg(unix)]

mod support;

use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

use kernelwire_zmq::{Borrowed, READABLE, WRITABLE, ZmqError, load, load_from_extension};
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};

type Tested = Result<(), Box<dyn Error>>;

const DEALER: c_int = 5;
const ENDPOINT: &CStr = c"inproc://borrowed";

/// What opens sockets, as pyzmq does.
struct Owner {
    library: Library,
    context: NonNull<c_void>,
}

impl Owner {
    fn new(library: Library) -> Result<Self, Box<dyn Error>> {
        // SAFETY: `void *zmq_ctx_new (void)`.
        let new = unsafe { library.get::<unsafe extern "C" fn() -> *mut c_void>(b"zmq_ctx_new") }?;
        // SAFETY: has no conditions.
        let context = unsafe { new() };
        Ok(Self { library, context: NonNull::new(context).ok_or("no context")? })
    }

    /// A dealer at [`ENDPOINT`], by that function.
    fn dealer(&self, function: &str) -> Result<NonNull<c_void>, Box<dyn Error>> {
        type Open = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;
        type Connect = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
        // SAFETY: `void *zmq_socket (void *context, int type)`.
        let open = unsafe { self.library.get::<Open>(b"zmq_socket") }?;
        // SAFETY: the context is never terminated.
        let socket = unsafe { open(self.context.as_ptr(), DEALER) };
        let socket = NonNull::new(socket).ok_or("no socket")?;
        // SAFETY: `int zmq_bind (void *socket, const char *endpoint)`, and so `zmq_connect`.
        let connect = unsafe { self.library.get::<Connect>(function.as_bytes()) }?;
        // SAFETY: the socket was just opened, and the text ends with a null byte.
        let status = unsafe { connect(socket.as_ptr(), ENDPOINT.as_ptr()) };
        if status == 0 { Ok(socket) } else { Err(function.into()) }
    }
}

/// The one test of this process: what is loaded is loaded for good.
#[test]
fn socket_of_somebody_elses_is_received_from_and_sent_on() -> Tested {
    let path = support::libzmq();
    let open = || {
        // SAFETY: libzmq's initialisers have no conditions.
        unsafe { Library::open(Some(&path), RTLD_LAZY | RTLD_LOCAL) }
            .map_err(|error| format!("{error}: {}", support::ADVICE))
    };
    let owner = Owner::new(open()?)?;
    load_what_is_loaded(&path, version(&owner.library)?)?;

    let (bound, connected) = (owner.dealer("zmq_bind")?, owner.dealer("zmq_connect")?);
    // SAFETY: it was opened above and is never closed; there is one thread.
    let mut source = unsafe { Borrowed::from_address(bound, &owner) }?;
    // SAFETY: as above.
    let mut target = unsafe { Borrowed::from_address(connected, &owner) }?;

    let mut parts = Vec::new();
    assert!(!source.receive(&mut parts)?);
    assert_eq!(source.events()? & i32::from(READABLE), 0);
    assert_eq!(target.events()? & i32::from(WRITABLE), i32::from(WRITABLE));
    assert!(target.try_send(&[b"first", b"", b"last"])?);
    assert_eq!(source.events()? & i32::from(READABLE), i32::from(READABLE));
    assert!(source.receive(&mut parts)?);
    let bytes: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
    assert_eq!(bytes, [b"first".as_slice(), b"", b"last"]);
    assert!(!source.receive(&mut Vec::new())?);
    Ok(())
}

/// Only the version that is there will do; what is kept stays.
fn load_what_is_loaded(path: &Path, version: (i32, i32, i32)) -> Tested {
    let wrong = load_from_extension(path, (version.0, version.1, version.2 + 1));
    assert!(matches!(wrong, Err(ZmqError::Unavailable(text)) if text.contains("pyzmq uses")));
    load_from_extension(path, version)?;
    load(Path::new("/nowhere"))?;
    Ok(())
}

fn version(library: &Library) -> Result<(i32, i32, i32), Box<dyn Error>> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int);
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: `void zmq_version (int *major, int *minor, int *patch)`.
    let read = unsafe { library.get::<Version>(b"zmq_version") }?;
    // SAFETY: writes three integers.
    unsafe { read(&raw mut major, &raw mut minor, &raw mut patch) };
    Ok((major, minor, patch))
}
