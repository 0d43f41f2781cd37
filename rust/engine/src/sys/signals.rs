//! A thread to which no signal is delivered.

use std::mem::MaybeUninit;
use std::ptr;

/// Calls `start` with all signals blocked, which a thread that it starts inherits.
///
/// Signals are Python's: its main thread is to be interrupted by them, in whatever it waits.
pub(crate) fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set may be written, and is initialised by this.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the first set is initialised, the second may be written; the mask is this thread's.
    let status =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = start();
    if status == 0 {
        // SAFETY: the call before has succeeded, and has initialised the set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
    result
}
