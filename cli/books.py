"""``wojak books``: prepare the store, look whether it keeps its promises, make the books anew."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from cli.books_rows import couchbase_of, stores_of
from cli.configuration import Loaded
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, one
from cli.view import grouped
from protocol.errors import ConfigError

app = App(name="books", help="The books' store: prepare it, check it, make the books anew from the journal.")


@app.command
def init(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Make what the store needs: of Couchbase the scope and its collections, where one is named. May be repeated.

    Prints index statements for who wants to ask with SQL++; Wojak itself needs none.

    Example: `wojak books init`
    """
    loaded = deployment(config)
    settings = couchbase_of(loaded)
    if settings is None:
        say(f"{loaded.paths.books}: a file, made by the books writer when it starts; nothing to do")
        return 0
    from books.couchbase_admin import index_statements, make_collections

    stores = stores_of(loaded)
    try:
        made = make_collections(stores.bucket(), settings)
    finally:
        stores.close()
    if settings.scope:
        say(f"scope {settings.scope}: {', '.join(made) if made else 'nothing'} made, the rest was there")
    else:
        say("the bucket's default collection: nothing to make")
    say("for SQL++, if you want it (not needed, not verified on a cluster by this release):")
    for statement in index_statements(settings):
        say(f"  {statement}")
    return 0


@app.command
def doctor(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Check on your cluster what could not be verified on one here: TLS, collections, durability, guarded writes.

    Writes and removes one document of its own. Exit code 1 if something would break a promise.

    Example: `wojak books doctor`
    """
    loaded = deployment(config)
    settings = couchbase_of(loaded)
    if settings is None:
        return _doctor_of_file(loaded)
    from books.couchbase_admin import examine

    stores = stores_of(loaded)
    try:
        findings = examine(stores.bucket(), settings)
    finally:
        stores.close()
    for finding in findings:
        say(f"{finding.mark} {finding.what}: {finding.text}")
    faults = sum(finding.mark == "✘" for finding in findings)
    say(f"{faults} would break a promise" if faults else "nothing here breaks a promise")
    return 1 if faults else 0


@app.command
def rebuild(
    *,
    yes: Annotated[bool, Parameter(negative="", help="Do it. Without this nothing is changed.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Drop the books and make them anew from the whole journal. Stop the books writer first.

    Example: `wojak books rebuild --yes`
    """
    from books.writer import rebuild as project

    loaded = one(deployment(config), shard)
    folder, stores = loaded.paths.journal, stores_of(loaded)
    if not folder.is_dir():
        raise ConfigError([f"{folder} expected to be a journal, is absent: nothing was ever started here"])
    try:
        store = stores.writer()
        try:
            counts = store.counts()
            if not yes:
                say(f"would drop {grouped(sum(counts))} rows and make them anew: --yes; stop the books writer first")
                return 1
            records = project(folder, store)
            say(f"{grouped(records)} records, {grouped(sum(store.counts()))} rows, to {grouped(store.watermark().seq)}")
        finally:
            store.close()
    finally:
        stores.close()
    return 0


def _doctor_of_file(loaded: Loaded) -> int:
    stores = stores_of(loaded)
    path = stores.path
    if path is None or not path.exists():
        say(f"! {path}: no books yet; the books writer makes the file")
        return 0
    reader = stores.reader()
    try:
        say(f"✔ {path}: {grouped(sum(reader.counts()))} rows, to record {grouped(reader.watermark().seq)}")
    finally:
        reader.close()
    return 0
