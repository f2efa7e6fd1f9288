"""For notebooks that were written for Keras 2 and albumentations 1. The kernel never imports it."""

import functools


@functools.cache
def install() -> None:
    """Change Keras and albumentations, once, so that old notebooks run or get advice."""
    from . import albumentations_1, keras_2

    albumentations_1.name_replacements()
    albumentations_1.explain_refusals()
    keras_2.prepare_data()
    keras_2.explain_generator_methods()
