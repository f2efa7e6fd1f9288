"""Train one peer's recipe on given photos; `peer_recipes.py` runs this where torch is installed.

It imports nothing of the project. The task is a JSON file: train and test (lists of path and
label), classes, seed, epochs, peer, weights (an .npz of the backbone's tensors under timm's names,
with `photos` and `features` to compare them by) and output (an .npz of probabilities).
"""

import json
import random
import resource
import sys
import time
import types
from pathlib import Path

# torchvision's compiled operators need CUDA's libraries, and nothing here needs the operators.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("unused")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402

SIZE, KEPT, BATCH = 160, 192, 16  # pixels of training and testing, of kept photos; photos a step


class Parts:
    """Processor seconds of each part of a run."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.process_time()
        self.end("start", since=0.0)

    def end(self, name: str, since: float | None = None) -> None:
        """Add the processor time since the last part ended to a part."""
        now = time.process_time()
        before = self.last if since is None else since
        self.seconds[name] = self.seconds.get(name, 0.0) + now - before
        self.last = now


def read(path: str, size: int) -> np.ndarray:
    """Return a photo squashed to a square by area, uint8 [size, size, 3] RGB."""
    photo = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    return cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA)


def tensors_of(photos: np.ndarray) -> torch.Tensor:
    """Return uint8 [n, h, w, 3] as float32 [n, 3, h, w] in -1..1."""
    return torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 127.5 - 1


def load_backbone(network: torch.nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Load the backbone's tensors; the classifier keeps its random ones."""
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if "classifier" not in name and "num_batches" not in name]
    if missing or unexpected:
        raise ValueError(f"the weights lack {missing} and have {unexpected} besides")


def build(classes: int, weights: dict[str, np.ndarray]) -> torch.nn.Module:
    """Return timm's MobileNet, padded and normalised as Keras' is, with the same backbone."""
    network = timm.create_model(
        "mobilenetv1_100", num_classes=classes, pad_type="same", bn_eps=1e-3, drop_rate=0.0
    )
    load_backbone(network, weights)
    network.classifier.reset_parameters()  # timm's own would begin at a loss of 7
    return network


def difference(network: torch.nn.Module, stored) -> float:
    """Return the largest difference of the backbone's features from Keras' on the same photos."""
    network.eval()
    with torch.no_grad():
        ours = network.forward_features(tensors_of(stored["photos"])).permute(0, 2, 3, 1)
    return float(np.abs(ours.numpy() - stored["features"]).max())


def predict(network: torch.nn.Module, photos: np.ndarray) -> dict[str, np.ndarray]:
    """Return the probabilities of photos, plain and as the mean with their mirror images."""
    network.eval()
    with torch.no_grad():
        batches = [tensors_of(photos[n : n + 64]) for n in range(0, len(photos), 64)]
        plain = torch.cat([network(batch).softmax(1) for batch in batches]).numpy()
        mirrored = torch.cat([network(batch.flip(3)).softmax(1) for batch in batches]).numpy()
    return {"plain": plain, "views": (plain + mirrored) / 2}


def train_timm(task: dict, weights: dict, parts: Parts) -> dict[str, np.ndarray]:
    """Train everything from the first step, as timm's train.py does; return probabilities."""
    from timm.data import auto_augment
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import param_groups_weight_decay
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3

    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda image, bits, **_: ImageOps.posterize(
        image,
        max(1, min(8, bits)),  # Pillow refuses to keep no bits
    )
    photos = np.stack([read(path, KEPT) for path, _ in task["train"]])
    labels = torch.tensor([label for _, label in task["train"]])
    parts.end("photos")
    network = build(task["classes"], weights)
    average = ModelEmaV3(network, decay=0.998, use_warmup=True)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(network, 0.05), 3e-4)
    steps, epochs = len(photos) // BATCH, task["epochs"]
    schedule = CosineLRScheduler(
        optimizer, t_initial=steps * epochs, lr_min=1e-6, warmup_t=steps, warmup_lr_init=1e-6,
        t_in_epochs=False,
    )  # fmt: skip
    loss = LabelSmoothingCrossEntropy(0.1)
    crop = RandomResizedCropAndInterpolation(SIZE, (0.6, 1), (0.85, 1.18), "bilinear")
    augment = auto_augment.rand_augment_transform(
        "rand-m9-mstd0.5-inc1", {"translate_const": int(0.45 * SIZE), "img_mean": (128,) * 3}
    )
    parts.end("build")

    def augmented(row: int) -> np.ndarray:
        image = crop(Image.fromarray(photos[row]))
        image = ImageOps.mirror(image) if random.random() < 0.5 else image
        return np.asarray(augment(image))

    step = 0
    for epoch in range(epochs):
        network.train()
        order = np.random.permutation(len(photos))
        for first in range(0, steps * BATCH, BATCH):
            rows = order[first : first + BATCH]
            batch = tensors_of(np.stack([augmented(row) for row in rows]))
            parts.end("input")
            schedule.step_update(step)
            optimizer.zero_grad()
            loss(network(batch), labels[rows]).backward()
            optimizer.step()
            step += 1
            average.update(network, step=step)
            parts.end("steps")
        print(f"epoch {epoch + 1} of {epochs}", flush=True)
    tests = np.stack([read(path, SIZE) for path, _ in task["test"]])
    found = predict(average.module, tests)
    parts.end("prediction")
    return found


def train_fastai(task: dict, weights: dict, parts: Parts) -> dict[str, np.ndarray]:
    """Fine-tune as fastai's guides do: the head for an epoch, then all; return probabilities."""
    from fastai.vision import all as fastai

    rows = [(path, str(label), False) for path, label in task["train"]]
    rows += [(path, str(label), True) for path, label in task["train"][:BATCH]]  # not looked at
    columns = ["path", "label", "held back"]
    block = fastai.DataBlock(
        (fastai.ImageBlock, fastai.CategoryBlock(vocab=[str(n) for n in range(task["classes"])])),
        get_x=fastai.ColReader("path"), get_y=fastai.ColReader("label"),
        splitter=fastai.ColSplitter("held back"),
        item_tfms=fastai.Resize(240, method="squish"),
        batch_tfms=[
            *fastai.aug_transforms(size=SIZE),
            fastai.Normalize.from_stats([0.5] * 3, [0.5] * 3),
        ],
    )  # fmt: skip
    loaders = block.dataloaders(pd.DataFrame(rows, columns=columns), bs=BATCH, num_workers=0)
    arguments = {"pad_type": "same", "bn_eps": 1e-3}
    learner = fastai.vision_learner(
        loaders, "mobilenetv1_100", pretrained=False, normalize=False, metrics=fastai.accuracy,
        **arguments,
    )  # fmt: skip
    load_backbone(learner.model[0].model, weights)
    parts.end("build")
    rate = 2e-3
    if task["peer"] == "fastai at lr_find's rate":
        learner.freeze()
        rate = learner.lr_find(show_plot=False, suggest_funcs=(fastai.valley,)).valley
        parts.end("lr_find")
    with learner.no_bar():
        learner.fine_tune(task["epochs"], rate)
        parts.end("steps")
        tests = loaders.test_dl(pd.DataFrame(task["test"], columns=columns[:2]))
        plain, _ = learner.get_preds(dl=tests)
        views, _ = learner.tta(dl=tests)
    parts.end("prediction")
    return {"plain": plain.numpy(), "views": views.numpy(), "rate": np.float64(rate)}


def main() -> None:
    """Train the peer of the task that is named on the command line, and write what it predicts."""
    parts = Parts()
    task = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    random.seed(task["seed"])
    np.random.seed(task["seed"])
    torch.manual_seed(task["seed"])
    stored = dict(np.load(task["weights"]))
    weights = {name: value for name, value in stored.items() if name not in ("photos", "features")}
    apart = difference(build(task["classes"], weights), stored)
    parts.end("comparison")
    work = train_timm if task["peer"] == "timm" else train_fastai
    found = work(task, weights, parts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"parts": parts.seconds, "difference": apart, "peak_bytes": peak}
    np.savez(task["output"], **found, figures=json.dumps(figures))


if __name__ == "__main__":
    main()
