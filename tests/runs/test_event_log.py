"""The event log: appended to, heard, read back as far as it is complete, and followed while it grows."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base.errors import StorageError
from tspin_mlx.runs import event_log
from tspin_mlx.runs.event_log import EventLog, EventTail, last_events, log_size, offset_of_last_start, read_events
from tspin_mlx.view.events import FIELDS, LAST, parse_event, parse_events

#: A valid event of each kind, without its time.
EXAMPLES = {
    "run_started": {"name": "quick", "phases": 9, "phases_done": 0, "steps": 4, "counts": {"train": 2}},
    "machine": {"device": "M9", "memory_bytes": 1 << 34},
    "phase_started": {"phase": "initial/adapter", "title": "warm up", "iteration": None},
    "resumed": {"phase": "initial/adapter", "done": 2, "total": 4},
    "progress": {"phase": "initial/eval.json", "done": 2, "total": 4, "tokens_per_s": 9.5},
    "step": {
        "phase": "p", "iteration": 0, "step": 1, "steps": 2, "loss": 0.5, "tokens_per_s": 9.5, "elapsed_s": 0.25,
        "advantage/current": 1.5, "memory/peak_bytes": 7,
    },
    "generated": {
        "phase": "p", "iteration": 0, "generate/stop_rate": 1, "generate/identical": 0.5, "generate/tokens_per_s": 9.5,
    },
    "evaluated": {"policy": "initial", "eval/nll": 2.5},
    "phase_finished": {"phase": "p", "elapsed_s": 1},
    "warning": {"message": "a"},
    "stopping": {"after": "step"},
    "restarted": {"reason": "out of memory", "micro_batch_size": 2, "generation_batch_size": 16},
    "chosen": {"policy": "initial", "metric": "nll", "value": 2.5},
    "run_finished": {"elapsed_s": 9.5},
    "run_stopped": {"message": "stopped", "exit_code": 143},
    "run_failed": {"message": "a", "hint": None, "exit_code": 7},
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def line(kind, **more):
    return json.dumps({"time": 1.5, "kind": kind, **EXAMPLES[kind], **more}).encode()


def messages(events):
    return [event["message"] for event in events]


# --- one event


def test_there_is_an_example_of_every_kind():
    assert EXAMPLES.keys() == FIELDS.keys()
    assert set(LAST) <= FIELDS.keys()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_event_of_every_kind_is_read_as_it_was_written(kind):
    assert parse_event(line(kind)) == {"time": 1.5, "kind": kind, **EXAMPLES[kind]}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, fields in FIELDS.items() for name in fields])
def test_an_event_without_one_of_its_fields_or_with_another_type_there_is_none(kind, name):
    event = {"time": 1.5, "kind": kind, **EXAMPLES[kind]}
    assert parse_event(json.dumps(event | {name: [1]}).encode()) is None
    del event[name]
    assert parse_event(json.dumps(event).encode()) is None


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"kind"',
        b"{",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"kind": "warning", "message": "no time"}',
        b'{"time": null, "kind": "warning", "message": "a"}',
        b'{"time": "1.5", "kind": "warning", "message": "a"}',
        b'{"time": 1.5, "message": "no kind"}',
        b'{"time": 1.5, "kind": "celebrated"}',
        b'{"time": 1.5, "kind": ["warning"], "message": "a"}',
        b'{"time": 1.5, "kind": {}, "message": "a"}',
        line("warning")[1:],
        line("warning")[:-1],
        line("evaluated", **{"eval/nll": "2.5"}),
        line("evaluated", **{"eval/nll": None}),
        line("step", **{"advantage/current": None}),
        line("step", **{"memory/peak_bytes": "7"}),
        line("generated", **{"generate/length": []}),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_lines_that_are_no_event_are_left_out(damaged):
    assert parse_event(damaged) is None


def test_a_time_that_no_float_can_hold_is_still_a_number():
    huge = 10**400
    assert parse_event(line("warning", time=huge))["time"] == huge


@given(st.binary() | st.text().map(str.encode))
def test_nothing_at_all_is_a_traceback(content):
    assert parse_event(content) is None


BETWEEN = [b"", b"null", b"1,2", b"[1]", b'{"kind": [1', b"2]}", b'{"kind": "war', b"{}", b"\xff", b"[" * 9999]


@given(st.lists(st.sampled_from([*map(line, EXAMPLES), *BETWEEN, line("step", loss=True), line("step", loss=None)])))
def test_many_lines_are_read_as_each_alone(lines):
    alone = [event for content in lines if (event := parse_event(content)) is not None]
    assert parse_events(b"\n".join(lines)) == alone
    assert parse_events(b"".join(content + b"\n" for content in lines)) == alone


# --- writing


def test_events_are_written_and_read_back_in_order(path):
    log = EventLog(path)
    log.emit("warning", message="a\nb\u2028é \x1b[2J")
    log.emit("run_stopped", message="stopped", exit_code=130)
    first, second = read_events(path)
    assert first.pop("time") <= second.pop("time")
    assert first == {"kind": "warning", "message": "a\nb\u2028é \x1b[2J"}
    assert second == {"kind": "run_stopped", "message": "stopped", "exit_code": 130}
    assert path.read_bytes().count(b"\n") == 2


def test_a_log_that_is_opened_again_is_continued(path):
    for message in ("one", "two"):
        EventLog(path).emit("warning", message=message)
    assert messages(read_events(path)) == ["one", "two"]


def test_a_line_that_a_crash_left_half_written_is_cut_off_before_the_next(path):
    path.write_bytes(line("warning", message="one") + b"\n" + line("warning")[:20])
    EventLog(path).emit("warning", message="two")
    assert messages(read_events(path)) == ["one", "two"]
    assert path.read_bytes().startswith(line("warning", message="one") + b"\n{")


def test_the_listener_hears_what_is_already_readable(path):
    heard = []

    def listen(event):
        heard.append(event)
        assert list(read_events(path)) == heard

    log = EventLog(path, listen)
    log.emit("warning", message="one")
    log.emit("warning", message="two")
    assert messages(heard) == ["one", "two"]


def test_the_listener_hears_nothing_that_could_not_be_written(path):
    heard = []
    log = EventLog(path, heard.append)
    path.mkdir()  # not a file any more
    with pytest.raises(StorageError, match=r"events\.jsonl could not be written"):
        log.emit("warning", message="one")
    assert heard == []


def test_an_unknown_kind_is_a_bug(path):
    with pytest.raises(AssertionError):
        EventLog(path).emit("celebrated")
    assert not path.exists()


# --- reading


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_that_was_cut_off_is_left_out(path, cut):
    path.write_bytes(line("warning", message="one") + b"\n" + line("warning", message="two") + b"\n")
    path.write_bytes(path.read_bytes()[:-cut])
    assert messages(read_events(path)) == ["one"]


def test_damaged_lines_are_left_out(path):
    one, two = line("warning", message="one"), line("warning", message="two")
    path.write_bytes(b"\n".join([b"\xff\0", one, b"", b"{}", two, b"[]", b""]))
    assert messages(read_events(path)) == ["one", "two"]


def test_no_log_or_an_empty_one_has_no_events(path):
    assert list(read_events(path)) == last_events(path) == EventTail(path).read() == []
    assert log_size(path) == offset_of_last_start(path) == 0
    path.write_text("")
    assert list(read_events(path)) == last_events(path) == EventTail(path).read() == []
    assert log_size(path) == offset_of_last_start(path) == 0


def test_a_tail_gives_each_event_once_and_waits_for_the_end_of_a_line(path):
    tail = EventTail(path)
    assert tail.read() == []
    one, two = line("warning", message="one") + b"\n", line("warning", message="zwei é") + b"\n"
    path.write_bytes(one)
    assert messages(tail.read()) == ["one"]
    assert tail.read() == []
    for end in range(len(two)):
        path.write_bytes(one + two[:end])
        assert tail.read() == []
    path.write_bytes(one + two + one)
    assert messages(tail.read()) == ["zwei é", "one"]


def test_a_tail_continues_when_a_torn_line_is_replaced(path):
    one = line("warning", message="one") + b"\n"
    path.write_bytes(one + b'{"time": 1, "kind": "a much longer line that was never finished')
    tail = EventTail(path)
    assert messages(tail.read()) == ["one"]
    EventLog(path).emit("warning", message="two")
    assert messages(tail.read()) == ["two"]


@pytest.mark.parametrize("block", [1, 60, 1000])
def test_blocks_may_end_anywhere(path, monkeypatch, block):
    monkeypatch.setattr(event_log, "_BLOCK", block)
    path.write_bytes(b"".join(line("warning", message=str(i)) + b"\n" for i in range(50)) + b'{"time": 1, "ki')
    assert messages(read_events(path)) == [str(i) for i in range(50)]
    tail = EventTail(path)
    found = [messages(tail.read(150)) for _ in range(60)]
    assert [text for part in found for text in part] == [str(i) for i in range(50)] and found[-1] == []


def test_a_tail_can_leave_out_what_was_there(path):
    EventLog(path).emit("warning", message="one")
    tail = EventTail(path, log_size(path))
    EventLog(path).emit("warning", message="two")
    assert messages(tail.read()) == ["two"]


def test_a_log_is_read_while_another_process_writes_it(path):
    program = (
        "import sys; from pathlib import Path; from tspin_mlx.runs.event_log import EventLog\n"
        "log = EventLog(Path(sys.argv[1]))\n"
        "for number in range(300): log.emit('warning', message=f'{number} ' + 'é' * number)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    tail, found = EventTail(path), []
    while process.poll() is None:
        found += tail.read()
    found += tail.read()
    assert process.returncode == 0
    assert messages(found) == [f"{number} " + "é" * number for number in range(300)]


def test_the_last_events_are_those_in_the_last_bytes(path):
    lines = [line("warning", message=text) + b"\n" for text in ("one", "two", "three")]
    path.write_bytes(b"".join(lines))
    two = len(lines[1]) + len(lines[2])
    assert messages(last_events(path, two)) == ["two", "three"]
    assert messages(last_events(path, two - 1)) == ["three"]  # a line cut at its beginning is no event
    assert messages(last_events(path, len(lines[2]) - 1)) == []
    assert messages(last_events(path, 10**9)) == ["one", "two", "three"]


def test_a_message_cut_at_its_beginning_is_no_event_either(path):
    inner = line("run_failed").decode()
    whole = line("warning", message=inner) + b"\n"
    path.write_bytes(whole)
    for size in range(1, len(whole)):
        assert last_events(path, size) == []


def test_the_last_start_is_found_and_nothing_that_looks_like_it(path):
    started, warning = line("run_started") + b"\n", line("warning", message='"run_started"') + b"\n"
    named = line("warning", run_started=1) + b"\n"
    path.write_bytes(warning + started)
    assert offset_of_last_start(path) == len(warning)
    path.write_bytes(started + warning + started + warning + named)
    assert offset_of_last_start(path) == len(started + warning)
    assert [event["kind"] for event in EventTail(path, len(started + warning)).read()] == [
        "run_started",
        "warning",
        "warning",
    ]
    path.write_bytes(warning + named)
    assert offset_of_last_start(path) == 0
    assert log_size(path) == len(warning + named)


def test_a_message_with_half_a_surrogate_is_an_event():
    """As of a file whose name is not UTF-8."""
    event = {"time": 1.0, "kind": "warning", "message": "no such file: \udcff.jsonl"}
    assert parse_event(json.dumps(event).encode()) == event
