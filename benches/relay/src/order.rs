//! What a flooding kernel can be told to emit; the same orders as the kernel in Python understands
//! (`kernelwire.bench.flood_kernel`), and the same content.

use std::iter;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// What the code of an `execute_request` asks for.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// `stream`, `display_data`, `comm_msg`, or `notebook` for [`TRACE`].
    pub emit: String,
    /// How many messages.
    pub count: usize,
    /// Bytes of text in one message; a notebook has its own sizes.
    pub size: usize,
    /// Messages per second on an absolute schedule; 0 means as fast as possible.
    pub rate: f64,
    /// Bytes of one binary buffer per message; 0 means none.
    pub buffer: usize,
    /// Not before this time on the monotonic clock.
    pub start_ns: u64,
}

impl Default for Order {
    fn default() -> Self {
        Self { emit: "stream".to_owned(), count: 1, size: 100, rate: 0.0, buffer: 0, start_ns: 0 }
    }
}

/// What a cell of a notebook says, over and over: type, and bytes of text.
const TRACE: [(&str, usize); 12] = [
    ("execute_input", 200),
    ("stream", 40),
    ("stream", 40),
    ("stream", 80),
    ("stream", 1_000),
    ("display_data", 2_000),
    ("stream", 60),
    ("display_data", 30_000),
    ("update_display_data", 500),
    ("update_display_data", 500),
    ("execute_result", 300),
    ("error", 1_500),
];

impl Order {
    /// Type and content of message `number`.
    pub fn content(&self, number: usize) -> Result<(&str, String)> {
        let (kind, size) = match self.emit.as_str() {
            "notebook" => *TRACE.get(number % TRACE.len()).context("a trace is not empty")?,
            other => (other, self.size),
        };
        let mut text = format!("seq{number:08} ");
        text.extend(iter::repeat_n('x', size.saturating_sub(text.len())));
        let content = match kind {
            "execute_input" => format!(r#"{{"code": "{text}", "execution_count": 1}}"#),
            "stream" => format!(r#"{{"name": "stdout", "text": "{text}"}}"#),
            "display_data" | "update_display_data" => format!(
                r#"{{"data": {{"text/plain": "{text}"}}, "metadata": {{}}, "transient": {{"display_id": "flood"}}}}"#
            ),
            "execute_result" => format!(
                r#"{{"data": {{"text/plain": "{text}"}}, "metadata": {{}}, "execution_count": 1}}"#
            ),
            "error" => format!(r#"{{"ename": "Flood", "evalue": "{text}", "traceback": []}}"#),
            "comm_msg" => format!(r#"{{"comm_id": "flood", "data": {{"text": "{text}"}}}}"#),
            _ => bail!("emit must be stream, display_data, comm_msg or notebook, not {kind:?}"),
        };
        Ok((kind, content))
    }

    /// The buffer of message `number`, if it has one; it starts with the number.
    #[must_use]
    pub fn buffer(&self, number: usize) -> Option<Vec<u8>> {
        (self.buffer > 0).then(|| {
            let mut buffer = vec![0xa5; self.buffer.max(8)];
            if let Some(head) = buffer.first_chunk_mut() {
                *head = number.to_le_bytes();
            }
            buffer.truncate(self.buffer);
            buffer
        })
    }
}
