"""Take the picture of a report that the README shows.

    python kernel.py --output output --seed 4
    python tests/benchmarks/report_screenshot.py output/report.html tests/benchmarks/report.webp

It shows the result, what to do next, and photos. Only a report on drawn cars may be published:
other photos have owners. Needs Chromium.
"""

import argparse
import base64
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))

from browser import MISSING, Browser, find_browser

WIDTH = 1280
# Parts of the page, each down to the end of some element in it.
PARTS = {
    "header.top": "p",
    "nav": "ul",
    "#result": ".grid",
    "#next": "ol.advice > li:nth-child(-n+2)",
    "#unsure": ".sheet > li:first-child",
}
MARGIN = 16  # pixels below each part
SHADOW = 3  # pixels of a card above that reach into the next part
SHOWN = 960  # pixels of the picture's width
QUALITY = 82


def part(browser: Browser, selector: str, last: str) -> Image.Image:
    """Return a part of the page in its whole width, down to the last of some elements in it."""
    box = "getBoundingClientRect()"
    top = browser.evaluate(f"document.querySelector({selector!r}).{box}.top") + SHADOW
    found = f"[...document.querySelectorAll({f'{selector} {last}'!r})]"
    bottom = browser.evaluate(f"{found}.at(-1).{box}.bottom")
    height = bottom - top + MARGIN
    clip = {"x": 0, "y": top, "width": WIDTH, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, help="a report.html")
    parser.add_argument("picture", type=Path, help="the .webp to write")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    arguments = parser.parse_args()
    if find_browser() is None:
        parser.error(MISSING)
    with Browser() as browser:
        browser.call("Emulation.setScrollbarsHidden", hidden=True)
        browser.open(arguments.report, WIDTH, arguments.scheme)
        browser.evaluate("document.querySelector('nav').style.position = 'static'")
        parts = [part(browser, selector, last) for selector, last in PARTS.items()]
    taken = Image.new("RGB", (WIDTH, sum(one.height for one in parts)))
    tops = np.cumsum([0, *(one.height for one in parts)])
    for one, top in zip(parts, tops, strict=False):
        taken.paste(one, (0, int(top)))
    size = SHOWN, round(SHOWN * taken.height / taken.width)
    taken.resize(size, Image.Resampling.LANCZOS).save(arguments.picture, "WEBP", quality=QUALITY)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size} bytes")


if __name__ == "__main__":
    main()
