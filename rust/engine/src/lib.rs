//! What moves messages between kernels and browsers: on the event loop, or on a thread of its own.
//!
//! ```text
//!            engine thread                            event loop
//! kernel ──► SUB ──► SharedLog ──► Outbox ──► socket
//!                      │    ▲         ▲
//!                      │    └─ cursors: replies, answers, settings
//!                      │              └─ frames of the websocket: pongs, closes, messages one by one
//!                      └──► Desk ──────────────────► what the event loop must know, in one wake-up
//! ```
//!
//! * [`SharedLog`]: a log and its cursors behind one lock, which nobody holds for longer than a slice.
//! * [`Outbox`]: the only writer of a websocket's descriptor. Whoever has something to write takes
//!   the role if it is free, and otherwise leaves it to the one who has it.
//! * [`Relay`]: a gateway's websocket, whose frames go to a browser's [`Outbox`] as they are.
//! * [`Engine`]: the thread. It owns the subscriptions, and waits for kernels, clients and times.
//! * [`Desk`]: what an event loop is told, and the descriptor that wakes it.
//!
//! There is no Python here, so nothing in this crate can ever take the interpreter's lock, or wait
//! for it.
#![deny(unsafe_code)]

mod clock;
#[cfg(unix)]
mod desk;
#[cfg(unix)]
mod engine;
#[cfg(unix)]
mod outbox;
mod part;
mod pieces;
#[cfg(unix)]
mod relay;
mod shared;
mod slice;
#[allow(unsafe_code)] // System calls on descriptors that others keep open, and signal masks.
mod sys;
#[cfg(unix)]
mod thread;
mod watcher;

pub use clock::Clock;
#[cfg(unix)]
pub use desk::{Desk, Told};
#[cfg(unix)]
pub use engine::{Engine, Stopped, Subscription};
#[cfg(unix)]
pub use outbox::{Need, Outbox};
pub use part::{Part, Received};
pub use pieces::{Rest, rest_of, send_pieces};
#[cfg(unix)]
pub use relay::{Ended, News, Relay};
pub use shared::{LogGuard, SharedLog};
pub use slice::{Slice, Taken};
pub use watcher::{Reading, Watcher};
