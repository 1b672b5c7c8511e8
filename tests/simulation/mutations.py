"""Defects to plant in the sources, and how to run seeds on a copy that has one.

A mutation replaces named text, so it says itself when the code it speaks of is gone; ``caught_by`` is what the failing
seed must say, so that a mutant that merely breaks is not taken for one that was caught.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "protocol",
    "runtime",
    "journal",
    "market",
    "risk",
    "engine",
    "sidecars",
    "sandbox",
    "venues",
    "books",
    "tests",
)
SEEDS = 60
RUN_S = 240


class Edit(NamedTuple):
    """Text of one file that stands there exactly once, and what takes its place."""

    path: str
    old: str
    new: str


class Mutation(NamedTuple):
    """One defect; ``first``: the seeds begin there, where what it takes is too rare among the first ones."""

    name: str
    caught_by: str
    edits: tuple[Edit, ...]
    first: int = 0


class Run(NamedTuple):
    """What the simulation said of a mutant."""

    caught: bool
    output: str


def apply(mutation: Mutation, root: Path) -> None:
    """Plant the defect.

    Raises:
        AssertionError: If the code no longer says what the mutation replaces.
    """
    for edit in mutation.edits:
        path = root / edit.path
        text = path.read_text("utf-8")
        assert text.count(edit.old) == 1, f"{mutation.name}: {edit.path} has {text.count(edit.old)} times:\n{edit.old}"
        path.write_text(text.replace(edit.old, edit.new), "utf-8")


def run(mutation: Mutation, folder: Path, seeds: int = SEEDS) -> Run:
    """Run seeds on a copy of the sources with the defect, until one fails."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    apply(mutation, folder)
    chosen = f"{mutation.first}:{mutation.first + seeds}"
    command = [
        sys.executable, "-m", "tests.simulation.run", "--seeds", chosen, "--processes", "1", "--first-failure",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_S
    )  # fmt: skip
    caught = done.returncode == 1 and re.search(mutation.caught_by, done.stdout) is not None
    return Run(caught, done.stdout[-3000:] + done.stderr[-3000:])


def _one(name: str, caught_by: str, path: str, old: str, new: str, first: int = 0) -> Mutation:
    return Mutation(name, caught_by, (Edit(path, old, new),), first)


_COMMIT = "        durable_ns = self._commit(now_ns) if"
_APPLY = "            orders.apply_ordered(record, order, position, now_ns)\n"
_EARLY_OUTCOME = f"""{_APPLY}            self.__dict__.setdefault("early", {{}})[position] = Outcome(
                item.seq, decided.kind, decided.code, decided.order_id, seq,
                PENDING_NEW if decided.kind is ACCEPTED else OrderStatus.REJECTED,
                decided.checks_passed, decided.position_after_e9, decided.position_limit_e9, decided.facts,
            )
"""
_EARLY_DUPLICATE = """        elif type(decided) is Replay and decided.position in self.__dict__.get("early", {}):
            first = self.__dict__["early"][decided.position]
            again = Outcome(
                item.seq, OutcomeKind.DUPLICATE, first.code, first.order_id, first.record_seq, decided.status,
                first=first,
            )
            self._send(session, Outcomes([again], 0, self._state.epoch))
        elif type(decided) is Replay:
"""
_ON_BYE = "        if message.reason in GREET_AGAIN or (self._holds and message.reason is ByeReason.STOPPING):\n"
_SETTLE_ON_BYE = f"""{_ON_BYE}            for entry in self._pending.live():
                self._pending.end(entry)
                self.ended.append(Settlement(entry.delivery, Verb.ACCEPT, why=Why.SESSION_OVER))
"""
_RESEND = """        queried = self._core.reports.decide_unknown(venue, message.received_seq)
        for order_id, _ in queried.queries if queried is not None else ():
            again = self._state.orders[order_id]
            ref = self._reference_of(again.route.instrument, now_ns)
            self._append(self._core.reports.decide_send(again, venue.last_seq + 1, now_ns, ref), now_ns)
        queried = None
"""
_RELEASE = """            from protocol.codes import Code, OrderStatus
            from protocol.decisions import EngineCancel
            from protocol.records import SendDecided

            for order in [o for o in self._state.orders.values() if o.status is OrderStatus.UNKNOWN]:
                if now_ns - order.accepted_ns > 100 * NS_PER_MS:
                    names = order.account, order.client_order_id, order.order_id
                    cancel = EngineCancel(*names, 0, order.venue_seq, Code.UNSENT_STALE)
                    late = SendDecided(venue.name, order.venue_seq, order.order_id, Code.UNSENT_STALE, cancel)
                    self._append(late, now_ns)
            for order in list(venue.not_found.values()):
"""

MUTATIONS = (
    _one(
        "answer before sync", r"outcome of record \d+, durable \d+",
        "engine/loop.py", _COMMIT, "        self.sidecars.answer(0)\n" + _COMMIT,
    ),
    Mutation(
        "DUPLICATE before the first is durable", r"outcome of record \d+, durable \d+",
        (
            Edit("engine/sidecars.py", _APPLY, _EARLY_OUTCOME),
            Edit("engine/sidecars.py", "        elif type(decided) is Replay:\n", _EARLY_DUPLICATE),
        ),
    ),
    _one(
        "settle on BYE", r"was settled \(SESSION_OVER\) and nobody decided it",
        "sidecars/core/session.py", _ON_BYE, _SETTLE_ON_BYE,
    ),
    _one(
        "resend without query", r"is sent again, and nobody said NOT_FOUND|cancelled unsent and at the venue",
        "engine/gateways.py",
        "        queried = self._core.reports.decide_unknown(venue, message.received_seq)\n", _RESEND,
    ),
    _one(
        "venue id from the sequence", r"got id P-\w+, its key gives",
        "engine/orders.py",
        "self.new_id = self.order_id(id_key, state.trading_date)\n",
        'self.new_id = self.order_id(venue.last_seq.to_bytes(12, "big"), state.trading_date)\n',
    ),
    _one(
        "early key eviction", r"was decided by record \d+ and by record \d+",
        "engine/state.py", "        if self.orders.pop(order.order_id, None) is None:\n            return\n",
        "        if self.orders.pop(order.order_id, None) is None:\n            return\n"
        "        self.dedup._words[order.slot + 1] ^= 1\n",
    ),
    _one(
        "UNKNOWN released by a timer", r"is UNKNOWN and was released",
        "engine/gateways.py", "            for order in list(venue.not_found.values()):\n", _RELEASE,
    ),
    Mutation(
        "exit ignoring pending orders", r"is no exit: with all pending it reaches",
        (
            Edit("risk/gate/view.py", "self.is_exit = position < 0 and reach <= 0",
                 "self.is_exit = position < 0 and position + quantity <= 0"),
            Edit("risk/gate/view.py", "self.is_exit = position > 0 and reach <= 0",
                 "self.is_exit = position > 0 and quantity <= position"),
        ),
    ),
    _one(
        "old epoch accepted", r"has outcomes|answered from record",
        "sidecars/core/epochs.py", "        if seen is not None and epoch <= seen.epoch:\n", "        if False:\n",
    ),
    Mutation(
        "reader past the watermark", r"the books have record \d+, durable is \d+",
        (
            Edit("journal/reader.py",
                 "        mark = self._watermark.read()\n        if mark.seq <= self.seq:\n",
                 "        mark = self._watermark.read()._replace(seq=1 << 60)\n        if mark.seq <= self.seq:\n"),
            Edit("journal/reader.py",
                 "        end = split_position(mark.position)[1] if mark.segment == self._segment else -1\n",
                 "        end = -1\n"),
            Edit("journal/reader.py",
                 "            if read == 0:\n                self._next_segment()\n",
                 "            if read == 0:\n                if mark.segment <= self._segment:\n"
                 "                    break\n                self._next_segment()\n"),
        ),
    ),
    _one(
        "kill not journaled", r": kill is (not journaled|record \d+, durable)|left undurable",
        "engine/control.py",
        "            self._core.apply(seq, now_ns, self._writer.append(record), record)\n            cancels +=",
        "            position = 0 if action is ControlAction.KILL else self._writer.append(record)\n"
        "            self._core.apply(seq, now_ns, position, record)\n            cancels +=",
    ),
    _one(
        "sequence reuse after a cut", r"record \d+ on the medium behind record",
        "journal/writer.py", "        self._first_seq = self.next_seq = recovered.next_seq\n",
        "        self._first_seq = self.next_seq = recovered.next_seq - (recovered.cut_bytes > 0)\n",
    ),
    # Beyond the list of issue 4.
    _one(
        "send before sync", r"left undurable|was sent and never accepted",
        "engine/loop.py", _COMMIT, "        self.gateways.send(now_ns, self._received_ns)\n" + _COMMIT,
    ),
    _one(
        "keys forgotten by a restart", r"was decided by record \d+ and by record|a replica differs|otherwise",
        "engine/start.py", "    writer.start(recovered.epoch_max + 1)\n",
        "    state.dedup = type(state.dedup)(settings.dedup_keys_max)\n    writer.start(recovered.epoch_max + 1)\n",
    ),
    _one(
        "no late gate", r"was killed, then sent|is UNKNOWN|KeyError",
        "engine/reports.py", "        code = self._late_refusal(order, now_ns, reference)\n", "        code = OK\n",
    ),
    _one(
        "fills counted twice", r"exposure is not that of the records|is no exit",
        "engine/reports.py",
        "            venue.remember_trade(report.trade_id, book_trade(state, order, filled, report))\n",
        "            venue.remember_trade(report.trade_id, book_trade(state, order, filled, report))\n"
        "            state.book.fill(order, int(order.cum > 7))\n",
    ),
    _one(
        "both orders of a group at the venue", r"goes out before the other is over",
        "engine/oco.py", "(group.triggered and group.first not in self._state.orders)", "group.triggered",
    ),
    _one(
        "the order that waits unreserved",
        r"exposure is not that of the records|reaches \d+, the limit is|is no exit|pending \d+ of -?\d+"
        r"|of a position -?\d+, pending \d+",
        "engine/state.py", "        self.book.hold(second, max(0, left - order.leaves), ",
        "        self.book.hold(second, 0, ",
    ),
    _one(
        "a trade taken back ignored", r"exposure is not that of the records|is no exit|reaches \d+, the limit is",
        "engine/amends.py", "        state.book.move(route, to_signed - signed)\n",
        "        state.book.move(route, 0)\n",
    ),
    _one(
        "a trade taken back counted twice", r"exposure is not that of the records|is no exit",
        "engine/amends.py", "        state.book.move(route, to_signed - signed)\n",
        "        state.book.move(route, 2 * (to_signed - signed))\n",
    ),
    _one(
        "the money of a trade taken back kept", r"traded for -?\d+, the records say",
        "engine/amends.py", "        state.book.move_money(route, -paid_e9)\n", "",
    ),
    _one(
        "a fee booked twice", r"paid fees|has cash",
        "engine/fees.py", "    route.account.pay_fee(currency, fee_e9)\n",
        "    route.account.pay_fee(currency, 2 * fee_e9)\n",
    ),
    _one(
        "the books keep a trade that was taken back", r"the books have other fills than the journal",
        "journal/amended.py", "    is_busted = event.last_quantity_e9 == 0\n", "    is_busted = False\n",
    ),
    _one(
        "an exit of more than is left works on", r"are exits of more than is left since record",
        "engine/amends.py", "        note_drift(state, route.ledger)\n", "", first=200,
    ),
    _one(
        "the oldest exit cancelled first", r"are cancelled as stale and are none|are exits of more than is left since",
        "engine/drift.py", "        newest = exits.pop()\n", "        newest = exits.pop(0)\n",
    ),
    _one(
        "another sum of the venue's unnoticed", r"says another sum than",
        "engine/reports.py", " if report.cum_quantity_e9 == cum_e9 else effect_of_cum(report)\n", "\n",
    ),
    _one(
        "the surviving tail not synced", r"is gone|has changed|the chain breaks|on the medium behind|durable (is )?\d+",
        "journal/recovery.py",
        "        fill_zeros(disk, fd, at, size)\n        disk.fdatasync(fd)\n",
        "        fill_zeros(disk, fd, at, size)\n",
    ),
    _one(
        "gateway confirms what it did not sync", r"not at rest|LogBehindError|forgot commands|LogDamaged|at the venue",
        "venues/core/gateway.py",
        "            self.log.append(record)\n            self.log.sync()\n            self._must_confirm",
        "            self.log.append(record)\n            self._must_confirm",
    ),
    _one(
        "held order unreserved",
        r"exposure is not that of the records|open, not as the records say|reserves nothing again",
        "engine/holds.py", "state.book.take(opened, view.quantity, view.value_e9)", "state.book.take(opened, 0, 0)",
    ),
)  # fmt: skip

# Of the list of issue 4: what has no code yet. Gone when the code comes.
NOT_APPLICABLE: dict[str, str] = {}
