//! What state a kernel is in: busy until everything that it runs has become idle.
//!
//! A kernel reports `busy` and `idle` for each request, with the request's header as the parent. The
//! last of them is not the kernel's state: requests on the control channel and in subshells begin
//! and end while a cell runs. [`Tracker`] therefore keeps the requests that are open.
//!
//! | what is reported | what follows |
//! |---|---|
//! | `busy` of a request | the request is open |
//! | `idle` of a request | the request is closed |
//! | either, of a shell request | what was open in the same shell before is closed: a shell runs one request at a time. The main shell closes comm messages and unknown requests too |
//! | `busy` without a parent's id | the main shell is busy |
//! | `idle` without a parent's id | the main shell is idle, and so is all else but the subshells |
//! | `starting`, or a welcome, of a new session | another process: nothing is open |
//! | another state | that is the state, until the next `busy` or `idle` |
//!
//! So a lost `idle` counts until the next request to the same shell, or until the next restart. A
//! subshell that was deleted while it was running may never report `idle`; what it has open then is
//! closed by the next request to the main shell. Which one was deleted is known where the request has
//! passed the server, see [`Tracker::will_delete`]; otherwise it may have been any of them.
//!
//! Ids are kept as 64-bit hashes: constant in size, whatever a kernel sends.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Open requests besides the main shell's that are kept; the oldest are forgotten first.
pub const MAX_OPEN: usize = 64;

/// Which request a message answers, and which process has sent it; hashed, see [`mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The request's `msg_id`.
    pub request: Option<u64>,
    /// The request's `subshell_id`.
    pub subshell: Option<u64>,
    /// The kernel's `session`; `None` where it is the client's, which says nothing of the process.
    pub session: Option<u64>,
}

/// Hashes an identifier.
#[must_use]
pub fn mark(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What a request means for a kernel's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It shows that the kernel is up, and changes nothing else.
    Untracked,
    /// It changes nothing.
    Ignored,
    /// It deletes a subshell, and changes nothing by itself.
    DeletesSubshell,
    /// It runs in a shell, where one request runs at a time.
    Shell,
    /// It may run beside others: a comm message, or a request of an unknown type.
    Other,
}

impl Kind {
    /// Returns the kind of a request of that type; `tracked` where it counts as activity.
    #[must_use]
    pub fn of(request_type: Option<&str>, tracked: bool) -> Self {
        match request_type {
            Some("delete_subshell_request") => Self::DeletesSubshell,
            Some(name) if is_ignored(name) => Self::Ignored,
            _ if !tracked => Self::Untracked,
            None
            | Some(
                "execute_request"
                | "complete_request"
                | "inspect_request"
                | "history_request"
                | "is_complete_request"
                | "connect_request",
            ) => Self::Shell,
            Some(_) => Self::Other,
        }
    }
}

/// Whether messages of a type, and what answers them, are neither activity nor a change of state.
#[must_use]
pub fn is_ignored(msg_type: &str) -> bool {
    let request = msg_type.strip_suffix("_request").or_else(|| msg_type.strip_suffix("_reply"));
    match request {
        Some("usage" | "create_subshell" | "delete_subshell" | "list_subshell") => true,
        _ => msg_type == "iopub_welcome",
    }
}

/// A request that has not become idle yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    request: u64,
    subshell: Option<u64>,
    /// Whether a subshell has been deleted since, which may have been this one's.
    doubtful: bool,
}

/// What has changed since this was asked last.
#[allow(clippy::struct_excessive_bools)] // Each of these facts may hold without the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A status was received that decides on the state.
    pub counted: bool,
    /// A request has begun or ended.
    pub active: bool,
    /// A status was received that shows that the kernel is up.
    pub is_up: bool,
    /// Another process reports.
    pub restarted: bool,
}

/// Follows a kernel's state.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Whether the main shell runs something.
    main: bool,
    /// What it runs, where that is known.
    main_request: Option<u64>,
    others: Vec<Open>,
    /// The last requests to delete a subshell, and which one.
    deletions: VecDeque<(u64, u64)>,
    /// The last requests that were sent on the control channel.
    on_control: VecDeque<u64>,
    /// A state that is none of busy, idle and starting.
    plain: Option<String>,
    starting: bool,
    session: Option<u64>,
    /// The session of the process before.
    former: Option<u64>,
    /// The session of the last welcome.
    welcomed: Option<u64>,
    changes: Changes,
    /// The state when changes were last taken.
    told: String,
}

impl Tracker {
    /// Follows a kernel that is in `state` now.
    #[must_use]
    pub fn new(state: &str) -> Self {
        let mut tracker = Self::default();
        tracker.set(Kind::Shell, state, Origin::default());
        tracker.take_changes();
        tracker
    }

    /// The kernel's state.
    #[must_use]
    pub fn state(&self) -> &str {
        if let Some(state) = &self.plain {
            state
        } else if self.main || !self.others.is_empty() {
            "busy"
        } else if self.starting {
            "starting"
        } else {
            "idle"
        }
    }

    /// Whether a request is running, or may be.
    #[must_use]
    pub fn runs(&self, request: u64) -> bool {
        (self.main && self.main_request.is_none_or(|id| id == request))
            || self.others.iter().any(|open| open.request == request)
    }

    /// Takes what has changed.
    pub fn take_changes(&mut self) -> Changes {
        if self.told != self.state() {
            self.told = self.state().to_owned();
        }
        std::mem::take(&mut self.changes)
    }

    /// Whether another state is to be told than was when changes were last taken, and whether there is
    /// any change.
    #[must_use]
    pub fn news(&self) -> (bool, bool) {
        let Changes { counted, is_up, restarted, .. } = self.changes;
        let is_other = counted && self.state() != self.told;
        let urgent = restarted || is_other || (is_up && self.told == "starting");
        (urgent, self.changes != Changes::default())
    }

    /// Notes a status.
    pub fn status(&mut self, kind: Kind, state: &str, origin: Origin) {
        if kind == Kind::Ignored || (self.is_former(origin) && state != "starting") {
            return;
        }
        if self.is_former(origin) {
            self.former = None; // what starts is another process, which has kept the session
        }
        let on_control = |id| self.on_control.contains(&id);
        let beside = kind == Kind::Shell && origin.request.is_some_and(on_control);
        let kind = if beside { Kind::Other } else { kind };
        match kind {
            Kind::DeletesSubshell => self.doubt_subshells(origin.request),
            Kind::Untracked if state != "starting" => {
                self.starting = false;
                self.changes.is_up = true;
            }
            Kind::Untracked | Kind::Ignored => {}
            Kind::Shell | Kind::Other => {
                if state == "starting" {
                    self.meet(origin.session);
                }
                self.changes.counted = true;
                self.changes.active |= state != "starting";
                self.set(kind, state, origin);
            }
        }
        self.session = origin.session.or(self.session);
    }

    /// Notes that a request was sent which deletes a subshell.
    pub fn will_delete(&mut self, request: u64, subshell: u64) {
        push_bounded(&mut self.deletions, (request, subshell));
    }

    /// Notes that a request was sent on the control channel: it runs beside what shells run.
    pub fn will_run_on_control(&mut self, request: u64) {
        push_bounded(&mut self.on_control, request);
    }

    /// Notes the welcome that a kernel sends to a new subscription.
    pub fn welcome(&mut self, origin: Origin) {
        // Welcomes may have a session of their own, that all subscribers get to see.
        if self.is_former(origin) || (origin.session.is_some() && origin.session == self.welcomed) {
            return;
        }
        self.meet(origin.session);
        self.session = origin.session.or(self.session);
        self.welcomed = origin.session.or(self.welcomed);
    }

    /// Forgets what was running: the kernel is being restarted.
    pub fn restart(&mut self) {
        self.former = self.session.take().or(self.former);
        self.clear();
        self.starting = true;
    }

    /// Takes a restart back: the process lives on, and what it reports counts again.
    pub fn survive(&mut self) {
        self.session = self.former.take().or(self.session);
    }

    /// Notes that the kernel has answered from `session`: a starting one is up.
    pub fn ready(&mut self, session: Option<u64>) {
        if self.former == session {
            self.former = None; // a kernel that keeps its session across restarts
        }
        self.starting = false;
        self.changes.is_up = true;
    }

    fn is_former(&self, origin: Origin) -> bool {
        origin.session.is_some() && origin.session == self.former
    }

    /// Notes a session that begins; another one than before is another process.
    fn meet(&mut self, session: Option<u64>) {
        if self.session.is_some() && session.is_some() && session != self.session {
            self.restart();
            self.changes.restarted = true;
            self.changes.counted = true;
        }
    }

    fn clear(&mut self) {
        (self.main, self.plain, self.starting) = (false, None, false);
        self.others.clear();
    }

    fn set(&mut self, kind: Kind, state: &str, origin: Origin) {
        (self.plain, self.starting) = (None, false);
        match state {
            "busy" => self.open(kind, origin),
            "idle" => self.close(kind, origin),
            "starting" => {
                self.clear();
                self.starting = true;
            }
            _ => self.plain = Some(state.to_owned()),
        }
    }

    fn open(&mut self, kind: Kind, origin: Origin) {
        let Origin { request, subshell, .. } = origin;
        let Some(id) = request else {
            (self.main, self.main_request) = (true, None);
            return;
        };
        if kind == Kind::Shell {
            self.close_shell(subshell);
            if subshell.is_none() {
                self.others.retain(|open| !open.doubtful);
                (self.main, self.main_request) = (true, request);
                return;
            }
        }
        self.others.retain(|open| open.request != id);
        if self.others.len() >= MAX_OPEN {
            self.others.remove(0);
        }
        self.others.push(Open { request: id, subshell, doubtful: false });
    }

    fn close(&mut self, kind: Kind, origin: Origin) {
        if kind == Kind::Shell || origin.request.is_none() {
            self.close_shell(origin.subshell);
        } else {
            self.others.retain(|open| Some(open.request) != origin.request);
        }
    }

    /// Closes what was open in a shell; in the main one, all but what subshells may be running.
    fn close_shell(&mut self, subshell: Option<u64>) {
        if subshell.is_none() {
            self.main = false;
            self.others.retain(|open| open.subshell.is_some());
        } else {
            self.others.retain(|open| open.subshell != subshell);
        }
    }

    /// Doubts that the subshell which a request deletes will report `idle`; all, if it is not known.
    fn doubt_subshells(&mut self, request: Option<u64>) {
        let known = self.deletions.iter().find(|(id, _)| Some(*id) == request);
        let deleted = known.map(|(_, subshell)| *subshell);
        for open in &mut self.others {
            open.doubtful |=
                open.subshell.is_some() && (deleted.is_none() || open.subshell == deleted);
        }
    }
}

/// Appends to what is kept of the last [`MAX_OPEN`].
fn push_bounded<T>(kept: &mut VecDeque<T>, item: T) {
    if kept.len() >= MAX_OPEN {
        kept.pop_front();
    }
    kept.push_back(item);
}

#[cfg(test)]
mod tests;
