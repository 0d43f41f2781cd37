use super::*;

const A: Option<u64> = Some(1);
const B: Option<u64> = Some(2);
const SUBSHELL: Option<u64> = Some(10);

fn shell(request: Option<u64>) -> (Kind, Origin) {
    (Kind::Shell, Origin { request, ..Origin::default() })
}

fn other(request: Option<u64>) -> (Kind, Origin) {
    (Kind::Other, Origin { request, ..Origin::default() })
}

fn subshell(request: Option<u64>) -> (Kind, Origin) {
    (Kind::Shell, Origin { request, subshell: SUBSHELL, session: None })
}

fn of_session(session: u64, kind: Kind) -> (Kind, Origin) {
    (kind, Origin { request: A, subshell: None, session: Some(session) })
}

/// The states after each of these statuses.
fn states(steps: &[((Kind, Origin), &str)]) -> Vec<String> {
    states_of(Tracker::new("idle"), steps)
}

/// The same of a tracker that has been told something before.
fn states_of(mut tracker: Tracker, steps: &[((Kind, Origin), &str)]) -> Vec<String> {
    let mut after = |((kind, origin), state): &((Kind, Origin), &str)| {
        tracker.status(*kind, state, *origin);
        tracker.state().to_owned()
    };
    steps.iter().map(&mut after).collect()
}

#[test]
fn a_request_is_busy_until_its_idle() {
    assert_eq!(states(&[(shell(A), "busy"), (shell(A), "idle")]), ["busy", "idle"]);
}

#[test]
fn another_channel_does_not_end_what_the_shell_runs() {
    let steps = [(shell(A), "busy"), (other(B), "busy"), (other(B), "idle"), (shell(A), "idle")];
    assert_eq!(states(&steps), ["busy", "busy", "busy", "idle"]);
}

#[test]
fn a_subshell_does_not_end_what_the_main_shell_runs_nor_the_reverse() {
    let steps = [
        (shell(A), "busy"),
        (subshell(B), "busy"),
        (subshell(B), "idle"),
        (subshell(B), "busy"),
        (shell(A), "idle"),
        (subshell(B), "idle"),
    ];
    assert_eq!(states(&steps), ["busy", "busy", "busy", "busy", "busy", "idle"]);
}

#[test]
fn the_next_request_of_a_shell_ends_one_whose_idle_was_lost() {
    for of in [shell, subshell] {
        let steps = [(of(A), "busy"), (of(B), "busy"), (of(B), "idle")];
        assert_eq!(states(&steps), ["busy", "busy", "idle"]);
    }
    let steps = [(other(A), "busy"), (shell(B), "busy"), (shell(B), "idle")];
    assert_eq!(states(&steps), ["busy", "busy", "idle"]);
}

#[test]
fn statuses_without_a_parent_are_the_main_shells() {
    assert_eq!(states(&[(shell(None), "busy"), (shell(None), "idle")]), ["busy", "idle"]);
    assert_eq!(states(&[(shell(A), "busy"), (shell(None), "idle")]), ["busy", "idle"]);
    assert_eq!(states(&[(shell(None), "busy"), (shell(A), "idle")]), ["busy", "idle"]);
    assert_eq!(states(&[(other(A), "busy"), (other(None), "idle")]), ["busy", "idle"]);
}

#[test]
fn a_deleted_subshell_is_idle_by_the_next_request_of_the_main_shell() {
    let steps = [
        (subshell(A), "busy"),
        ((Kind::DeletesSubshell, Origin::default()), "idle"),
        (shell(B), "busy"),
        (shell(B), "idle"),
    ];
    assert_eq!(states(&steps), ["busy", "busy", "busy", "idle"]);
}

#[test]
fn what_runs_is_known_by_its_request() {
    let mut tracker = Tracker::new("busy");
    let runs = |tracker: &Tracker| [tracker.runs(1), tracker.runs(2)];
    assert_eq!(runs(&tracker), [true, true]);
    for ((kind, origin), expected) in [
        (shell(A), [true, false]),
        (shell(B), [false, true]),
        (subshell(A), [true, true]),
        (shell(None), [true, true]),
    ] {
        tracker.status(kind, "busy", origin);
        assert_eq!(runs(&tracker), expected);
    }
    tracker.restart();
    assert_eq!(runs(&tracker), [false, false]);
}

#[test]
fn deleting_a_subshell_that_is_known_ends_nothing_in_another() {
    for (deleted, after) in [(10, "idle"), (11, "busy")] {
        let mut tracker = Tracker::new("idle");
        tracker.will_delete(5, deleted);
        let deletes = Origin { request: Some(5), ..Origin::default() };
        let steps = [
            (subshell(A), "busy"),
            ((Kind::DeletesSubshell, deletes), "busy"),
            ((Kind::DeletesSubshell, deletes), "idle"),
            (shell(B), "busy"),
            (shell(B), "idle"),
        ];
        assert_eq!(states_of(tracker, &steps).last().map(String::as_str), Some(after));
    }
}

#[test]
fn what_runs_on_control_ends_nothing_in_the_shell() {
    let mut tracker = Tracker::new("idle");
    tracker.will_run_on_control(2);
    let steps = [(shell(A), "busy"), (shell(B), "busy"), (shell(B), "idle"), (shell(A), "idle")];
    assert_eq!(states_of(tracker, &steps), ["busy", "busy", "busy", "idle"]);
}

#[test]
fn another_state_is_the_state_until_the_next_busy_or_idle() {
    let steps = [(shell(A), "busy"), (shell(A), "odd"), (shell(B), "busy"), (shell(B), "idle")];
    assert_eq!(states(&steps), ["busy", "odd", "busy", "idle"]);
}

#[test]
fn an_untracked_request_only_ends_the_start() {
    let mut tracker = Tracker::new("starting");
    tracker.status(Kind::Untracked, "starting", Origin::default());
    tracker.status(Kind::Ignored, "busy", Origin::default());
    assert_eq!(tracker.state(), "starting");
    tracker.status(Kind::Untracked, "busy", Origin::default());
    assert_eq!(tracker.state(), "idle");
    tracker.status(Kind::Shell, "busy", Origin::default());
    tracker.status(Kind::Untracked, "idle", Origin::default());
    assert_eq!(tracker.state(), "busy");
}

#[test]
fn what_the_former_process_has_sent_does_not_count_after_a_restart() {
    let mut tracker = Tracker::new("idle");
    let (kind, old) = of_session(1, Kind::Shell);
    tracker.status(kind, "busy", old);
    tracker.restart();
    tracker.status(kind, "busy", old);
    assert_eq!(tracker.state(), "starting");
    tracker.ready(Some(2));
    tracker.status(kind, "busy", old);
    assert_eq!(tracker.state(), "idle");
}

#[test]
fn a_kernel_may_keep_its_session_across_a_restart() {
    let mut tracker = Tracker::new("idle");
    let (kind, origin) = of_session(1, Kind::Shell);
    tracker.status(kind, "idle", origin);
    tracker.restart();
    tracker.ready(Some(1));
    tracker.status(kind, "busy", origin);
    assert_eq!(tracker.state(), "busy");
}

#[test]
fn a_process_that_keeps_the_session_is_met_by_its_start() {
    let mut tracker = Tracker::new("idle");
    let (kind, origin) = of_session(1, Kind::Shell);
    tracker.status(kind, "idle", origin);
    tracker.restart();
    tracker.status(kind, "starting", origin);
    tracker.status(kind, "busy", origin);
    assert_eq!(tracker.state(), "busy");
}

#[test]
fn welcomes_may_have_a_session_of_their_own() {
    let mut tracker = Tracker::new("starting");
    let (kind, origin) = of_session(1, Kind::Shell);
    let (_, welcome) = of_session(2, Kind::Shell);
    tracker.welcome(welcome);
    tracker.status(kind, "busy", origin);
    tracker.welcome(welcome);
    assert_eq!(tracker.state(), "busy");
    let (_, another) = of_session(3, Kind::Shell);
    tracker.welcome(another);
    assert_eq!(tracker.state(), "starting");
}

#[test]
fn another_process_is_met_by_its_start_or_its_welcome() {
    for welcome in [false, true] {
        let mut tracker = Tracker::new("idle");
        let (kind, old) = of_session(1, Kind::Shell);
        tracker.status(kind, "busy", old);
        let (kind, new) = of_session(2, Kind::Shell);
        if welcome {
            tracker.welcome(new);
        } else {
            tracker.status(kind, "starting", new);
        }
        assert_eq!(tracker.state(), "starting");
        assert!(tracker.take_changes().restarted);
        tracker.welcome(new);
        assert_eq!(tracker.take_changes(), Changes::default());
    }
}

#[test]
fn sessions_that_take_turns_are_one_process() {
    let mut tracker = Tracker::new("idle");
    for (session, state) in [(1, "busy"), (2, "busy"), (1, "idle"), (2, "idle")] {
        let (kind, origin) = of_session(session, Kind::Shell);
        tracker.status(kind, state, origin);
        assert_eq!(tracker.state(), state);
    }
}

#[test]
fn open_requests_are_bounded() {
    let mut tracker = Tracker::new("idle");
    for id in 0..1000 {
        let (kind, origin) = other(Some(id));
        tracker.status(kind, "busy", origin);
    }
    assert_eq!(tracker.others.len(), MAX_OPEN);
}
