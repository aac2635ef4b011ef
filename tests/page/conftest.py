import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier
from brenier import GaussianMixture, probe

SNRS = [0.25, 0.5, 1.0, 2.0, 4.0]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def profile() -> xr.Dataset:
    law = GaussianMixture([0.5, 0.5], [[-1.5, 0.0], [1.5, 0.0]], [0.16, 0.16])
    return probe(law, SNRS, queries=64, progress=False)


@pytest.fixture(scope="session")
def line() -> xr.Dataset:
    return probe("two-points", [0.5, 1.0, 3.0], progress=False)


@pytest.fixture(scope="session")
def images() -> xr.Dataset:
    """Points of 3 x 3 pixels, with what is undecided at three SNRs."""
    points = np.random.default_rng(0).normal(size=(60, 3, 3)).astype("float32")
    return brenier.difficulty(points, n=12, steps=4, snrs=[0.3, 1.0, 3.0], shown=2, check=False, progress=False)


@pytest.fixture(scope="session")
def plane() -> xr.Dataset:
    """An evaluation of points in the plane."""
    generator = np.random.default_rng(0)
    train = generator.normal(size=(90, 2))
    return brenier.evaluate(train[:60] + 0.1, generator.normal(size=(80, 2)), train=train, progress=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright; tests that need it are skipped where either is missing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=FLAGS.split())
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script: from $AXE, or from npm; tests that need it are skipped where neither has it."""
    if "AXE" in os.environ:
        return Path(os.environ["AXE"]).read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    command = [npm or "", "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=0", "axe-core@4"]
    with suppress(subprocess.TimeoutExpired):
        if npm is not None:
            subprocess.run(command, check=False, cwd=folder, capture_output=True, timeout=60)
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.is_file():
        pytest.skip("axe-core is not to be had")
    return script.read_text(encoding="utf-8")
