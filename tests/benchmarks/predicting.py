"""Time `kernel.py --predict` beside the prediction of the same network within its run.

    python tests/benchmarks/predicting.py RUN PHOTOS [--rounds 3]

RUN is a finished run of one network, PHOTOS a folder. Both ways predict the plain view of all
photos, in turn; printed is the ratio of photos a second, with and without what comes before, and of
photos a second of processor time, on which a busy machine has less influence.
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
from kernelkit.predict.saved_model import read_model  # noqa: E402
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
    within, alone, whole, spent = [], [], [], {"within": [], "alone": []}
    for number in range(options.rounds + 1):
        began, used = time.monotonic(), time.process_time()
        predict_photos(config, tables, photos, network, None)
        within.append(time.monotonic() - began)
        spent["within"].append(time.process_time() - used)
        began = time.monotonic()
        loaded = apply.LoadedNetwork(saved, config, model, options.run, kernel.augmentation)
        ready = time.monotonic()
        loaded.predict(photos.head(1), saved.views[0], tqdm(disable=True))
        warm, used = time.monotonic(), time.process_time()
        loaded.predict(photos, saved.views[0], tqdm(disable=True))
        alone.append(time.monotonic() - warm)
        spent["alone"].append(time.process_time() - used)
        whole.append(time.monotonic() - began)
        before = f"loading {ready - began:.1f} s, tracing {warm - ready:.1f} s"
        print(f"round {number}: {within[-1]:.2f} s within, {alone[-1]:.2f} s alone; {before}")
    usual, warm, total = (statistics.median(each[1:]) for each in (within, alone, whole))
    print(f"\n{len(photos)} photos, {options.rounds} rounds after a first one")
    print(f"photos a second of --predict over those within the run: {usual / warm:.2f}")
    processor = [statistics.median(each[1:]) for each in spent.values()]
    print(f"the same for a second of processor time: {processor[0] / processor[1]:.2f}")
    print(f"the same with loading and tracing: {usual / total:.2f}")


if __name__ == "__main__":
    main()
