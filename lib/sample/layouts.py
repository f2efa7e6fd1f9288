"""The layouts of real competitions in which cars are drawn: where their photos and tables are."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Rows = list[tuple]
DRIVERS = 6


@dataclass(frozen=True)
class Planned:
    """A photo that is still to be drawn."""

    number: int  # its position among the photos of the seed; it decides what varies in the photo
    name: str  # a number of six digits that no other photo has
    kind: int  # the position of its kind of car
    label: str

    @property
    def digest(self) -> str:
        """A name without meaning, such as some competitions give to their photos."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Drawn:
    """A layout to draw a competition in; the functions get photos and say where they belong."""

    slug: str  # of the real competition
    labels: tuple[str, ...]  # one a kind of car; only as many kinds are drawn
    train: Callable[[Planned], str]  # the path of a training photo below the competition's folder
    test: Callable[[Planned], str]
    Id: Callable[[Planned], str]  # a test photo's Id in the sample submission
    header: tuple[str, ...]  # of the sample submission, the solution and the submission
    sample_value: str  # what the sample submission predicts
    # What the solution holds: the label, 1 for the first label and 0 else, or ones and zeros.
    form: Literal["label", "probability", "columns"] = "label"
    sample_csv: str = "sample_submission.csv"
    train_csv: str = ""
    # The rows of the training table, header first.
    table: Callable[[Sequence[Planned]], Rows] | None = None
    zips: tuple[tuple[str, str], ...] = ()  # folders that are packed, each with the name of its zip
    metric: str = "accuracy"  # the row of METRICS by which it is scored
    evaluation: str = "Categorization Accuracy"  # what Kaggle calls it
    untold: dict[str, str] = field(default_factory=dict)  # fields of the block that no file tells
    # How many of each kind train and are predicted in a rehearsal.
    photos: tuple[int, int] = (40, 10)


def table_of(header: tuple[str, ...], row: Callable[[Planned], tuple]) -> Callable:
    """Return a function that makes a table of one row a photo."""
    return lambda photos: [header, *map(row, photos)]


BREEDS = ("hatchback", "saloon", "estate", "off_roader", "pickup", "van", "coupe")
BREEDS += ("cabriolet", "microcar", "limousine")
SPECIES = ("Common hatchback", "Saloon", "Sugar estate", "Small-wheeled off-roader", "Pickup")
DIGITS = tuple(map(str, range(10)))
STATES = tuple(f"c{number}" for number in range(10))
DISEASES = ("healthy", "multiple_diseases", "rust", "scab")

HOME = Drawn(
    slug="sf-dl-car-classification",
    labels=DIGITS,
    train=lambda photo: f"train/{photo.label}/{photo.name}.jpg",
    test=lambda photo: f"test_upload/{photo.name}.jpg",
    Id=lambda photo: f"{photo.name}.jpg",
    header=("Id", "Category"),
    sample_value="0",
    sample_csv="sample-submission.csv",
    train_csv="train.csv",
    table=table_of(("Id", "Category"), lambda photo: (f"{photo.name}.jpg", photo.label)),
    zips=(("train", "train.zip"), ("test_upload", "test.zip")),
    photos=(60, 10),
)
LAYOUTS = {
    "home": HOME,
    "nested": replace(
        HOME,
        slug="mds-misis-dl-car-classificationn",
        train=lambda photo: f"train/train/{photo.label}/{photo.name}.jpg",
        test=lambda photo: f"test/test_upload/{photo.name}.jpg",
        zips=(),
        photos=(40, 10),
    ),
    "dog-breed": Drawn(
        slug="dog-breed-identification",
        labels=BREEDS,
        train=lambda photo: f"train/{photo.digest}.jpg",
        test=lambda photo: f"test/{photo.digest}.jpg",
        Id=lambda photo: photo.digest,
        header=("id", *sorted(BREEDS)),
        sample_value="0.1",
        form="columns",
        train_csv="labels.csv",
        table=table_of(("id", "breed"), lambda photo: (photo.digest, photo.label)),
        metric="log-loss",
        evaluation="Multiclass Loss",
    ),
    "plant-pathology": Drawn(
        slug="plant-pathology-2020-fgvc7",
        labels=DISEASES,
        train=lambda photo: f"images/Train_{photo.name}.jpg",
        test=lambda photo: f"images/Test_{photo.name}.jpg",
        Id=lambda photo: f"Test_{photo.name}",
        header=("image_id", *DISEASES),
        sample_value="0.25",
        form="columns",
        train_csv="train.csv",
        table=table_of(
            ("image_id", *DISEASES),
            lambda photo: (f"Train_{photo.name}", *(int(photo.label == name) for name in DISEASES)),
        ),
        metric="mean-auc",
        evaluation="Mean Column-wise ROC AUC",
        photos=(80, 20),
    ),
    "plant-seedlings": Drawn(
        slug="plant-seedlings-classification",
        labels=SPECIES,
        train=lambda photo: f"train/{photo.label}/{photo.digest[:9]}.png",
        test=lambda photo: f"test/{photo.digest[:9]}.png",
        Id=lambda photo: f"{photo.digest[:9]}.png",
        header=("file", "species"),
        sample_value=SPECIES[0],
        metric="micro-f1",
        evaluation="Mean F-Score (micro)",
        photos=(70, 20),
    ),
    "dogs-vs-cats": Drawn(
        slug="dogs-vs-cats-redux-kernels-edition",
        labels=("dog", "cat"),
        train=lambda photo: f"train/{photo.label}.{photo.number}.jpg",
        test=lambda photo: f"test/{photo.number + 1}.jpg",
        Id=lambda photo: str(photo.number + 1),
        header=("id", "label"),
        sample_value="0.5",
        form="probability",
        zips=(("train", "train.zip"), ("test", "test.zip")),
        metric="log-loss",
        evaluation="Log Loss",
        untold={"positive": "dog"},
        photos=(150, 50),
    ),
    "state-farm": Drawn(
        slug="state-farm-distracted-driver-detection",
        labels=STATES,
        train=lambda photo: f"imgs/train/{photo.label}/img_{photo.name}.jpg",
        test=lambda photo: f"imgs/test/img_{photo.name}.jpg",
        Id=lambda photo: f"img_{photo.name}.jpg",
        header=("img", *STATES),
        sample_value="0.1",
        form="columns",
        train_csv="driver_imgs_list.csv",
        table=table_of(
            ("subject", "classname", "img"),
            lambda photo: (f"p{photo.number % DRIVERS:03d}", photo.label, f"img_{photo.name}.jpg"),
        ),
        metric="log-loss",
        evaluation="Multiclass Loss",
    ),
}


def solution_row(drawn: Drawn, photo: Planned) -> tuple:
    """Return a test photo's row of the solution, which has the submission's columns."""
    if drawn.form == "columns":
        truth: tuple = tuple(int(photo.label == name) for name in drawn.header[1:])
    else:
        truth = (photo.label if drawn.form == "label" else int(photo.label == drawn.labels[0]),)
    return drawn.Id(photo), *truth
