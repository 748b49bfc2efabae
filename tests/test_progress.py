"""Bars move on a terminal; in a log file they are lines, a minute apart."""

import sys

import pytest

from geomadv import progress


def count(**how):
    with progress.tqdm(total=1000, desc="walks", unit="image", disable=False, **how) as bar:
        for _ in range(1000):
            bar.update()


def test_a_log_file_is_not_filled(capsys):
    count()
    assert capsys.readouterr().err == ""


def test_a_log_file_gets_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_INTERVAL", 0.0)
    count()
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("walks:") and "1000/1000" in line for line in lines)
    assert not any("\r" in line for line in lines)


def test_what_shall_be_told_at_once_is_told_twice(capsys):
    count(delay=0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert 1 <= len(lines) <= 2


def test_a_terminal_gets_a_moving_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    count()
    err = capsys.readouterr().err
    assert "\r" in err
    assert err.endswith("\r")  # cleared: the line that says what was found takes its place
    count(leave=True)
    assert "1000/1000" in capsys.readouterr().err.splitlines()[-1]


def test_work_that_ended_early_ends_full_and_work_that_failed_does_not(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_INTERVAL", 0.0)
    with progress.tqdm(total=10, desc="search", disable=False) as bar:
        bar.update(4)
    assert "100%" in capsys.readouterr().err.strip().splitlines()[-1]
    failing = progress.tqdm(total=10, disable=False)
    failing.update(4)
    failing.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert " 40%" in capsys.readouterr().err.strip().splitlines()[-1]


def test_nothing_is_shown_where_nothing_is_wanted(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_INTERVAL", 0.0)
    assert list(progress.tqdm(range(3), disable=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("total", [None, 5])
def test_iterables_come_through(total):
    assert list(progress.tqdm(iter("abc"), total=total)) == ["a", "b", "c"]
