"""What holds for every run of the tests: the longest files first when there are several processes, no skip in CI."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests import schedule
from tests.peers import early

# Servers are started by fork and exec. Between the two gRPC, where a client of the tests has it running, would tidy up
# descriptors that are not its own any more, and end the child now and then.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")  # how long an example takes says how busy the machine is; the rest as it was


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records how long files take."""
    parser.addoption("--record-seconds", action="store_true", help="write tests/seconds.json anew from this run")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave the order of the files to the schedule, and record how long they take if that is asked for."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # else xdist starts the file with the most tests first
    if config.getoption("record_seconds") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Get what the brokers need, while the first files run, where all of the brokers are tested."""
    tests = early.ROOT / "tests"
    if {tests, tests / "peers"} & {Path(arg).resolve() for arg in config.args}:
        config.add_cleanup(partial(early.stop, early.start()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files in the order in which they are to start, where this is one of several processes."""
    if hasattr(config, "workerinput"):
        files = (schedule.file_of(item.nodeid) for item in items)
        place = {file: n for n, file in enumerate(schedule.starts(files, schedule.recorded()))}
        items.sort(key=lambda item: place[schedule.file_of(item.nodeid)])


@pytest.fixture(autouse=True)
def _logs_of_one_test() -> Iterator[None]:
    """Forget how a test set up logs: the standard error they go to is closed when it ends, and the next test logs."""
    yield
    structlog.reset_defaults()


# A skipped test looks like one that could have run: in CI it is an error (what can't run is not collected, or absent).


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped in CI; an expected failure (xfail) did run."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is skipped in CI."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: expected to run, was skipped ({why}); in CI nothing is skipped"


class Recorder:
    """Adds up what each file takes, whichever process ran it, and writes it down at the end."""

    def __init__(self) -> None:
        self.took_s: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a set-up, a call or a tear-down."""
        self.took_s[schedule.file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the record."""
        schedule.SECONDS.write_text(schedule.record(self.took_s), "utf-8")
