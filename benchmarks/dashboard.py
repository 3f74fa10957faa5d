"""Pictures of the page of a sort at its begin, in its middle and at its end, and what showing it costs.

    python -m benchmarks.dashboard --channels 64 --seconds 600 --folder build/dashboard

A simulated recording is sorted by processes of this machine with the page open in a headless Chromium, which takes the
pictures. The CPU time of the plugin, its pages and the client's telling is counted by themselves, and held against what
the workers computed. The browser is not counted: it is another machine's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yass_dask
from benchmarks import browser
from yass_dask.runtime import Executor
from yass_dask.simulate import plan, write

MOMENTS = {"begin": ("detect", 0.5), "middle": ("residual_0", 0.3), "last": ("deconvolve", 0.6)}
"""A picture is taken when so much of a stage is done"""
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"width": 1200, "height": 900},
    "dark": {"width": 1200, "height": 900, "dark": True},
    "narrow": {"width": 390, "height": 900},
}


def main() -> int:
    options = _options()
    program = browser.find()
    if program is None:
        print("no browser (chromium or chrome) on this machine", file=sys.stderr)
        return 1
    options.folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(options.folder / "sorted", ignore_errors=True)
    recording = _recording(options)
    with Executor("local", options.workers).open() as executor:
        assert executor.client is not None
        page_link = executor.client.dashboard_link.removesuffix("/status") + "/yass"
        sort = threading.Thread(
            target=yass_dask.sort, args=(recording, options.folder / "sorted"), kwargs={"client": executor}
        )
        sort.start()
        while not _is_there(page_link):
            sort.join(0.2)
        with browser.opened(program, page_link) as page:
            _watch(page, sort.is_alive, options.folder)
            sort.join()
            page.until("document.querySelector('#state').textContent !== 'running'")
            page.until("document.querySelector('#curve figcaption').textContent.includes('the result')")
            _take(page, options.folder, "end")
            print("errors in the page:", page.errors or "none")
        with urlopen(page_link + ".json") as answer:
            facts = json.load(answer)
    print(f"watching: {facts['watching']}, of it the client's telling {facts['jobs'][0]['announcing_s']} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk-blocks", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("build/dashboard"))
    return parser.parse_args()


def _recording(options: argparse.Namespace) -> yass_dask.Recording:
    folder = options.folder / f"recording-{options.channels}-{options.seconds:g}-{options.units}"
    if not folder.exists():
        size = {"n_channels": options.channels, "seconds": options.seconds, "n_units": options.units}
        write(folder, plan(**size, seed=0, snr=(6, 25)))
    return yass_dask.from_config(folder / "config.yaml").with_chunks(options.chunk_blocks)


def _is_there(page_link: str) -> bool:
    try:
        with urlopen(page_link) as answer:
            return answer.status == 200
    except OSError:
        return False


def _watch(page: browser.Page, runs: Callable[[], bool], folder: Path) -> None:
    """Take the pictures of the moments while the sort runs."""
    left = dict(MOMENTS)
    while runs() and left:
        at = page.ask(
            "[...document.querySelectorAll('#job tr[data-stage]')].map(r => [r.dataset.stage, r.dataset.done, "
            "r.dataset.parts])"
        )
        share = {stage: int(done) / int(parts) for stage, done, parts in at}
        for moment, (stage, least) in list(left.items()):
            if share.get(stage, 0) >= least:
                _take(page, folder, moment)
                del left[moment]
    print("moments missed:", ", ".join(left) or "none")


def _take(page: browser.Page, folder: Path, moment: str) -> None:
    for name, look in LOOKS.items():
        page.look(**look)
        page.until(f"innerWidth === {look['width']}")
        page.picture(folder / f"{moment}-{name}.png")


if __name__ == "__main__":
    sys.exit(main())
