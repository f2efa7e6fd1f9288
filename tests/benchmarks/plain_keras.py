"""The work of the kernel as a plain Keras script does it, for `tests/benchmarks/kernel.py`.

    python plain_keras.py TRAIN_FOLDER TEST_FOLDER WEIGHTS HEIGHT WIDTH EPOCHS BATCH OUTPUT

Photos come from `image_dataset_from_directory` through Keras' augmentation layers; MobileNet trains
by three `fit`s, of the head, of half the backbone and of all of it; and a loop over four views
predicts the validation and the test photos.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

TRAIN, TEST, WEIGHTS = sys.argv[1:4]
HEIGHT, WIDTH, EPOCHS, BATCH = map(int, sys.argv[4:8])
OUTPUT = Path(sys.argv[8])
SIZE, LARGER = (HEIGHT, WIDTH), (round(1.15 * HEIGHT), round(1.15 * WIDTH))
AUGMENT = keras.Sequential(
    [
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(0.06, 0.06),
        layers.RandomRotation(8 / 360),
        layers.RandomZoom((-0.15, 0.1)),
        layers.RandomBrightness(0.2),
        layers.RandomContrast(0.2),
    ]
)


def labelled(subset: str, size: tuple[int, int] = SIZE, shuffle: bool = False) -> tf.data.Dataset:
    """Return the photos of a subset with their labels."""
    return keras.utils.image_dataset_from_directory(
        TRAIN,
        label_mode="categorical",
        image_size=size,
        batch_size=BATCH,
        validation_split=0.15,
        subset=subset,
        seed=1,
        shuffle=shuffle,
        verbose=False,
    )


def unlabelled(size: tuple[int, int]) -> tf.data.Dataset:
    """Return the test photos."""
    return keras.utils.image_dataset_from_directory(
        TEST, labels=None, image_size=size, batch_size=BATCH, shuffle=False, verbose=False
    )


def flipped(photos: tf.Tensor, *labels: tf.Tensor) -> tf.Tensor:
    """Return photos left to right, without labels."""
    return tf.reverse(photos, [2])


def predict(model: keras.Model, photos: tf.data.Dataset, flip: bool) -> np.ndarray:
    """Return the probabilities of photos in one view."""
    photos = photos.map(flipped) if flip else photos.map(lambda photos, *labels: photos)
    return model.predict(photos, verbose=0)


keras.utils.set_random_seed(1)
train = labelled("training", shuffle=True).map(
    lambda photos, labels: (AUGMENT(photos, training=True), labels),
    num_parallel_calls=tf.data.AUTOTUNE,
)
train, validation = (part.prefetch(tf.data.AUTOTUNE) for part in (train, labelled("validation")))
classes = train.element_spec[1].shape[1]
backbone = keras.applications.MobileNet(
    include_top=False, weights=WEIGHTS, input_shape=(None, None, 3)
)
inputs = keras.Input((None, None, 3))
x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
x = layers.GlobalAveragePooling2D()(backbone(x))
outputs = layers.Dense(classes, activation="softmax")(layers.Dropout(0.25)(x))
model = keras.Model(inputs, outputs)
for name, fraction in (("head", 0), ("half", 0.5), ("all", 1)):
    print(f"stage {name} begins", flush=True)
    frozen = len(backbone.layers) - round(fraction * len(backbone.layers))
    for number, layer in enumerate(backbone.layers):
        layer.trainable = number >= frozen
    model.compile(keras.optimizers.AdamW(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=EPOCHS, verbose=0)
print("predicting", flush=True)
views = [(size, flip) for size in (SIZE, LARGER) for flip in (False, True)]
held = np.mean([predict(model, labelled("validation", *v[:1]), v[1]) for v in views], axis=0)
test = np.mean([predict(model, unlabelled(size), flip) for size, flip in views], axis=0)
print("writing", flush=True)
truth = np.concatenate([labels.numpy().argmax(1) for _, labels in labelled("validation")])
print("validation accuracy", np.mean(held.argmax(1) == truth))
pd.DataFrame({"Category": test.argmax(1)}).to_csv(OUTPUT / "submission.csv", index=False)
