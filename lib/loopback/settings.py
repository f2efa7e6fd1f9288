"""How the loopback Kaggle behaves."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What can be chosen about the loopback Kaggle; delays are in seconds.

    Attributes:
        metrics: by competition the row of METRICS that scores it, and Kaggle's name of that;
            accuracy where it is not named.
        hidden: by code competition the folder of its data in the run that is scored, in which the
            test set and the sample submission are the hidden ones, and the CSV of their labels.
    """

    user: str = "alice"  # the only one
    key: str | None = None  # the user's; None accepts any
    token: str | None = None  # the user's API token; None accepts any
    port: int = 0  # 0 lets the system choose one
    mount: str = "official"  # how sources are mounted: one of `sandbox.LAYOUTS`
    dataset_delay: float = 0.2  # until a dataset's version is READY
    queue_delay: float = 0.1  # until a run is RUNNING
    scoring_delay: float = 0.2  # until a submission has its score
    lag: float = 0.0  # until what was pushed or submitted is shown
    daily_submissions: int = 5  # that a competition takes
    gpu_sessions: int = 2  # runs with a GPU at a time
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hidden: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    scored_seconds: float = 9 * 3600  # that a run that is scored may last
    scored_memory: int | None = None  # bytes that it may take; None is no limit
    models: Mapping[str, Path] = field(default_factory=dict)
    gated: Collection[str] = ()  # models, as owner/model, whose license is not accepted
    kaggle_errors: int = 0  # scored runs of a version that end by Kaggle's own fault at first
    accepted: bool = True  # whether the user has accepted the competitions' rules
