//! What a front end shows, as JupyterLab and its widget manager do.
//!
//! It is fed with messages and remembers what can be seen of them: which ones stand where.

use std::collections::{BTreeMap, BTreeSet};

/// What a message says; displays, comms and keys have numbers for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Text on one of two streams, of so many bytes.
    Text {
        stderr: bool,
        size: usize,
    },
    Display(Option<u8>),
    Update(u8),
    Clear {
        wait: bool,
    },
    Open(u8),
    /// An `update` of a comm: whether it sets the first key, and the second.
    Set(u8, bool, bool),
    /// An `update` of an Output widget: it shows what this request says, or no longer does.
    Capture(u8, u8),
    Custom(u8),
    Echo(u8),
    Close(u8),
    Error,
    Result(Option<u8>),
    Input,
    Status {
        idle: bool,
    },
}

/// A message that was appended. Request 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) number: usize,
    pub(crate) request: u8,
    pub(crate) said: Said,
}

/// Where output stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Cell(u8),
    /// The widget that was opened by this message.
    Widget(usize),
}

/// Output, by the numbers of the messages that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Output {
    Text { stderr: bool, of: Vec<usize> },
    Display(Option<u8>, usize),
    Error(usize),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Area {
    outputs: Vec<Output>,
    /// Whether it is cleared as soon as there is something new.
    clears: bool,
}

impl Area {
    fn add(&mut self, output: Output) {
        if std::mem::take(&mut self.clears) {
            self.outputs.clear();
        }
        match (self.outputs.last_mut(), output) {
            (Some(Output::Text { stderr, of }), Output::Text { stderr: same, of: more })
                if *stderr == same =>
            {
                of.extend(more);
            }
            (_, output) => self.outputs.push(output),
        }
    }

    fn clear(&mut self, wait: bool) {
        self.clears = wait;
        if !wait {
            self.outputs.clear();
        }
    }

    fn update(&mut self, display: u8, number: usize) {
        for output in &mut self.outputs {
            if matches!(output, Output::Display(Some(id), _) if *id == display) {
                *output = Output::Display(Some(display), number);
            }
        }
    }
}

/// By which message each key was set last.
type State = BTreeMap<&'static str, usize>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Comm {
    opened: usize,
    state: State,
    captures: u8,
}

/// What can be seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontEnd {
    areas: BTreeMap<Place, Area>,
    /// Which requests have shown each display.
    shown: BTreeMap<u8, BTreeSet<u8>>,
    /// The widgets that show what a request says; the last one gets it.
    captured: BTreeMap<u8, Vec<usize>>,
    comms: BTreeMap<u8, Comm>,
    /// What an application was told, and the state that it saw then.
    told: Vec<(usize, State)>,
    /// Statuses and prompts.
    statuses: BTreeMap<u8, Vec<usize>>,
}

impl FrontEnd {
    /// What it shows behind these messages.
    pub(crate) fn of(messages: impl IntoIterator<Item = Message>) -> Self {
        let mut shows = Self::default();
        for message in messages {
            shows.take(message);
        }
        shows
    }

    fn take(&mut self, Message { number, request, said }: Message) {
        match said {
            Said::Text { stderr, .. } => {
                self.area(request).add(Output::Text { stderr, of: vec![number] });
            }
            Said::Display(id) | Said::Result(id) => {
                self.area(request).add(Output::Display(id, number));
                if let Some(id) = id {
                    self.shown.entry(id).or_default().insert(request);
                }
            }
            Said::Error => self.area(request).add(Output::Error(number)),
            Said::Clear { wait } => self.area(request).clear(wait),
            Said::Update(display) => self.update(display, number),
            Said::Input | Said::Status { .. } => {
                self.statuses.entry(request).or_default().push(number);
            }
            Said::Open(comm) => {
                self.comms.insert(comm, Comm { opened: number, ..Comm::default() });
            }
            Said::Close(comm) => drop(self.comms.remove(&comm)),
            Said::Set(..) | Said::Capture(..) | Said::Custom(_) | Said::Echo(_) => {
                self.comm(number, said);
            }
        }
    }

    fn area(&mut self, request: u8) -> &mut Area {
        let widget = self.captured.get(&request).and_then(|widgets| widgets.last());
        let place = widget.map_or(Place::Cell(request), |widget| Place::Widget(*widget));
        self.areas.entry(place).or_default()
    }

    /// An update goes to every request that has shown the display; a widget that shows what one says
    /// knows no updates.
    fn update(&mut self, display: u8, number: usize) {
        for request in self.shown.get(&display).into_iter().flatten() {
            if self.captured.get(request).is_none_or(Vec::is_empty)
                && let Some(area) = self.areas.get_mut(&Place::Cell(*request))
            {
                area.update(display, number);
            }
        }
    }

    /// What is said to a comm that is not open is for nobody.
    fn comm(&mut self, number: usize, said: Said) {
        let (Said::Set(comm, ..) | Said::Capture(comm, _) | Said::Custom(comm) | Said::Echo(comm)) =
            said
        else {
            return;
        };
        let Some(comm) = self.comms.get_mut(&comm) else { return };
        match said {
            Said::Set(_, x, y) => {
                let keys = [("x", x), ("y", y)];
                let set = keys.into_iter().filter(|(_, is_set)| *is_set);
                comm.state.extend(set.map(|(key, _)| (key, number)));
            }
            Said::Echo(_) => drop(comm.state.insert("x", number)),
            Said::Custom(_) => self.told.push((number, comm.state.clone())),
            Said::Capture(_, request) => {
                let (widget, before) = (comm.opened, comm.captures);
                comm.captures = request;
                if let Some(widgets) = self.captured.get_mut(&before).filter(|_| before != request)
                {
                    widgets.retain(|other| *other != widget);
                }
                if request != 0 && before != request {
                    self.captured.entry(request).or_default().push(widget);
                }
            }
            _ => {}
        }
    }
}
