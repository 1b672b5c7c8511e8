"""The real engine, real sidecar processes and the journal as the witness: what the suite of sources stands on.

The engine runs workload W's gate with a gateway peer that acknowledges; a sidecar is the process that ``wojak sidecar
run`` starts. What happened is read from the journal: the decision of each id, how often it was decided.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks import workload
from benchmarks.acknowledger import AcknowledgerSettings
from benchmarks.stack import ROOT, Stack
from journal.reader import JournalReader
from journal.scan import decode_record
from protocol.codes import OutcomeKind
from protocol.orders import command_decoder
from protocol.records import Ordered
from runtime.health import HealthSettings
from sidecars.core.process import SidecarSettings
from sidecars.core.settings import LoopSettings, SessionSettings
from tests.conformance.peer import Message, Peer
from tests.peers.process import Server, wait_until
from tests.unit.sidecars.engine_peer import EnginePeer, Journal

WITHIN_S: Final = 60.0  # patience only: a condition that holds is seen at once
SOURCE: Final = workload.SOURCE
Look = Callable[[], Any]


def order(client_order_id: str = "", **changes: Any) -> bytes:
    """Return an order that the gate of workload W accepts, as a producer writes it."""
    fields: dict[str, Any] = {
        "account": workload.accounts[0], "strategy": workload.STRATEGY, "instrument": workload.instruments[0],
        "side": "BUY", "quantity": "0.001", "price": "59990", "time_in_force": "GTC",
    }  # fmt: skip
    if client_order_id:
        fields["client_order_id"] = client_order_id
    return msgspec.json.encode({**fields, **changes})


def orders(count: int, first: int = 0) -> list[Message]:
    """Return messages with an order each, with ids of their own."""
    return [Message(body=order(f"o{n:06d}"), message_id=f"m{n:06d}") for n in range(first, first + count)]


class Sidecar:
    """One sidecar process."""

    def __init__(self, folder: Path, sockets: Path, settings: SidecarSettings, env: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings"
        path.write_bytes(msgspec.msgpack.encode(settings))
        self.settings = settings
        self._health = settings.health.socket_path
        argv = [os.sys.executable, "-m", "benchmarks.servers", "sidecar", str(path)]  # type: ignore[attr-defined]
        self.server = Server(argv, folder, {"PYTHONPATH": str(ROOT), **env})
        self.server.start()

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.server.is_running

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body of its health endpoint; (0, "") while it does not listen."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
                asked.settimeout(5)
                asked.connect(self._health)
                asked.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
                data = b""
                while part := asked.recv(65_536):
                    data += part
        except OSError:
            return 0, ""
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode()

    @property
    def is_ready(self) -> bool:
        """Whether it says that it carries orders."""
        assert self.is_running, f"the sidecar ended:\n{self.server.said()[-4000:]}"
        return self.ask("/readyz")[0] == 200

    def wait_ready(self) -> Sidecar:
        """Wait until it carries orders."""
        wait_until(lambda: self.is_ready, WITHIN_S, lambda: f"a ready sidecar:\n{self.ask('/readyz')[1]}\n{self.said}")
        return self

    @property
    def said(self) -> str:
        """The end of what it printed."""
        return self.server.said()[-4000:]

    def metric(self, name: str, **labels: str) -> float:
        """Return one of its figures: the sum over the samples that have these labels; at most a second old."""
        total = 0.0
        for line in self.ask("/metrics")[1].splitlines():
            match = re.fullmatch(rf"wojak_sidecar_{name}(?:_total)?(?:{{(.*)}})? (\S+)", line)
            if match and all(f'{k}="{v}"' in (match[1] or "") for k, v in labels.items()):
                total += float(match[2])
        return total

    @property
    def rss_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.server.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """Kill -9."""
        self.server.kill()

    def freeze(self) -> None:
        """SIGSTOP: it is there and does nothing."""
        self.server.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.server.signal(signal.SIGCONT)

    def drain(self, within_s: float = WITHIN_S) -> int:
        """SIGTERM; return its exit code."""
        return self.server.kill(signal.SIGTERM, within_s)


class Rig:
    """One engine, its sidecars and one resource of a broker."""

    def __init__(self, folder: Path, peer: Peer) -> None:
        self.peer = peer
        self.folder = folder
        self.stack = Stack(folder / "stack")
        self._sockets = Path(self.stack.endpoint("x").removeprefix("ipc://")).parent
        self.sidecars: list[Sidecar] = []
        self.engine_peer: EnginePeer | None = None
        self.engine_journal = Journal()

    # Engine

    def start_engine(self, env: dict[str, str] | None = None) -> None:
        """Start the real engine, and the venue that acknowledges."""
        workload.write_table(self.stack.table, _now_ns()) if not self.stack.table.exists() else None
        self.stack.spawn("engine", self.stack.engine_settings(), env)
        self.stack.stop("acknowledger")  # it says Hello to one engine only
        self.stack.spawn("acknowledger", AcknowledgerSettings(self.stack.endpoint("venues"), workload.VENUE))

    @property
    def engine_pid(self) -> int:
        """The pid of the real engine."""
        return self.stack.pid("engine")

    def kill_engine(self) -> None:
        """Kill -9 of the engine, also of one that is dead already."""
        if not self.engine_has_died():
            os.kill(self.engine_pid, signal.SIGKILL)
        self.stack.stop("engine")

    def engine_has_died(self) -> bool:
        """Whether the engine ended, at a fail point for instance."""
        return next(p for name, p in self.stack._processes if name == "engine").poll() is not None

    def small_engine(self, **options: Any) -> EnginePeer:
        """Start an engine in a thread that does what a test tells it: grants, holds, is silent."""
        self.engine_peer = EnginePeer(self.stack.sidecars, self.engine_journal, **options)
        return self.engine_peer

    # Sidecars

    def sidecar(
        self,
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        drain_ms: int = 5_000,
        body_bytes_max: int = 256 << 10,
        session: SessionSettings | None = None,
        **changes: Any,
    ) -> Sidecar:
        """Start a sidecar on the resource; ``port``: of a proxy before the broker; ``changes``: to its settings."""
        number = len(self.sidecars)
        settings = SidecarSettings(
            source=SOURCE,
            kind=self.peer.kind,
            settings=self.peer.settings(**changes),
            loop=LoopSettings(
                engine_endpoint=self.stack.sidecars,
                state_file=str(self.folder / f"epochs-{number}"),
                sidecar=f"s{number}",
                session=session or SessionSettings(),
                drain_ms=drain_ms,
                body_bytes_max=body_bytes_max,
            ),
            health=HealthSettings(process=f"s{number}", socket_path=str(self._sockets / f"h{number}")),
        )
        env = {**self.peer.env(port), **(env or {})}
        found = Sidecar(self.folder / f"sidecar-{number}", self._sockets, settings, env)
        self.sidecars.append(found)
        return found

    # Witnesses

    def records(self) -> Iterator[tuple[int, Ordered]]:
        """Yield every decided order of the journal, durable ones only: (number of the record, record)."""
        reader = JournalReader(self.stack.journal)
        try:
            while batches := reader.poll():
                for batch in batches:
                    for seq, _, raw in batch.records:
                        record = decode_record(raw, self.stack.journal, 0, seq)
                        if isinstance(record, Ordered):
                            yield seq, record
        finally:
            reader.close()

    def effects(self) -> Counter[str]:
        """Return how often each client_order_id was accepted, by the real engine or the one in a thread."""
        if self.engine_peer is not None:
            return Counter(key[1] for key, o in self.engine_journal.outcomes.items() if o.kind is OutcomeKind.ACCEPTED)
        return Counter(
            command_decoder.decode(r.item.command).client_order_id  # type: ignore[union-attr]
            for _, r in self.records()
            if r.decision.kind is OutcomeKind.ACCEPTED
        )

    def effect_order(self) -> list[str]:
        """Return the accepted ids in the order of the journal."""
        return list(self.effects())

    def wait_effects(self, count: int, within_s: float = WITHIN_S) -> Counter[str]:
        """Wait until so many orders have an effect; return how often each."""

        def look() -> Counter[str] | None:
            for sidecar in self.sidecars:
                assert sidecar.is_running or sidecar.server.process is not None
            found = self.effects()
            return found if len(found) >= count else None

        found = wait_until(look, within_s, lambda: f"{count} effects, were {len(self.effects())}; {self.tell()}")
        assert found is not None
        return found

    def finish(self, expected: Sequence[str], *, dead: int = 0) -> None:
        """Wait until all is settled, drain every sidecar, then claim: one effect each, nothing left, so many dead.

        What another sidecar held comes again when its lease is over, and is settled then. I1 and I2 of SOURCES 12.
        """
        wait_until(lambda: self.peer.waiting() == 0, WITHIN_S, lambda: f"all settled, wait {self.peer.waiting()}")
        for sidecar in self.sidecars:
            if sidecar.is_running:
                assert sidecar.drain() == 0, sidecar.said
        effects = self.effects()
        assert {i: n for i, n in effects.items() if n != 1} == {}
        assert set(effects) == set(expected)
        assert self.peer.left() == []
        assert len(self.peer.dead()) == dead

    def tell(self) -> str:
        """Return what the sidecars said last."""
        return "\n".join(s.said for s in self.sidecars)

    def close(self) -> None:
        """Leave nothing running."""
        for sidecar in self.sidecars:
            sidecar.server.end()
        if self.engine_peer is not None:
            self.engine_peer.close()
        self.peer.close()
        self.stack.__exit__(None, None, None)


def _now_ns() -> int:
    from runtime.clock import wall_ns

    return wall_ns()
