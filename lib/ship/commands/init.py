"""`ship init`: propose the kernel's block and the metadata of another competition."""

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slugify import slugify

from ImageDataAugmentor.files import is_photo, lies_in_clutter
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.command_line import option, parse_settings, switch
from ship.commands.doctor import listed_data
from ship.commands.submission import MOST_LISTED, download_table
from ship.context import Context
from ship.kaggle.client_process import CredentialsRefused, Refused, Unavailable
from ship.kaggle.response_schemas import stays_inside
from ship.output import emit_json, say
from ship.project.project import DATASET_METADATA, KERNEL_METADATA, PLACEHOLDER, competition_slug
from ship.project.script import with_block

if TYPE_CHECKING:
    import pandas as pd  # takes half a second, so only what reads a table imports it

LARGEST_TABLE = 300_000_000  # bytes of a CSV that is downloaded
LONGEST_TITLE = 42  # of the 50 letters that Kaggle takes; " predict" follows for its kernel
HIDDEN = 20  # rows of a sample submission below which the test set is probably hidden


class Files:
    """A competition's files at Kaggle, as `kernelkit.data.infer_layout` asks for them."""

    def __init__(self, context: Context, slug: str):
        from kernelkit.data.find import holds_tables, only_zip  # imports pandas

        self.context, self.slug = context, slug
        listed = listed_data(context, slug, MOST_LISTED + 1)
        self.complete = len(listed) <= MOST_LISTED
        self.sizes = {
            name: size for name, size in listed if stays_inside(name) and not lies_in_clutter(name)
        }
        self.names = list(self.sizes)
        self.unknown: list[str] = []
        for name in [n for n in self.sizes if re.search(r"(?<!\.csv)\.zip$", n, re.I)]:
            try:
                inside = context.remote.call("zip_names", name, competition=slug, name=name)
                self.names += [f"{name}/{one}" for one in inside if not lies_in_clutter(one)]
            except CredentialsRefused:
                raise
            except Problem as problem:
                self.unknown.append(f"the files in {name} ({problem})")
        head = f"{only_zip(list(self.sizes))}/"
        inside = [name[len(head) :] for name in self.names if name.startswith(head)]
        self.names = inside if holds_tables(inside) else self.names

    def table(self, name: str) -> "pd.DataFrame":
        """Return a CSV, which is downloaded once; Problem if it is too large or unreadable."""
        from kernelkit.core.tables import read_csv

        remote = name if name in self.sizes else f"{name}.zip"
        if self.sizes.get(remote, 0) > LARGEST_TABLE:
            raise Problem(f"{remote} has {self.sizes[remote] / 1e9:.1f} GB, too much to look into")
        kept = self.context.project.runs / self.slug / name
        if not kept.exists():
            download_table(self.context, self.slug, name, kept)
        return read_csv(kept)


def _metric_at_kaggle(context: Context, slug: str) -> tuple[str, list[str], list[str]]:
    from kernelkit.core.metrics import METRICS, metric_called

    try:
        known = context.remote.competition(slug)
    except (Refused, Unavailable) as problem:
        return "", [f"the metric: Kaggle does not tell it ({problem})"], []
    evaluation = str(known.get("evaluationMetric") or "")
    metric, notes, doubts = metric_called(evaluation), [], []
    if not metric:
        doubts.append(
            f"the metric: Kaggle calls it {evaluation!r}, which is not surely one of "
            f"{', '.join(METRICS)}; decide `metric`, if one of them is near enough"
        )
    if known.get("isKernelsSubmissionsOnly"):
        notes.append(
            "how to submit: this is a code competition, to which only a kernel's version is "
            "submitted. Kaggle runs it again on a hidden test set: train with `ship push`, then "
            "`ship predict` submits a second kernel that predicts with its networks"
        )
    return metric, notes, doubts


def _metadata_for(context: Context, slug: str) -> dict[str, dict[str, Any]]:
    """Return both metadata files for a competition; unchanged where they are of it already."""
    kernel, dataset = context.project.kernel_metadata, context.project.dataset_metadata
    files = {KERNEL_METADATA: kernel, DATASET_METADATA: dataset}
    if kernel.get("competition_sources") == [slug]:
        return files
    words = slug.replace("-", " ").capitalize()
    title = words[: LONGEST_TITLE + 1].rsplit(" ", 1)[0] if len(words) > LONGEST_TITLE else words
    owner = dataset["id"].partition("/")[0] or PLACEHOLDER
    lib = f"{owner}/{slugify(title)}-lib"
    others = [s for s in kernel.get("dataset_sources") or [] if s != dataset["id"]]
    named = {"id": f"{owner}/{slugify(title)}", "title": title}
    sources = {"dataset_sources": [lib, *others], "competition_sources": [slug]}
    subtitle = "What this competition's kernel needs offline"
    return {
        KERNEL_METADATA: kernel | named | sources,
        DATASET_METADATA: dataset | {"id": lib, "title": f"{title} lib", "subtitle": subtitle},
    }


def _show(context: Context, proposal, unknown: list[str], metadata: dict) -> None:
    lines = [proposal.layout.block(), *(f"  {note}" for note in proposal.notes)]
    lines.append("the first training rows as they are understood:")
    for row in proposal.rows.to_dict("records"):
        group = f", {proposal.layout.group} {row['group']}" if row["group"] else ""
        lines.append(f"  {row['photo'] or row['Id']}: {row['label']}{group}")
    present = (context.project.kernel_metadata, context.project.dataset_metadata)
    for (name, values), before in zip(metadata.items(), present, strict=True):
        changed = {k: v for k, v in values.items() if before.get(k) != v}
        lines.append(f"{name}:" if changed else f"{name} stays as it is")
        for field, value in changed.items():
            lines.append(f"  {field}: {json.dumps(before.get(field))} -> {json.dumps(value)}")
    lines += ["unknown:", *(f"  {one}" for one in unknown)] if unknown else []
    say("\n".join(lines), result=True)


ARGUMENTS = (
    option("slug", "the competition's name in its address (the metadata's)", nargs="?"),
    switch("--write", "write the block and the metadata"),
    option("--set", "decide a field of the block, such as positive=dog (repeat it)",
        action="append", metavar="FIELD=VALUE"),
)  # fmt: skip


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Propose the kernel's block and the metadata of a competition."""
    from kernelkit.core.metrics import metric_named
    from kernelkit.data.infer_draft import Source
    from kernelkit.data.infer_layout import propose  # imports OpenCV

    slug = competition_slug(arguments.slug or context.project.competition)
    if not slug:
        raise Problem(
            f"{arguments.slug!r} names no competition: give its address, such as "
            "https://www.kaggle.com/competitions/NAME, or the name in it."
        )
    context.doing(f"reading the files of {slug}")
    files = Files(context, slug)
    metric, unknown, doubts = _metric_at_kaggle(context, slug)
    given = parse_settings(arguments.set or [])
    if "metric" in given:
        metric_named(given["metric"])
        doubts = []
    try:
        photos = [name for name in files.names if is_photo(name)]
        proposal = propose(Source(files.names, photos, files.table, slug, metric, given))
    except Problem as problem:
        more = f" (unknown: {'; '.join(files.unknown)})" if files.unknown else ""
        raise Problem(f"{slug}: {str(problem).rstrip('.')}{more}. Nothing is proposed.") from None
    doubts += proposal.doubts
    unknown += files.unknown + doubts
    if not files.complete:
        unknown.append(f"the names of all files: the first {len(files.sizes)} were listed")
    rows = len(files.table(proposal.layout.sample_csv)) if proposal.layout.sample_csv else HIDDEN
    if rows < HIDDEN:
        unknown.append(f"the test set: the sample has {rows} rows, so it is probably hidden")
    metadata = _metadata_for(context, slug)
    _show(context, proposal, unknown, metadata)
    emit_json(block=proposal.layout.block(), unknown=unknown, metadata=metadata)
    if not arguments.write or context.dry_run:
        return say("nothing is written: `--write` writes the block and both files", result=True)
    if doubts:
        raise Problem(f"decide with --set what is unknown: {doubts[0]}.")
    script = context.project.code
    write_atomically(script, with_block(script, proposal.layout))
    for name, values in metadata.items():
        write_atomically(context.project.root / name, json.dumps(values, indent=2) + "\n")
    written = ", ".join([Path(script).name, *metadata])
    return say(f"written: {written}. `ship doctor` checks them, `ship` goes on", result=True)
