"""An OpenVINO graph in two parts: what sees nothing but the task's tokens, and the rest.

The tokens are word numbers up to 49,407, which 16-bit formats round to other words; their part computes in fp32
whatever the rest does. It takes microseconds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import openvino
from openvino import opset13


class Parts(NamedTuple):
    """`task` takes the tokens; `rest` takes the image, and what `task` gives, in that order."""

    task: openvino.Model
    rest: openvino.Model


def split(model: openvino.Model, image: str, tokens: str) -> Parts:
    """Cut a graph, which is used up, at what the task's tokens alone decide.

    Args:
        model: The graph.
        image: The name of its input of images.
        tokens: The name of its input of task tokens.
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
    handed = []
    for source, targets in crossing.values():
        parameter = opset13.parameter(source.get_partial_shape(), source.get_element_type())
        for target in targets:
            target.replace_source_output(parameter.output(0))
        handed.append(parameter)
    task = openvino.Model([opset13.result(source) for source, _ in crossing.values()], [tokens_input], "task")
    return Parts(task, openvino.Model(model.get_results(), [image_input, *handed], "rest"))
