//! Stock's rate limits, applied to each message when it comes.

use kernelwire_core::limit::Limiter;

/// Stock's decision on a message.
pub(super) fn offer(
    limiter: &mut Limiter,
    msg_type: &str,
    idle: bool,
    bytes: usize,
    now: f64,
) -> bool {
    if idle {
        limiter.reset();
    }
    if matches!(msg_type, "status" | "comm_open" | "execute_input") {
        return true;
    }
    let counted = if msg_type == "stream" { bytes } else { 0 };
    limiter.offer_silently(i64::try_from(counted).unwrap_or(i64::MAX), now)
}

/// The same, on a message that is read first.
pub(super) fn offer_parts(limiter: &mut Limiter, parts: &[Vec<u8>], now: f64) -> bool {
    let json = |index: usize| -> serde_json::Value {
        let part = parts.get(index).map_or(&b"{}"[..], Vec::as_slice);
        serde_json::from_slice(part).unwrap_or_default()
    };
    let (header, content) = (json(0), json(3));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let msg_type = text(header.get("msg_type").unwrap_or(&serde_json::Value::Null));
    let idle = content.get("execution_state").is_some_and(|state| state == "idle");
    offer(limiter, &msg_type, idle, parts.iter().map(Vec::len).sum(), now)
}
