"""Processor seconds of each part of a run of kernel.py, in this process.

    python tests/benchmarks/kernel_parts.py PARTS.json [options of kernel.py]

Runs the kernel with these options, prints what each part cost, all threads together, and writes it
to PARTS.json. Building a network, storing an epoch and validating it are parts of their own.
"""

import functools
import json
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

seconds: dict[str, float] = {}
running, switched = ["start"], [0.0]


def switch() -> None:
    """Add the processor time since the last switch to the part that is running."""
    now = time.process_time()
    seconds[running[-1]] = seconds.get(running[-1], 0.0) + now - switched[0]
    switched[0] = now


def measure(owner, name: str, part: str) -> None:
    """Let a function or method count as a part."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def measured(*arguments, **options):
        switch()
        running.append(part)
        try:
            return function(*arguments, **options)
        finally:
            switch()
            running.pop()

    setattr(owner, name, measured)


def places() -> list[tuple]:
    """Return what is measured: its owner, the name there, and the part as which it counts."""
    import kernel
    from kernelkit.train import callbacks, head
    from kernelkit.train.state import State
    from kernelkit.train.train_step import TrainingModel

    parts = {
        "open_run": "checks", "build_model": "networks", "fit_head": "features for the head",
        "predict": "prediction", "note_attention": "report",
        "write_results": "report", "write_report": "report", "finish": "report",
    }  # fmt: skip
    return [
        *((kernel, name, part) for name, part in parts.items()),
        (head, "best_regression", "fit of the head"),
        (TrainingModel, "fit", "steps"),
        (callbacks, "predict_batches", "validation"),
        (State, "record_epoch", "storing"),
    ]


def main() -> int:
    """Run the kernel, then print and write the parts."""
    import kernel

    for owner, name, part in places():
        measure(owner, name, part)
    switch()
    running[:] = ["other"]
    status = kernel.main(sys.argv[2:])
    switch()
    for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{spent:8.1f}  {part}")
    Path(sys.argv[1]).write_text(json.dumps(seconds))
    return status


if __name__ == "__main__":
    sys.exit(main())
