"""Every line of a run's log is shown once, and the progress line is read from it."""

import pytest

from ship.commands.live_runs import Log, minutes
from ship.kaggle.remote import log_entries


@pytest.fixture
def log():
    return Log()


def test_pieces_make_lines(log, capsys):
    for piece in ("one\ntw", "o\n", "thr"):
        log.add(piece)
    assert capsys.readouterr().out == "  | one\n  | two\n"
    log.finish("one\ntwo\nthree")
    assert capsys.readouterr().out == "  | three\n"


def test_a_replay_shows_only_what_is_new(log, capsys):
    log.add("one\ntwo\n")
    log.restart()
    log.add("one\ntwo\nthree\n")
    assert capsys.readouterr().out == "  | one\n  | two\n  | three\n"
    assert list(log.tail) == ["one", "two", "three"]


def test_a_log_of_another_version_hides_none_of_the_own_lines(log, capsys):
    log.add("loading\nepoch 1 of the other\nepoch 2 of the other\n")
    capsys.readouterr()
    log.finish("loading\nepoch 1\nepoch 2\nepoch 3\n")
    assert capsys.readouterr().out == "  | epoch 1\n  | epoch 2\n  | epoch 3\n"


def test_the_number_of_the_session_is_read(log, capsys):
    log.add("ship: session kaggle_q1w2-98765432-webtier\nloading\n")
    assert log.session == 98765432
    assert (
        capsys.readouterr().out == "  | loading\n"
    )  # the name of a container tells nobody anything


@pytest.mark.parametrize(
    ("line", "session"),
    [
        ("ship: session kaggle_q1w2-98765432", 98765432),
        ("\x1b[0mship: session kaggle-98765432-webtier", 98765432),
        ("ship: session kaggle-98765432-webtier-2", 0),
        ("ship: session kaggle-12", 0),
        ("ship: session 98765432", 0),
        ("the ship: session a-98765432", 0),
        ("ship: session of a captain, who counted 5-98765432", 0),
        ("ship: session a-" + "9" * 5000, 0),
    ],
)
def test_what_a_line_tells_of_the_session(log, line, session):
    log.add(line + "\n")
    assert log.session == session


def test_a_progress_bar_shows_its_last_state(log, capsys):
    log.add("10%\r50%\r100%\r\n")
    assert capsys.readouterr().out == "  | 100%\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('[{"stream_name": "stdout", "time": 1.5, "data": "a\\n"}]', ["a\n"]),
        ("plain\ntext", ["plain\n", "text\n"]),
        ("", []),
        ('{"data": "x"}', []),
        ('["x", {"data": "y"}]', ["y"]),
    ],
)
def test_a_log_in_any_form(text, lines):
    assert [entry["data"] for entry in log_entries(text)] == lines


def test_minutes_of_a_run():
    assert minutes([{"time": 30.0}, {"time": 90}, {"data": "x"}]) == 1.5
    assert minutes([]) is None
