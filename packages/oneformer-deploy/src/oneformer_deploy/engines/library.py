"""A thin wrapper around TensorRT: the packages `tensorrt` (10 and newer) and `tensorrt_rtx` have almost the same API.

`tensorrt` times kernels on the GPU it builds for. `tensorrt_rtx` compiles for the GPU when an engine is loaded, so it
can build on a host without one. Networks are strongly typed: every tensor has the number format given in the ONNX
graph.
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
    """The smallest and largest batch size that an engine accepts, and the one it is tuned for."""

    smallest: int
    tuned: int
    largest: int


@dataclass(frozen=True)
class Built:
    """A serialised engine, and the timing cache after the build (None if the library keeps none)."""

    engine: bytes
    timing_cache: bytes | None


@dataclass
class Library:
    """One of the two TensorRT packages, imported."""

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
        """Whether a build times kernels, which needs a GPU and fills a timing cache."""
        return self.name == "tensorrt"

    def build(
        self, graph: bytes, profile: Profile, *, workspace: int, timing_cache: bytes | None = None, source: str | Path
    ) -> Built:
        """Build an engine from a serialised ONNX graph.

        Args:
            graph: A serialised ONNX model that includes its weights.
            profile: Batch sizes for inputs with an open batch axis; a fixed batch must equal them.
            workspace: Scratch memory in MiB that one layer may use.
            timing_cache: The cache returned by an earlier build; None times every kernel again.
            source: The file that error messages name.

        Raises:
            OneFormerError: TensorRT rejects the graph, the batch sizes do not fit the graph, or the build fails.
        """
        trt = self.module
        self.errors.clear()
        builder = trt.Builder(self.logger)
        network = builder.create_network(self._network_flags())
        parser = trt.OnnxParser(network, self.logger)
        if not parser.parse(graph):
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            raise OneFormerError(f"{source}: {self.name} cannot parse it: {_join_parser_errors(errors)}")
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
            raise OneFormerError(f"{source}: {self._failure('the build failed')}")
        return Built(bytes(engine), bytes(config.get_timing_cache().serialize()) if cache is not None else None)

    def deserialize(self, engine: bytes) -> Any:
        """Load an engine; return it and its runtime, which must stay alive as long as the engine.

        Raises:
            OneFormerError: TensorRT refuses to load it.
        """
        self.errors.clear()
        runtime = self.module.Runtime(self.logger)
        loaded = runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise OneFormerError(self._failure("the engine cannot be loaded"))
        return loaded, runtime

    def _network_flags(self) -> int:
        """Request a strongly typed network; TensorRT 11 has no other kind and may drop the flag."""
        flag = self.module.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
        return 0 if flag is None else 1 << int(flag)

    def _failure(self, what: str) -> str:
        return f"{self.name} {self.version}: {what}: {self.errors[0] if self.errors else 'no reason given'}"


def load(name: str | None = None, *, verbose: bool = False) -> Library:
    """Import one of the TensorRT packages: the one called `name`, or by default the first that is installed.

    Raises:
        UsageError: The package is not installed (the message gives the pip command), or cannot be imported.
    """
    names = (name,) if name else tuple(PACKAGES)
    installed = [candidate for candidate in names if find_spec(candidate) is not None]
    if not installed:
        commands = " or ".join(f"python -m pip install '{PACKAGES[candidate]}'" for candidate in names)
        raise UsageError(f"{' or '.join(names)} is not installed; install it with: {commands}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the packages warn about Python versions
            return Library(installed[0], importlib.import_module(installed[0]), verbose)
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(
            f"{installed[0]} is installed but cannot be imported: {' '.join(str(error).split())}"
        ) from error


def _logger(module: Any, errors: list[str], verbose: bool) -> Any:
    """Return a TensorRT logger that appends errors to `errors` and, if `verbose`, prints every message to stderr."""
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
    """Return TensorRT's optimization profile: the input shapes, with the batch sizes of `profile`."""
    shapes = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *rest = tuple(tensor.shape)
        if any(edge < 0 for edge in rest):
            raise OneFormerError(
                f"{source}: input {tensor.name} has an open height, width or length, but an engine has one input size; "
                "export with export.dynamic_size=false"
            )
        sizes = (profile.smallest, profile.tuned, profile.largest)
        if batch >= 0 and any(size != batch for size in sizes):
            raise OneFormerError(
                f"{source}: its batch size is fixed at {batch}, but gen_trt_engine.tensorrt asks for {sizes[0]} to "
                f"{sizes[2]}; set min_batch_size, opt_batch_size and max_batch_size to {batch}, "
                "or export with export.batch_size=-1"
            )
        shapes.set_shape(tensor.name, *((size, *rest) for size in sizes))
    return shapes


def _join_parser_errors(errors: Sequence[Any]) -> str:
    lines = [f"{error.node_operator()} {error.node_name()}: {' '.join(error.desc().split())}" for error in errors]
    return "; ".join(lines) or "no reason given"
