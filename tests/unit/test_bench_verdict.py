"""The line of a benchmark that can be quoted, from made-up results."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from kernelwire.bench.app import SHORT
from kernelwire.bench.cases import FAST, Sizes
from kernelwire.bench.run import summarise_case
from kernelwire.bench.verdict import verdict

Values = tuple[float | None, ...]
Measured = dict[tuple[str, str], tuple[Values, Values]]
"""By case and figure: stock's rounds, and ours; None is a wrong answer."""

LOOP, TRIPS, GAP = ("flood", "main_us_per_msg"), ("rtt", "latency_p50_ms"), ("blocked", "gap_ms")
RATE, STATUS = ("flood", "msgs_per_s"), ("status", "latency_p99_ms")

FASTER = {
    LOOP: ((240, 252, 264), (20, 21, 22)),
    TRIPS: ((43.6, 43.6, 43.7), (0.6, 0.62, 0.7)),
    GAP: ((1511, 1512, 1514), (14.9, 15, 15.2)),
}
DIFFERENT = {LOOP: ((300, 310, 320), (290, 301, 310))}
SLOWER = {STATUS: ((7.5, 8.2, 9.4), (12, 14, 15))}


def rounds(figures: dict[str, Values]) -> list[dict]:
    """The rounds of one contender in one case."""
    names = list(figures)
    return [
        {"ok": False, "reason": "lost"}
        if None in values
        else {"ok": True, "counted": 10, "figures": dict(zip(names, values, strict=True))}
        for values in zip(*figures.values(), strict=True)
    ]


def said(measured: Measured, sizes: Sizes = SHORT) -> str:
    """The verdict on a result with these figures."""
    cases = {}
    for case in {case for case, _ in measured}:
        both = [
            {figure: each[who] for (name, figure), each in measured.items() if name == case}
            for who in (0, 1)
        ]
        cases[case] = summarise_case({"stock": rounds(both[0]), "kernelwire": rounds(both[1])})
    count = len(next(iter(measured.values()))[0]) if measured else 3
    line = verdict({"settings": {"rounds": count, "sizes": asdict(sizes)}, "cases": cases})
    assert "\n" not in line
    assert line.endswith(".")
    return line


def test_verdict_when_all_is_better_then_it_says_by_how_much() -> None:
    """Stops a line that claims what was not measured, or leaves out what was."""
    assert said(FASTER) == (
        "On this machine, in 3 rounds: 12.0x less event-loop time per message in a flood, round trips"
        " 0.62 ms instead of 43.6 ms, and output goes on while the server is busy for 1.5 s (longest"
        " gap 15.0 ms instead of 1,512 ms)."
    )


@pytest.mark.parametrize("key", FASTER)
def test_verdict_when_one_case_is_measured_then_it_names_no_other(key: tuple[str, str]) -> None:
    """Stops a figure of another run, or of none, from being quoted."""
    line = said({key: FASTER[key]})
    names = {LOOP: "event-loop", TRIPS: "round trips", GAP: "goes on"}
    assert [each for each, name in names.items() if name in line] == [key]


def test_verdict_when_ranges_overlap_then_there_is_no_difference() -> None:
    """Stops noise from being quoted as an improvement."""
    assert said(DIFFERENT) == (
        "On this machine, in 3 rounds: no difference beyond the spread in event-loop time per message"
        " in a flood."
    )


def test_verdict_when_ranges_touch_then_there_is_no_difference() -> None:
    """Stops a difference that one more round might take back."""
    assert "no difference beyond the spread in round trips." in said({TRIPS: ((2, 3), (1, 2))})


def test_verdict_when_some_is_better_then_the_rest_is_told_as_well() -> None:
    """Stops a line from showing the good side alone."""
    assert said({**FASTER, **DIFFERENT, **SLOWER}) == (
        "On this machine, in 3 rounds: round trips 0.62 ms instead of 43.6 ms and output goes on while"
        " the server is busy for 1.5 s (longest gap 15.0 ms instead of 1,512 ms); no difference beyond"
        " the spread in event-loop time per message in a flood; worse: GET /api/status while a kernel"
        " floods, p99 (14.0 ms instead of 8.20 ms)."
    )


def test_verdict_when_a_headline_is_worse_then_it_is_said() -> None:
    """Stops a slower kernelwire from being called faster."""
    assert said({TRIPS: ((0.6, 0.7), (43.6, 43.6))}) == (
        "On this machine, in 2 rounds: worse: round trip of kernel_info_request, median (43.6 ms instead"
        " of 0.65 ms)."
    )


def test_verdict_when_more_is_better_then_more_is_not_called_worse() -> None:
    """Stops a throughput from being read the wrong way round."""
    assert "worse" not in said({RATE: ((3000, 3100), (200_000, 210_000))})
    assert "worse: 100-byte messages" in said({RATE: ((3000, 3100), (2000, 2100))})


def test_verdict_when_no_headline_is_measured_then_it_tells_of_what_is() -> None:
    """Stops an empty line for who measures another case."""
    assert said({STATUS: ((12, 14, 15), (7.5, 8.2, 9.4))}) == (
        "On this machine, in 3 rounds: GET /api/status while a kernel floods, p99 8.20 ms instead of"
        " 14.0 ms."
    )


def test_verdict_when_the_spread_is_wide_then_it_has_the_range() -> None:
    """Stops a median from hiding that rounds differ by much."""
    line = said({LOOP: ((200, 400, 600), (10, 10, 10)), TRIPS: ((43.6, 43.6), (0.4, 0.9))})
    assert "20.0 to 60.0x less" in line
    assert "round trips 0.40 to 0.90 ms instead of 43.6 ms" in line


def test_verdict_when_the_gap_is_hardly_shorter_then_output_does_not_go_on() -> None:
    """Stops a claim that rests on two milliseconds of noise."""
    line = said({GAP: ((1505, 1507), (1501, 1503))})
    assert "goes on" not in line
    assert (
        "longest gap in output while the server is busy for 1.5 s 1,502 ms instead of 1,506 ms"
        in line
    )


def test_verdict_when_one_round_is_measured_then_there_is_nothing_to_quote() -> None:
    """Stops a figure without a spread."""
    one = {key: (stock[:1], ours[:1]) for key, (stock, ours) in FASTER.items()}
    assert said(one) == "Nothing to quote: one round has no spread."


def test_verdict_when_fast_then_there_is_nothing_to_quote() -> None:
    """Stops figures that rest on a handful of messages."""
    assert said(FASTER, FAST) == "Nothing to quote: --fast says nothing about speed."


def test_verdict_when_an_answer_was_wrong_then_there_is_nothing_to_quote() -> None:
    """Stops a run that lost messages in one case from being quoted for another."""
    wrong: Measured = {**FASTER, GAP: ((1511, 1512, 1514), (15, None, 15))}
    assert said(wrong) == "Nothing to quote: an answer was wrong in blocked."


def test_verdict_when_nothing_can_be_compared_then_it_says_so() -> None:
    """Stops a line that begins and says nothing, where CPU time cannot be had."""
    nothing = "Nothing to quote: nothing was measured that can be compared."
    assert said({("flood", "lost"): ((0, 0), (0, 0))}) == nothing
