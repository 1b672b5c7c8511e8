"""The figures of ``wojak risk report`` as one HTML file: plots that need no network, tables below them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from cli.risk_tables import cell_name, date, money, number, scenario_names, share, unit
from risk.portfolio.report import Report
from risk.portfolio.rows import ParamsFile, sources_of

BLUE: Final = "#2f6fb3"
RED: Final = "#c0504d"
GREEN: Final = "#4f9d69"
GREYS: Final = ("#2f6fb3", "#e09f3e", "#8d6cab", "#4f9d69", "#7f7f7f")
PLOT_PX: Final = 340
STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2430; background: #f5f6f8; margin: 0; }
main { max-width: 1180px; margin: 0 auto; padding: 24px; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 16px; margin: 0 0 8px; }
p.note { color: #5a6372; margin: 0 0 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 16px 0; }
.card, section { background: #fff; border: 1px solid #e3e6eb; border-radius: 8px; padding: 14px 16px; }
.card b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.card span { color: #5a6372; font-size: 13px; }
.bad b { color: #c0504d; }
.plots { display: grid; gap: 16px; margin: 16px 0; }
.plots { grid-template-columns: repeat(2, minmax(0, 1fr)); }
@media (max-width: 900px) { .plots { grid-template-columns: minmax(0, 1fr); } }
section { margin: 0 0 16px; overflow-x: auto; }
.plots section { margin: 0; min-width: 0; overflow: hidden; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th { text-align: right; color: #5a6372; font-weight: 600; border-bottom: 1px solid #d5d9e0; padding: 4px 8px; }
td { text-align: right; border-bottom: 1px solid #eef0f3; padding: 4px 8px; white-space: nowrap; }
th.t, td.t { text-align: left; }
td.w { white-space: normal; }
"""


def page(figures: Report, file: ParamsFile, day: dt.date) -> str:
    """Return the page, whole."""
    plots = "".join(
        f"<section><h2>{escape(title)}</h2><p class=note>{escape(note)}</p>{_plot(figure)}</section>"
        for title, note, figure in _plots(figures)
    )
    tables = "".join(_tables(figures, file, day))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(figures.account)} · portfolio risk'
        f"</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body><main>"
        f"<h1>Portfolio risk of {escape(figures.account)}</h1>"
        f"<p class=note>{dt.datetime.fromtimestamp(figures.at_ns / 1e9, dt.UTC):%Y-%m-%d %H:%M:%S} UTC, "
        f"amounts in {escape(figures.currency)}</p>"
        f'{_cards(figures)}<div class="plots">{plots}</div>{tables}</main></body></html>\n'
    )


def _cards(figures: Report) -> str:
    used = figures.limits[0].used
    worst = figures.worst_stress
    cards = [
        ("Margin", money(figures.total), "of the positions", False),
        ("Funds used", share(used), "in the worst case of open orders", used > 1),
        ("Worst stress", money(worst[1]) if worst else "–", cell_name(worst[0]) if worst else "", False),
        ("Vega", money(sum(e.vega for e in figures.exposures)), "a point of volatility", False),
        ("Theta", money(sum(e.theta for e in figures.exposures)), "a day", False),
    ]
    if figures.unpriced:
        missing = "not in these figures: " + ", ".join(figures.unpriced)
        cards.append(("Not priced", str(len(figures.unpriced)), missing, True))
    return '<div class="cards">' + "".join(
        f'<div class="card{" bad" if bad else ""}"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<span>{escape(note)}</span></div>"
        for name, value, note, bad in cards
    ) + "</div>"  # fmt: skip


def _plots(figures: Report) -> Iterable[tuple[str, str, go.Figure]]:
    yield "What margin is made of", "By underlying: span, exposure margin and add-ons", _margin_plot(figures)
    yield "Limits used", "With open orders; the line is all that is allowed", _limits_plot(figures)
    yield (
        "P&L of the 16 scenarios", "Price in scan ranges, volatility up and down; the extremes count 35 %",
        _scenario_plot(figures),
    )  # fmt: skip
    yield "P&L by price", "Volatility unchanged: now, later, and at expiry", _price_plot(figures)
    yield "Stress", "P&L now, by price and volatility", _stress_plot(figures)
    yield "Delta and vega by expiry", "Units of the underlying, money per point", _greek_plot(figures)


def _margin_plot(figures: Report) -> go.Figure:
    names = [m.underlying for m in figures.margins]
    parts = {"span": "span", "exposure": "exposure", "add-ons": "addons"}
    return go.Figure(
        [
            go.Bar(
                name=name, x=[getattr(m, field) for m in figures.margins], y=names, orientation="h",
                marker_color=colour, width=0.5,
            )
            for (name, field), colour in zip(parts.items(), GREYS, strict=False)
        ],
        _layout(barmode="stack", xaxis={"tickformat": "~s"}),
    )  # fmt: skip


def _limits_plot(figures: Report) -> go.Figure:
    shown = [row for row in figures.limits if row.used != float("inf")]
    figure = go.Figure(
        go.Bar(
            x=[100 * row.used for row in shown], y=[row.name.split(",")[0] for row in shown], orientation="h",
            text=[share(row.used) for row in shown], textposition="auto", width=0.5,
            marker_color=[RED if row.used > 1 else BLUE for row in shown],
        ),
        _layout(xaxis={"ticksuffix": " %", "rangemode": "tozero"}, yaxis={"autorange": "reversed", "automargin": True}),
    )  # fmt: skip
    figure.add_vline(x=100, line={"color": RED, "dash": "dash"})
    return figure


def _scenario_plot(figures: Report) -> go.Figure:
    names = [f"{n} · {name}" for n, name in enumerate(scenario_names(), 1)]
    return go.Figure(
        [
            go.Bar(name=underlying, x=names, y=pnl, marker_color=colour)
            for (underlying, pnl), colour in zip(figures.scenarios.items(), GREYS * 20, strict=False)
        ],
        _layout(xaxis={"tickangle": -60, "tickfont": {"size": 11}}, yaxis={"tickformat": "~s"}),
    )


def _price_plot(figures: Report) -> go.Figure:
    times = sorted({cell.time_ns for cell, _ in figures.stress}, key=lambda t: (t < 0, t))
    lines = []
    for time_ns, colour in zip(times, GREYS, strict=False):
        points = [(cell, pnl) for cell, pnl in figures.stress if cell.time_ns == time_ns and cell.vol_bp == 0]
        if points:
            name = cell_name(points[0][0]).split(", ")[-1]
            xs, ys = [cell.spot_bp / 100 for cell, _ in points], [pnl for _, pnl in points]
            lines.append(go.Scatter(name=name, x=xs, y=ys, mode="lines+markers", line={"color": colour}))
    return go.Figure(lines, _layout(xaxis={"ticksuffix": " %", "zeroline": True}, yaxis={"tickformat": "~s"}))


def _stress_plot(figures: Report) -> go.Figure:
    now = {(cell.spot_bp, cell.vol_bp): pnl for cell, pnl in figures.stress if cell.time_ns == 0}
    spots, vols = sorted({spot for spot, _ in now}), sorted({vol for _, vol in now})
    values = [[now.get((spot, vol)) for spot in spots] for vol in vols]
    most = max((abs(v) for row in values for v in row if v is not None), default=1.0) or 1.0
    return go.Figure(
        go.Heatmap(
            x=[f"{spot / 100:+g} %" for spot in spots], y=[f"{vol / 100:+g} %" for vol in vols], z=values,
            colorscale=[[0, RED], [0.5, "#ffffff"], [1, GREEN]], zmin=-most, zmax=most, xgap=2, ygap=2,
            texttemplate="%{z:.2~s}", textfont={"size": 10}, showscale=False,
        ),
        _layout(
            xaxis={"title": "price", "type": "category", "tickangle": 0, "tickfont": {"size": 10}},
            yaxis={"title": "volatility", "type": "category"},
        ),
    )  # fmt: skip


def _greek_plot(figures: Report) -> go.Figure:
    sums: dict[str, list[float]] = {}
    for e in figures.exposures:
        found = sums.setdefault(f"{e.underlying} {date(e.expiry_ns)}", [0.0, 0.0])
        found[0] += e.delta
        found[1] += e.vega
    names = list(sums)
    figure = make_subplots(rows=1, cols=2, subplot_titles=("delta", "vega"), horizontal_spacing=0.12)
    for column, colour in ((0, BLUE), (1, GREYS[1])):
        bars = go.Bar(x=names, y=[of[column] for of in sums.values()], marker_color=colour, width=0.5, showlegend=False)
        figure.add_trace(bars, row=1, col=column + 1)
    figure.update_layout(_layout(margin={"l": 50, "r": 20, "t": 30, "b": 40}))
    figure.update_xaxes(type="category", tickfont={"size": 11})
    figure.update_yaxes(tickformat="~s", gridcolor="#eceff3", zerolinecolor="#9aa3b0")
    return figure


def _layout(**more: Any) -> dict[str, Any]:
    axis = {"gridcolor": "#eceff3", "zerolinecolor": "#9aa3b0", "automargin": True}
    for name in ("xaxis", "yaxis"):
        more[name] = axis | more.get(name, {})
    return {
        "height": PLOT_PX, "margin": {"l": 50, "r": 20, "t": 10, "b": 40},
        "paper_bgcolor": "#fff", "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1d2430"},
        "legend": {"orientation": "h", "y": 1.12, "x": 0}, **more,
    }  # fmt: skip


def _plot(figure: go.Figure) -> str:
    shown = {"displayModeBar": False, "responsive": True}
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config=shown)
    return text


def _tables(figures: Report, file: ParamsFile, day: dt.date) -> Iterable[str]:
    yield _table(
        "Margin",
        "underlying|scenario|scan|calendar|−credit|minimum|net options|span|exposure|add-ons|total|with open orders",
        [
            [m.underlying, str(m.worst_scenario), *map(money, (m.scan, m.calendar, m.credit, m.minimum, m.nov, m.span)),
             *map(money, (m.exposure, m.addons, m.total, m.worst_case))]
            for m in figures.margins
        ],
    )  # fmt: skip
    yield _table(
        "Exposure by expiry and strategy",
        "underlying|expiry|strategy|net|gross|delta|gamma per 1 %|vega per point|theta a day|long premium|of scan risk",
        [
            [e.underlying, date(e.expiry_ns), e.strategy or "–", number(e.net), number(e.gross), number(e.delta, 1),
             number(e.gamma, 1), *map(money, (e.vega, e.theta, e.premium_at_risk, e.margin_share))]
            for e in figures.exposures
        ],
        text=3,
    )  # fmt: skip
    yield _table(
        "When it expires", "underlying|expiry|trading days|margin on that day|most to pay|near a strike",
        [
            [x.underlying, date(x.expiry_ns), str(x.trading_days), money(x.margin), money(x.settlement),
             " ".join(x.pinned) or "–"]
            for x in figures.expiries
        ],
        text=2,
    )  # fmt: skip
    yield _table(
        "Limits, open orders counted", "limit|is|may be|used",
        [[row.name, money(row.actual), money(row.allowed), share(row.used)] for row in figures.limits],
    )  # fmt: skip
    yield _table(
        "Parameters", "underlying|name|value|from|source",
        [
            [underlying, row.name, unit(row), row.effective_from.isoformat(), row.source]
            for underlying in figures.scenarios
            for row in sources_of(file, underlying, day).values()
        ],
        text=5,
    )  # fmt: skip


def _table(title: str, columns: str, rows: Sequence[Sequence[str]], text: int = 1) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ["t w" if n == text - 1 else "t" if n < text else "" for n in range(len(cells))]
        parts = (f'<{tag} class="{kind}">{escape(c)}</{tag}>' for kind, c in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<section><h2>{escape(title)}</h2><table>{line(columns.split('|'), 'th')}{body}</table></section>"
