"""One of the processes that `launch` starts: takes its spec from standard input, trains, and is silent about errors."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from contextlib import suppress

from oneformer_spec.errors import OneFormerError
from oneformer_spec.schema import Spec
from oneformer_train.command import run_here


def main() -> int:
    """Return the exit code; the process that started this one prints the error."""
    with open(0, "rb", closefd=False) as source:
        spec: Spec = pickle.load(source)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run_here(spec)
    except OneFormerError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:  # its cause lies in the store of the run, where the process that started this one finds it
        return 1
    return 0


def _end_with_parent() -> None:
    """Wait for the end of standard input, which comes when the starting process is gone, and leave at once."""
    with suppress(OSError):
        os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
