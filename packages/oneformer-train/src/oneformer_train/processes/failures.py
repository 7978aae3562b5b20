"""One process speaks when a run of several fails: the first one, because the errors of the others are its echo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch.distributed as dist

from oneformer_spec.errors import OneFormerError
from oneformer_spec.processes.remote_error import Failure, describe

_KEY = "failure"


class PeerError(OneFormerError):
    """Another process of the run failed first; it has reported why."""

    def __init__(self, failure: Failure) -> None:
        """Say what the other one says and exit as it does."""
        super().__init__(failure.text)
        self.exit_code = failure.exit_code


@contextmanager
def failing_together(store: dist.Store, rank: int) -> Iterator[None]:
    """Let an error through where it is the run's first; raise PeerError in its place otherwise."""
    try:
        yield
    except PeerError:
        raise
    except Exception as error:
        own = describe(error, rank)
        first = _first(store, own)
        if first == own:
            raise
        raise PeerError(first) from error


def reported(store: dist.Store) -> Failure | None:
    """Return the first failure, None where no process reported one."""
    return Failure(**json.loads(store.get(_KEY))) if store.check([_KEY]) else None


def _first(store: dist.Store, own: Failure) -> Failure:
    """Return the first failure of the run, which is this one where none was stored before."""
    try:
        stored = store.compare_set(_KEY, "", json.dumps(asdict(own)))
    except dist.DistError:  # the store went down with the process that kept it, after that one's report
        return Failure(-1, "another process of the run ended", own.exit_code, False, "")
    return Failure(**json.loads(stored))
