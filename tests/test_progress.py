"""Progress in its three kinds, and the memory sampler."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest
import rich.console

from yass_dask.monitor import progress
from yass_dask.monitor.peak import PeakMemory, tree_bytes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def _two_stages(shown: progress.Progress, clock: list[float]) -> None:
    shown.stage("preprocess", 4, 1, 60.0)
    for _ in range(3):
        clock[0] += 2.0
        shown.advance("preprocess")
    shown.finish("preprocess")
    shown.stage("detect", 10, 10, 60.0)
    shown.finish("detect")
    shown.stage("cluster", 0, 0, 60.0)
    shown.finish("cluster")
    shown.close()


def test_a_line_per_stage(clock: list[float]) -> None:
    stream = io.StringIO()
    _two_stages(progress.LineProgress(stream), clock)
    assert stream.getvalue().splitlines() == [
        "preprocess: 4 of 4 chunks, 1 found, 6.0 s, 7.5 x real time",
        "detect: 10 of 10 chunks, found complete",
        "cluster: 0 of 0 chunks, found complete",
    ]


def test_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    _two_stages(progress.RichProgress(stream), [0.0])
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert re.search(r"preprocess .*4/4 chunks .*x real time", text)
    assert re.search(r"detect .*10/10 chunks", text)
    assert re.search(r"cluster .*0/0 chunks", text)
    assert "\x1b[?25h" in stream.getvalue(), "the cursor is shown again"


def test_bars_go_on_after_close(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = progress.RichProgress(Terminal())
    shown.close()
    _two_stages(shown, [0.0])


def test_silence(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    _two_stages(progress.SilentProgress(), clock)
    assert capsys.readouterr() == ("", "")


def test_choice() -> None:
    assert isinstance(progress.choose(silent=True, stream=Terminal()), progress.SilentProgress)
    assert isinstance(progress.choose(stream=Terminal()), progress.RichProgress)
    assert isinstance(progress.choose(stream=io.StringIO()), progress.LineProgress)


def test_no_colour_where_there_is_no_terminal(clock: list[float]) -> None:
    stream = io.StringIO()
    _two_stages(progress.choose(stream=stream), clock)
    assert "\x1b" not in stream.getvalue()
    assert rich.console.Console(file=stream).color_system is None


def test_pace_before_the_first_part(clock: list[float]) -> None:
    pace = progress.Pace(5, 2, 60.0)
    assert pace.times_real_time() is None
    clock[0] += 1
    assert pace.times_real_time() is None
    pace.n_done = 1
    assert pace.times_real_time() == 12.0


def test_peak_sees_what_is_allocated_and_given_back() -> None:
    before = tree_bytes()
    with PeakMemory(interval_s=0.001) as peak:
        held = np.ones(100_000_000 // 8)
        for _ in range(10_000):  # until the sampler has looked
            if peak.bytes >= before + 90_000_000:
                break
            time.sleep(0.001)
        held = held[:1].copy()
    assert peak.bytes >= before + 90_000_000
    assert peak.seconds > 0


def test_peak_counts_children() -> None:
    import subprocess
    import sys

    program = "x = b'1' * 80_000_000; print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        before = tree_bytes()
        child.stdout.readline()
        with_child = tree_bytes()
        child.stdin.close()
        child.wait()
    assert with_child >= 80_000_000
    assert tree_bytes() <= with_child - 75_000_000
    assert before > 0
