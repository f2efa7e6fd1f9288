"""What each recipe asks of two T4s, computed and not measured: minutes and memory.

    python tests/benchmarks/presets.py

The photos are as many as the home competition's. Minutes are those of `training.gpu_minutes`, from
published throughputs, give or take half.
Depthwise convolutions, of which EfficientNets have many, are slower: expect two to four times as
long. The memory of a device is what the outputs of all layers take for its share of a batch in
float16, kept for the backward pass, and sixteen bytes a weight: itself, its gradient and Adam's two
averages. The framework's own buffers, some 1 to 2 GB, come on top.
"""

import argparse
import math
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "lib")]

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

import kernel  # noqa: E402 - found in the repository
from settings import members_of, resolved, size_text  # noqa: E402
from training.costs import gpu_minutes  # noqa: E402

GPUS = 2
WHY = {
    "default": "one strong network with most of the session to spare",
    "quick": "a score within an hour",
    "max": "backbones of different kinds, blended, in one session",
    "reference": "as it scored 0.96838",
}


def memory(config: kernel.Config) -> float:
    """Return the GB that training a member's network takes on each of the GPUs."""
    network = kernel.build_model(config, 10, None)
    outputs = sum(math.prod(shape) for shape in shapes(network))
    return (2 * outputs * config.batch_size / GPUS + 16 * network.count_params()) / 1e9


def shapes(model: keras.Model) -> list[tuple[int, ...]]:
    """Return the shape of each layer's output, [height, width, channels] or less."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += shapes(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            outputs = tf.nest.flatten(layer.output)
            found += [tuple(output.shape[1:]) for output in outputs]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    print("| recipe | networks | GPU minutes | GB a GPU | why |\n|---|---|---|---|---|", flush=True)
    for name, why in WHY.items():
        config = resolved(kernel.RECIPES[name], kernel.BACKBONES)
        members = members_of(config, kernel.RECIPES, kernel.SHARED, kernel.BACKBONES)
        networks, most = [], 0.0
        minutes = gpu_minutes(config, members, kernel.BACKBONES, kernel.VIEWS, kernel.PHOTOS)
        for member in members.values():
            most = max(most, memory(member))
            networks.append(f"{member.backbone} {size_text(member.image_size)}")
        cells = f"`{name}`", ", ".join(networks), f"{minutes:.0f}", f"{most:.1f}", why
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
