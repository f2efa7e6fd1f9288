"""Batches from a folder with one sub-folder for each class."""

import os

import numpy as np

from .file_iterator import FileIterator, listed
from .files import is_clutter, walk
from .iterator import FlowSettings, ImageSaver
from .reading import ImageLoader


class DirectoryIterator(FileIterator):
    """Iterates over the image files in the class folders of a folder.

    By default `classes` are all sub-folders in alphanumeric order ('10' before '2'). The files of a
    class are in the order of their folders and names. What `files.is_clutter` names is left out.
    Raises FileNotFoundError for a class without a folder, and ValueError for a class mode that does
    not fit and for a folder without class folders.
    """

    allowed_class_modes = ("categorical", "binary", "sparse", "input", None)

    def __init__(
        self,
        directory: str | os.PathLike,
        image_data_generator,
        *,
        settings: FlowSettings,
        loader: ImageLoader,
        saver: ImageSaver,
        classes: list[str] | None = None,
        follow_links: bool = False,
    ):
        mode = settings.class_mode
        if mode not in self.allowed_class_modes:
            raise ValueError(f"class_mode={mode!r}: expected one of {self.allowed_class_modes}")
        self.directory = os.fspath(directory)
        names = list(classes) if classes else self._class_folders()
        if mode == "binary" and len(names) > 2:
            raise ValueError(f'class_mode="binary" needs two classes, not {len(names)}: {names}')
        self.class_indices = {name: number for number, name in enumerate(names)}
        self.num_classes = len(names)
        self.filenames, numbers = [], []
        for name, number in self.class_indices.items():
            files = self._files(name, follow_links)
            files = files[image_data_generator.subset_slice(settings.subset, len(files))]
            self.filenames += files
            numbers += [number] * len(files)
        self.classes = np.array(numbers, dtype="int32")
        super().__init__(image_data_generator, settings, loader, saver)
        if settings.verbose:
            print(f"Found {self.samples} images belonging to {self.num_classes} classes.")

    def _class_folders(self) -> list[str]:
        folders = self._sub_folders()
        if not folders:
            raise ValueError(
                f"{self.directory} has no class folders: move the photos into one for each class, "
                "use flow_from_dataframe, or pass classes=['.'] and class_mode=None for photos "
                "without labels."
            )
        return folders

    def _sub_folders(self) -> list[str]:
        with os.scandir(self.directory) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not is_clutter(e.name))

    def _files(self, name: str, follow_links: bool) -> list[str]:
        top = os.path.join(self.directory, name)
        if not os.path.isdir(top):
            raise FileNotFoundError(
                f"{self.directory} has no sub-folder for the class {name!r}; there are "
                f"{listed(self._sub_folders())}."
            )
        return [
            os.path.relpath(os.path.join(folder, file), self.directory)
            for folder, files in sorted(walk(top, follow_links))
            for file in files
            if file.lower().endswith(self.white_list_formats)
        ]
