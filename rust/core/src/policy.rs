//! One table of message types: what the limiter, the merging and the bounds may do with each.
//!
//! Whatever asks how a type of `iopub` message is treated asks [`of`]. The Python side reads the
//! same table through the extension module.
//!
//! Source: the exemptions of `ZMQChannelsWebsocketConnection._limit_rate` of Jupyter Server; the
//! rest is kernelwire's own, see COMPATIBILITY.md.

/// When a message is dropped where not everything fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropPriority {
    /// Never: without it a front end would stay in a wrong state.
    Never,
    /// When nothing of [`Self::High`] is left.
    Low,
    /// First.
    High,
}

/// Whether the rate limiter counts a message, and may withhold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Never.
    Exempt,
    /// Under stock's rules only: kernelwire's own never withhold it.
    StockOnly,
    /// Always.
    Counted,
}

/// What a message that waits may be merged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Nothing.
    Never,
    /// Text of the same parent and stream that follows it directly.
    Text,
    /// A later update of the same display, which takes its place.
    Update,
    /// A later update of the same comm, which takes its place.
    Comm,
}

/// How messages of one type are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The type; empty for all types that the table does not name.
    pub msg_type: &'static str,
    /// Whether the rate limiter counts it.
    pub limited: Limited,
    /// Whether its bytes count towards the data rate.
    pub counts_bytes: bool,
    /// Whether it may be delayed while a client is over its rate.
    pub may_wait: bool,
    /// What it may be merged with while it waits.
    pub merge: Merge,
    /// When it is dropped.
    pub drop: DropPriority,
}

/// Output: counted, may wait, dropped first.
const OUTPUT: Policy = Policy {
    msg_type: "",
    limited: Limited::Counted,
    counts_bytes: false,
    may_wait: true,
    merge: Merge::Never,
    drop: DropPriority::High,
};

/// What a front end needs to stay consistent: stock limits it, kernelwire drops it last.
const RESULT: Policy = Policy { limited: Limited::StockOnly, drop: DropPriority::Low, ..OUTPUT };

/// A type that no table names, in a header that could be read.
pub static OTHER: Policy = OUTPUT;

/// A message whose type cannot be read without Python.
pub static UNREADABLE: Policy = Policy { drop: DropPriority::Low, ..OUTPUT };

/// A reply, or a request for input: it belongs to one client, and is never limited or dropped.
pub static REPLY: Policy =
    Policy { limited: Limited::Exempt, may_wait: false, drop: DropPriority::Never, ..OUTPUT };

/// The types that are treated in a way of their own, in alphabetical order.
pub static TABLE: [Policy; 12] = [
    Policy { msg_type: "clear_output", limited: Limited::StockOnly, ..OUTPUT },
    Policy { msg_type: "comm_close", ..RESULT },
    Policy { msg_type: "comm_msg", merge: Merge::Comm, ..OUTPUT },
    Policy { msg_type: "comm_open", limited: Limited::Exempt, ..RESULT },
    // A debugger that misses a stop or a continue shows the wrong state for good.
    Policy { msg_type: "debug_event", may_wait: false, drop: DropPriority::Never, ..OUTPUT },
    Policy { msg_type: "display_data", ..OUTPUT },
    Policy { msg_type: "error", ..RESULT },
    Policy { msg_type: "execute_input", limited: Limited::Exempt, may_wait: false, ..RESULT },
    Policy { msg_type: "execute_result", ..RESULT },
    Policy {
        msg_type: "status",
        limited: Limited::Exempt,
        may_wait: false,
        drop: DropPriority::Never,
        ..OUTPUT
    },
    Policy { msg_type: "stream", counts_bytes: true, merge: Merge::Text, ..OUTPUT },
    Policy { msg_type: "update_display_data", merge: Merge::Update, ..OUTPUT },
];

/// How a type of `iopub` message is treated.
#[must_use]
pub fn of(msg_type: &str) -> &'static Policy {
    let found = TABLE.binary_search_by(|policy| policy.msg_type.cmp(msg_type));
    found.ok().and_then(|index| TABLE.get(index)).unwrap_or(&OTHER)
}

impl Policy {
    /// Whether the limits apply to it: stock's, or kernelwire's own where output is paced.
    #[must_use]
    pub fn is_limited(&self, paced: bool) -> bool {
        match self.limited {
            Limited::Exempt => false,
            Limited::StockOnly => !paced,
            Limited::Counted => true,
        }
    }

    /// Whether it may be dropped.
    #[must_use]
    pub fn is_droppable(&self) -> bool {
        self.drop != DropPriority::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_type_finds_itself() {
        assert!(TABLE.is_sorted_by(|a, b| a.msg_type < b.msg_type));
        for policy in &TABLE {
            assert_eq!(of(policy.msg_type), policy);
        }
        assert_eq!(of("anything else"), &OTHER);
        assert_eq!(of(""), &OTHER);
    }

    #[test]
    fn stock_exempts_three_types() {
        let exempt = TABLE.iter().filter(|policy| !policy.is_limited(false));
        let names: Vec<_> = exempt.map(|policy| policy.msg_type).collect();
        assert_eq!(names, ["comm_open", "execute_input", "status"]);
    }

    #[test]
    fn pacing_exempts_four_more() {
        let more = TABLE.iter().filter(|policy| policy.limited == Limited::StockOnly);
        let names: Vec<_> = more.map(|policy| policy.msg_type).collect();
        assert_eq!(names, ["clear_output", "comm_close", "error", "execute_result"]);
    }

    #[test]
    fn only_stream_output_counts_bytes() {
        let names: Vec<_> = TABLE
            .iter()
            .filter(|policy| policy.counts_bytes)
            .map(|policy| policy.msg_type)
            .collect();
        assert_eq!(names, ["stream"]);
    }
}
