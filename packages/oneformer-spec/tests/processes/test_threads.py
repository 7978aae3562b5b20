"""Host work leaves the cores to the network."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from oneformer_spec.processes.threads import one_blas_thread


def blas_threads() -> list[int]:
    """Of numpy's library; others may be loaded by other tests."""
    numpys = [library for library in threadpool_info() if "numpy" in library["filepath"]]
    return [library["num_threads"] for library in numpys if library["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, "blas"):
        if 2 not in blas_threads():
            pytest.skip("numpy's matrix library has one thread here")
        yield


def test_numpy_multiplies_with_one_thread_and_afterwards_as_before():
    with one_blas_thread:
        assert set(blas_threads()) == {1}
    assert 2 in blas_threads()


def test_the_last_of_several_users_restores_the_threads():
    with one_blas_thread:
        with one_blas_thread:
            pass
        assert set(blas_threads()) == {1}
    assert 2 in blas_threads()


def test_an_error_restores_the_threads():
    with pytest.raises(RuntimeError), one_blas_thread:
        raise RuntimeError
    assert 2 in blas_threads()
