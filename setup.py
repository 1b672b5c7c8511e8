"""Builds the distribution; with WOJAK_COMPILE=1 the hot modules are compiled ahead of time, see docs/decisions/0013.

The same sources, unchanged: what is not compiled here, or where there is no compiler, runs interpreted.
"""

from __future__ import annotations

import os
from typing import Final

from setuptools import setup

# What runs for every order. All that holds or reads the state goes together: across the border each use of an attribute
# would be a generic look-up. Classes of msgspec stay outside: they are C already.
HOT: Final = (
    "risk/gate/rate.py",
    "risk/gate/money.py",
    "risk/gate/crossing.py",
    "risk/gate/flow.py",
    "risk/gate/watch.py",
    "risk/gate/ratio.py",
    "risk/gate/ratio_checks.py",
    "risk/gate/usual.py",
    "risk/gate/pnl.py",
    "risk/gate/loss_scopes.py",
    "risk/gate/losses.py",
    "risk/gate/more.py",
    "risk/gate/exposure.py",
    "risk/gate/limits.py",
    "risk/gate/view.py",
    "risk/gate/checks.py",
    "risk/gate/further.py",
    "risk/gate/remembering.py",
    "risk/gate/price_checks.py",
    "risk/gate/loss_checks.py",
    "risk/gate/further_checks.py",
    "risk/gate/further_evidence.py",
    "risk/gate/sure.py",
    "risk/gate/fused.py",
    "risk/gate/gate.py",
    "risk/gate/evidence.py",
    "risk/gate/combined.py",
    "risk/gate/termed.py",
    "risk/gate/replace.py",
    "market/table.py",
    "market/table_writer.py",
    "market/book.py",
    "market/epochs.py",
    "market/line.py",
    "market/feed.py",
    "journal/writer.py",
    "engine/dedup.py",
    "engine/order.py",
    "engine/described.py",
    "engine/differing.py",
    "engine/terms.py",
    "engine/replaces.py",
    "engine/baskets.py",
    "engine/exit_replaces.py",
    "engine/group.py",
    "engine/oco.py",
    "engine/changes.py",
    "engine/outcomes.py",
    "engine/session.py",
    "engine/units.py",
    "engine/order_state.py",
    "engine/venue_state.py",
    "engine/suspense.py",
    "engine/fees.py",
    "engine/losses.py",
    "engine/amends.py",
    "engine/permit.py",
    "engine/hashed.py",
    "engine/state.py",
    "engine/drift.py",
    "engine/refusals.py",
    "engine/breaches.py",
    "engine/orders.py",
    "engine/reports.py",
    "engine/controls.py",
    "engine/stale_exits.py",
    "engine/day.py",
    "engine/rolls.py",
    "engine/reconciling.py",
    "engine/unsynced.py",
    "engine/core.py",
    "engine/meters.py",
    "engine/sidecars.py",
    "engine/sending.py",
    "engine/gateway_session.py",
    "engine/odd_reports.py",
    "engine/gateways.py",
)

# What runs in a sidecar for every message; apart, because a sidecar loads nothing of the engine.
CARRIED: Final = (
    "sidecars/core/batches.py",
    "sidecars/core/claims.py",
    "sidecars/core/decode.py",
    "sidecars/core/ends.py",
    "sidecars/core/identity.py",
    "sidecars/core/intake.py",
    "sidecars/core/lease.py",
    "sidecars/core/pending.py",
    "sidecars/core/plain.py",
    "sidecars/core/session.py",
    "sidecars/core/session_life.py",
    "sidecars/core/shards.py",
    "sidecars/core/window.py",
    "sidecars/sources/kafka_records.py",
)

if os.environ.get("WOJAK_COMPILE") == "1":
    from mypyc.build import mypycify  # a development dependency: mypy

    setup(
        ext_modules=[
            *mypycify(list(HOT), opt_level="3", group_name="wojak_hot"),
            *mypycify(list(CARRIED), opt_level="3", group_name="wojak_carried"),
        ]
    )
else:
    setup()
