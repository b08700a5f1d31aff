"""Signals are handled for the length of a block."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading

import pytest

from ppolab.runtime.signals import SIGNALS, given_up_after, heeded_interrupt, signals_handled_by, stop_requests


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_handler_answers_inside_the_block(number: signal.Signals) -> None:
    before, received = handlers(), []
    with signals_handled_by(lambda number, _frame: received.append(number)):
        signal.raise_signal(number)
    assert received == [number]
    assert handlers() == before


def test_only_the_signals_that_are_named_are_handled() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals_handled_by(signal.default_int_handler, (signal.SIGTERM,)):
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_earlier_handlers_are_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(ValueError), signals_handled_by(signal.default_int_handler):
        raise ValueError
    assert handlers() == before


def test_another_thread_changes_nothing() -> None:
    before, seen = handlers(), []

    def work() -> None:
        with signals_handled_by(lambda *_: None), heeded_interrupt(), stop_requests():
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_second_request_to_stop_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt), stop_requests() as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGTERM)
        assert stopping()
        assert "the runs save and end" in capsys.readouterr().out
        signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_a_request_to_stop_takes_back_the_line_of_the_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with stop_requests():
        signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().out == "\r\x1b[Kstopping: the runs save and end; once more to end at once\n"


def test_an_interrupt_that_a_package_swallows_is_raised_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), heeded_interrupt():
        with contextlib.suppress(BaseException):  # as some packages do
            signal.raise_signal(signal.SIGINT)
        swallowed = True
    assert swallowed
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_is_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with heeded_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_first_signal_gives_up_and_a_second_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    before, given_up = signal.getsignal(signal.SIGINT), []
    with given_up_after(lambda: given_up.append(True)):
        signal.raise_signal(signal.SIGINT)
        assert given_up == [True]
        assert capsys.readouterr().out.startswith("no longer sending: the same command sends what the store lacks")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert given_up == [True] and signal.getsignal(signal.SIGINT) is before
