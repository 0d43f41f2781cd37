//! A kernel that does nothing but publish, so fast that it is not what limits a benchmark.
//!
//! The same as `kernelwire.bench.flood_kernel`, which says how it is driven; every message of a
//! flood is built and signed before the first is sent. Signatures of requests are not checked: the
//! only peer is the benchmark.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kernelwire_core::message::parts::{DELIMITER, Parts};
use kernelwire_relay::connection::{Connection, Signer, hex};
use kernelwire_relay::order::Order;
use kernelwire_zmq::{Context, Kind, Message, Polled, READABLE, Socket, load, option, poll};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How often an idle kernel looks whether the server that started it is still there.
const POLL: Duration = Duration::from_secs(1);

/// Which of a message's parts is the content.
const CONTENT: usize = 3;

/// A message ready to be sent: everything behind the topic and the delimiter.
type Prepared = Vec<Vec<u8>>;

struct Kernel {
    shell: Socket,
    control: Socket,
    iopub: Socket,
    signer: Signer,
    session: String,
    sent: u64,
}

/// A message that arrived on shell or control.
struct Request {
    identities: Vec<Vec<u8>>,
    header: Vec<u8>,
    content: Value,
    kind: String,
}

impl Request {
    fn new(frames: &[Message]) -> Result<Self> {
        let parts = Parts::split(frames)?;
        let header: Value = serde_json::from_slice(parts.header())?;
        let kind = header.get("msg_type").and_then(Value::as_str).context("no msg_type")?;
        let before = frames.iter().map(AsRef::as_ref).take_while(|frame| *frame != DELIMITER);
        Ok(Self {
            identities: before.map(<[u8]>::to_vec).collect(),
            header: parts.header().to_vec(),
            content: serde_json::from_slice(parts.content())?,
            kind: kind.to_owned(),
        })
    }
}

impl Kernel {
    fn open(context: &Context, connection: &Connection) -> Result<Self> {
        let mut iopub = context.socket(Kind::Publish)?;
        // No limit: a slow server must not be flattered by what the publisher throws away.
        iopub.set(option::SNDHWM, 0)?;
        iopub.set(option::LINGER, 1000)?;
        iopub.bind(&connection.endpoint(connection.iopub_port))?;
        Ok(Self {
            shell: router(context, connection, connection.shell_port)?,
            control: router(context, connection, connection.control_port)?,
            iopub,
            signer: connection.signer()?,
            session: format!("flood-{}", std::process::id()),
            sent: 0,
        })
    }

    /// Serves until a `shutdown_request` arrives or the server is gone.
    fn run(&mut self) -> Result<()> {
        let parent = rustix::process::getppid();
        let mut frames = Vec::new();
        while rustix::process::getppid() == parent {
            let sockets = [&mut self.control, &mut self.shell];
            poll(&mut sockets.map(|socket| Polled::new(socket, READABLE)), Some(POLL))?;
            for is_control in [true, false] {
                while self.socket(is_control).receive(&mut frames)? {
                    if !self.answer(&Request::new(&frames)?, is_control)? {
                        return Ok(());
                    }
                    frames.clear();
                }
            }
        }
        Ok(())
    }

    fn socket(&mut self, is_control: bool) -> &mut Socket {
        if is_control { &mut self.control } else { &mut self.shell }
    }

    /// Busy, whatever the request asks for, reply, idle; `false` when it was the last.
    fn answer(&mut self, request: &Request, is_control: bool) -> Result<bool> {
        self.publish(request, "status", &json!({"execution_state": "busy"}))?;
        let content = match request.kind.as_str() {
            "execute_request" => Some(self.flood(request)?),
            "comm_msg" => {
                self.publish(request, "comm_msg", &request.content)?;
                None // as the protocol has it
            }
            "complete_request" => Some(json!({
                "status": "ok", "matches": [], "cursor_start": 0, "cursor_end": 1, "metadata": {},
            })),
            "shutdown_request" => {
                let restart = request.content.get("restart").cloned().unwrap_or_default();
                Some(json!({"status": "ok", "restart": restart}))
            }
            _ => Some(kernel_info()),
        };
        if let Some(content) = content {
            let kind = request.kind.replace("_request", "_reply");
            let parts = self.build(&kind, request, content.to_string(), None);
            let identities = request.identities.iter().map(Vec::as_slice);
            let frames = identities.chain([DELIMITER]).chain(parts.iter().map(Vec::as_slice));
            self.socket(is_control).send(frames)?;
        }
        self.publish(request, "status", &json!({"execution_state": "idle"}))?;
        Ok(request.kind != "shutdown_request")
    }

    fn publish(&mut self, request: &Request, kind: &str, content: &Value) -> Result<()> {
        let parts = self.build(kind, request, content.to_string(), None);
        self.emit_one(kind.as_bytes(), &parts)
    }

    fn emit_one(&mut self, topic: &[u8], parts: &Prepared) -> Result<()> {
        let parts = parts.iter().map(Vec::as_slice);
        Ok(self.iopub.send([topic, DELIMITER].into_iter().chain(parts))?)
    }

    /// Signature and parts of a message.
    fn build(
        &mut self,
        kind: &str,
        parent: &Request,
        content: String,
        buffer: Option<Vec<u8>>,
    ) -> Prepared {
        self.sent += 1;
        let header = format!(
            concat!(
                r#"{{"msg_id": "{session}_{number}", "msg_type": "{kind}", "username": "flood", "#,
                r#""session": "{session}", "date": "2026-01-01T00:00:00.123456Z", "version": "5.3"}}"#,
            ),
            session = self.session,
            number = self.sent,
            kind = kind,
        );
        let mut parts =
            vec![header.into_bytes(), parent.header.clone(), b"{}".to_vec(), content.into_bytes()];
        let signature = self.signer.sign(&parts).into_bytes();
        parts.extend(buffer);
        parts.insert(0, signature);
        parts
    }

    /// Carries out one order and says in the reply what was sent, and when.
    fn flood(&mut self, request: &Request) -> Result<Value> {
        let code = request.content.get("code").and_then(Value::as_str).context("no code")?;
        let order: Order = serde_json::from_str(code).context(code.to_owned())?;
        let (mut digest, mut contents) = (Sha256::new(), Sha256::new());
        let mut messages = Vec::with_capacity(order.count);
        for number in 0..order.count {
            let (kind, content) = order.content(number)?;
            let parts = self.build(kind, request, content, order.buffer(number));
            for (index, part) in parts.iter().skip(1).enumerate() {
                digest.update(part.len().to_le_bytes());
                digest.update(part);
                if index == CONTENT {
                    contents.update(part.len().to_le_bytes());
                    contents.update(part);
                }
            }
            messages.push((kind.as_bytes(), parts));
        }
        let sent_ns = self.emit(&order, &messages)?;
        let finished_ns = monotonic_ns();
        Ok(json!({
            "status": "ok", "execution_count": 1, "user_expressions": {},
            "flood": {
                "count": order.count,
                "digest": hex(&digest.finalize()),
                "content_digest": hex(&contents.finalize()),
                "started_ns": sent_ns.first(),
                "finished_ns": finished_ns,
                "sent_ns": sent_ns,
            },
        }))
    }

    /// Sends; returns the send times in ns (only the first one if there is no schedule).
    fn emit(&mut self, order: &Order, messages: &[(&[u8], Prepared)]) -> Result<Vec<u64>> {
        wait_until(order.start_ns);
        let started = monotonic_ns();
        let mut sent_ns = Vec::new();
        for (number, (topic, parts)) in messages.iter().enumerate() {
            if order.rate > 0.0 {
                // Absolute times: a late message must not delay all that follow.
                wait_until(started + schedule_ns(number, order.rate));
                sent_ns.push(monotonic_ns());
            }
            self.emit_one(topic, parts)?;
        }
        if order.rate <= 0.0 {
            sent_ns.push(started);
        }
        Ok(sent_ns)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a few seconds in nanoseconds"
)]
fn schedule_ns(number: usize, rate: f64) -> u64 {
    (number as f64 * 1e9 / rate) as u64
}

fn kernel_info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": "flooder",
        "implementation_version": "1",
        "language_info": {
            "name": "json", "mimetype": "application/json", "file_extension": ".json", "version": "1",
        },
        "banner": "",
        "help_links": [],
    })
}

fn router(context: &Context, connection: &Connection, port: u16) -> Result<Socket> {
    let mut socket = context.socket(Kind::Router)?;
    // A reconnecting websocket keeps its identity; without handover the new peer gets no reply.
    socket.set(option::ROUTER_HANDOVER, 1)?;
    socket.set(option::LINGER, 1000)?;
    socket.bind(&connection.endpoint(port))?;
    Ok(socket)
}

/// What Python calls `time.monotonic_ns()`.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or_default()
}

fn wait_until(deadline_ns: u64) {
    let left = deadline_ns.saturating_sub(monotonic_ns());
    if left > 0 {
        thread::sleep(Duration::from_nanos(left));
    }
}

fn serve(connection: &Path) -> Result<()> {
    let connection = Connection::read(connection)?;
    let context = Context::new()?;
    let mut heart = router(&context, &connection, connection.hb_port)?;
    let stdin = router(&context, &connection, connection.stdin_port)?;
    // On a thread of its own, where a flood cannot delay it; it ends with the process.
    thread::spawn(move || heart.echo());
    let mut kernel = Kernel::open(&context, &connection)?;
    kernel.run()?;
    drop((kernel, stdin));
    // What is still to be sent, such as the reply to the shutdown, is sent by libzmq's thread. The
    // heart beats in the context until the process ends, so the context cannot be ended.
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(libzmq), Some(connection)) = (arguments.next(), arguments.next()) else {
        bail!("usage: flooder LIBZMQ CONNECTION_FILE");
    };
    load(&libzmq)?;
    serve(&connection)
}
