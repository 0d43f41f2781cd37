//! Where output waits for its turn, a front end shows the same in the end as if nothing had waited.
//!
//! A log has one client, which reads by bits, takes what it gets slowly, goes and comes back, while the
//! kernel speaks for three requests and the limits change. What arrives is shown by a model of a front
//! end, and so is everything that was sent, in its order: both must look alike. What was skipped is
//! counted and reported, and what is left shows what it would have shown without waiting.
//!
//! Whether it was skipped rightly is not asked here: `tests/log/pacing.rs` has single expectations.
#![allow(missing_docs)]

#[path = "../properties/log/frames.rs"]
mod frames;
mod model;
mod order;
mod wire;
mod world;

use kernelwire_core::limit::Limits;
use kernelwire_core::log::{Overflow, Protocol, Rules, Settings};
use model::Said;
use proptest::prelude::*;
use world::{Step, World};

fn limits(messages: f64, bytes: f64, window: f64) -> Limits {
    Limits { messages, bytes, window }
}

fn any_limits() -> impl Strategy<Value = Option<Limits>> {
    prop_oneof![
        6 => Just(Some(limits(3.0, 0.0, 1.0))),
        2 => Just(Some(limits(3.0, 2_000.0, 1.0))),
        1 => Just(Some(limits(0.0, 1_000.0, 0.5))),
        1 => Just(Some(limits(20.0, 0.0, 0.25))),
        1 => Just(Some(limits(0.1, 0.0, 3.0))),
        1 => Just(Some(limits(1e12, 1e12, 3.0))),
        1 => Just(Some(limits(0.0, 0.0, 3.0))),
        1 => Just(Some(limits(5.0, 5.0, 0.0))),
        1 => Just(None),
    ]
}

/// What a client wants: some wait without end, some have little patience or room.
fn settings() -> impl Strategy<Value = Settings> {
    let skips = prop_oneof![
        4 => Just((f64::INFINITY, u64::MAX)),
        1 => Just((2.0, u64::MAX)),
        1 => Just((f64::INFINITY, 40_000)),
    ];
    let modes = prop_oneof![
        3 => Just((Protocol::V1, false)),
        3 => Just((Protocol::Default, false)),
        1 => Just((Protocol::V1, true)),
    ];
    (any_limits(), skips, modes).prop_map(|(limits, (patience, bound), (protocol, one_by_one))| {
        let overflow = Overflow::Pace;
        let rules = Rules { limits, overflow, patience, hide_tracebacks: false, one_by_one };
        Settings { protocol, rules, bound }
    })
}

/// Text is short most of the time; the longest is more than may be in flight.
fn text() -> impl Strategy<Value = Said> {
    let size = prop_oneof![16 => 0..40_usize, 4 => 500..4_000_usize, 1 => Just(70_000_usize), 1 => Just(280_000)];
    (any::<bool>(), size).prop_map(|(stderr, size)| Said::Text { stderr, size })
}

fn output() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => text(),
        3 => proptest::option::of(0..2_u8).prop_map(Said::Display),
        4 => (0..2_u8).prop_map(Said::Update),
        2 => any::<bool>().prop_map(|wait| Said::Clear { wait }),
        1 => Just(Said::Error),
        1 => proptest::option::of(0..2_u8).prop_map(Said::Result),
    ]
}

fn comm() -> impl Strategy<Value = Said> {
    let comm = 0..2_u8;
    prop_oneof![
        2 => comm.clone().prop_map(Said::Open),
        8 => (comm.clone(), 1..4_u8).prop_map(|(id, keys)| Said::Set(id, keys != 2, keys >= 2)),
        3 => (comm.clone(), 0..4_u8).prop_map(|(id, of)| Said::Capture(id, of)),
        2 => comm.clone().prop_map(Said::Custom),
        1 => comm.clone().prop_map(Said::Echo),
        1 => comm.prop_map(Said::Close),
    ]
}

fn status() -> impl Strategy<Value = Said> {
    prop_oneof![
        2 => Just(Said::Status { idle: false }),
        2 => Just(Said::Status { idle: true }),
        1 => Just(Said::Input),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let request = 1..4_u8;
    let say = |said: BoxedStrategy<Said>| {
        (request.clone(), said).prop_map(|(of, said)| Step::Say(of, said))
    };
    let pause =
        prop_oneof![6 => 0.0..1.0_f64, 2 => Just(0.05), 1 => 1.0..10.0_f64, 1 => -20.0..0.0_f64];
    prop_oneof![
        20 => say(output().boxed()),
        14 => say(comm().boxed()),
        4 => say(status().boxed()),
        1 => Just(Step::Announce),
        1 => request.clone().prop_map(Step::Ask),
        4 => (1..10_usize, 1..3_000_u64).prop_map(|(messages, bytes)| Step::Read(messages, bytes)),
        4 => Just(Step::Read(10_000, u64::MAX)),
        4 => (1..3_000_usize).prop_map(Step::Write),
        3 => Just(Step::Write(usize::MAX)),
        5 => pause.prop_map(Step::Pass),
        1 => settings().prop_map(Step::Back),
        1 => prop_oneof![
            2 => Just(Step::Away), 1 => settings().prop_map(Step::Apply), 1 => Just(Step::Interrupt)
        ],
    ]
}

/// Both comms are open, and the first request has shown a display, before anything happens.
const BEGINNING: [Step; 3] = [
    Step::Say(1, Said::Open(0)),
    Step::Say(1, Said::Open(1)),
    Step::Say(1, Said::Display(Some(0))),
];

proptest! {
    #[test]
    fn a_front_end_shows_in_the_end_what_it_would_show_without_waiting(
        first in settings(), last in settings(), signs in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        let mut world = World::new(first, signs);
        for step in BEGINNING.iter().chain(&steps) {
            world.step(step);
        }
        world.finish(last);
    }
}
