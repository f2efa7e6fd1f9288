"""The boundary at which a program turns whatever went wrong into one sentence."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.files import write_atomically
from common.problem import Problem

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


@dataclass
class Boundary:
    """Runs a program's work: a person gets one sentence, the traceback goes to a file."""

    program: str
    """Its name, which begins every sentence."""
    traceback_file: Path
    """Gets the traceback of an error that nobody expected; made, parents included, only then."""
    safe: str
    """A sentence: what is safe after an error or an interruption, and how to go on."""
    hide: Callable[[str], str] = str
    """Takes secrets out of a text before it is printed or written."""
    doing: str = "starting"
    """What the program is doing now, as it follows "while": the program keeps it up to date."""

    def run(self, work: Callable[[], object]) -> int:
        """Do the work and return the exit status: 0, 1 after an error, 130 after Ctrl-C."""
        try:
            work()
            self.traceback_file.unlink(missing_ok=True)  # an earlier run's
            return 0
        except Problem as problem:
            self.say(str(problem))
            return problem.exit_status
        except KeyboardInterrupt:
            self.say(f"interrupted while {self.doing}. {self.safe}")
            return 130
        except BrokenPipeError:  # the reader of our output is gone, as after `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:
            return self.fail(self.explain(error))

    def explain(self, error: Exception) -> str:
        """Return the sentence for an error that is no Problem; keep its traceback in the file."""
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            full = f"the disk of {error.filename} is full" if error.filename else "the disk is full"
            return f"{full} (while {self.doing}): free some space. {self.safe}"
        if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
            reason = f"({error.strerror}) while {self.doing}: check the path and its permissions"
            return f"{error.filename} can't be used {reason}. {self.safe}"
        if isinstance(error, MemoryError):
            return f"out of memory while {self.doing}: close other programs. {self.safe}"
        said = " ".join(self.hide(str(error)).split())[:200]
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        text = "".join(traceback.format_exception(error))
        try:
            write_atomically(self.traceback_file, self.hide(text))
            where = f"the full traceback is in {self.traceback_file}"
        except OSError as failure:
            where = f"its traceback could not be written ({failure.strerror or failure})"
        return f"an unexpected error while {self.doing} ({reason}); {where}. {self.safe}"

    def fail(self, sentence: str) -> int:
        """Print a sentence as the program's last word and return the exit status 1."""
        self.say(sentence)
        return 1

    def say(self, sentence: str) -> None:
        """Print a sentence on standard error, without secrets."""
        print(f"{self.program}: {self.hide(sentence)}", file=sys.stderr, flush=True)
