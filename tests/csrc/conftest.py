"""Fixtures of the kernel's tests, and the checks that run_sanitized.sh requires."""

import os
from pathlib import Path

import numpy as np
import pytest

import sdk._core

# Set by run_sanitized.sh: the folder that sdk._core must come from. No test may be skipped then.
EXPECTED = os.environ.get("STRUCTVPR_EXPECT_CORE")


def pytest_configure():
    found = Path(sdk._core.__file__).parent
    if EXPECTED and found.resolve() != Path(EXPECTED).resolve():
        pytest.exit(f"sdk._core comes from {found}, expected {EXPECTED}", returncode=3)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if EXPECTED and (reporter.stats.get("skipped") or reporter.stats.get("xfailed")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def drive():
    """4000 places of a drive, in 100 tight groups of 40 near views, and 200 queries near every 20th place."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(100, 64)), 40, axis=0)
    rows = sdk._core.l2_normalize((centres + rng.normal(size=(4000, 64)) * 0.4).astype(np.float32))
    noise = rng.normal(size=(200, 64)) * 0.04
    return rows, sdk._core.l2_normalize((rows[::20] + noise).astype(np.float32))
