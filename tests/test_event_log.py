"""The event log: appended to, heard, and read back as far as it is complete."""

import pytest

from tspin_mlx.runs.event_log import EventLog, read_events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_events_are_written_and_read_back_in_order(path):
    with EventLog(path) as log:
        log.emit("run_started", name="quick", counts={"train": 3})
        log.emit("warning", message="a\nb\u2028é \x1b[2J")
    first, second = read_events(path)
    assert first.pop("time") <= second.pop("time")
    assert first == {"kind": "run_started", "name": "quick", "counts": {"train": 3}}
    assert second == {"kind": "warning", "message": "a\nb\u2028é \x1b[2J"}


def test_a_log_that_is_opened_again_goes_on(path):
    for message in ("one", "two"):
        with EventLog(path) as log:
            log.emit("warning", message=message)
    assert [event["message"] for event in read_events(path)] == ["one", "two"]


def test_the_listener_hears_what_is_already_readable(path):
    heard = []

    def listen(event):
        heard.append(event)
        assert list(read_events(path)) == heard

    with EventLog(path, listen) as log:
        log.emit("warning", message="one")
        log.emit("warning", message="two")
    assert [event["message"] for event in heard] == ["one", "two"]


def test_a_log_can_be_read_while_it_is_written(path):
    with EventLog(path) as log:
        log.emit("warning", message="one")
        assert [event["message"] for event in read_events(path)] == ["one"]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_that_was_cut_off_is_left_out(path, cut):
    path.write_text('{"kind": "a"}\n{"kind": "b"}\n')
    path.write_bytes(path.read_bytes()[:-cut])
    assert [event["kind"] for event in read_events(path)] == ["a"]


def test_no_log_or_an_empty_one_has_no_events(path):
    assert list(read_events(path)) == []
    path.write_text("")
    assert list(read_events(path)) == []
