"""Let the disk be full at each moment at which a tiny run writes a file that counts.

    python tests/benchmarks/faults.py [--from 1]

Each time the run must end in one sentence, or go on where only a decoration is lost; the same
command must then finish it without training an epoch again. Printed is a row a moment.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS.parent / "lib"), str(TESTS), str(TESTS / "kernel")]

from coloured_competition import write_competition  # noqa: E402 - found in the tests
from kernel_runs import check_full_disk  # noqa: E402


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first moment")
    moment = parser.parse_args().first
    said = io.StringIO(), io.StringIO()

    def say() -> list[str]:
        words = [part.getvalue() for part in said]
        for part in said:
            part.seek(0)
            part.truncate()
        return words

    with tempfile.TemporaryDirectory() as folder:
        data = write_competition(Path(folder) / "data")
        while True:
            with contextlib.redirect_stdout(said[0]), contextlib.redirect_stderr(said[1]):
                found = check_full_disk(data, Path(folder) / f"moment-{moment}", moment, say)
            if not found:
                return print(f"a run writes at {moment - 1} moments")
            print(f"{moment:3}  {found}", flush=True)
            moment += 1


if __name__ == "__main__":
    main()
