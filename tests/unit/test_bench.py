"""The benchmark's own parts: what is checked, and how rounds are put together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kernelwire
from kernelwire.bench import stats
from kernelwire.bench.blocking import gap_figures
from kernelwire.bench.client import encode_v1
from kernelwire.bench.contenders import KERNELWIRE, STOCK
from kernelwire.bench.flood_kernel import TRACE, Digests, Order, content_of
from kernelwire.bench.run import Options, schedule, summarise_case
from kernelwire.bench.table import comparison
from kernelwire.bench.verify import (
    WrongAnswerError,
    check_complete,
    check_copy,
    collect,
    decode_legacy,
    decode_v1,
)

ROOT = Path(__file__).parents[2]
SWITCH = ROOT / "data/data/etc/jupyter/jupyter_server_config.d/kernelwire.json"


class Received:
    """What a client has received."""

    legacy = False

    def __init__(self, payloads: list[bytes]) -> None:
        self.payloads = payloads

    @property
    def count(self) -> int:
        return len(self.payloads)

    def payload(self, index: int) -> bytes:
        return self.payloads[index]


def parts(kind: str, content: dict) -> list[bytes]:
    header = {"msg_id": "m", "msg_type": kind}
    return [json.dumps(part).encode() for part in (header, {"msg_id": "p"}, {}, content)]


def answered(order: Order) -> list[bytes]:
    """The payloads of a flood that is answered as it should be."""
    flood = [parts(*content_of(order, number)) for number in range(order.count)]
    digests = Digests()
    for message in flood:
        digests.add(message)
    account = {"digest": digests.whole.hexdigest()}
    payloads = [encode_v1("iopub", message) for message in flood]
    busy, idle = (
        encode_v1("iopub", parts("status", {"execution_state": state}))
        for state in ("busy", "idle")
    )
    reply = encode_v1("shell", parts("execute_reply", {"flood": account}))
    return [busy, *payloads, reply, idle]


@pytest.mark.parametrize("emit", ["stream", "display_data", "comm_msg", "notebook"])
def test_flood_when_all_of_it_arrived_then_it_is_right(emit: str) -> None:
    """Stops a check that refuses what is right."""
    order = Order(emit=emit, count=len(TRACE))
    flood = collect(Received(answered(order)), "p", emit, order.count)
    assert check_complete(flood)["digest"] == flood.digest
    assert flood.numbers == list(range(order.count))


def damage(payloads: list[bytes]) -> dict[str, list[bytes]]:
    """What may go wrong on the way, by name."""
    first, second, *rest = payloads[1:]
    changed = second.replace(b"xxx", b"xyx", 1)
    assert changed != second
    return {
        "lost": [payloads[0], *rest],
        "twice": [payloads[0], first, first, second, *rest],
        "swapped": [payloads[0], second, first, *rest],
        "changed": [payloads[0], first, changed, *rest],
        "after idle": [payloads[0], second, *rest, first],
        "no busy": payloads[1:],
        "foreign": [*payloads, encode_v1("shell", parts("inspect_reply", {}))],
    }


@pytest.mark.parametrize("how", damage(answered(Order(count=5))))
def test_flood_when_something_went_wrong_then_it_is_refused(how: str) -> None:
    """Stops wrong answers from being counted as fast ones."""
    payloads = damage(answered(Order(count=5)))[how]
    with pytest.raises(WrongAnswerError):
        check_complete(collect(Received(payloads), "p", "stream", 5))


class TestCopy:
    """What a tab receives of a flood that another tab has asked for."""

    def test_all_of_it_is_right(self) -> None:
        """The flood without the reply."""
        busy, *payloads, _, idle = answered(Order(count=5))
        account = check_complete(collect(Received(answered(Order(count=5))), "p", "stream", 5))
        check_copy(collect(Received([busy, *payloads, idle]), "p", "stream", 5), account)

    def test_reply_of_another_tab_is_refused(self) -> None:
        """Replies go to who has asked."""
        received = collect(Received(answered(Order(count=5))), "p", "stream", 5)
        with pytest.raises(WrongAnswerError, match="another client's"):
            check_copy(received, check_complete(received))

    def test_missing_output_is_refused(self) -> None:
        """A message that only one tab has received."""
        busy, _, *payloads, _, idle = answered(Order(count=5))
        account = check_complete(collect(Received(answered(Order(count=5))), "p", "stream", 5))
        with pytest.raises(WrongAnswerError, match="lost"):
            check_copy(collect(Received([busy, *payloads, idle]), "p", "stream", 5), account)


@pytest.mark.parametrize("payload", [b"", b"\xff" * 64, encode_v1("iopub", [b"{}"] * 4) + b"x"])
def test_v1_when_the_table_is_not_exactly_right_then_it_is_refused(payload: bytes) -> None:
    """Stops a lenient decoder, which would hide what a bridge gets wrong."""
    with pytest.raises(WrongAnswerError):
        decode_v1(payload)


def test_legacy_when_decoded_then_contents_are_as_the_kernel_wrote_them() -> None:
    """Stops contents from differing by the decoder's own doing."""
    content = parts("stream", content_of(Order(), 0)[1])[3]
    names = ("header", "parent_header", "metadata", "content")
    message = dict(zip(names, map(json.loads, parts("stream", json.loads(content))), strict=True))
    decoded = decode_legacy(json.dumps({"channel": "iopub", **message}).encode())
    assert (decoded.channel, decoded.parts[3]) == ("iopub", content)


def test_stall_when_kernelwire_is_installed_then_no_server_of_a_user_can_be_asked_for_it() -> None:
    """Stops whoever has a token from blocking a server that is no benchmark's."""
    switch = json.loads(SWITCH.read_text())["ServerApp"]["jpserver_extensions"]
    modules = {point["module"] for point in kernelwire._jupyter_server_extension_points()}
    assert (list(switch), modules) == (["kernelwire"], {"kernelwire"})


MS = 1_000_000
SENT = [at * MS for at in range(0, 400, 10)]


def test_gap_when_the_loop_is_blocked_then_it_is_the_longest_that_touches_that_time() -> None:
    """Stops a gap that begins before the loop is blocked, or ends afterwards, from being cut."""
    arrived = [at * MS for at in (0, 10, 25, 35, 210, 211, 250, 500)]
    assert gap_figures(SENT, arrived, (40 * MS, 205 * MS)) == {
        "gap_ms": 175,
        "sent_gap_ms": 10,
        "before_ms": 15,
        "sent_meanwhile": 16,
        "arrived_meanwhile": 0,
    }


def test_gap_when_output_goes_on_then_it_is_among_what_arrives_meanwhile() -> None:
    """Stops gaps before and behind from being taken for one while the loop is blocked."""
    arrived = [at * MS for at in (0, 90, 100, 112, 121, 131, 300)]
    found = gap_figures(SENT, arrived, (95 * MS, 125 * MS))
    assert (found["gap_ms"], found["arrived_meanwhile"]) == (12, 3)


def test_gap_when_the_output_is_over_before_the_loop_runs_then_it_is_refused() -> None:
    """Stops a gap that ended because there was nothing more to send."""
    with pytest.raises(WrongAnswerError, match="over before"):
        gap_figures(SENT, SENT, (40 * MS, SENT[-1] + 1))


def test_schedule_when_rounds_follow_then_contenders_swap_places() -> None:
    """Stops one contender from always running on the warmer machine."""
    options = Options([STOCK, KERNELWIRE], ["flood", "rtt"], rounds=2)
    names = [(case, contender.name) for _, case, contender in schedule(options)]
    flood = [name for case, name in names if case == "flood"]
    assert flood == ["stock", "kernelwire", "kernelwire", "stock"]
    assert len(names) == 8


def rounds(*values: float | None) -> list[dict]:
    """Rounds with one figure; None is a wrong answer."""
    good = {"ok": True, "counted": 10}
    return [
        {"ok": False, "reason": "lost"}
        if value is None
        else good | {"figures": {"cpu_us_per_msg": value}}
        for value in values
    ]


def test_gains_when_summarised_then_they_are_ratios_of_the_same_round() -> None:
    """Stops ratios between rounds that ran at different times."""
    case = summarise_case({"stock": rounds(10, 40, 90), "kernelwire": rounds(1, 2, 3)})
    assert case["correct"]
    gain = case["gains"]["kernelwire"]["cpu_us_per_msg"]
    assert (gain["median"], gain["min"], gain["max"]) == (20, 10, 30)


def test_comparison_when_an_answer_was_wrong_then_the_case_is_not_shown() -> None:
    """Stops a figure of a wrong answer from being read."""
    case = summarise_case({"stock": rounds(10, 10), "kernelwire": rounds(1, None)})
    assert not case["correct"]
    result = {"cases": {"flood": case}}
    assert len(list(comparison(result, ("stock", "kernelwire")))) == 1


def test_percentile_when_taken_then_it_is_a_measured_value() -> None:
    """Stops interpolated latencies that nobody saw."""
    assert stats.percentile([1, 2, 3, 4], 50) == 2
    assert stats.percentile([1, 2, 3, 4], 99) == 4
    assert stats.percentile([5], 50) == 5
