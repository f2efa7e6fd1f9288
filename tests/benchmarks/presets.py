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

    python tests/benchmarks/presets.py --plan siglip2-b,siglip2-l,convnext,b3

prints what these candidates of `max`, were they the scout's finalists, take on two T4s, and which
members, epochs and folds would fill a session.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "lib")]

import keras  # noqa: E402

import kernel  # noqa: E402 - found in the repository
from kernelkit.config.members import scouts  # noqa: E402
from kernelkit.config.settings import size_text  # noqa: E402
from kernelkit.predict.scout import FILLED, SHARE  # noqa: E402
from kernelkit.train.costs import (  # noqa: E402
    GPU_RATE,
    REPORT_SECONDS,
    fill_session,
    gpu_minutes,
    jobs_of,
    seconds_of,
)
from kernelkit.train.preflight_worker import (  # noqa: E402
    WEIGHT_BYTES,
    activation_bytes,
    photos_that_fit,
)
from kernelkit.train.presets import float16_bytes  # noqa: E402
from kernelkit.train.step_mode import set_precision  # noqa: E402

GPUS = 2
T4_BYTES = 16 * 2**30 * 0.93 - 1.5e9  # some of it the driver and the framework keep
TOWERS = {  # tokens, width, blocks, millions of weights
    "SigLIP2B": (576, 768, 12, 93),
    "SigLIP2L": (576, 1024, 24, 316),
    "SigLIPSo400m": (729, 1152, 27, 428),
    "CLIPL336": (577, 1024, 24, 304),
}
# Photos a second that two T4s pass forward at the row's size: timm's figures of an RTX 3090, of
# which a T4 has a fifth, and TensorFlow, without fused attention, four fifths of that.
SPEEDS = {"SigLIP2B": 147.0, "SigLIP2L": 47.0, "ConvNeXtBase": 107.0}
WHY = {
    "default": "one strong network with most of the session to spare",
    "quick": "a score within an hour",
    "max": "a scout chooses networks of different kinds, which fill the session",
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


def bytes_of(config: kernel.Config) -> tuple[float, float]:
    """Return the bytes of a member's weights in training, and those that a photo keeps."""
    if tower := TOWERS.get(config.backbone):
        tokens, width, blocks, millions = tower
        block = float16_bytes(tokens, width, 4 * width, width // 64)
        return WEIGHT_BYTES * millions * 1e6, blocks * block
    network = network_of(config)
    return WEIGHT_BYTES * network.count_params(), activation_bytes(network)


def print_plan(names: list[str]) -> None:
    """Print what candidates of `max` take, and what would fill a session."""
    config = kernel.RECIPES["max"]
    labelled, test = kernel.HOME_PHOTOS
    held = round(labelled / config.folds)
    known = kernel.members_of(config, labelled)
    members = {name: known[name] for name in names}
    photos = labelled - held, held, test
    jobs = jobs_of(members, kernel.BACKBONES, kernel.VIEWS, 0, photos)
    rates = {
        name: SPEEDS[each.backbone] * kernel.BACKBONES[each.backbone].gmacs
        if each.backbone in SPEEDS
        else GPU_RATE
        for name, each in members.items()
    }
    print("| member | network | minutes a fold | GB | photos at once |\n|---|---|---|---|---|")
    for job, member in zip(jobs, members.values(), strict=True):
        weights, photo = bytes_of(member)
        share = member.batch_size // GPUS
        at_once = int(min(share, max(1, (T4_BYTES - weights) // photo)))
        minutes, memory = seconds_of(job, rates[job.member]) / 60, (weights + at_once * photo) / 1e9
        cells = job.member, f"{member.backbone} {size_text(member.image_size)}", f"{minutes:.0f}"
        print(f"| {' | '.join([*cells, f'{memory:.1f}', f'{at_once} of {share}'])} |", flush=True)
    seconds = FILLED * ((1 - SHARE) * 60 * kernel.KAGGLE_MINUTES - REPORT_SECONDS)
    filling = fill_session(jobs, rates, config.folds, seconds)
    print(
        f"{', '.join(filling.members)}: {filling.folds} of {config.folds} folds, "
        f"{filling.length:g} times the recipe's epochs, {filling.seconds / 60:.0f} minutes of "
        f"{kernel.KAGGLE_MINUTES:.0f} ({filling.reason})"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true", help="print what fits into a T4")
    parser.add_argument("--plan", metavar="NAMES", help="candidates of max that fill a session")
    options = parser.parse_args()
    if options.memory:
        return print_memory()
    if options.plan:
        return print_plan(options.plan.split(","))
    print("| recipe | networks | GPU minutes | GB a GPU | why |\n|---|---|---|---|---|", flush=True)
    for name, why in WHY.items():
        config = kernel.RECIPES[name]
        members = kernel.members_of(config, kernel.HOME_PHOTOS[0])
        networks, most = [], 0.0
        if scouts(config):
            cells = f"`{name}`", f"of {len(members)} candidates", "the whole session", "-", why
            print(f"| {' | '.join(cells)} |", flush=True)
            continue
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
