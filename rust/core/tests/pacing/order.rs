//! What may arrive before what.

use std::collections::BTreeMap;

use crate::model::{Message, Said};

/// The highest numbers of what has arrived of one request; numbers begin with 1.
#[derive(Clone, Copy, Debug, Default)]
struct Highest {
    /// Everything but updates, which may give way to later ones.
    firm: usize,
    /// The same without text, which may be joined to earlier text across updates.
    but_text: usize,
    /// Updates of comms.
    set: usize,
}

/// Asserts that nothing has overtaken what it must not.
pub(crate) fn assert_kept(arrived: &[Message]) {
    let mut requests: BTreeMap<u8, Highest> = BTreeMap::new();
    // Of all; of comms; of their messages that are no updates; of what decides where output is shown; of
    // statuses and comm messages that are no updates; of statuses without a parent.
    let (mut all, mut comms, mut plain, mut route, mut solid, mut bare) = (0, 0, 0, 0, 0, 0);
    for message in arrived {
        let Message { number, request, said } = *message;
        let highest = requests.entry(request).or_default();
        let what = || format!("{message:?} in {arrived:?}");
        assert!(route < number, "behind what decides where it is shown: {}", what());
        match said {
            Said::Update(_) => assert!(highest.firm < number, "{}", what()),
            Said::Set(..) => {
                assert!(plain < number && highest.but_text < number, "{}", what());
                (comms, highest.set) = (comms.max(number), highest.set.max(number));
            }
            Said::Open(_)
            | Said::Close(_)
            | Said::Custom(_)
            | Said::Echo(_)
            | Said::Capture(..) => {
                assert!(comms < number && highest.firm < number, "{}", what());
                assert!(highest.set < number && bare < number, "{}", what());
                (comms, plain, solid) = (number, number, solid.max(number));
                (highest.firm, highest.but_text) = (number, number);
                if matches!(said, Said::Capture(..)) {
                    assert!(all < number, "before what decides where it is shown: {}", what());
                    route = number;
                }
            }
            Said::Status { .. } | Said::Input => {
                assert!(highest.firm < number && bare < number, "{}", what());
                if request == 0 {
                    assert!(solid < number, "{}", what());
                    bare = number;
                }
                solid = solid.max(number);
                (highest.firm, highest.but_text) = (number, number);
            }
            _ => {
                assert!(highest.firm < number && highest.set < number, "{}", what());
                highest.firm = number;
                if !matches!(said, Said::Text { .. }) {
                    highest.but_text = number;
                }
            }
        }
        all = all.max(number);
    }
}
