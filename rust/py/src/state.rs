//! Bindings of `kernelwire_core::state`.

use std::sync::Arc;

use kernelwire_core::activity::States;
use kernelwire_core::state::{self, Changes, Kind, Origin};
use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;

/// The hashes of the request's id, of its subshell, and of the kernel's session.
pub(crate) type Marks = (Option<u64>, Option<u64>, Option<u64>);

/// The origin, as Python keeps it.
pub(crate) const fn marks(origin: Origin) -> Marks {
    (origin.request, origin.subshell, origin.session)
}

fn marked(text: Option<&str>) -> Option<u64> {
    text.filter(|text| !text.is_empty()).map(state::mark)
}

/// Whether messages of a type, and what answers them, are neither activity nor a change of state.
#[pyfunction]
pub(crate) fn is_ignored(msg_type: &str) -> bool {
    state::is_ignored(msg_type)
}

/// Follows one kernel's state.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct StateTracker {
    states: Arc<Mutex<States>>,
}

impl StateTracker {
    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock()
    }

    pub(crate) fn states(&self) -> &Arc<Mutex<States>> {
        &self.states
    }
}

#[pymethods]
impl StateTracker {
    /// Follows a kernel that is in `state` now.
    #[new]
    fn new(state: &str) -> Self {
        Self { states: Arc::new(Mutex::new(States::new(state))) }
    }

    /// The kernel's state, and whether, since the last call: a status was received that decides on
    /// it, a request has begun or ended, the kernel was seen to be up, another process reports.
    fn take(&self) -> (String, bool, bool, bool, bool) {
        let mut states = self.lock();
        let Changes { counted, active, is_up, restarted } = states.tracker.take_changes();
        (states.tracker.state().to_owned(), counted, active, is_up, restarted)
    }

    /// Notes a status, with the marks that came with its event, and whether its request counts.
    fn status(&self, request_type: Option<&str>, state: &str, marks: Marks, tracked: bool) {
        let (request, subshell, session) = marks;
        let mut states = self.lock();
        states.learn(request_type, tracked);
        let kind = Kind::of(request_type, tracked);
        states.tracker.status(kind, state, Origin { request, subshell, session });
    }

    /// Whether a request is running, or may be.
    fn runs(&self, request: &str) -> bool {
        self.lock().tracker.runs(state::mark(request))
    }

    /// Notes that a request was sent which deletes a subshell.
    fn will_delete(&self, request: &str, subshell: &str) {
        self.lock().tracker.will_delete(state::mark(request), state::mark(subshell));
    }

    /// Notes that a request was sent on the control channel.
    fn will_run_on_control(&self, request: &str) {
        self.lock().tracker.will_run_on_control(state::mark(request));
    }

    /// Notes a welcome, with the marks that came with its event.
    fn welcome(&self, marks: Marks) {
        let (request, subshell, session) = marks;
        self.lock().tracker.welcome(Origin { request, subshell, session });
    }

    /// Forgets what was running: the kernel is being restarted.
    fn restart(&self) {
        self.lock().tracker.restart();
    }

    /// Takes a restart back: the process lives on, and what it reports counts again.
    fn survive(&self) {
        self.lock().tracker.survive();
    }

    /// Notes that the kernel has answered, with its session.
    #[pyo3(signature = (session))]
    fn ready(&self, session: Option<&str>) {
        self.lock().tracker.ready(marked(session));
    }

    /// Forgets which types of requests count.
    fn forget_types(&self) {
        self.lock().forget();
    }

    /// The marks of a request's id, of its subshell, and of the kernel's session.
    #[staticmethod]
    #[pyo3(signature = (request, subshell, session))]
    fn marks(request: Option<&str>, subshell: Option<&str>, session: Option<&str>) -> Marks {
        (marked(request), marked(subshell), marked(session))
    }
}
