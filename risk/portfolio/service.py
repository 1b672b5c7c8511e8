"""``wojak risk``: the process that answers for held orders.

It follows the event stream (what was missed comes from the follower), reads prices from the feed's last-value table,
and answers one request after the other. What can go wrong on the other side and what happens here:
- engine gone: Hello again every second; what was asked is asked anew by the next engine;
- stream behind: requests wait for the replica, their deadline at the engine bounds that;
- history gone, or a stream that is none: the process ends with what to do;
- an exception while deciding: that request is refused with INTERNAL, and the log names it.
- a risk system elsewhere (``webhook``) decides in its own time: heartbeats and other accounts do not wait for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from market.table import TableReader, reference
from protocol.channels import Context, Dealer
from protocol.codes import Code
from protocol.errors import NOT_DECODED, ConfigError
from protocol.risk import RiskAnswer, RiskRequest, RiskWithdrawn, Verdict, engine_risk_decoder
from protocol.session import INSTANCE_BYTES
from risk.portfolio.answering import Answerer, PortfolioAnswerer
from risk.portfolio.params import Params
from risk.portfolio.replica import Replica
from risk.portfolio.rows import day_of, parse_params, resolve
from risk.portfolio.session import ServiceSession
from risk.portfolio.webhook import Webhook, WebhookSettings
from runtime import clock, logs
from runtime.event_stream import EventStream
from runtime.exits import CLEAN
from runtime.health import HealthSettings, served
from runtime.histogram import Histogram
from runtime.metrics import COUNTER, DURATION, GAUGE, Board, Family, Snapshot
from runtime.signals import StopSignal

WAIT_MS: Final = 100
RECEIVE_MAX: Final = 256
ENGINE_HWM: Final = 8192
EPOCH_BYTES_MAX: Final = 32
_encode: Final = msgspec.msgpack.Encoder().encode

DECIDED: Final = "wojak_risk_decided_seconds"
FAMILIES: Final = (
    Family(DECIDED, DURATION, "From taking a request to its answer, the wait for the replica apart"),
    Family("wojak_risk_answered", COUNTER, "Requests answered"),
    Family("wojak_risk_refused_full", COUNTER, "Requests refused because too many waited"),
    Family("wojak_risk_failed", COUNTER, "Requests that could not be decided"),
    Family("wojak_risk_waiting", GAUGE, "Requests not answered yet"),
    Family("wojak_risk_webhook_asking", GAUGE, "Requests that the risk system elsewhere is asked about"),
    Family("wojak_risk_webhook_failed", COUNTER, "Attempts to ask it that brought no answer that counts"),
    Family("wojak_risk_as_of_seq", GAUGE, "Last record in the replica"),
)


class ServiceSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the service is told.

    Attributes:
        webhook: The risk system elsewhere that decides; None = by ``params_file`` and the prices of ``table_path``.
        params_file: Dated rows (``risk.portfolio.rows``), resolved at the start; or JSON of ``Params`` as they are.
        epoch_file: Where it counts its starts, so that an older instance is refused.
        table_path: The feed's last-value table; ``tick_age_max_ns``: an older price is none.
    """

    engine_endpoint: str
    events_endpoint: str
    history_endpoint: str
    epoch_file: str
    webhook: WebhookSettings | None = None
    table_path: str = ""
    params_file: str = ""
    tick_age_max_ns: int = 5_000_000_000
    health: HealthSettings = HealthSettings()


def run(settings: ServiceSettings) -> int:
    """Answer until told to stop.

    Raises:
        ConfigError: If the parameters can't be used.
        FencedError: If a newer instance was here.
        HistoryGoneError, RemoteProtocolError: If the replica can't be made.
    """
    log = logs.configure("risk")
    stop, board, context = StopSignal(), Board(), Context()
    board.not_ready = ("no session with the engine",)
    answerer = answerer_of(settings)
    epoch = next_epoch(Path(settings.epoch_file))
    try:
        with served(settings.health, board, FAMILIES) as serve:
            serve()
            service = Service(settings, context, answerer, epoch, board)
            service.stream.add_fd(stop.fd)
            log.info("started", instance_epoch=epoch)
            while not stop.is_set:
                service.turn(WAIT_MS)
    finally:
        if isinstance(answerer, Webhook):
            answerer.close()
        context.close(linger_ms=100)
    return CLEAN


def answerer_of(settings: ServiceSettings) -> Answerer | Webhook:
    """Return who decides."""
    if settings.webhook is not None:
        return Webhook(settings.webhook)
    prices = TablePrices(settings.table_path, settings.tick_age_max_ns)
    return PortfolioAnswerer(load_params(Path(settings.params_file)), prices)


class Service:
    """The process's loop, one turn at a time."""

    def __init__(
        self, settings: ServiceSettings, context: Context, answerer: Answerer | Webhook, epoch: int, board: Board
    ) -> None:
        self._log = logs.configure("risk")
        self._answerer = answerer
        self._board = board
        self._engine = Dealer(context, settings.engine_endpoint, ENGINE_HWM)
        self.stream = EventStream(context, settings.events_endpoint, settings.history_endpoint)
        self.stream.add(self._engine)
        if isinstance(answerer, Webhook):
            self.stream.add_fd(answerer.fd)
        self.replica = Replica()
        self.session = ServiceSession(os.urandom(INSTANCE_BYTES), epoch)
        self.answered = self.failed = 0
        self._decided = Histogram()

    def turn(self, wait_ms: int) -> None:
        """Take what is there, answer what can be, send; wait at most ``wait_ms`` for something."""
        self._send()
        for frame in self.stream.poll(wait_ms):
            self.replica.take(frame)
        for body in self._engine.receive(RECEIVE_MAX):
            try:
                message = engine_risk_decoder.decode(body)
            except NOT_DECODED as e:
                self._log.error("a message of the engine can't be read", error=str(e))
                continue
            self.session.on_message(message)
            if isinstance(message, RiskWithdrawn) and isinstance(self._answerer, Webhook):
                self._answerer.withdraw(message.order_id)
        if isinstance(self._answerer, Webhook):
            self._ask(self._answerer)
        else:
            self._decide(self._answerer)
        self._send()
        self._publish()

    def _decide(self, answerer: Answerer) -> None:
        for request in self.session.due(self.replica.seq):
            began_ns = clock.monotonic_ns()
            try:
                answer = answerer.answer(request, self.replica, clock.wall_ns())
            except Exception as e:  # noqa: BLE001 - one that can't be decided must not end the others
                answer = self._refuse(request, e)
            self.answered += 1
            self._decided.record(clock.monotonic_ns() - began_ns)
            self.session.answer(answer)

    def _ask(self, webhook: Webhook) -> None:
        for answer in webhook.collect():
            if self.session.is_open:  # else it is asked again, and answers the same
                self.answered += 1
                self.session.answer(answer)
        for request in self.session.due(self.replica.seq, webhook.is_busy):
            webhook.ask(request, clock.wall_ns())

    def _refuse(self, request: RiskRequest, error: Exception) -> RiskAnswer:
        self.failed += 1
        text = f"{type(error).__name__}: {error}"
        self._log.error("can't be decided", order_id=request.order_id, error=text)
        return RiskAnswer(request.order_id, request.asked, Verdict.REJECT, code=Code.INTERNAL)

    def _send(self) -> None:
        for message in self.session.outgoing(clock.monotonic_ns(), self.replica.seq):
            if not self._engine.send(_encode(message)):
                self.session.on_send_failed()
                return

    def _publish(self) -> None:
        now_ns = self._board.turned_ns = clock.monotonic_ns()
        webhook = self._answerer if isinstance(self._answerer, Webhook) else None
        if not self.session.is_open:
            self._board.not_ready = ("no session with the engine",)
        elif webhook is not None and webhook.is_failing(now_ns):
            self._board.not_ready = ("the risk system did not answer",)
        else:
            self._board.not_ready = ()
        if not self._board.is_due(now_ns):
            return
        values = {
            "wojak_risk_answered": self.answered,
            "wojak_risk_refused_full": self.session.refused,
            "wojak_risk_failed": self.failed,
            "wojak_risk_waiting": self.session.waiting,
            "wojak_risk_webhook_asking": webhook.asking if webhook is not None else 0,
            "wojak_risk_webhook_failed": webhook.failed if webhook is not None else 0,
            "wojak_risk_as_of_seq": self.replica.seq,
        }
        self._board.publish(Snapshot(now_ns, values, {DECIDED: self._decided.snapshot()}))


class TablePrices:
    """Prices of the feed's last-value table."""

    def __init__(self, path: str, tick_age_max_ns: int) -> None:
        self._table = TableReader.open(path)
        self._age_ns = tick_age_max_ns

    def price_e9(self, instrument: str, now_ns: int) -> int:
        """Return the last trade if fresh, else the mid; 0 = neither."""
        self._table.reopen()
        found = reference(self._table.read(self._table.slot(instrument)), now_ns, self._age_ns)
        return 0 if found is None else found.price_e9


def load_params(path: Path) -> Params:
    """Return the parameters of portfolio risk: of TOML the dated rows that hold today, of JSON what is in it.

    Raises:
        ConfigError: Naming the file and the fault.
        RiskParamsError: If an underlying has no scan ranges today.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".toml":
            file = parse_params(content, str(path))
            return resolve(file, day_of(file, clock.wall_ns()))
        return msgspec.json.decode(content, type=Params)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ConfigError([f"risk parameters: {e}"], str(path)) from e


def next_epoch(path: Path) -> int:
    """Count this start, durably, and return its number."""
    try:
        last = int(path.read_text("ascii")[:EPOCH_BYTES_MAX] or 0)
    except FileNotFoundError:
        last = 0
    except ValueError as e:
        raise ConfigError([f"expected the number of the last start, was none: {e}; remove the file"], str(path)) from e
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(str(last + 1))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return last + 1
