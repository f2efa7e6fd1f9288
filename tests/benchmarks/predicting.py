"""Time `kernel.py --predict` beside the prediction of the same network within its run.

    python tests/benchmarks/predicting.py RUN PHOTOS [--rounds 3]

RUN is a finished run of one network, PHOTOS a folder. Both ways predict the plain view of all
photos, in turn. Printed are the seconds of what comes before, and the ratio of photos a second,
also of processor time, on which a busy machine has less influence.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

import keras  # noqa: E402
from tqdm import tqdm  # noqa: E402

import kernel  # noqa: E402 - found in the repository
from kernelkit.predict import apply  # noqa: E402
from kernelkit.predict.members import read_model  # noqa: E402
from kernelkit.predict.tta import predict_photos  # noqa: E402


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = read_model(options.run)
    member = model.members[0]
    saved, config = member.networks[0], apply.settings_of(member, kernel.Config)
    photos = apply.find_photos(options.photos, Path(tempfile.gettempdir()))
    network = keras.models.load_model(options.run / saved.file, compile=False)
    tables = SimpleNamespace(kept_size=model.kept_size and tuple(model.kept_size))
    began = time.monotonic()
    loaded = apply.LoadedNetwork(saved, config, model, options.run, kernel.augmentation)
    ready = time.monotonic()
    loaded.predict(photos.head(config.batch_size), saved.views[0], tqdm(disable=True))
    print(f"loading {ready - began:.1f} s, tracing {time.monotonic() - ready:.1f} s")
    ways = {
        "within": lambda: predict_photos(config, tables, photos, network, None),
        "alone": lambda: loaded.predict(photos, saved.views[0], tqdm(disable=True)),
    }
    wall, processor = ({name: [] for name in ways} for _ in range(2))
    for _ in range(options.rounds + 1):
        for name, predict in ways.items():
            began, used = time.monotonic(), time.process_time()
            predict()
            wall[name].append(time.monotonic() - began)
            processor[name].append(time.process_time() - used)
    print(f"{len(photos)} photos, {options.rounds} rounds after a first one")
    for kind, found in (("second", wall), ("processor second", processor)):
        within, alone = (statistics.median(each[1:]) for each in found.values())
        print(f"photos a {kind} of --predict over those within the run: {within / alone:.2f}")


if __name__ == "__main__":
    main()
