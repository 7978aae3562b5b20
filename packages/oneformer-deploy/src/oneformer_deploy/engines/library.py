"""TensorRT behind one thin class: the packages `tensorrt` (10 and newer) and `tensorrt_rtx` speak almost alike.

`tensorrt` measures kernels on the GPU that it builds for. `tensorrt_rtx` compiles on the GPU when an engine is opened,
so it builds without one. Networks are strongly typed: each tensor has the number format that the ONNX graph says.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from oneformer_spec.errors import OneFormerError, UsageError

PACKAGES = {"tensorrt": "oneformer-deploy[tensorrt]", "tensorrt_rtx": "oneformer-deploy[tensorrt-rtx]"}
MIB = 2**20


@dataclass(frozen=True)
class Profile:
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    smallest: int
    tuned: int
    largest: int


@dataclass(frozen=True)
class Built:
    """A serialised engine and the timing cache after building it, None where there is none."""

    engine: bytes
    timing_cache: bytes | None


@dataclass
class Library:
    """One of the two packages, loaded."""

    name: str
    module: Any
    verbose: bool = False
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logger = _logger(self.module, self.errors, self.verbose)

    @property
    def version(self) -> str:
        """The version of the package."""
        return str(self.module.__version__)

    @property
    def times_kernels(self) -> bool:
        """Whether building measures kernels, which needs a GPU and fills a timing cache."""
        return self.name == "tensorrt"

    def build(
        self, graph: bytes, profile: Profile, *, workspace: int, timing_cache: bytes | None = None, source: str | Path
    ) -> Built:
        """Return the engine of a serialised ONNX graph.

        Args:
            graph: The file's content, weights inside.
            profile: Batch sizes for the axes that are open; inputs of fixed batch are left alone.
            workspace: MiB that one layer may use beside its inputs and outputs.
            timing_cache: What an earlier build returned; None measures all anew.
            source: File that errors name.

        Raises:
            OneFormerError: TensorRT does not take the graph, the batch sizes do not fit it, or building fails.
        """
        trt = self.module
        self.errors.clear()
        builder = trt.Builder(self.logger)
        network = builder.create_network(self._network_flags())
        parser = trt.OnnxParser(network, self.logger)
        if not parser.parse(graph):
            problems = [parser.get_error(index) for index in range(parser.num_errors)]
            raise OneFormerError(f"{source}: {self.name} cannot parse it: {_listed(problems)}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace * MIB)
        config.add_optimization_profile(_profile(builder, network, profile, source))
        cache = None
        if self.times_kernels:
            cache = config.create_timing_cache(timing_cache or b"")
            if not config.set_timing_cache(cache, False):
                raise OneFormerError(self._failure("the timing cache was made on another GPU or by another version"))
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise OneFormerError(f"{source}: {self._failure('building failed')}")
        return Built(bytes(engine), bytes(config.get_timing_cache().serialize()) if cache is not None else None)

    def deserialize(self, engine: bytes) -> Any:
        """Return an engine and its runtime, which must live as long; OneFormerError where TensorRT refuses."""
        self.errors.clear()
        runtime = self.module.Runtime(self.logger)
        loaded = runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise OneFormerError(self._failure("it does not load here"))
        return loaded, runtime

    def _network_flags(self) -> int:
        """Ask for a strongly typed network; TensorRT 11 knows no other and may drop the flag."""
        flag = self.module.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
        return 0 if flag is None else 1 << int(flag)

    def _failure(self, what: str) -> str:
        return f"{self.name} {self.version}: {what}: {self.errors[0] if self.errors else 'it gives no reason'}"


def load(name: str | None = None, *, verbose: bool = False) -> Library:
    """Import a package by name, or the first that is installed.

    Raises:
        UsageError: It is not installed, or its libraries do not load; the message names the pip command.
    """
    names = (name,) if name else tuple(PACKAGES)
    installed = [candidate for candidate in names if find_spec(candidate) is not None]
    if not installed:
        commands = " or ".join(f"python -m pip install '{PACKAGES[candidate]}'" for candidate in names)
        raise UsageError(f"{' or '.join(names)} is not installed here; get it with: {commands}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the packages' own, about Python versions
            return Library(installed[0], importlib.import_module(installed[0]), verbose)
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(f"{installed[0]} is installed but does not load: {' '.join(str(error).split())}") from error


def _logger(module: Any, errors: list[str], verbose: bool) -> Any:
    """Return a logger of the package that keeps errors for messages; `verbose` lets everything onto stderr."""
    serious = (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR)

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in serious:
                errors.append(" ".join(message.split()))
            if verbose:
                print(message, file=sys.stderr)

    return Logger()


def _profile(builder: Any, network: Any, profile: Profile, source: str | Path) -> Any:
    """Return the shapes of the inputs: the batch sizes of `profile` where the batch is open."""
    shapes = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *rest = tuple(tensor.shape)
        if any(edge < 0 for edge in rest):
            raise OneFormerError(
                f"{source}: input {tensor.name} has an open height, width or length; engines take one size: "
                "export with export.dynamic_size=false"
            )
        sizes = (profile.smallest, profile.tuned, profile.largest)
        if batch >= 0 and any(size != batch for size in sizes):
            raise OneFormerError(
                f"{source}: its batch is fixed at {batch}, gen_trt_engine.tensorrt asks for {sizes[0]} to {sizes[2]}; "
                "set min_batch_size, opt_batch_size and max_batch_size to it, or export with export.batch_size=-1"
            )
        shapes.set_shape(tensor.name, *((size, *rest) for size in sizes))
    return shapes


def _listed(problems: Sequence[Any]) -> str:
    lines = [
        f"{problem.node_operator()} {problem.node_name()}: {' '.join(problem.desc().split())}" for problem in problems
    ]
    return "; ".join(lines) or "it gives no reason"
