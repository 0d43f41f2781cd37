//! A bare relay between kernels and websockets: the limit that a server in Python is compared with.
//!
//! It does what has to be done with a message and nothing else: receive from libzmq, write the v1
//! frame behind an RFC 6455 header, send. No limits, no buffering for closed tabs, no restarts, no
//! authentication, one thread besides libzmq's own. A websocket for `/api/kernels/ID/channels`
//! is connected to the kernel whose connection file is `kernel-ID.json` in the directory given.
//! Prints its port.

use std::collections::HashMap;
use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kernelwire_core::message::parts::DELIMITER;
use kernelwire_core::wire::v1;
use kernelwire_relay::connection::{Connection, Signer};
use kernelwire_relay::outgoing::Outgoing;
use kernelwire_zmq::{Context, Kind, Message as Part, Socket, load, option};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

const PROTOCOL: &str = "v1.kernel.websocket.jupyter.org";
const LISTENER: Token = Token(0);
/// Of one bridge, and so the distance between the tokens of two.
const DESCRIPTORS: usize = 5;

/// One websocket and the sockets of its kernel.
struct Bridge {
    client: WebSocket<TcpStream>,
    /// With their names on the websocket.
    channels: [(&'static [u8], Socket); 4],
    signer: Signer,
    outgoing: Outgoing,
    frames: Vec<Part>,
}

impl Bridge {
    fn open(context: &Context, stream: TcpStream, directory: &Path) -> Result<Self> {
        stream.set_nodelay(true)?;
        let (client, kernel) = handshake(stream)?;
        client.get_ref().set_nonblocking(true)?;
        let connection = Connection::read(&directory.join(format!("kernel-{kernel}.json")))?;
        let identity = format!("relay-{}", client.get_ref().peer_addr()?.port());
        let open = |kind, port| -> Result<Socket> {
            let mut socket = context.socket(kind)?;
            match kind {
                Kind::Subscribe => {
                    socket.set(option::RCVHWM, 0)?;
                    socket.set_bytes(option::SUBSCRIBE, b"")?;
                }
                // Stdin finds its way back by the identity of the shell.
                _ => socket.set_bytes(option::ROUTING_ID, identity.as_bytes())?,
            }
            socket.connect(&connection.endpoint(port))?;
            Ok(socket)
        };
        let channels: [(&'static [u8], Socket); 4] = [
            (b"iopub", open(Kind::Subscribe, connection.iopub_port)?),
            (b"shell", open(Kind::Dealer, connection.shell_port)?),
            (b"control", open(Kind::Dealer, connection.control_port)?),
            (b"stdin", open(Kind::Dealer, connection.stdin_port)?),
        ];
        let signer = connection.signer()?;
        Ok(Self { client, channels, signer, outgoing: Outgoing::default(), frames: Vec::new() })
    }

    /// The descriptors that tell of work: the client's, then those of the channels. All are
    /// edge-triggered: whoever is called does all there is.
    fn descriptors(&self) -> Result<Vec<RawFd>> {
        let mut all = vec![self.client.get_ref().as_raw_fd()];
        for (_, socket) in &self.channels {
            all.push(socket.fd()?);
        }
        Ok(all)
    }

    /// Does what descriptor `index` has told of; `false` when the client is gone.
    fn work(&mut self, index: usize) -> Result<bool> {
        if let Some(channel) = index.checked_sub(1) {
            self.forward_messages(channel..channel + 1)?;
            return Ok(true);
        }
        let open = self.forward_requests()?;
        // All of them: sending may have used up the signal that something has arrived, and what a
        // slow client did not take is still where it was.
        self.forward_messages(0..self.channels.len())?;
        Ok(open)
    }

    fn forward_messages(&mut self, channels: Range<usize>) -> Result<()> {
        self.outgoing.flush(self.client.get_mut())?;
        for (name, socket) in self.channels.get_mut(channels).unwrap_or_default() {
            let mut more = true;
            // What the client does not take stays in libzmq; its being writable again calls anew.
            while more && self.outgoing.is_empty() {
                while more && !self.outgoing.is_batch() {
                    more = socket.receive(&mut self.frames)?;
                    if more {
                        self.outgoing.push(name, &mut self.frames)?;
                    }
                }
                self.outgoing.flush(self.client.get_mut())?;
            }
        }
        Ok(())
    }

    fn forward_requests(&mut self) -> Result<bool> {
        loop {
            match self.client.read() {
                Ok(Message::Binary(payload)) => self.forward_request(&payload)?,
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Ok(false);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error).context("reading from the client"),
            }
        }
    }

    fn forward_request(&mut self, payload: &[u8]) -> Result<()> {
        let request = v1::decode(payload)?;
        let wanted = request.channel.as_bytes();
        let found = self.channels.iter_mut().skip(1).find(|(name, _)| *name == wanted);
        let (_, socket) = found.with_context(|| format!("no channel {:?}", request.channel))?;
        let signature = self.signer.sign(&request.parts);
        let head = [DELIMITER, signature.as_bytes()];
        Ok(socket.send(head.into_iter().chain(request.parts.iter().copied()))?)
    }
}

/// Does the websocket handshake; returns the kernel that the client wants.
fn handshake(stream: TcpStream) -> Result<(WebSocket<TcpStream>, String)> {
    let mut kernel = String::new();
    #[allow(clippy::result_large_err, reason = "tungstenite's signature")]
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().split('/').nth(3).unwrap_or_default().clone_into(&mut kernel);
        let protocol = HeaderValue::from_static(PROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    };
    let config = WebSocketConfig::default();
    let client = tungstenite::accept_hdr_with_config(stream, answer, Some(config))
        .map_err(|error| anyhow::anyhow!("handshake: {error}"))?;
    Ok((client, kernel))
}

/// All bridges, by the tokens of their descriptors.
struct Relay {
    context: Context,
    directory: PathBuf,
    bridges: HashMap<usize, Bridge>,
    opened: usize,
}

impl Relay {
    fn accept(&mut self, registry: &Registry, listener: &TcpListener) -> Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting"),
            };
            stream.set_nonblocking(false)?;
            let bridge = Bridge::open(&self.context, stream, &self.directory)?;
            self.opened += 1;
            let first = self.opened * DESCRIPTORS;
            for (index, descriptor) in bridge.descriptors()?.into_iter().enumerate() {
                // libzmq's descriptors are always writable: to ask would be to be told at once.
                let interest = if index == 0 {
                    Interest::READABLE | Interest::WRITABLE
                } else {
                    Interest::READABLE
                };
                registry.register(&mut SourceFd(&descriptor), Token(first + index), interest)?;
            }
            self.bridges.insert(self.opened, bridge);
            self.work(registry, first)?;
        }
    }

    fn work(&mut self, registry: &Registry, token: usize) -> Result<()> {
        let (number, index) = (token / DESCRIPTORS, token % DESCRIPTORS);
        let Some(bridge) = self.bridges.get_mut(&number) else {
            return Ok(()); // an event from before it was closed
        };
        if bridge.work(index).unwrap_or_else(report) {
            return Ok(());
        }
        for descriptor in bridge.descriptors()? {
            registry.deregister(&mut SourceFd(&descriptor))?;
        }
        self.bridges.remove(&number);
        Ok(())
    }
}

/// Ends a bridge that failed, and says why.
#[allow(clippy::needless_pass_by_value, reason = "what unwrap_or_else gives")]
fn report(error: anyhow::Error) -> bool {
    let _ = writeln!(std::io::stderr(), "closed: {error:#}");
    false
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(libzmq), Some(directory)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: relay LIBZMQ DIRECTORY");
    };
    load(&libzmq)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    let context = Context::new()?;
    let mut relay = Relay { context, directory, bridges: HashMap::new(), opened: 0 };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                LISTENER => relay.accept(poll.registry(), &listener)?,
                Token(token) => relay.work(poll.registry(), token)?,
            }
        }
    }
}
