"""Run an OpenVINO graph in two parts: the part that depends only on the task tokens, in fp32, and the rest.

Task tokens are ids of up to 49,407, which 16-bit formats would round to other ids. So their part, which takes
microseconds, always computes in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13


class Graph:
    """A compiled model graph that runs a batch as a whole or image by image; each way is compiled on first use."""

    def __init__(
        self, core: openvino.Core, model: openvino.Model, names: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        outputs = [output.get_any_name() for output in model.outputs]
        self._wanted = [outputs.index(names[role]) for role in ("class_logits", "mask_logits")]
        parts = split(model, names["image"], names["task_tokens"])
        self._encode = core.compile_model(parts.task, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"})
        self._core, self._rest, self._settings = core, parts.rest, settings
        self._queue: openvino.AsyncInferQueue | None = None

    def run(self, image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> tuple[Any, Any]:
        """Run a batch as a whole, with all threads."""
        outputs = self._request.infer(self._inputs(image, task_tokens), share_inputs=True)
        classes, masks = (outputs[index] for index in self._wanted)
        return classes, masks

    def run_each(self, image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> tuple[Any, Any]:
        """Run the images of a batch concurrently, which is faster: threads that share one image wait at every node.

        The number of concurrent images is the size of the first batch, limited by the number of threads.
        """
        if self._queue is None:
            settings = {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": len(image)}
            self._queue = openvino.AsyncInferQueue(self._compiled(settings))
        queue = self._queue
        results: list[tuple[Any, Any]] = [(None, None)] * len(image)
        queue.set_callback(lambda request, row: results.__setitem__(row, self._copied(request)))
        inputs = [self._inputs(image[row : row + 1], task_tokens[row : row + 1]) for row in range(len(image))]
        for row, values in enumerate(inputs):
            queue.start_async(values, row, share_inputs=True)
        queue.wait_all()
        classes, masks = (np.concatenate(rows) for rows in zip(*results, strict=True))
        return classes, masks

    def _inputs(self, image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> list[Any]:
        return [image, *self._encode([task_tokens]).values()]

    def _copied(self, request: openvino.InferRequest) -> tuple[Any, Any]:
        classes, masks = (request.get_output_tensor(index).data.copy() for index in self._wanted)
        return classes, masks

    @cached_property
    def _request(self) -> openvino.InferRequest:
        return self._compiled({"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()

    def _compiled(self, settings: Mapping[str, Any]) -> openvino.CompiledModel:
        return self._core.compile_model(self._rest, "CPU", {**self._settings, **settings})


class Parts(NamedTuple):
    """The two parts of a graph: `task` takes the task tokens; `rest` takes the image, then the outputs of `task`."""

    task: openvino.Model
    rest: openvino.Model


def split(model: openvino.Model, image: str, tokens: str) -> Parts:
    """Split a graph into the part that depends only on the task tokens, and the rest.

    Args:
        model: The graph; it is taken apart and must not be used afterwards.
        image: Name of the image input.
        tokens: Name of the task token input.
    """
    tokens_input, image_input = model.input(tokens).get_node(), model.input(image).get_node()
    sees_image, sees_tokens = {image_input.get_friendly_name()}, {tokens_input.get_friendly_name()}
    crossing: dict[tuple[str, int], tuple[Any, list[Any]]] = {}
    for node in model.get_ordered_ops():
        sources = [source.get_source_output() for source in node.inputs()]
        above = {source.get_node().get_friendly_name() for source in sources}
        for seen in (sees_image, sees_tokens):
            if seen & above:
                seen.add(node.get_friendly_name())
        if node.get_friendly_name() not in sees_image and node.get_type_name() != "Result":
            continue
        for target, source in zip(node.inputs(), sources, strict=True):
            name = source.get_node().get_friendly_name()
            if name in sees_tokens - sees_image:
                crossing.setdefault((name, source.get_index()), (source, []))[1].append(target)
    parameters = []
    for source, targets in crossing.values():
        parameter = opset13.parameter(source.get_partial_shape(), source.get_element_type())
        for target in targets:
            target.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    task = openvino.Model([opset13.result(source) for source, _ in crossing.values()], [tokens_input], "task")
    return Parts(task, openvino.Model(model.get_results(), [image_input, *parameters], "rest"))
