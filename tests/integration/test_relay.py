"""What is relayed between a browser and a gateway, frame by frame: a stand-in is the gateway."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_server.gateway.connections import GatewayWebSocketConnection
from jupyter_server.gateway.gateway_client import GatewayClient, GatewayTokenRenewerBase
from tornado import websocket
from traitlets import Integer

from kernelwire import KernelwireGatewayConnection, _compat
from kernelwire._compat import Feature, Shortcoming
from kernelwire.gateway.link import QUICK_ACK
from kernelwire.gateway.pings import keep_alive
from support.messages import V1
from support.relay import (
    BINARY,
    CLOSE,
    DRIVERS,
    PING,
    PONG,
    SECONDS,
    TEXT,
    frame,
    handshake,
    relay_bench,
    relay_by,
)
from support.waiting import run_to_end, wait_until_async

SERVICE_RESTART = 1012
WRONG = {
    "reserved bit": frame(TEXT, b"x", reserved=4),
    "opcode": frame(3, b"x"),
    "masked": frame(TEXT, b"x", masked=True),
    "long control": frame(PING, b"x" * 126),
    "fragmented control": frame(PING, b"x", final=False),
    "nothing to continue": frame(0, b"x"),
    "interrupted": frame(TEXT, b"x", final=False) + frame(TEXT, b"y"),
    "length": b"\x81\x7e\x00\x01x",
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a lost connection be made again at once."""
    monkeypatch.setattr("kernelwire.gateway.relaying.random.randint", lambda *_: 0)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who passes on what the gateway says."""
    relay_by(request.param, monkeypatch)
    return str(request.param)


def code_of(payload: bytes) -> int:
    """The code in a close frame."""
    return int.from_bytes(payload[:2], "big")


def payloads() -> st.SearchStrategy[bytes]:
    """Payloads of all forms of length; text as well."""
    edges = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
    return st.one_of(st.text("abc", max_size=9).map(str.encode), edges.map(lambda n: b"x" * n))


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Frames of a gateway, and whether each is of a message; fragments with control frames inside."""
    found: list[tuple[bytes, bool]] = []
    for _ in range(draw(st.integers(0, 8))):
        parts = draw(st.lists(payloads(), min_size=1, max_size=4))
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        for n, part in enumerate(parts):
            if draw(st.booleans()):
                control = draw(st.sampled_from([PING, PONG]))
                found.append((frame(control, draw(st.binary(max_size=20))), False))
            final = n == len(parts) - 1
            found.append((frame(opcode if n == 0 else 0, part, final=final), True))
    return found


@pytest.mark.usefixtures("driver")
class TestToTheBrowser:
    """What the gateway sends."""

    @settings(max_examples=60, deadline=None)
    @given(frames=messages(), cuts=st.lists(st.integers(1, 5_000), max_size=20))
    def test_messages_arrive_byte_for_byte(
        self, frames: list[tuple[bytes, bool]], cuts: list[int]
    ) -> None:
        """However they are torn on the way, fragments and control frames between them included."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                data = b"".join(each for each, _ in frames) + frame(TEXT, b"the end")
                for cut in cuts:
                    gateway.writer.write(data[:cut])
                    data = data[cut:]
                    await asyncio.sleep(0)
                gateway.writer.write(data)
                expected = b"".join(each for each, is_data in frames if is_data)
                expected += frame(TEXT, b"the end")
                assert await browser.read_exactly(len(expected)) == expected
                browser.abort()

        run_to_end(body)

    def test_pings_are_answered_while_a_message_is_torn(self) -> None:
        """And are none of the browser's business."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                gateway.writer.write(frame(TEXT, b"one ", final=False) + frame(PING, b"who?"))
                assert await gateway.read() == (PONG, b"who?")
                gateway.writer.write(frame(0, b"message"))
                whole = frame(TEXT, b"one ", final=False) + frame(0, b"message")
                assert await browser.read_exactly(len(whole)) == whole
                browser.abort()

        run_to_end(body)

    @pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
    def test_frame_that_is_wrong_ends_the_link_and_not_the_browser(self, wrong: bytes) -> None:
        """What came before it arrives, and what the next link brings."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                gateway.writer.write(frame(TEXT, b"before") + wrong + frame(TEXT, b"behind"))
                again = await bench.gateway.next()
                again.send(TEXT, b"after")
                assert await browser.read() == (TEXT, b"before")
                assert await browser.read() == (TEXT, b"after")
                browser.abort()

        run_to_end(body)

    def test_message_that_was_not_finished_is_not_begun(self) -> None:
        """The browser would take the next one for its rest."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                gateway.writer.write(
                    frame(TEXT, b"half", final=False) + frame(TEXT, b"x" * 99)[:50]
                )
                gateway.abort()
                (await bench.gateway.next()).send(BINARY, b"whole")
                assert await browser.read() == (BINARY, b"whole")
                browser.abort()

        run_to_end(body)

    @pytest.mark.parametrize("driver", ["engine"], indirect=True)
    def test_long_message_that_was_not_finished_ends_the_browsers_connection(self) -> None:
        """The engine passes it on as it comes; a browser that comes back gets what follows."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                begun = frame(BINARY, bytes(3_000_000))[:2_000_000]
                gateway.writer.write(begun)
                assert await browser.read_exactly(len(begun)) == begun
                gateway.abort()
                assert await browser.ends() == b""
                browser, gateway = await bench.pair()
                gateway.send(BINARY, b"whole")
                assert await browser.read() == (BINARY, b"whole")
                browser.abort()

        run_to_end(body)

    def test_subclass_that_handles_messages_gets_each_in_order(self) -> None:
        """Text as text and bytes as bytes; what it sends goes to the browser."""
        seen: list[Any] = []

        class Mixing(KernelwireGatewayConnection):
            def handle_outgoing_message(self, incoming_msg: Any, *args: Any) -> None:
                seen.append(incoming_msg)
                super().handle_outgoing_message(incoming_msg, *args)

        async def body() -> None:
            async with relay_bench(Mixing) as bench:
                browser, gateway = await bench.pair()
                gateway.writer.write(
                    frame(TEXT, "ä".encode()) + frame(BINARY, b"\xff") + frame(TEXT, b"c")
                )
                assert [await browser.read() for _ in range(3)] == [
                    (TEXT, "ä".encode()),
                    (BINARY, b"\xff"),
                    (TEXT, b"c"),
                ]
                assert seen == ["ä", b"\xff", "c"]
                browser.abort()

        run_to_end(body)

    def test_compression_is_the_browsers_own(self) -> None:
        """The gateway's frames are not compressed, so they cannot be passed on as they are."""

        async def body() -> None:
            async with relay_bench(tornado_settings={"websocket_compression_options": {}}) as bench:
                extension = {"Sec-WebSocket-Extensions": "permessage-deflate"}
                browser = await bench.ask(handshake() | extension)
                gateway = await bench.gateway.next()
                assert "sec-websocket-extensions" not in gateway.headers
                gateway.send(TEXT, b"plain")
                opcode, _ = await browser.read()
                assert opcode == TEXT
                browser.abort()

        run_to_end(body)


@pytest.mark.usefixtures("driver")
class TestToTheGateway:
    """What the browser sends."""

    def test_text_and_bytes_stay_what_they_are(self) -> None:
        """Each in its order."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                sent = [(TEXT, b"a"), (BINARY, b"\xff\x00"), (TEXT, b"c")]
                for opcode, payload in sent:
                    browser.send(opcode, payload)
                assert [await gateway.read() for _ in sent] == sent
                browser.abort()

        run_to_end(body)

    def test_requests_that_wait_for_a_gateway_that_does_not_read_are_counted(self) -> None:
        """``unsent_bytes`` is what an operator sees of it, whoever writes."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections
                gateway.writer.transport.pause_reading()
                browser.send(BINARY, bytes(9_000_000))
                await wait_until_async(
                    lambda: connection.stats["requests"] == 1, what="the request"
                )
                told = connection.stats
                assert told["unsent_bytes"] > 0
                assert told["unsent_bytes"] + told["request_bytes"] >= 9_000_000
                gateway.writer.transport.resume_reading()
                assert len((await gateway.read())[1]) == 9_000_000
                assert connection.stats["unsent_bytes"] == 0
                browser.abort()

        run_to_end(body)

    def test_requests_that_were_not_sent_are_sent_by_the_next_link(self) -> None:
        """What the operating system has not taken of the lost one, in its order."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections
                gateway.writer.transport.pause_reading()
                for n in range(3):
                    browser.send(BINARY, bytes([n]) * 9_000_000)
                await wait_until_async(
                    lambda: connection.stats["requests"] == 3, what="three requests"
                )
                assert 9_000_000 < connection.stats["unsent_bytes"] < 27_000_100
                gateway.abort()
                again = await bench.gateway.next()
                browser.send(BINARY, b"last")
                seen = [(await again.read())[1][:1]]
                while seen[-1] != b"l":
                    seen.append((await again.read())[1][:1])
                # As much as sockets hold may have been taken of the first ones.
                assert len(seen) > 1
                assert seen == [b"\0", b"\1", b"\2", b"l"][-len(seen) :]
                browser.abort()

        run_to_end(body)


class TestHandshake:
    """What is agreed before the browser is answered."""

    @pytest.mark.parametrize("offered", [V1, None])
    def test_browser_gets_what_the_gateway_has_selected(self, offered: str | None) -> None:
        """And the gateway is offered what the browser offers."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair(offered)
                for peer in (browser, gateway):
                    assert peer.headers.get("sec-websocket-protocol") == offered
                browser.abort()

        run_to_end(body)

    def test_gateway_that_selects_what_was_not_offered_is_refused(self) -> None:
        """G9: both would wait for each other."""

        async def body() -> None:
            async with relay_bench() as bench:
                bench.gateway.speaks = None
                browser = await bench.browse()
                assert " 503 " in browser.headers[""]
                assert await (await bench.gateway.next()).read() == (CLOSE, b"")

        run_to_end(body)

    def test_gateway_that_speaks_otherwise_after_an_outage_has_the_browser_connect_anew(
        self,
    ) -> None:
        """Only a new handshake can change the browser's protocol."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                bench.gateway.speaks = ()
                gateway.abort()
                opcode, payload = await browser.read()
                assert (opcode, code_of(payload)) == (CLOSE, SERVICE_RESTART)
                browser.abort()

        run_to_end(body)

    @pytest.mark.parametrize(("status", "answer"), [(404, 404), (403, 503), (500, 503)])
    def test_gateway_that_refuses_has_the_browser_refused(self, status: int, answer: int) -> None:
        """At once, and not with an open websocket on which nothing comes."""

        async def body() -> None:
            async with relay_bench() as bench:
                bench.gateway.status = status
                browser = await bench.browse()
                assert f" {answer} " in browser.headers[""]
                assert len(bench.lines.lines) == 2

        run_to_end(body)

    @pytest.mark.parametrize(
        ("headers", "status"), [({"Origin": "https://evil.example"}, 403), ({"Upgrade": "x"}, 400)]
    )
    def test_handshake_that_is_refused_does_not_reach_the_gateway(
        self, headers: dict[str, str], status: int
    ) -> None:
        """H16: a foreign page has no effect on the gateway."""

        async def body() -> None:
            async with relay_bench() as bench:
                refused = await bench.ask(handshake() | headers)
                assert f" {status} " in refused.headers[""]
                assert bench.gateway.asked == 0

        run_to_end(body)

    def test_browser_that_goes_meanwhile_leaves_nothing_behind(self) -> None:
        """The link that comes of it is closed."""

        async def body() -> None:
            async with relay_bench() as bench:
                bench.gateway.answers.clear()
                asking = asyncio.create_task(bench.browse())
                await wait_until_async(lambda: bench.gateway.asked, what="a request")
                (connection,) = bench.connections
                bench.writers[0].transport.abort()
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await asking
                await wait_until_async(lambda: connection.disconnected, what="the browser's end")
                bench.gateway.answers.set()
                assert await (await bench.gateway.next()).ends() == b""

        run_to_end(body)


@pytest.mark.usefixtures("driver")
class TestLink:
    """The connection to the gateway itself."""

    def test_small_messages_are_not_held_back_on_either_hop(self) -> None:
        """G7: Nagle's algorithm would wait for a delayed acknowledgement."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, _ = await bench.pair()
                (connection,) = bench.connections
                await wait_until_async(lambda: connection.ws, what="a link")
                streams = (
                    connection.ws.protocol.stream,
                    connection.websocket_handler.ws_connection.stream,
                )
                for stream in streams:
                    assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                browser.abort()

        run_to_end(body)

    @pytest.mark.skipif(QUICK_ACK is None, reason="the system cannot be told when to acknowledge")
    def test_small_messages_of_the_gateway_are_acknowledged_at_once(self) -> None:
        """G7: a gateway that holds them back until then would, for 40 ms; Linux does so in dialogues."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                for _ in range(10):
                    browser.send(TEXT, b"asked")
                    assert await gateway.read() == (TEXT, b"asked")
                    gateway.send(TEXT, b"answered")
                    assert await browser.read() == (TEXT, b"answered")
                    # Before it was passed on; where it was not, the system takes its time.
                    assert gateway.unacknowledged() == 0
                browser.abort()

        run_to_end(body)

    @pytest.mark.skipif(QUICK_ACK is None, reason="the system cannot be told when to acknowledge")
    @pytest.mark.parametrize("driver", ["loop"], indirect=True)
    def test_flood_is_acknowledged_now_and_then_and_the_last_of_it_of_a_link_that_is_gone_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is to be acknowledged in a moment may find no connection any more."""
        monkeypatch.setattr("kernelwire.gateway.link.ACKS_AT_ONCE", 0)
        monkeypatch.setattr("kernelwire.gateway.link.ACKS_PER_SECOND", 10)
        errors: list[Any] = []

        async def body() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, told: errors.append(told))
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections
                link = await wait_until_async(lambda: connection.ws, what="a link")
                for _ in range(2):
                    gateway.send(TEXT, b"much")
                    assert await browser.read() == (TEXT, b"much")
                assert link._acknowledging is not None
                link.protocol.stream.close()
                await wait_until_async(lambda: link._acknowledging is None, what="its time")
                browser.abort()

        run_to_end(body)
        assert not errors

    @pytest.mark.skipif(QUICK_ACK is None, reason="the system cannot be told when to acknowledge")
    @pytest.mark.parametrize("driver", ["engine"], indirect=True)
    def test_last_of_a_flood_is_acknowledged_in_its_time(self) -> None:
        """By the engine: not each time, but nothing is forgotten."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                for number in range(1_000):
                    gateway.send(TEXT, b"%d" % number)
                    assert await browser.read() == (TEXT, b"%d" % number)
                await wait_until_async(lambda: not gateway.unacknowledged(), what="the last")
                browser.abort()

        run_to_end(body)

    def test_report_says_who_passes_on(self, driver: str) -> None:
        """Nobody in an outage. How much was passed on is told as well, over one link and the next."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections
                for number in range(1, 3):
                    gateway.send(TEXT, b"said")
                    assert await browser.read() == (TEXT, b"said")
                    told = connection.describe()
                    assert (told["relay"], told["link"]) == (driver, "up")
                    assert (told["messages"], told["bytes"]) == (number, 6 * number)
                    bench.gateway.answers.clear()
                    gateway.abort()
                    await wait_until_async(
                        lambda: connection.describe()["link"] == "away", what="an outage"
                    )
                    assert connection.describe()["relay"] == ""
                    bench.gateway.answers.set()
                    gateway = await bench.gateway.next()
                browser.abort()

        run_to_end(body)

    def test_links_are_closed_with_the_server(self) -> None:
        """G14: gateways need not wait for a reset to know."""

        async def body() -> None:
            async with relay_bench() as bench:
                _, gateway = await bench.pair()
                closing = asyncio.create_task(KernelwireGatewayConnection.close_all())
                assert await gateway.read() == (CLOSE, b"")
                gateway.send(CLOSE)
                await closing
                assert await gateway.ends() == b""

        run_to_end(body)

    def test_link_ends_with_its_browser(self) -> None:
        """The gateway is told, and is not connected to again."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                browser.abort()
                assert await gateway.read() == (CLOSE, b"")
                gateway.send(CLOSE)
                assert await gateway.ends() == b""
                (connection,) = bench.connections
                await wait_until_async(connection._relaying.done, what="the end")
                assert bench.gateway.asked == 1

        run_to_end(body)

    def test_ping_that_is_due_as_the_link_ends_is_no_error(self) -> None:
        """After a pause of the event loop, both may come in one turn: nobody would take the error."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, _ = await bench.pair()
                (connection,) = bench.connections
                link = await wait_until_async(lambda: connection.ws, what="a link")
                pinging = asyncio.create_task(keep_alive(link, 1e-9, SECONDS))
                await asyncio.sleep(0)  # it waits for its time, which is over
                link.protocol.stream.close()
                assert not await pinging
                browser.abort()

        run_to_end(body)

    def test_browser_that_goes_as_the_gateway_is_back_leaves_no_link_behind(self) -> None:
        """In the turn in which the gateway accepts: it would have a client for good."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections

                def go(_accepted: Any) -> None:
                    connection.disconnect()

                connection.observe(lambda made: made.new.add_done_callback(go), "ws_future")
                gateway.abort()
                assert await (await bench.gateway.next()).ends() == b""
                await wait_until_async(connection._relaying.done, what="the end")
                browser.abort()

        run_to_end(body)

    def test_gateway_that_accepts_and_closes_is_not_tried_for_ever(self) -> None:
        """G10: each attempt counts until the gateway has sent something."""

        async def body() -> None:
            async with relay_bench(gateway_retry_max=3) as bench:
                browser, gateway = await bench.pair()
                for _ in range(3):
                    gateway.abort()
                    gateway = await bench.gateway.next()
                gateway.abort()
                opcode, payload = await browser.read()
                assert (opcode, code_of(payload)) == (CLOSE, 1014)
                assert bench.gateway.asked == 4
                browser.abort()

        run_to_end(body)

    def test_token_that_is_refused_is_renewed(self) -> None:
        """With each attempt: for a browser that comes, and for one that is there."""

        class Renewer(GatewayTokenRenewerBase):
            def get_token(self, *args: Any, **kwargs: Any) -> str:
                del args, kwargs
                return token

        token = "old"

        async def body() -> None:
            nonlocal token
            options = {
                "auth_token": "older",
                "gateway_token_renewer_class": Renewer,
                "gateway_retry_max": 10_000,
                "headers": "{}",
            }
            async with relay_bench(**options) as bench:
                bench.gateway.token = "new"
                assert " 503 " in (await bench.browse()).headers[""]
                token = "new"
                browser, gateway = await bench.pair()
                bench.gateway.token, refused = "newer", bench.gateway.refused
                gateway.abort()
                await wait_until_async(
                    lambda: bench.gateway.refused > refused, what="a refusal of the token"
                )
                browser.send(TEXT, b"kept")
                token = "newer"
                assert await (await bench.gateway.next()).read() == (TEXT, b"kept")
                browser.abort()

        run_to_end(body)

    def test_browser_of_a_gateway_that_does_not_answer_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When ``request_timeout`` is over: a gateway that hangs takes connections all the same."""
        monkeypatch.setattr(GatewayClient, "KERNEL_LAUNCH_TIMEOUT", 0)
        monkeypatch.setenv("KERNEL_LAUNCH_TIMEOUT", "0")

        async def body() -> None:
            options = {"request_timeout": 0.3, "launch_timeout_pad": 0.3}
            async with relay_bench(**options) as bench:
                bench.gateway.answers.clear()
                while not bench.gateway.asked:  # the time may be over before it is
                    assert " 503 " in (await bench.browse()).headers[""]
                bench.gateway.answers.set()
                assert await (await bench.gateway.next()).ends() == b""

        run_to_end(body)

    def test_browser_that_does_not_read_has_the_gateway_wait(self) -> None:
        """G6: what was read and not sent stays bounded, and all arrives when the browser reads."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections
                sizes = [1_000_000] * 50 + [50_000_000]
                sent = [frame(BINARY, bytes([n]) * size) for n, size in enumerate(sizes)]
                gateway.writer.writelines(sent)
                await wait_until_async(
                    lambda: connection.ws and connection.ws.paused, what="a pause"
                )
                assert connection.stats["pending_bytes"] < connection.max_pending_bytes + 2_000_000
                for each in sent:
                    assert await browser.read_exactly(len(each)) == each
                browser.abort()

        run_to_end(body)

    def test_limit_of_any_size_is_one(self) -> None:
        """Also one that does not fit into 64 bits, from the beginning or later."""

        class Patient(KernelwireGatewayConnection):
            max_pending_bytes = Integer(1 << 64)

        async def body() -> None:
            async with relay_bench(Patient) as bench:
                browser, gateway = await bench.pair()
                gateway.send(TEXT, b"said")
                assert await browser.read() == (TEXT, b"said")
                bench.connections[0].max_pending_bytes = 1 << 65
                gateway.send(TEXT, b"said")
                assert await browser.read() == (TEXT, b"said")
                browser.abort()

        run_to_end(body)

    @pytest.mark.parametrize("driver", ["engine"], indirect=True)
    def test_limit_that_is_lifted_while_a_browser_does_not_read_holds_at_once(self) -> None:
        """By the engine; the event loop waits for what it has begun to write."""

        async def body() -> None:
            async with relay_bench() as bench:
                browser, gateway = await bench.pair()
                (connection,) = bench.connections
                connection.max_pending_bytes = 1
                gateway.writer.write(b"".join(frame(BINARY, bytes(1 << 20)) for _ in range(30)))
                await wait_until_async(
                    lambda: connection.ws and connection.ws.paused, what="a pause"
                )
                held = connection.stats["messages"]
                assert held < 30
                connection.max_pending_bytes = 0
                await wait_until_async(lambda: connection.stats["messages"] == 30, what="all of it")
                browser.abort()

        run_to_end(body)


class TestWays:
    """Where others have put something of their own in place, upstream's way is taken."""

    def test_websocket_connect_of_others_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the request alone, as tests and extensions expect; the browser gets what that gets."""
        connect, requests = websocket.websocket_connect, []

        def mine(request: Any) -> Any:
            requests.append(request)
            return connect(request)

        monkeypatch.setattr(websocket, "websocket_connect", mine)
        self.relay_one(KernelwireGatewayConnection)
        assert len(requests) == 1

    @pytest.mark.parametrize("name", ["_connection_done", "_read_messages"])
    def test_hook_that_is_overridden_is_called(self, name: str) -> None:
        """It relies on what upstream calls around it."""
        calls = []

        def mine(connection: Any, *args: Any) -> Any:
            calls.append(name)
            return getattr(GatewayWebSocketConnection, name)(connection, *args)

        self.relay_one(type("Mine", (KernelwireGatewayConnection,), {name: mine}))
        assert calls

    @pytest.mark.parametrize("feature", [Feature.RELAY, Feature.DIRECT_WRITING])
    def test_name_that_is_missing_has_upstreams_way_taken(
        self, feature: Feature, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What relaying asks of tornado's stream is what writing to it asks."""
        lost = (Shortcoming(feature, "a name is missing"),)
        monkeypatch.setattr(_compat, "shortcomings", lambda: lost)
        self.relay_one(KernelwireGatewayConnection)

    def relay_one(self, connection_class: type[Any]) -> None:
        """Have a message pass in either direction."""

        async def body() -> None:
            async with relay_bench(connection_class) as bench:
                browser = await bench.browse()
                assert "sec-websocket-protocol" not in browser.headers
                gateway = await bench.gateway.next()
                assert "sec-websocket-protocol" not in gateway.headers
                gateway.send(TEXT, b"out")
                assert await browser.read() == (TEXT, b"out")
                browser.send(TEXT, b"in")
                assert await gateway.read() == (TEXT, b"in")
                browser.abort()

        run_to_end(body)


class TestSummary:
    """What the log says of a message that could not be sent."""

    @pytest.mark.parametrize(
        ("message", "summary"),
        [
            ({"msg_type": "stream", "content": {"text": "secret"}}, "type: stream, ..."),
            (
                {"msg_type": "status", "content": {"execution_state": "idle"}},
                "type: status, state: idle",
            ),
            (
                {
                    "msg_type": "error",
                    "content": {"ename": "E", "evalue": "v", "traceback": []},
                },
                "type: error, E:v:[]",
            ),
        ],
    )
    def test_every_message_has_one(self, message: dict[str, Any], summary: str) -> None:
        """G13: of a status and of an error, upstream's is ``None``."""
        assert KernelwireGatewayConnection._get_message_summary(message) == summary
