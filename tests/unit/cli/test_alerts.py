"""What is told, and when: states that last, go on and end, rates, events; and that nothing else is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cli.alert_rows import AlertRuleRow, AlertsSection, ChatRow, EmailRow, WebhookRow, alert_problems, secret_of
from cli.alerting.judge import Fired, Judge, Key, Say
from cli.alerting.lanes import Lane, LaneRules
from cli.alerting.look import Rates, held_by_engine, held_by_process
from cli.alerting.message import Message
from cli.alerting.process import Engine, Times, Watch, Watched
from cli.alerting.rules import RULES
from cli.alerting.seen import seen_in
from cli.alerting.start import Asked as Started
from cli.alerts import send_test
from cli.configuration import load
from cli.scrape import Scraped
from journal.format import JournalSettings
from journal.recovery import recover
from journal.writer import JournalWriter
from protocol.channels import Context, Publisher
from protocol.codes import Code, Scope
from protocol.control import ControlReply, EngineStatus, HaltedScope, VenueStatus
from protocol.errors import ConfigError
from protocol.marks import LossLevel, LossTrip, Mark, Marked
from protocol.money import CollateralAdjusted, FxMarked
from protocol.records import Adjusted, Clocked, ControlAction, Controlled, Record, SendDecided
from protocol.statement import Difference, DifferenceKind, Reconciled
from runtime import logs
from runtime.metrics import Board
from runtime.signals import StopSignal
from tests.unit.cli.test_alert_receivers import Ear
from tests.unit.cli.test_configuration import write

S = 10**9
E9 = 10**9
ENGINE = "engine"
HALT = Key("halt", ENGINE, "account a1")
VENUE = Key("venue", ENGINE, "sandbox")


def status(**changes: object) -> EngineStatus:
    """An engine at which all is well."""
    plain = EngineStatus(
        "PAPER", 0, 1, 10, 10, "", False, 1, 0, 0, 0, 0, 0, 0, 0, 0, {}, 0, 0, 0, 10, 20260530, [],
        [VenueStatus("sandbox", True, 1, 1, 0)], [], {}, {}, {},
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def held(found: EngineStatus, seen_seq: int = 10, **rates: dict[str, int]) -> dict[Key, str]:
    return dict(held_by_engine(ENGINE, found, RULES, rates, seen_seq))


# Judging


def test_a_state_is_told_once_again_and_when_it_is_over() -> None:
    """At once where its rule says so; what it said last stands in the end."""
    judge = Judge(RULES, 60_000)
    assert [a.say for a in judge.look({HALT: "x"}, (), S)] == [Say.FIRING]
    assert judge.look({HALT: "y"}, (), 2 * S) == []
    assert [(a.say, a.since_ns) for a in judge.look({HALT: "y"}, (), 61 * S)] == [(Say.AGAIN, S)]
    assert [(a.say, a.text, a.since_ns) for a in judge.look({}, (), 62 * S)] == [(Say.RESOLVED, "y", S)]
    assert judge.look({}, (), 63 * S) == []


def test_what_flaps_within_its_time_is_not_told() -> None:
    """A gateway that comes back within 5 s is none; and it is over only when it stays."""
    judge = Judge(RULES, 0)
    assert judge.look({VENUE: "x"}, (), 0) == []
    assert judge.look({}, (), 3 * S) == []
    assert judge.look({VENUE: "x"}, (), 4 * S) == []
    assert judge.look({VENUE: "x"}, (), 8 * S) == []
    assert [a.say for a in judge.look({VENUE: "x"}, (), 9 * S)] == [Say.FIRING]
    assert judge.look({}, (), 10 * S) == []
    assert judge.look({VENUE: "x"}, (), 14 * S) == []
    assert judge.look({}, (), 15 * S) == []
    assert [a.say for a in judge.look({}, (), 20 * S)] == [Say.RESOLVED]


def test_what_can_not_be_seen_is_neither_begun_nor_ended() -> None:
    """A dead engine's halts hold; that it is silent is told."""
    judge = Judge(RULES, 0)
    judge.look({HALT: "x"}, (), 0)
    silent = Key("silence", "", ENGINE)
    assert judge.look({silent: "does not answer"}, {ENGINE}, S) == []
    assert [a.key for a in judge.look({silent: "does not answer"}, {ENGINE}, 4 * S)] == [silent]
    assert [a.key for a in judge.look({}, (), 5 * S)] == [HALT]


def test_what_was_told_before_a_restart_is_not_told_again_but_ended() -> None:
    """The state that goes on is silent, the one that ended meanwhile is resolved."""
    before = [Fired("halt", ENGINE, "a", "x", 1, 1), Fired("halt", ENGINE, "b", "y", 1, 1)]
    judge = Judge(RULES, 0, before)
    said = judge.look({Key("halt", ENGINE, "a"): "x"}, (), S)
    assert [(a.say, a.key.scope) for a in said] == [(Say.RESOLVED, "b")]


def test_a_rule_that_is_off_says_nothing() -> None:
    """Neither states nor events."""
    rules = AlertsSection(rules=(AlertRuleRow("halt", enabled=False), AlertRuleRow("truth", enabled=False)))
    judge = Judge(rules.effective_rules(), 0)
    assert judge.look({HALT: "x"}, (), S) == []
    assert judge.event("truth", ENGINE, "x", S) == []
    assert [a.say for a in judge.event("statement", ENGINE, "x", S)] == [Say.EVENT]


# Looking


def test_an_engine_at_which_all_is_well_says_nothing() -> None:
    """No rule speaks."""
    assert held(status()) == {}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"halted": [HaltedScope("account", "a1", "HALTED", "why", "op")]}, HALT),
        ({"halted": [HaltedScope("global", "", "REDUCING", "why", "op")]}, Key("reduce_only", ENGINE, "global")),
        ({"halted": [HaltedScope("instrument", "X", "HALTED_AUTO", "overfill", "engine")]},
         Key("halt", ENGINE, "instrument X")),
        ({"halted": [HaltedScope("global", "", "REDUCING", "clock jumped 6 ns", "engine")]},
         Key("clock", ENGINE, "global")),
        ({"venues": [VenueStatus("sandbox", False, 1, 1, 2)]}, VENUE),
        ({"unknown_orders": 1}, Key("unknown_orders", ENGINE, "")),
        ({"suspense_fills": 1}, Key("suspense", ENGINE, "")),
        ({"durable_seq": 1_011}, Key("stream_lag", ENGINE, "")),
    ],
)  # fmt: skip
def test_each_state_of_an_engine_is_seen(changes: dict[str, object], key: Key) -> None:
    """And it alone."""
    assert list(held(status(**changes))) == [key]


def test_a_lag_at_its_limit_is_none() -> None:
    """Above means above."""
    assert held(status(durable_seq=1_010)) == {}
    assert held(status(), breaches={"POS_LIMIT": 100}) == {}
    assert list(held(status(), breaches={"POS_LIMIT": 101})) == [Key("breaches", ENGINE, "POS_LIMIT")]


def test_refusals_are_counted_over_the_window_and_over_a_restart() -> None:
    """What came before the first look is no rate; an engine that began anew counts from 0."""
    rates = Rates(60_000)
    assert rates.take({"A": 500}, 0) == {"A": 0}
    assert rates.take({"A": 530, "B": 1}, 10 * S) == {"A": 30, "B": 1}
    assert rates.take({"A": 5}, 30 * S)["A"] == 35
    assert rates.take({"A": 5}, 70 * S)["A"] == 5
    assert rates.take({"A": 5}, 95 * S)["A"] == 0


def test_processes_tell_of_themselves_and_by_their_silence() -> None:
    """Not running, not ready, behind, differing."""
    fine = Scraped("books", True, "", 0.0, {})
    assert dict(held_by_process("books", fine, RULES)) == {}
    gone = msgspec.structs.replace(fine, answers=False, reason="not running")
    assert list(held_by_process("books", gone, RULES)) == [
        (Key("process", "", "books"), "process books is not ready: not running")
    ]
    behind = {
        "wojak_books_lag_ms": {frozenset[tuple[str, str]](): 5_001.0},
        "wojak_follower_lag_records": {frozenset[tuple[str, str]](): 100_001.0},
        "wojak_follower_parted": {frozenset[tuple[str, str]](): 7.0},
    }
    found = dict(held_by_process("p", msgspec.structs.replace(fine, samples=behind), RULES))
    assert {key.rule for key in found} == {"drift", "books_lag", "follower_lag"}


# The event stream


DIFFERENCE = Difference(DifferenceKind.POSITION, Scope.ACCOUNT, "a1", "a1", "XY", "", "", E9, 2 * E9)
TOLD: list[tuple[Record, list[str]]] = [
    (SendDecided("sandbox", 1, "o", Code.OK), []),
    (Controlled(ControlAction.HALT, Scope.GLOBAL, "", "op", "why", False, []), []),
    (Controlled(ControlAction.EXIT_STALE, Scope.GLOBAL, "", "engine", "why", True, []), ["stale_exits"]),
    (Clocked(6), []),
    (Adjusted("a1", "", 0, 0, "5", "USDT", "opening cash"), []),
    (Adjusted("a1", "", 0, 0, "5", "USDT", "deposit", "op", "0"), ["truth"]),
    (Adjusted("a1", "XY", E9, E9, "", "", "statement", "op", "0"), ["truth"]),
    (CollateralAdjusted("a1", "bond", "5", "USDT", 500, "0", "why", "op"), ["truth"]),
    (FxMarked("EUR", "USDT", E9, 0, "why", "op"), ["truth"]),
    (Marked([Mark("XY", E9, E9)], []), []),
    (Marked([], [LossTrip(Scope.ACCOUNT, "a1", Code.LOSS_DAILY, LossLevel.ALERT, "8", "10", "USDT")]), ["losses"]),
    (Reconciled("sandbox", 1, 1, "start", "", "", 0, 0, 0, False, []), []),
    (Reconciled("sandbox", 1, 1, "start", "", "", 0, 0, 0, False, [DIFFERENCE], 2), ["statement"]),
]


def frames_of(folder: Path, records: list[Record]) -> list[bytes]:
    """The frames that an engine would publish, one record each."""
    sizes = JournalSettings(segment_bytes=32_768, batch_bytes_max=8_192, prepare_ahead=False)
    writer = JournalWriter(folder, recover(folder, None, sizes), sizes, lambda: 1)
    writer.start(1)
    frames = []
    for record in records:
        writer.append(record)
        frames.append(bytes(writer.commit(1)))
    writer.close()
    return frames


def test_the_stream_is_read_for_what_is_news_alone(tmp_path: Path) -> None:
    """Orders and reports are passed over by their tag; what an operator did wakes; what differs is told."""
    frames = frames_of(tmp_path / "j", [record for record, _ in TOLD])
    for frame, (record, rules) in zip(frames, TOLD, strict=True):
        seen = seen_in(frame)
        assert [rule for rule, _ in seen.events] == rules, record
        says_nothing = isinstance(record, SendDecided) or (isinstance(record, Marked) and not record.trips)
        assert seen.is_news is not says_nothing
        assert all(text for _, text in seen.events)


# Configuration


HOOK = WebhookRow("ops", "https://x.test/", secret_env="WOJAK_TEST_SECRET")


@pytest.mark.parametrize(
    ("alerts", "fault"),
    [
        (AlertsSection(webhooks=(HOOK, HOOK)), "alerts.webhooks[1].name: expected one that no other receiver has"),
        (AlertsSection(webhooks=(WebhookRow("a", "https://x.test"),)), "was neither"),
        (AlertsSection(chats=(ChatRow("a", "1", "X", "y"),)), "was both"),
        (AlertsSection(emails=(EmailRow("a", "h", "f", ("t",), user="u"),)), "expected user with either"),
        (AlertsSection(emails=(EmailRow("a", "h", "f", ("t",), user="u", password_env="P", security="none"),)),
         "expected starttls or tls"),
        (AlertsSection(webhooks=(msgspec.structs.replace(HOOK, rules=("nonsense",)),)), "alerts.webhooks[0].rules"),
        (AlertsSection(rules=(AlertRuleRow("halt"), AlertRuleRow("halt"))), "expected once"),
        (AlertsSection(rules=(AlertRuleRow("nonsense"),)), "alerts.rules[0].rule: expected one of halt"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_by_its_key(alerts: AlertsSection, fault: str) -> None:
    """One fault each."""
    (found,) = alert_problems(alerts)
    assert fault in found


def test_a_secret_is_read_where_it_is_and_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, unreadable and too short are faults that name the place alone."""
    monkeypatch.delenv("WOJAK_TEST_SECRET", raising=False)
    with pytest.raises(ConfigError, match="WOJAK_TEST_SECRET"):
        secret_of(HOOK, tmp_path)
    monkeypatch.setenv("WOJAK_TEST_SECRET", "short-one")
    with pytest.raises(ConfigError) as found:
        secret_of(HOOK, tmp_path)
    assert "short-one" not in str(found.value)
    (tmp_path / "token").write_text("12:ab\n", "utf-8")
    assert secret_of(ChatRow("a", "1", token_file="token"), tmp_path) == "12:ab"
    with pytest.raises(ConfigError, match="file none"):
        secret_of(ChatRow("a", "1", token_file="none"), tmp_path)


def test_a_rule_is_changed_only_in_what_the_file_says() -> None:
    """The rest stays as it is by default."""
    rules = AlertsSection(rules=(AlertRuleRow("breaches", above=3),)).effective_rules()
    assert rules["breaches"] == RULES["breaches"]._replace(above=3)
    assert rules["halt"] == RULES["halt"]


def test_the_page_lists_every_rule_with_its_default() -> None:
    """docs/alerts.md and the code say the same."""
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text("utf-8")
    rows = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[3:6]] for line in page.splitlines()
            if line.startswith("| ") and line.split("|")[1].strip() in RULES}  # fmt: skip
    assert set(rows) == set(RULES)
    for name, (above, lasts, window) in rows.items():
        rule = RULES[name]
        assert (above == "event") is rule.is_event
        assert int(above.replace(",", "") or 0 if above != "event" else 0) == rule.above
        assert (int(lasts.removesuffix(" s")) * 1_000 if lasts.endswith(" s") else 0) == rule.for_ms
        assert (int(window.removesuffix(" s")) * 1_000 if window else 0) == rule.window_ms


# The process


class Asked:
    """An engine as the test says it is."""

    def __init__(self) -> None:
        self.now: EngineStatus | None = status()
        self.asked = threading.Semaphore(0)

    def status(self) -> EngineStatus | None:
        self.asked.release()
        return self.now


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    """What ends the process, and the test's own handlers again after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield StopSignal()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_process_tells_what_it_sees_and_is_woken_by_the_stream(tmp_path: Path, stop: StopSignal) -> None:
    """A halt comes with its record, long before the next look is due; its end too; what was said is kept."""
    context = Context()
    events, history = f"ipc://{tmp_path}/e", f"ipc://{tmp_path}/h"
    publisher = Publisher(context, events, 10)
    frames = frames_of(tmp_path / "j", [Clocked(n) for n in range(3)])
    ask, ear, board = Asked(), Ear(), Board()
    ask.now = status(durable_seq=0)
    log = logs.configure("test")
    lane = Lane("ear", ear, (), LaneRules("desk", 9, 60_000, 1, 1.0), log)
    watched = Watched([Engine(ENGINE, ask, events, history)], {}, context, tmp_path / "alerts.json")
    watch = Watch(watched, [lane], RULES, Times(60_000, 0), stop, log, board)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        assert ask.asked.acquire(timeout=10)
        ask.now = status(durable_seq=1, halted=[HaltedScope("account", "a1", "HALTED", "why", "op")])

        def publish_until(count: int, frame: bytes) -> list[Message]:
            """A subscriber may join late: say it until it is heard."""
            for _ in range(200):
                publisher.send(frame)
                if ask.asked.acquire(timeout=0.1):
                    break
            return ear.wait(count)

        (said,) = publish_until(1, frames[0])
        assert (said.state, said.rule, said.scope) == ("firing", "halt", "engine account a1")
        publish_until(1, frames[1])  # the next look began, so the one before has kept what it said
        kept = msgspec.json.decode((tmp_path / "alerts.json").read_bytes(), type=list[Fired])
        assert [f.rule for f in kept] == ["halt"]
        ask.now = status(durable_seq=3)
        assert publish_until(2, frames[2])[1].state == "resolved"
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        thread.join(10)
        publisher.close()
        context.close()
    assert not thread.is_alive()
    assert lane.sent == 2
    assert board.snapshots


@pytest.mark.parametrize("answer", [None, b"", b"\xc1", msgspec.msgpack.encode(ControlReply(False, "no"))])
def test_an_engine_that_lies_or_refuses_is_silent_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    """No answer, no msgpack, another token: told as silence, and this process goes on."""
    monkeypatch.setattr("cli.engine_client.answer_to", lambda *_: answer)
    loaded = load(write(tmp_path))
    loaded.paths.run.mkdir(parents=True, exist_ok=True)
    loaded.paths.token.parent.mkdir(parents=True, exist_ok=True)
    loaded.paths.token.write_text("t" * 32, "ascii")
    assert Started(loaded).status() is None


def test_who_tests_alerts_without_a_receiver_is_told_where_to_put_one(tmp_path: Path) -> None:
    """Nothing is sent to nobody with success."""
    with pytest.raises(ConfigError, match="expected a receiver in webhooks, emails or chats, was none"):
        send_test(config=write(tmp_path))
