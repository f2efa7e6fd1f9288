"""What each recipe asks of two T4s, computed and not measured: minutes and memory.

    python tests/benchmarks/presets.py

The photos are as many as the home competition's. Minutes are those of `training.gpu_minutes`, from
published throughputs, give or take half.
Depthwise convolutions, of which EfficientNets have many, are slower: expect two to four times as
long. The memory of a device is computed by `kernelkit.train.preflight_worker` for its share of a
batch in float16. The framework's own buffers, some 1 to 2 GB, come on top.

    python tests/benchmarks/presets.py --memory

prints for each backbone how many photos at once the memory of a T4 lets a device take while all of
it trains: what the preflight begins with, computed and not measured.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "lib")]

import keras  # noqa: E402

import kernel  # noqa: E402 - found in the repository
from kernelkit.config.settings import size_text  # noqa: E402
from kernelkit.train.costs import gpu_minutes  # noqa: E402
from kernelkit.train.preflight_worker import (  # noqa: E402
    WEIGHT_BYTES,
    activation_bytes,
    photos_that_fit,
)
from kernelkit.train.step_mode import set_precision  # noqa: E402

GPUS = 2
T4_BYTES = 16 * 2**30 * 0.93 - 1.5e9  # some of it the driver and the framework keep
WHY = {
    "default": "one strong network with most of the session to spare",
    "quick": "a score within an hour",
    "max": "backbones of different kinds, blended, in one session",
    "reference": "as it scored 0.96838",
}


def network_of(config: kernel.Config) -> keras.Model:
    """Return a member's network, all of which trains in float16."""
    keras.backend.clear_session()
    set_precision("float16")
    return kernel.build_model(config, 10, None)


def print_memory() -> None:
    """Print the table of what fits."""
    print(
        "| backbone | size | GB of weights | MB a photo | photos at once |\n|---|---|---|---|---|"
    )
    for name, row in kernel.BACKBONES.items():
        network = network_of(kernel.Config(backbone=name, image_size=row.size))
        weights = WEIGHT_BYTES * network.count_params() / 1e9
        photo = activation_bytes(network) / 1e6
        fits = photos_that_fit(network, T4_BYTES)
        cells = name, size_text(row.size), f"{weights:.2f}", f"{photo:.0f}", str(fits)
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true", help="print what fits into a T4")
    if parser.parse_args().memory:
        return print_memory()
    print("| recipe | networks | GPU minutes | GB a GPU | why |\n|---|---|---|---|---|", flush=True)
    for name, why in WHY.items():
        config = kernel.RECIPES[name]
        members = kernel.members_of(config, kernel.HOME_PHOTOS[0])
        networks, most = [], 0.0
        minutes = gpu_minutes(config, members, kernel.BACKBONES, kernel.VIEWS, kernel.HOME_PHOTOS)
        for member in members.values():
            share = member.batch_size // GPUS
            network = network_of(member)
            weights = WEIGHT_BYTES * network.count_params()
            most = max(most, (weights + share * activation_bytes(network)) / 1e9)
            networks.append(f"{member.backbone} {size_text(member.image_size)}")
        cells = f"`{name}`", ", ".join(networks), f"{minutes:.0f}", f"{most:.1f}", why
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
