"""``wojak limits explain``: what every check says of an order, with its value, all rows it reads and which one binds.

Without ``--engine`` the order is checked on a state made of the configuration alone: its rows and opening positions, no
open order, no message counted. With it the running engine says what its checks would say now. The checks are the gate's
own in both (``engine.explaining``).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import Parameter

from cli.configuration import Loaded, to_opening, to_wire_params
from cli.explained_text import Explanation, lines_of
from cli.limit_files import configured_rows, known_to
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.order import Terms, body_of
from cli.problems import VENUES, session_rules
from cli.shards import Shard, ask_one, one
from engine.core import Core
from engine.explaining import explain_order
from protocol.codes import Mode, ReferenceSource
from protocol.control import ExplainOrder, ShowLimits, ShowRows
from protocol.decisions import Reference
from protocol.edge import NewOrderRequest, decode_new_order, to_new_order
from protocol.errors import ConfigError, FieldError
from protocol.orders import NewOrder
from protocol.params import InstrumentParams, LimitRow, Params, encode_params, params_hash
from protocol.records import FORMAT_VERSION, Adjusted, ParamsSet, Record, Started, VenueChanged
from protocol.units import parse_e9
from runtime.clock import wall_ns
from runtime.sessions import SessionCalendar, utc_date

KEYS_MAX: Final = 1_000
NOBODY: Final = b"e" * 16
MANUAL: Final = Terms()


def explain(  # noqa: PLR0913 - one option a thing that may be said
    side: Literal["buy", "sell"] | None = None,
    instrument: str = "",
    quantity: str = "",
    /,
    *,
    terms: Terms = MANUAL,
    file: Annotated[Path | None, Parameter(help="Order as JSON instead of words.")] = None,
    reference: Annotated[str, Parameter(help="Price to check against; with --engine the live one is.")] = "",
    date: Annotated[str, Parameter(help="Trading date, yyyy-mm-dd; empty = today's. Without --engine only.")] = "",
    engine: Annotated[bool, Parameter(negative="", help="Ask the running engine.")] = False,
    source: Annotated[str, Parameter(help="Source that the order would come by.")] = "http",
    principal: Annotated[str, Parameter(help="Principal that would send it; empty = the one of this host.")] = "",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Explain every check of an order: passes or not, value and limit, all rows and which one binds. Nothing is sent.

    Exit code 1 if a check refuses it.

    Example: `wojak limits explain buy BTCUSDT 0.01 --limit 61800 --reference 62000`
    """
    loaded = deployment(config)
    request, order = _order_of(side, instrument, quantity, terms, file)
    sent_by = source, principal or loaded.config.http.loopback_principal
    if engine:
        if reference or date:
            raise ConfigError(["expected --reference and --date without --engine, which has both"], "options")
        found = _asked(one(loaded, shard, order.account), request, order, sent_by)
    else:
        found = _made(loaded, request, order, sent_by, reference, date)
    for line in lines_of(found, order):
        say(line)
    refused = [c.code for c in found.checks if not c.passes]
    routes = {row.check: row.route for row in loaded.config.routes}
    way = _WAYS.get(routes.get(refused[0].name, "")) if refused else None  # the first that refuses says who is asked
    hard = [code.name for code in refused if way is None or routes.get(code.name) != routes[refused[0].name]]
    if refused and not hard:
        say(f"{way}: {', '.join(dict.fromkeys(code.name for code in refused))}")
    else:
        say(f"REJECTED: {hard[0]}" if hard else f"ACCEPTED: {len(found.checks)} checks pass")
    return 1 if refused else 0


_WAYS: Final = {
    "forward": "HELD for the risk service",
    "sandbox": "PAPER if it is no exit and nothing of its key is real",
}


def _order_of(
    side: str | None, instrument: str, quantity: str, terms: Terms, file: Path | None
) -> tuple[NewOrderRequest, NewOrder]:
    if (file is None) is (side is None):
        raise ConfigError(["expected an order in words or --file, was both or neither"], "options")
    try:
        if file is not None:
            body = file.read_bytes()
        else:
            assert side is not None
            body = msgspec.json.encode(body_of(side.upper(), instrument, quantity, terms))
        request = decode_new_order(body)
        return request, to_new_order(request, request.client_order_id or "explained")
    except OSError as e:
        raise ConfigError([f"expected a file that can be read: {e.strerror}"], str(file)) from e
    except FieldError as e:
        raise ConfigError([f"{e.field}: expected {e.expected}, was {e.value!r}"], str(file or "the order")) from e


def _asked(of: Loaded, request: NewOrderRequest, order: NewOrder, sent_by: tuple[str, str]) -> Explanation:
    """Return what the running engine says."""
    body = ExplainOrder(msgspec.msgpack.encode(order), *sent_by, request.created_at_ns or 0)
    checks = ask_one(of, body).explained
    shown = ask_one(of, ShowRows())
    limits = ask_one(of, ShowLimits()).limits
    assert checks is not None
    assert shown.rows is not None
    changes = {(s.name, s.scope, s.key): s.change for s in limits or [] if s.change is not None}
    kept = tuple(r for r in shown.rows.limits if (r.name, r.scope, r.key) not in changes)
    set_by = tuple(
        LimitRow(c.name, c.scope, c.key, c.value, c.window_ns, c.reserve_exit, source=f"{c.operator}: {c.reason}")
        for c in changes.values()
        if c.value is not None
    )
    rows = msgspec.structs.replace(shown.rows, limits=(*kept, *set_by))
    params = to_wire_params(of.config)
    return Explanation(checks, rows, _instrument(params, order), shown.trading_date)


def _made(
    loaded: Loaded, request: NewOrderRequest, order: NewOrder, sent_by: tuple[str, str], reference: str, date: str
) -> Explanation:
    """Return what the checks say on a state that is made of the configuration."""
    file = configured_rows(loaded.config, loaded.path, known_to(loaded.config, VENUES))
    params = file.wire.put_into(to_wire_params(msgspec.structs.replace(loaded.config, limits=(), contracts=())))
    now_ns = wall_ns()
    trading_date = _date_of(loaded, date, now_ns)
    shard = loaded.shard_map.shard_of(order.account)
    core = core_of(params, trading_date, loaded.of(shard), now_ns)
    price = None
    if reference:
        try:
            price = Reference(parse_e9(reference, "--reference"), 0, ReferenceSource.LAST_TRADE)
        except FieldError as e:
            raise ConfigError([f"{e.field}: expected {e.expected}, was {e.value!r}"], "options") from e
    created_at_ns = request.created_at_ns or now_ns
    checks = explain_order(core, order, sent_by, created_at_ns, now_ns, price)
    return Explanation(checks, file.wire, _instrument(params, order), trading_date)


def core_of(params: Params, trading_date: int, of: Loaded, now_ns: int) -> Core:
    """Return a core that runs these parameters: venues ready, opening positions and cash, nothing open."""
    core = Core(KEYS_MAX)
    content = encode_params(params)
    opening = to_opening(of)
    records: list[Record] = [
        Started(1, NOBODY, Mode.PAPER, of.paths.shard, trading_date, FORMAT_VERSION, "", NOBODY * 2),
        ParamsSet(content, params_hash(content)),
        *(VenueChanged(venue, True, NOBODY, 0) for venue in VENUES),
        *(Adjusted(p.account, p.instrument, p.quantity_e9, p.price_e9, "", "", "opening") for p in opening.positions),
        *(Adjusted(c.account, "", 0, 0, str(c.cash_e9), c.currency, "opening") for c in opening.cash),
    ]
    for seq, record in enumerate(records, 1):
        core.apply(seq, now_ns, seq, record)
    return core


def _date_of(loaded: Loaded, date: str, now_ns: int) -> int:
    if not date:
        if loaded.config.session.automatic:
            return SessionCalendar(session_rules(loaded.config)).trading_date(now_ns)
        return utc_date(now_ns)
    try:
        return int(f"{dt.date.fromisoformat(date):%Y%m%d}")
    except ValueError as e:
        raise ConfigError([f"--date: expected yyyy-mm-dd, was {date!r}"], "options") from e


def _instrument(params: Params, order: NewOrder) -> InstrumentParams | None:
    return next((i for i in params.instruments if i.instrument == order.instrument), None)
