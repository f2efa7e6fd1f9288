"""Batches from a folder with one sub-folder for each class."""

import os

import numpy as np

from .iterator import FileIterator


class DirectoryIterator(FileIterator):
    """Iterates over the image files below a folder of class folders."""

    allowed_class_modes = ("categorical", "binary", "sparse", "input", None)

    def __init__(
        self, directory, image_data_generator, *, classes=None, follow_links=False, **options
    ):
        self.directory = directory
        names = (
            list(classes)
            if classes
            else sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
        )
        self.class_indices = {name: number for number, name in enumerate(names)}
        self.num_classes = len(names)
        self.filenames, labels = [], []
        for name, number in self.class_indices.items():
            files = self._class_files(directory, name, follow_links)
            files = files[image_data_generator.subset_slice(options["subset"], len(files))]
            self.filenames += files
            labels += [number] * len(files)
        self.classes = np.array(labels, dtype="int32")
        super().__init__(
            [os.path.join(directory, name) for name in self.filenames],
            image_data_generator,
            **options,
        )
        print(f"Found {self.samples} images belonging to {self.num_classes} classes.")

    def _class_files(self, directory, name, follow_links) -> list[str]:
        top = os.path.join(directory, name)
        folders = sorted(os.walk(top, followlinks=follow_links), key=lambda entry: entry[0])
        return [
            os.path.relpath(os.path.join(folder, file), directory)
            for folder, _, files in folders
            for file in sorted(files)
            if file.lower().endswith(self.white_list_formats)
        ]
