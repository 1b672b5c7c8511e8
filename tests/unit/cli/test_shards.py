"""One configuration, several shards: names, folders, faults; and alone, everything where it always was."""

from __future__ import annotations

import threading
import tomllib
from pathlib import Path

import pytest
from msgspec import structs

from cli.asking import RefusedError
from cli.configuration import Loaded, to_opening, to_wire_params
from cli.example import EXAMPLE
from cli.paths import paths_of
from cli.problems import problems
from cli.processes import ENGINE, GATEWAY, kind_of, process_names
from cli.settings import WojakConfig
from cli.shards import chosen, each, left_behind, one
from cli.wiring import STARTERS, engine_settings, health_settings
from protocol.errors import ConfigError
from protocol.shards import rendezvous
from runtime.config import convert

LONELY = ("engine", "feed", "gateway", "follower", "books", "http", "api")


def deployment(folder: Path, shards: int = 1, **of: int) -> Loaded:
    """Return the example with so many shards and these accounts on theirs."""
    config = convert(tomllib.loads(EXAMPLE), WojakConfig, "example")
    accounts = tuple(structs.replace(a, shard=of.get(a.account)) for a in config.accounts)
    config = structs.replace(config, accounts=accounts, wojak=structs.replace(config.wojak, shards=shards))
    return Loaded(config, folder / "wojak.toml", paths_of(folder / ".wojak"))


def test_alone_every_name_and_folder_is_what_it_was(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One shard: no number anywhere."""
    loaded = deployment(tmp_path_factory.mktemp("s"))  # a short name: sockets stay in the folder
    state = loaded.paths.state
    assert process_names(loaded, flow=False) == LONELY
    settings = engine_settings(loaded)
    assert settings.journal_dir == str(state / "journal")
    assert settings.control_endpoint == f"ipc://{state}/run/control"
    assert (loaded.paths.gateway, loaded.paths.books) == (state / "gateway", state / "books.sqlite")
    assert health_settings(loaded, ENGINE).socket_path.endswith("/engine.health")


def test_each_further_shard_has_processes_and_a_folder_of_its_own(tmp_path: Path) -> None:
    """Shard 0 stays where it was alone; nothing of another one is shared with it but table, feed and flow."""
    loaded = deployment(tmp_path, 3)
    names = process_names(loaded, flow=True)
    assert names == (
        "engine", "engine-1", "engine-2", "feed", "gateway", "gateway-1", "gateway-2",
        "follower", "follower-1", "follower-2", "books", "books-1", "books-2",
        "http", "api", "flow",
    )  # fmt: skip
    assert [kind_of(n)[0] in STARTERS for n in names] == [True] * len(names)
    each = [engine_settings(loaded.of(n)) for n in loaded.shards]
    assert [s.shard for s in each] == [0, 1, 2]
    assert each[2].journal_dir == str(loaded.paths.state / "shard-2" / "journal")
    for field in ("journal_dir", "control_endpoint", "sidecars_endpoint", "venues_endpoint", "events_endpoint"):
        assert len({getattr(s, field) for s in each}) == 3
    assert len({s.table_path for s in each}) == 1


def test_the_engines_are_told_the_whole_map(tmp_path: Path) -> None:
    """Every engine can say where any account belongs."""
    params = to_wire_params(deployment(tmp_path, 2, demo=1).config)
    assert params.shards == 2
    assert [(a.account, a.shard) for a in params.accounts] == [("demo", 1), ("flow", -1)]


def test_opening_positions_go_to_their_shard_only(tmp_path: Path) -> None:
    """A position that two journals opened with would be there twice."""
    (tmp_path / "opening.toml").write_text(
        '[[cash]]\naccount = "demo"\ncurrency = "USDT"\ncash = "5"\n'
        '[[cash]]\naccount = "flow"\ncurrency = "USDT"\ncash = "7"\n'
    )
    loaded = deployment(tmp_path, 2, demo=0, flow=1)
    config = structs.replace(loaded.config, wojak=structs.replace(loaded.config.wojak, opening_file="opening.toml"))
    loaded = loaded._replace(config=config)
    assert [[c.account for c in to_opening(loaded.of(n)).cash] for n in (0, 1)] == [["demo"], ["flow"]]


@pytest.mark.parametrize(
    ("shards", "of", "shard", "said"),
    [
        (2, {"demo": 2}, 0, "accounts[0].shard: expected 0 to 1 with wojak.shards = 2, was 2"),
        (1, {"demo": 1}, 0, "accounts[0].shard: expected 0 to 0 with wojak.shards = 1, was 1"),
        (2, {}, 1, "wojak.shard: expected 0 with wojak.shards = 2, was 1; all of them run here"),
    ],
)
def test_a_map_that_can_not_be_is_named(tmp_path: Path, shards: int, of: dict[str, int], shard: int, said: str) -> None:
    """The fault names the key, the value and what was expected."""
    config = deployment(tmp_path, shards, **of).config
    config = structs.replace(config, wojak=structs.replace(config.wojak, shard=shard))
    assert problems(config, tmp_path) == [said]


def test_a_port_for_metrics_is_one_a_shard(tmp_path: Path) -> None:
    """Shard 1 has the next port, and a port that another process has is refused by name."""
    loaded = deployment(tmp_path, 2)
    metrics = structs.replace(loaded.config.metrics, engine_port=9100, gateway_port=9101)
    config = structs.replace(loaded.config, metrics=metrics)
    assert (
        "metrics.gateway_port: expected another port than metrics.engine_port (9101)" in problems(config, tmp_path)[0]
    )
    apart = structs.replace(config, metrics=structs.replace(metrics, gateway_port=9102))
    assert problems(apart, tmp_path) == []
    of = loaded._replace(config=apart)
    assert [health_settings(of.of(n), GATEWAY).port for n in of.shards] == [9102, 9103]


def test_fewer_shards_than_journals_do_not_start(tmp_path: Path) -> None:
    """The accounts of a shard that is left out would be given to others, without their state."""
    loaded = deployment(tmp_path, 3)
    for shard in loaded.shards:
        loaded.of(shard).paths.journal.mkdir(parents=True)
    assert left_behind(loaded) == []
    (fault,) = left_behind(deployment(tmp_path, 2))
    assert fault.startswith("wojak.shards: expected at least 3, because shard 2 has a journal in ")
    assert len(left_behind(deployment(tmp_path, 1))) == 2


def test_a_command_finds_its_shards(tmp_path: Path) -> None:
    """--shard first, else the account's, else all; one that reads a single journal wants one."""
    loaded = deployment(tmp_path, 3, demo=1)
    assert list(chosen(loaded, None)) == [0, 1, 2]
    assert list(chosen(loaded, None, "demo")) == [1]
    assert list(chosen(loaded, None, "flow")) == [rendezvous("flow", 3)]
    assert list(chosen(loaded, 2, "demo")) == [2]
    assert one(loaded, None, "demo").paths.shard == 1
    assert one(deployment(tmp_path), None).paths.shard == 0
    for wrong in (lambda: chosen(loaded, 3), lambda: one(loaded, None)):
        with pytest.raises(ConfigError):
            wrong()


def test_shards_are_asked_at_once_and_heard_as_they_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shard 0 hangs until shard 1 was heard, and shard 2 says no: the kill of the others is not late by it."""
    heard = threading.Event()

    def do(of: Loaded) -> str:
        match of.paths.shard:
            case 0:
                return "taken late" if heard.wait(5) else "never heard of the other"
            case 1:
                return "taken"
            case _:
                raise RefusedError("not here")

    loaded = deployment(tmp_path, 3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cli.shards.say", lambda line: (print(line), heard.set() if "shard 1" in line else None))
        assert each(loaded, loaded.shards, do) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == ["shard 0: taken late", "shard 1: taken", "shard 2: ✘ CONTROL_REFUSED: not here"]
    assert lines.index("shard 1: taken") < lines.index("shard 0: taken late")


def test_the_only_shard_answers_as_it_always_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No prefix, and its refusal is the command's own."""
    loaded = deployment(tmp_path)
    assert each(loaded, loaded.shards, lambda _: "taken") == 0
    assert capsys.readouterr().out == "taken\n"

    def refuse(_: Loaded) -> str:
        raise RefusedError("not here")

    with pytest.raises(RefusedError):
        each(loaded, loaded.shards, refuse)
