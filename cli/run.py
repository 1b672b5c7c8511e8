"""The entry of every supervised process: ``python -m cli.run <name> --config wojak.toml``.

Rule: it imports only that process's room, so that the engine stays small. Exit codes: 0 clean; 2 it can't run until
somebody changes something (one clear message: configuration, damage, fencing); 3 it left in time with something
unfinished; 1 anything else, a restart may help.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cli.configuration import Loaded, load
from cli.parent import end_with
from cli.processes import SIDECAR, kind_of, process_names, source_of
from cli.wiring import STARTERS
from journal.errors import JournalFailedError
from protocol.errors import ConfigError, WojakError
from runtime.exits import CANNOT_RUN, CLEAN, FAILED


def main(argv: list[str] | None = None) -> int:
    """Run one process until it is told to stop; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cli.run", description="Run one process of a deployment.")
    parser.add_argument(
        "process", help=f"one of {', '.join(sorted(STARTERS))}; of shard 1: engine-1; of a broker: sidecar-SOURCE"
    )
    parser.add_argument("--config", type=Path, default=Path("wojak.toml"))
    parser.add_argument("--ticks", type=Path, help="replay this recording instead of what the configuration says")
    parser.add_argument("--parent", type=int, help="end when this process, our parent, ends")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and leave")
    options = parser.parse_args(argv)
    if options.parent:
        end_with(options.parent)
    try:
        loaded = load(options.config, options.ticks)
        kind, shard = _require_process(options.process, loaded)
        if kind == SIDECAR:
            return _sidecar(loaded, source_of(options.process), only_check=options.check_config)
        if options.check_config:
            sys.stdout.write(f"{loaded.path}: fine\n")
            return CLEAN
        return STARTERS[kind](loaded.of(shard))
    except JournalFailedError as e:  # the disk said no; recovery may find that it works again
        sys.stderr.write(f"{e}\n")
        return FAILED
    except WojakError as e:
        sys.stderr.write(f"{e}\n")
        return CANNOT_RUN


def _sidecar(loaded: Loaded, source: str, *, only_check: bool) -> int:
    from cli.sidecar_process import require_usable, row_of, run_sidecar

    row = row_of(loaded, source)
    if not only_check:
        return run_sidecar(loaded, row)
    require_usable(loaded, row)
    sys.stdout.write(f"{loaded.path}: {source}: fine\n")
    return CLEAN


def _require_process(name: str, loaded: Loaded) -> tuple[str, int]:
    known = process_names(loaded, flow=True)
    if name not in known:
        raise ConfigError([f"process: expected one of {', '.join(known)}, was {name!r}"], str(loaded.path))
    return kind_of(name)


if __name__ == "__main__":
    sys.exit(main())
