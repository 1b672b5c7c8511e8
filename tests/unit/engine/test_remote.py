"""Control over tcp with real CURVE sockets and a real engine: who gets in, what each role may ask, in whose name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import msgspec
import pytest
import structlog

from engine.loop import EngineLoop
from engine.settings import EngineSettings, RemoteControl
from engine.start import start
from market.table_writer import TableWriter
from protocol.channels import Context, CurveKeys, Dealer, Waiter
from protocol.codes import Mode, Scope, TradingState
from protocol.control import ControlBody, ControlReply, ControlRequest, SetState, Status, reply_decoder
from protocol.errors import ConfigError
from runtime.keys import AllowedKeys, Role, SecretKey, read_public, read_secret, write_keys
from runtime.metrics import Board
from tests.unit.engine.desk import params

PATIENCE_S = 5.0
SILENCE_TURNS = 40
KILL = SetState("kill", Scope.GLOBAL, "", "why")
STATUS = Status()


class Door:
    """An engine with a door over tcp, turned by the test, and clients that knock."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.allowed = folder / "allowed"
        self.allowed.mkdir()
        secret, public = write_keys(self.keys, "engine", Role.ENGINE)
        self.server = read_public(public).public_key
        (folder / "token").write_text("t" * 40)
        TableWriter.create(folder / "table", ["XY"]).close()
        settings = EngineSettings(
            mode=Mode.PAPER, shard=0, journal_dir=str(folder / "journal"), sidecars_endpoint=f"ipc://{folder}/s",
            venues_endpoint=f"ipc://{folder}/v", events_endpoint=f"ipc://{folder}/e",
            control_endpoint=f"ipc://{folder}/c", token_file=str(folder / "token"), table_path=str(folder / "table"),
            params=params(), segment_bytes=1 << 20, dedup_keys_max=1_000, disk_reserve_bytes=0,
            remote=RemoteControl("tcp://127.0.0.1:*", str(secret), str(self.allowed)),
        )  # fmt: skip
        self.read_end, self.write_end = os.pipe()
        stop = SimpleNamespace(fd=self.read_end, is_set=False, count=0)
        self.started = start(settings)
        self.loop = EngineLoop(settings, self.started, stop, structlog.get_logger(), Board())  # type: ignore[arg-type]
        assert self.loop._remote is not None
        self.endpoint = self.loop._remote.router.endpoint
        self.context = Context()
        self.dealers: list[Dealer] = []
        self.folder = folder

    @property
    def state(self) -> TradingState:
        return self.started.core.state.book.state

    def make(self, name: str, role: Role, *, allow: bool = True) -> SecretKey:
        secret, public = write_keys(self.keys, name, role)
        if allow:
            (self.allowed / public.name).write_bytes(public.read_bytes())
        return read_secret(secret)

    def dealer(self, key: SecretKey | None, server: str = "") -> Dealer:
        shown = None if key is None else CurveKeys(key.public_key, key.secret_key, server or self.server)
        dealer = Dealer(self.context, self.endpoint, 8, keys=shown)
        self.dealers.append(dealer)
        return dealer

    def ask(self, dealer: Dealer, body: ControlBody | bytes) -> ControlReply:
        """Ask until an answer comes."""
        reply = self.try_ask(dealer, body, lambda turns, began: monotonic() - began < PATIENCE_S)
        assert reply is not None, f"no answer within {PATIENCE_S} s"
        return reply

    def hear_nothing(self, dealer: Dealer) -> bool:
        """Whether a request gets no answer while the engine turned often enough to give one."""
        return self.try_ask(dealer, STATUS, lambda turns, began: turns < SILENCE_TURNS) is None

    def try_ask(self, dealer: Dealer, body: ControlBody | bytes, goes_on) -> ControlReply | None:  # type: ignore[no-untyped-def]
        request = body if isinstance(body, bytes) else msgspec.msgpack.encode(ControlRequest("", "somebody", body))
        waiter = Waiter(dealer)
        sent = False
        turns, began = 0, monotonic()
        while goes_on(turns, began):
            turns += 1
            sent = sent or dealer.send(request)
            self.loop.turn()
            waiter.wait(1)
            for answer in dealer.receive(1):
                return reply_decoder.decode(answer)
        return None

    def close(self) -> None:
        for dealer in self.dealers:
            dealer.close()
        self.context.close()
        self.loop._leave()
        self.started.lock.close()
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """An engine with a door."""
    door = Door(tmp_path)
    yield door
    door.close()


def test_an_operators_key_acts_in_its_own_name(door: Door) -> None:
    """Whatever name the request carries, the journal has that of the key."""
    ann = door.dealer(door.make("ann", Role.OPERATOR))
    assert door.ask(ann, KILL).ok
    halt = door.started.core.state.halts[Scope.GLOBAL, ""]
    assert (halt.state, halt.operator) == (TradingState.HALTED, "ann")
    status = door.ask(ann, STATUS).status
    assert status is not None
    assert status.halted[0].operator == "ann"


def test_a_reader_looks_and_changes_nothing(door: Door) -> None:
    """A status is answered, a kill refused, and nothing was killed."""
    rob = door.dealer(door.make("rob", Role.READER))
    assert door.ask(rob, STATUS).ok
    refused = door.ask(rob, KILL)
    assert not refused.ok
    assert refused.text.startswith("AUTH_NOT_PERMITTED: key rob has role reader")
    assert door.state is TradingState.ACTIVE


def test_a_source_may_ask_nothing(door: Door) -> None:
    """Not even how the engine is."""
    refused = door.ask(door.dealer(door.make("sqs", Role.SOURCE)), STATUS)
    assert refused.text.startswith("AUTH_NOT_PERMITTED: key sqs has role source")
    assert refused.status is None


def test_an_unknown_key_gets_nothing(door: Door) -> None:
    """A key of nobody, none at all, a wrong server key, and the engine's own: no answer, while others get theirs."""
    ann = door.dealer(door.make("ann", Role.OPERATOR))
    eve = door.make("eve", Role.OPERATOR, allow=False)
    engine = read_secret(door.keys / "engine.secret")
    (door.allowed / "engine.public").write_bytes((door.keys / "engine.public").read_bytes())
    for dealer in (door.dealer(eve), door.dealer(None), door.dealer(eve, server=eve.public_key), door.dealer(engine)):
        assert door.hear_nothing(dealer)
        dealer.close()
    assert door.ask(ann, STATUS).ok


def test_a_key_is_allowed_and_revoked_without_a_restart(door: Door) -> None:
    """The folder is what counts: from the next request on, also over a connection that stands."""
    key = door.make("ann", Role.OPERATOR, allow=False)
    late = door.dealer(key)
    assert door.hear_nothing(late)
    late.close()
    public = door.allowed / "ann.public"
    public.write_bytes((door.keys / "ann.public").read_bytes())
    ann = door.dealer(key)
    assert door.ask(ann, STATUS).ok
    public.unlink()
    assert door.hear_nothing(ann)


def test_a_malformed_request_of_a_known_key_is_answered(door: Door) -> None:
    """Counted against nobody else, and the door stays open."""
    ann = door.dealer(door.make("ann", Role.OPERATOR))
    assert door.ask(ann, b"\xc1").text.startswith("request expected a ControlRequest")
    assert door.ask(ann, STATUS).ok


def test_the_hosts_own_socket_is_this_users_alone(door: Door) -> None:
    """Over ipc the file's mode guards it, and the token."""
    path = door.folder / "c"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    local = Dealer(door.context, f"ipc://{path}", 8)
    door.dealers.append(local)
    assert door.ask(local, STATUS).text.startswith("AUTH_NOT_PERMITTED")


# Key files


def test_both_halves_are_private_and_never_replaced(tmp_path: Path) -> None:
    """Mode 600, and a second pair of the same name is refused."""
    paths = write_keys(tmp_path, "ann", Role.OPERATOR)
    assert {stat.S_IMODE(p.stat().st_mode) for p in paths} == {0o600}
    secret, public = read_secret(paths[0]), read_public(paths[1])
    assert (secret.name, secret.role, secret.public_key) == (public.name, public.role, public.public_key)
    with pytest.raises(ConfigError, match="File exists"):
        write_keys(tmp_path, "ann", Role.OPERATOR)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """So is one that is no key, or of another pair."""
    path, _ = write_keys(tmp_path, "ann", Role.OPERATOR)
    other, _ = write_keys(tmp_path, "bob", Role.OPERATOR)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="only you can read"):
        read_secret(path)
    path.chmod(0o600)
    mixed = msgspec.structs.replace(read_secret(path), secret_key=read_secret(other).secret_key)
    path.write_bytes(msgspec.json.encode(mixed))
    with pytest.raises(ConfigError, match="public key of its secret one"):
        read_secret(path)
    path.write_bytes(b"{}")
    with pytest.raises(ConfigError, match="expected a key file"):
        read_secret(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_public(tmp_path / "nobody.public")


def test_files_that_are_no_keys_allow_nobody_and_are_named_once(tmp_path: Path) -> None:
    """A broken file and a name used twice are said; the others hold."""
    _, ann = write_keys(tmp_path / "a", "ann", Role.OPERATOR)
    _, twice = write_keys(tmp_path / "b", "ann", Role.OPERATOR)
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "1.public").write_bytes(ann.read_bytes())
    (folder / "2.public").write_bytes(twice.read_bytes())
    (folder / "3.public").write_bytes(b"no key")
    said: list[str] = []
    keys = AllowedKeys(folder, said.append)
    assert keys.find(read_public(ann).public_key) is not None
    for _ in range(3):
        assert keys.find(read_public(twice).public_key) is None
    assert len(said) == 2
