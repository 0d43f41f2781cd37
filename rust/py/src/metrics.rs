//! What all logs of the process have counted, for whoever publishes it.
//!
//! Nothing is added up before it is asked for. What a log has counted stays when it is gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use kernelwire_core::log::{Batches, ByChannel, Count, Load, Tally};
use kernelwire_engine::SharedLog;
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::errors::contained;

/// The channels on which clients send.
const FROM_CLIENTS: [&str; 3] = ["shell", "stdin", "control"];

static LOGS: LazyLock<Mutex<Logs>> = LazyLock::new(Mutex::default);
static FROM_CLIENT: LazyLock<Mutex<ByChannel>> = LazyLock::new(Mutex::default);
static WAKEUPS: AtomicU64 = AtomicU64::new(0);

/// The logs that there are, and what those have counted that are gone.
#[derive(Default)]
struct Logs {
    live: BTreeMap<u64, Weak<SharedLog>>,
    next: u64,
    retired: Tally,
}

/// A log whose counts are kept when this is dropped.
pub(crate) struct Counted {
    log: Arc<SharedLog>,
    number: u64,
    process: u32,
}

impl Counted {
    pub(crate) fn new(log: Arc<SharedLog>) -> Self {
        let mut logs = LOGS.lock();
        let number = logs.next;
        logs.next = number.saturating_add(1);
        logs.live.insert(number, Arc::downgrade(&log));
        Self { log, number, process: std::process::id() }
    }

    pub(crate) fn log(&self) -> &Arc<SharedLog> {
        &self.log
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // In a process that was forked from this one, the engine may seem to have the lock for ever.
        if self.process == std::process::id() {
            let mut logs = LOGS.lock();
            logs.live.remove(&self.number);
            logs.retired += self.log.lock().tally();
        }
    }
}

/// Notes that the event loop was woken to receive something, or because the engine has told it.
pub(crate) fn note_wakeup() {
    WAKEUPS.fetch_add(1, Ordering::Relaxed);
}

/// Notes a message from a client.
pub(crate) fn note_request(channel: &str, bytes: usize) {
    let count = Count { messages: 1, bytes: bytes as u64 };
    FROM_CLIENT.lock().add(channel.as_bytes(), count);
}

/// Counts a message from a client that was not read natively.
#[pyfunction]
pub(crate) fn count_request(channel: &str, size: usize) {
    note_request(channel, size);
}

/// A metric, the values of its labels, and what it is now.
type Sample = (&'static str, Vec<String>, u64);

/// What was counted, and what waits right now.
#[pyfunction]
pub(crate) fn read_metrics() -> PyResult<Vec<Sample>> {
    contained(|| {
        let (tally, load) = {
            let logs = LOGS.lock();
            let (mut tally, mut load) = (logs.retired, Load::default());
            for log in logs.live.values().filter_map(Weak::upgrade) {
                let core = log.lock();
                tally += core.tally();
                load += core.load();
            }
            (tally, load)
        };
        let mut samples = counted(&tally);
        samples.extend(waiting(&load));
        samples.push(("wakeups", vec!["loop".to_owned()], WAKEUPS.load(Ordering::Relaxed)));
        Ok(samples)
    })
}

fn counted(tally: &Tally) -> Vec<Sample> {
    let from_client = *FROM_CLIENT.lock();
    let from_client = from_client.iter().filter(|(channel, _)| FROM_CLIENTS.contains(channel));
    let directions = [("from_kernel", tally.received), ("to_client", tally.sent)];
    let channels = directions.iter().flat_map(|(direction, channels)| {
        channels.iter().map(move |(channel, count)| (channel, *direction, count))
    });
    let channels =
        channels.chain(from_client.map(|(channel, count)| (channel, "from_client", count)));
    let mut samples: Vec<Sample> = channels
        .flat_map(|(channel, direction, Count { messages, bytes })| {
            let labels = || vec![channel.to_owned(), direction.to_owned()];
            [("messages", labels(), messages), ("message_bytes", labels(), bytes)]
        })
        .collect();
    let named = |metric, name: &str, count| (metric, vec![name.to_owned()], count);
    samples.extend([
        named("merged_messages", "text", tally.merged),
        named("merged_messages", "update", tally.superseded),
    ]);
    samples.extend(tally.dropped().map(|(name, count)| named("dropped_messages", name, count)));
    let handed_over = tally.handed_over();
    samples.extend(handed_over.map(|(name, count)| named("handed_over_messages", name, count)));
    samples.extend([
        ("waited_messages", Vec::new(), tally.waited),
        ("duplicate_messages", Vec::new(), tally.duplicate),
        ("drop_notices", Vec::new(), tally.notices),
    ]);
    samples.extend(batches(&tally.batches));
    samples
}

/// How many batches have so many messages or fewer, and how many messages all of them have.
fn batches(batches: &Batches) -> Vec<Sample> {
    let bounds =
        Batches::BOUNDS.iter().map(|bound| format!("{bound}.0")).chain([String::from("+Inf")]);
    let counts = batches.counts().iter().scan(0, |sum: &mut u64, count| {
        *sum = sum.saturating_add(*count);
        Some(*sum)
    });
    let sizes = bounds.zip(counts).map(|(bound, count)| ("batch_messages", vec![bound], count));
    sizes.chain([("batch_messages", vec![String::from("sum")], batches.messages())]).collect()
}

fn waiting(load: &Load) -> [Sample; 7] {
    [
        ("pending_messages", load.pending_messages),
        ("pending_bytes", load.pending_bytes),
        ("backlog_bytes", load.backlog_bytes),
        ("sessions_away", load.away),
        ("held_messages", load.held),
        ("log_entries", load.entries),
        ("log_bytes", load.memory),
    ]
    .map(|(metric, number)| (metric, Vec::new(), number))
}
