"""Take the picture of a report that the README shows.

    python kernel.py --output output --seed 4
    python tests/benchmarks/report_screenshot.py output/report.html tests/benchmarks/report.webp

Only a report on drawn cars may be published: other photos have owners. Needs Chromium.
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import MISSING, Browser, find_browser

WIDTH, HEIGHT = 1280, 1260
SHOWN = 960  # pixels of the picture's width
QUALITY = 82


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
        browser.open(arguments.report, WIDTH, arguments.scheme, HEIGHT)
        taken = Image.open(io.BytesIO(browser.screenshot()))
    size = SHOWN, round(SHOWN * taken.height / taken.width)
    taken.resize(size, Image.Resampling.LANCZOS).save(arguments.picture, "WEBP", quality=QUALITY)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size} bytes")


if __name__ == "__main__":
    main()
