//! Sending on a TCP socket that somebody else keeps open.

/// What became of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// So many bytes were taken; 0 where the socket would have had to wait.
    Taken(usize),
    /// The connection is broken; the error's number.
    Broken(i32),
}

/// Sends as much of `bytes` as the socket `descriptor` takes without waiting.
///
/// The caller sees to it that the socket stays open meanwhile: the event loop holds the interpreter,
/// so that nothing of Python's can close it, and an outbox is closed before its socket is.
#[cfg(unix)]
#[must_use]
pub(crate) fn send(descriptor: i32, bytes: &[u8]) -> Sent {
    use std::os::fd::BorrowedFd;

    use rustix::io::Errno;
    use rustix::net::{SendFlags, send};

    if descriptor < 0 {
        return Sent::Taken(0);
    }
    // SAFETY: it is not -1, and open as long as it is used here: see above.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // Where there is no such flag, Python has the signal ignored that a broken connection sends.
    #[cfg(not(target_vendor = "apple"))]
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    #[cfg(target_vendor = "apple")]
    let flags = SendFlags::DONTWAIT;
    loop {
        return match send(socket, bytes, flags) {
            Ok(taken) => Sent::Taken(taken),
            Err(Errno::AGAIN) => Sent::Taken(0),
            Err(Errno::INTR) => continue,
            Err(error) => Sent::Broken(error.raw_os_error()),
        };
    }
}

/// Sends nothing: the caller does.
#[cfg(not(unix))]
#[must_use]
pub(crate) fn send(_descriptor: i32, _bytes: &[u8]) -> Sent {
    Sent::Taken(0)
}

/// Ends both directions of the socket `descriptor`, which the caller keeps open.
#[cfg(unix)]
pub(crate) fn shut_down(descriptor: i32) {
    use std::os::fd::BorrowedFd;

    use rustix::net::{Shutdown, shutdown};

    if descriptor < 0 {
        return;
    }
    // SAFETY: it is not -1, and open as long as it is used here: see above.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // The peer may have ended it already.
    let _ended = shutdown(socket, Shutdown::Both);
}
