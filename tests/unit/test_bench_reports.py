"""What is written about results: floors, reports and pages, from made-up rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from benches import bridge, codec, contenders, gateway, pages, readme, report
from benches.check import Floor, judge, read_floors
from benches.stages import CALL, SAMPLE, stage_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from kernelwire.bench import plot
from kernelwire.bench.app import DEFAULT_CASES
from kernelwire.bench.cases import CASES
from kernelwire.bench.environment import SCHEMA
from kernelwire.bench.run import summarise_case
from kernelwire.bench.stats import FIGURES
from kernelwire.bench.table import FIRST_WIDTH, ROWS, conditions

ROOT = Path(__file__).parents[2]
FIGURE = "main_us_per_msg"


def rounds(*values: float | None) -> list[dict]:
    """Rounds with one figure; None is a wrong answer."""
    return [
        {"round": number, "ok": False, "reason": "7 of 10 messages lost"}
        if value is None
        else {"round": number, "ok": True, "counted": 10, "figures": {FIGURE: value}}
        for number, value in enumerate(values)
    ]


def result(stock: list[dict], ours: list[dict]) -> dict:
    """A result file with one case."""
    named = {"connection": "C", "manager": "M", "environment": {}}
    where = {"date": "2026", "commit": None, "cpu": "c", "cores": 2, "os": "o", "versions": {}}
    return {
        "schema": SCHEMA,
        "kind": "bridge",
        "environment": where,
        "settings": {
            "rounds": len(stock),
            "sizes": {"flood": 10},
            "contenders": {name: {"name": name, **named} for name in ("stock", "kernelwire")},
        },
        "cases": {"flood": summarise_case({"stock": stock, "kernelwire": ours})},
    }


def test_report_of_states_has_a_column_for_each_contender() -> None:
    """What a dashboard waits for is shown beside upstream's, with the range of rounds."""
    seen = dict.fromkeys(report.STATES_ROWS, 1.0)
    made = result(rounds(1), rounds(1)) | {"kind": "states"}
    made["cases"] = {"one kernel": {"stock": [seen, seen], "kernelwire": [seen]}}
    text, sound = report.render(made)
    assert sound
    assert "| | stock | kernelwire |" in text
    assert "p99, ms | 1.00 (1.00 to 1.00) | 1.00 |" in text


def test_report_of_blocked_loops_has_the_figures_of_each_case() -> None:
    """Stops what was measured from not being shown, and a gap in what was lost from being quoted."""
    gap = {"ok": True, "gap_ms": 3004.0, "arrived_meanwhile": 0}
    memory = {"ok": True, "growth_mb": 113.25, "arrived_1": 20_000}
    made = result(rounds(1), rounds(1)) | {"kind": "blocked"}
    made["cases"] = {
        "sleep": {"stock": [gap, gap | {"gap_ms": 3006.0}], "kernelwire": [gap]},
        "spin": {"stock": [gap], "kernelwire": rounds(None)},
        "memory": {"stock": [memory], "kernelwire": [memory]},
    }
    text, sound = report.render(made)
    assert not sound
    assert "blocked, ms | 3,005 (3,004 to 3,006) | 3,004 |" in text
    assert "* kernelwire, round 0: 7 of 10 messages lost" in text
    assert "peak, MB | 113 | 113 |" in text
    assert "first client in the end | 20,000 | 20,000 |" in text


def test_cases_when_listed_then_a_reader_is_told_of_each() -> None:
    """Stops a case that nobody can look up, and one of the command's that its page leaves out."""
    told = (ROOT / "benches/README.md").read_text()
    assert [case for case in CASES if f"`{case}`" not in told] == []
    page = (ROOT / "docs/commands.md").read_text()
    assert [case for case in DEFAULT_CASES.split(",") if f"| `{case}` |" not in page] == []


FLOOR = Floor("flood", FIGURE, "kernelwire", "stock", 10, "why")


@pytest.mark.parametrize(("ours", "holds"), [((1, 5, 2), True), ((1, 5, 5), False)])
def test_floor_when_the_median_ratio_is_below_then_it_does_not_hold(
    ours: tuple[float, ...], holds: bool
) -> None:
    """Stops one lucky round from hiding a lost optimisation, and one unlucky from failing a run."""
    assert judge(FLOOR, result(rounds(20, 20, 20), rounds(*ours))).holds is holds


def test_floor_when_an_answer_was_wrong_then_it_does_not_hold() -> None:
    """Stops a bridge that loses messages from being a fast one."""
    verdict = judge(FLOOR, result(rounds(20, 20), rounds(1, None)))
    assert not verdict.holds


def test_floors_when_read_then_each_names_what_there_is() -> None:
    """Stops a misspelt floor from being found by CI alone."""
    floors = read_floors()
    assert {floor.case for floor in floors} <= set(CASES)
    assert {floor.figure for floor in floors} <= {name for name, f in FIGURES.items() if f.better}


def test_report_when_an_answer_was_wrong_then_the_case_is_refused() -> None:
    """Stops a number that rests on a wrong answer from being quoted."""
    text, sound = report.render(result(rounds(20, 20), rounds(1, None)))
    assert not sound
    assert "Refused, the answer was wrong" in text
    assert "7 of 10 messages lost" in text
    assert "loop CPU" not in text


def test_report_when_answers_were_right_then_it_has_spread_and_gain() -> None:
    """Stops figures without their spread."""
    text, sound = report.render(result(rounds(20, 30, 40), rounds(1, 2, 4)))
    assert sound
    assert "| kernelwire | 2.00 (1.00 to 4.00) **15.0x** |" in text
    assert "3 rounds, 10 samples each" in text


def test_report_when_samples_differ_then_it_says_whose_are_how_many() -> None:
    """Stops a p99 that rests on twenty samples from being read as one that rests on 300."""
    ours = [each | {"counted": 20} for each in rounds(1, 2, 4)]
    text, _ = report.render(result(rounds(20, 30, 40), ours))
    assert "3 rounds; samples in each: stock 10, kernelwire 20;" in text


def test_report_when_a_contender_cannot_do_a_case_then_it_says_why() -> None:
    """Stops a contender from being missing without a reason, or from failing the run."""
    measured = result(rounds(20), rounds(2))
    reason = {"relay": "it has no REST interface"}
    measured["cases"]["flood"]["absent"] = reason
    measured["cases"]["status"] = summarise_case({}) | {"absent": reason}
    text, sound = report.render(measured)
    assert sound
    assert text.count("Cannot do this: relay (it has no REST interface).") == 2


def test_result_when_a_case_is_measured_again_then_it_says_when() -> None:
    """Stops figures of two days from being quoted as those of one."""
    earlier, later = result(rounds(20), rounds(1)), result(rounds(30), rounds(1))
    earlier["cases"]["rtt"] = earlier["cases"]["flood"]
    later["environment"] |= {"date": "2027", "commit": "c0ffee"}
    whole = bridge.updated(earlier, later)
    assert whole["cases"]["rtt"] == earlier["cases"]["rtt"]
    again = whole["cases"]["flood"]["contenders"]["stock"]["rounds"]
    assert again == later["cases"]["flood"]["contenders"]["stock"]["rounds"]
    assert "Measured 2026 " in conditions(whole)
    assert "Measured again: flood 2027, commit c0ffee." in conditions(whole)


def test_result_when_a_case_is_new_then_it_is_put_in_with_its_size() -> None:
    """Stops a new case from needing everything to be measured again."""
    earlier, later = result(rounds(20), rounds(1)), result(rounds(30), rounds(1))
    later["settings"]["sizes"]["blocked_s"] = 1.5
    later["cases"] = {"blocked": later["cases"]["flood"]}
    whole = bridge.updated(earlier, later)
    assert list(whole["cases"]) == ["flood", "blocked"]
    assert whole["settings"]["sizes"] == {"flood": 10, "blocked_s": 1.5}
    later["settings"]["sizes"]["flood"] = 11
    with pytest.raises(ValueError, match="sizes"):
        bridge.updated(earlier, later)


@pytest.mark.parametrize("where", [("settings", "rounds"), ("environment", "cpu")])
def test_result_when_measured_in_another_way_then_it_is_not_put_in(where: tuple[str, str]) -> None:
    """Stops a case of another machine, or of fewer rounds, from standing among the others."""
    earlier, later = result(rounds(20), rounds(1)), result(rounds(30), rounds(1))
    later[where[0]][where[1]] = "another"
    with pytest.raises(ValueError, match=where[1]):
        bridge.updated(earlier, later)


def test_stages_when_reported_then_they_add_up_beside_each_other() -> None:
    """Stops the page on performance from failing on the one file that is recorded by itself."""
    measured = result(rounds(20), rounds(2)) | {"kind": "stages"}
    measured["cases"] = {
        "flood": {
            name: {
                "carrier_us_per_msg": 3 * cost,
                "loop_us_per_msg": 0 if name == "stock" else 0.25,
                "other_threads_us_per_msg": 0.5,
                "samples": 1000,
                "stages_us_per_msg": stages,
                "calls_per_msg": {"sendto": 1.0, "futex": 0.0004},
            }
            for name, cost, stages in (
                ("stock", 20, {"Python": 40, "libzmq": 20}),
                ("kernelwire", 1, {"libzmq": 3}),
            )
        }
    }
    text, sound = report.render(measured)
    assert sound
    assert "| Python | 40.0 | 0 |" in text
    assert "| libzmq | 20.0 | 3.00 |" in text
    assert "| **together** | 60.0 | 3.00 |" in text
    assert "| besides, the event loop | 0 | 0.25 |" in text
    assert "* kernelwire: 1,000 samples; system calls per message: `sendto` 1.000\n" in text


def test_rows_when_listed_then_what_the_readme_shows_is_among_them() -> None:
    """Stops the README from silently leaving out a figure that it is meant to show."""
    assert {(row.case, row.figure) for row in ROWS} >= readme.SHOWN.keys()
    assert {row.case for row in ROWS} <= set(CASES)
    assert {row.figure for row in ROWS} <= set(FIGURES)
    assert max(len(row.what) for row in ROWS) <= FIRST_WIDTH


def test_pages_when_rendered_again_then_nothing_differs() -> None:
    """Stops a page from saying something else than the committed results."""
    assert pages.main(["--check"]) == 0
    assert readme.main(["--check"]) == 0


def test_block_when_measured_then_the_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a result that is committed and not shown."""
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "r.json").write_text(json.dumps(result(rounds(20), rounds(2))))
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures: summary r.json -->\nold\n<!-- figures end -->\nb\n")
    text = pages.rendered(page, {})
    assert "old" not in text
    assert "| event loop per 100-byte message, full speed | 20.0 µs | 2.00 µs |" in text
    assert text.startswith("a\n<!-- figures: summary r.json -->\n")
    assert text.endswith("<!-- figures end -->\nb\n")


def test_charts_when_drawn_then_no_text_is_cut_or_crossed() -> None:
    """Stops titles that end at the edge of the chart, and values that stand on a whisker."""
    measured = json.loads((ROOT / "benches/results/bridge.json").read_text())
    # The longest titles and names, and the largest differences.
    measured["cases"] = {case: measured["cases"][case] for case in ("flood", "status")}
    with mpl.rc_context(plot.STYLE):
        figure = plot.charts(measured, with_overview=True, with_panels=True)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    renderer = canvas.get_renderer()
    ticks = {each for axis in figure.axes for each in axis.get_xticklabels(which="both")}
    texts = [each for each in figure.findobj(Text) if each.get_text() and each not in ticks]
    assert len(texts) > 50
    for text in texts:
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
    for axis in figure.axes[1:]:
        whiskers = [path for lines in axis.collections for path in lines.get_segments()]
        ends = [axis.transData.transform(path)[:, 0].max() for path in whiskers]
        values = [text.get_window_extent(renderer).x0 for text in axis.texts]
        assert all(value > end + 2 for value, end in zip(values, ends, strict=True))


def test_chart_when_the_loop_was_blocked_then_it_has_the_gap_and_which_way_is_better() -> None:
    """Stops a case that is measured and drawn without its unit, or as if longer were better."""
    measured = result(rounds(20), rounds(1))
    gaps = {
        name: [{"ok": True, "counted": 350, "figures": {"gap_ms": gap}}]
        for name, gap in (("stock", 1512.0), ("kernelwire", 15.0))
    }
    measured["cases"] = {"blocked": summarise_case(gaps)}
    overview, panel = plot.charts(measured, with_overview=True, with_panels=True).axes
    assert "101x" in {text.get_text() for text in overview.texts}
    assert " ".join(panel.get_title("left").split()) == (
        "longest gap in output while the server is busy (lower is better)"
    )
    assert [text.get_text() for text in panel.texts] == ["1,512 ms", "15.0 ms"]


def test_functions_when_a_case_is_outside_of_both_then_it_is_in_a_table_of_its_own() -> None:
    """Stops tornado's own time from being read as a contender's."""
    measured = [
        {
            "extra_info": {"turn": turn, "case": case, "contender": contender},
            "stats": {"median": micros * 1e-6, "rounds": 10, "iterations": 1},
        }
        for turn in range(2)
        for cases, by_name in (
            (codec.CASES, {"stock": 20 + turn, "kernelwire": 2}),
            (codec.OUTSIDE, {"tornado": 30 + turn}),
        )
        for case in cases
        for contender, micros in by_name.items()
    ]
    outcome = codec.result(measured, 2)
    lines = list(pages.functions(outcome))
    assert "| v1 request, 2 KB | 20.5 µs (20.0-21.0) | 2.00 µs (2.00-2.00) | 10.2x |" in lines
    (row,) = [
        line
        for line in lines
        if line.endswith("frame of a v1 request, 2 KB | 30.5 µs (30.0-31.0) |")
    ]
    assert row.startswith("| outside, the same for both: tornado reads")
    assert lines.index(row) > lines.index("| | tornado |")
    text, sound = report.render(outcome)
    assert sound
    assert "* tornado: `tornado.websocket`, which is before both and the same for both" in text
    assert "| tornado | 30.5 (30.0 to 31.0) |" in text


def test_sample_when_read_then_its_library_has_a_stage() -> None:
    """Stops samples from being thrown away because a tool writes them as it does."""
    line = "  4242     7f00aa  zmq_msg_recv (/x/pyzmq.libs/libzmq-2f02442c.so.5.2.5)"
    match = SAMPLE.match(line)
    assert match
    assert (match["tid"], stage_of(match["library"])) == ("4242", "libzmq")
    assert stage_of("[kernel.kallsyms]") == "system calls"
    assert stage_of("/x/python/kernelwire/_native.abi3.so") == "kernelwire, native"
    assert stage_of("/x/zmq/backend/cython/_zmq.cpython-311-x86_64-linux-gnu.so") == "pyzmq"
    assert stage_of("/usr/lib/x86_64-linux-gnu/libc.so.6").startswith("libc")
    assert stage_of("/usr/bin/python3.11") == "Python"


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        (" 61.12    0.104312          10     10311           sendto", "10311"),
        ("  0.50    0.000312           3       104        12 recvfrom", "104"),
    ],
)
def test_call_when_counted_then_errors_are_not_taken_for_calls(line: str, calls: str) -> None:
    """Stops the wrong column of strace's table."""
    match = CALL.match(line)
    assert match
    assert match["calls"] == calls


def test_earlier_version_when_it_is_in_a_result_then_a_page_compares_this_one_with_it() -> None:
    """Stops a figure that got worse from being hidden by a machine that got slower."""
    rounds = {"stock": (80, 90), "first": (4, 6), "kernelwire": (5, 3)}
    case = summarise_case(
        {
            name: [{"ok": True, "figures": {"main_us_per_msg": value}} for value in values]
            for name, values in rounds.items()
        }
    )
    contenders = {"stock": {}, "first": {"what": "kernelwire 0.1.0"}, "kernelwire": {}}
    result = {"settings": {"contenders": contenders}, "cases": {"flood": case}}
    lines = list(pages.earlier(result))
    row = "| flood | loop CPU per message | 5.00 µs (4.00-6.00) | 4.00 µs (3.00-5.00) | 1.40 (0.80-2.00) |"
    assert row in lines
    assert "The first version is kernelwire 0.1.0." in lines[-1]


def test_contender_when_kernelwire_is_in_a_directory_then_that_one_serves(tmp_path: Path) -> None:
    """Stops two versions from being compared in runs of different days."""
    info = tmp_path / "kernelwire-0.0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kernelwire\nVersion: 0.0.1\n")
    origin = {"url": "file:///there", "vcs_info": {"vcs": "git", "commit_id": "1234567890abcdef"}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    found = contenders.parse(f"first@{tmp_path}")
    assert found.name == "first"
    assert found.environment == {"PYTHONPATH": str(tmp_path)}
    assert found.as_json() == {"name": "first", "what": "kernelwire 0.0.1, commit 1234567890ab"}


def test_contender_when_nothing_is_in_the_directory_then_it_is_refused(tmp_path: Path) -> None:
    """Stops this version from being measured under another's name."""
    with pytest.raises(ValueError, match="no kernelwire is installed"):
        contenders.parse(f"first@{tmp_path}")


def test_gateways_of_both_kinds_are_in_one_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops figures with kernelwire inside the gateway from standing in place of those without."""

    def measured(options: Any, *, quiet: bool) -> dict:
        del quiet
        assert options.cases == ["flood"]
        made = result(rounds(20), rounds(2))
        made["cases"]["flood"]["absent"] = {}
        return made

    monkeypatch.setattr(gateway, "carry_out", measured)
    path = tmp_path / "gateway.json"
    assert gateway.main(["--cases", "flood", "--json", str(path), "--quiet"]) == 0
    written = json.loads(path.read_text())
    assert list(written["cases"]) == ["flood", "flood, kernelwire inside the gateway"]
    text, sound = report.render(written)
    assert sound
    assert "jupyter_kernel_gateway 3" in text


def test_stock_has_no_part_in_what_it_cannot_pass_on() -> None:
    """Stops a run from failing for what is a known limit of stock's, which a report states."""
    for inside in gateway.INSIDES:
        stock, *ours = gateway.contenders(inside)
        assert not stock.takes_part("text_100_mb")
        assert all(each.takes_part(case) for each in ours for case in gateway.FUNCTIONS)


def test_report_of_interrupts_says_which_never_showed() -> None:
    """Stops a client that waits for ever from being left out."""
    rounds = [{"ok": True, "error_s": 0.5, "idle_s": 0.75}, {"ok": False, "reason": "silence"}]
    environment = {"date": "d", "cpu": "c", "cores": 2, "os": "o", "commit": "", "versions": {}}
    result = {"schema": SCHEMA, "kind": "interrupts", "environment": environment, "settings": {}}
    text, sound = report.render(result | {"cases": {"stock": rounds}})
    assert sound
    assert "| 1 | 0.50 | 0.75 |" in text
    assert "| 2 | never | never |" in text


def test_report_of_visits_has_a_line_for_each_look() -> None:
    """Stops what a server keeps of its tabs from being measured and not shown."""
    looks = [{"tabs": 2000, "rss_mb": 83.25, "descriptors": 46}]
    environment = {"date": "d", "cpu": "c", "cores": 2, "os": "o", "commit": "", "versions": {}}
    result = {"schema": SCHEMA, "kind": "visits", "environment": environment, "settings": {}}
    text, sound = report.render(result | {"cases": {"kernelwire": looks}})
    assert sound
    assert "| 2,000 | 83.2 | 46 |" in text
