//! Sending and receiving on a TCP socket that somebody else keeps open.

/// What became of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// So many bytes were taken; 0 where the socket would have had to wait.
    Taken(usize),
    /// The connection is broken; the error's number.
    Broken(i32),
}

/// What became of an attempt to receive.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// So many bytes have come.
    Bytes(usize),
    /// Nothing has: the socket would have had to wait.
    Nothing,
    /// The peer has ended the stream, or there is none.
    End,
    /// The connection is broken; the error's number.
    Broken(i32),
}

/// Receives what has come to the socket `descriptor`, up to the size of `buffer`, without waiting.
///
/// The caller sees to it that the socket stays open meanwhile.
#[cfg(unix)]
pub(crate) fn receive(descriptor: i32, buffer: &mut [u8]) -> Came {
    use std::os::fd::BorrowedFd;

    use rustix::io::Errno;
    use rustix::net::{RecvFlags, recv};

    if descriptor < 0 {
        return Came::End;
    }
    // SAFETY: it is not -1, and open as long as it is used here: see above.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    loop {
        return match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Came::End,
            Ok((bytes, _)) => Came::Bytes(bytes),
            Err(Errno::AGAIN) => Came::Nothing,
            Err(Errno::INTR) => continue,
            Err(error) => Came::Broken(error.raw_os_error()),
        };
    }
}

/// Has the system acknowledge at once what has come to the socket `descriptor`, which the caller keeps
/// open, and go on as ever with what comes next; nothing happens where it cannot be told to.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn acknowledge(descriptor: i32) {
    /// Not 1, with which it would acknowledge everything at once for a while. Source: Linux,
    /// `__tcp_sock_set_quickack`.
    static ONCE: libc::c_int = 2;
    #[allow(clippy::cast_possible_truncation)] // 4
    const SIZE: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;
    let value: *const libc::c_int = &raw const ONCE;
    // SAFETY: the value is as large as is said, and is read before the call returns. A descriptor that
    // is not a TCP socket's is an error, which is of no interest.
    unsafe {
        libc::setsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_QUICKACK, value.cast(), SIZE)
    };
}

/// Does nothing: there is no such option.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn acknowledge(_descriptor: i32) {}

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
