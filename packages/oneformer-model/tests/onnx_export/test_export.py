from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxslim
import pytest
import torch

from oneformer_model import task_tokens
from oneformer_model.build import build
from oneformer_model.network import positions
from oneformer_model.onnx_export import export
from oneformer_model.onnx_export import graph as onnx_graph
from oneformer_model.onnx_export.graph import Shape, write_graph
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError, OneFormerError, SpecError, UsageError
from oneformer_spec.schema import BackboneSection, DinatOptions, ExportSection, Spec
from oneformer_spec.segmentation.manifest import METADATA_KEY, Manifest
from oneformer_spec.tasks import TASKS

HEIGHT, WIDTH = 64, 96
CPU = torch.device("cpu")
LINES = (Path(__file__).parent / "tensorrt_operators.txt").read_text().splitlines()
TENSORRT = {line for line in LINES if not line.startswith("#")}


def session(graph):
    content = graph if isinstance(graph, str) else graph.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def axes(values):
    return {value.name: list(value.shape) for value in values}


@pytest.mark.parametrize(
    ("opset", "is_open"), [(12, True), (12, False), (16, False), (17, True), (20, False), (21, True)]
)
def test_every_opset_computes_the_network(model, manifest, opset, is_open):
    graph = write_graph(model, manifest, Shape(None, HEIGHT, WIDTH, is_open), opset=opset, device=CPU)
    assert [entry.version for entry in graph.model.opset_import if not entry.domain] == [opset]
    running = session(graph.model)
    size = ["height", "width"] if is_open else [HEIGHT, WIDTH]
    mask_size = ["mask_height", "mask_width"] if is_open else [HEIGHT // 4, WIDTH // 4]
    assert axes(running.get_inputs()) == {"image": ["batch", 3, *size], "task_tokens": ["batch", 77]}
    assert axes(running.get_outputs()) == {"class_logits": ["batch", 12, 4], "mask_logits": ["batch", 12, *mask_size]}
    for height, width in [(HEIGHT, WIDTH), *([(96, 64), (70, 110)] if is_open else [])]:
        image, tokens = torch.randn(4, 3, height, width), torch.cat([task_tokens(task) for task in (*TASKS, TASKS[0])])
        with torch.inference_mode():
            expected = model(image, tokens)
        found = running.run(["class_logits", "mask_logits"], {"image": image.numpy(), "task_tokens": tokens.numpy()})
        np.testing.assert_allclose(found[0], expected.class_logits, atol=1e-4)
        np.testing.assert_allclose(found[1], expected.mask_logits, atol=1e-3)
    assert graph.num_nodes == len(graph.model.graph.node) < graph.num_nodes_before
    assert {node.op_type for node in graph.model.graph.node} <= TENSORRT
    assert ("GridSample" in {node.op_type for node in graph.model.graph.node}) == (opset >= 16)


def test_learned_positions_follow_an_open_size(section, manifest):
    model = build(section(swin={"ape": True, "pretrain_img_size": 64}), training=False).eval()
    graph = write_graph(model, manifest, Shape(1, HEIGHT, WIDTH, True), opset=17, device=CPU)
    assert axes(session(graph.model).get_inputs())["image"] == [1, 3, "height", "width"]


def test_a_network_that_knows_one_size_is_not_written_for_all(section, manifest):
    dinat = DinatOptions(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), kernel_size=3)
    backbone = BackboneSection(type="dinat", sections={"dinat": dinat})
    model = build(section(backbone={"type": "dinat", "sections": backbone.sections}), training=False).eval()
    with pytest.raises(OneFormerError) as error:
        write_graph(model, manifest, Shape(None, HEIGHT, WIDTH, True), opset=17, device=CPU)
    assert str(error.value) == (
        "export.dynamic_size: torch cannot write opset 17 with open sizes: "
        "neighbourhood attention is laid out for one size of image"
    )


def test_a_fixed_batch_is_fixed(model, manifest):
    graph = write_graph(model, manifest, Shape(2, HEIGHT, WIDTH), opset=17, device=CPU)
    assert axes(session(graph.model).get_inputs())["image"] == [2, 3, HEIGHT, WIDTH]


@pytest.mark.parametrize(("opset", "shape"), [(15, Shape(1, HEIGHT, WIDTH)), (17, Shape(1, HEIGHT, WIDTH, True))])
def test_the_model_is_left_as_it_was(model, manifest, opset, shape):
    write_graph(model, manifest, shape, opset=opset, device=CPU)
    assert not model.training
    assert all(layer.attention.sampler is None for layer in model.pixel_decoder.layers)
    assert type(torch.zeros(2, 3).shape) is torch.Size, "torch's functions are still replaced"


def test_a_wrong_graph_is_an_error(model, manifest, monkeypatch):
    slim = onnxslim.slim

    def slim_wrong(graph):
        graph = slim(graph)
        bias = next(value for value in graph.graph.initializer if value.name.endswith("class_head.bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.05, bias.name))
        return graph

    monkeypatch.setattr(onnxslim, "slim", slim_wrong)
    with pytest.raises(OneFormerError, match="the exported graph is wrong: at 96 x 64 pixels its logits differ"):
        write_graph(model, manifest, Shape(None, HEIGHT, WIDTH), opset=17, device=CPU)


def test_a_graph_that_is_wrong_at_another_size_is_an_error(model, manifest, monkeypatch):
    monkeypatch.setattr(
        positions, "_axis_code", lambda length, dim, device, code=positions._axis_code: code(int(length), dim, device)
    )
    with pytest.raises(OneFormerError, match="the exported graph is wrong: "):
        write_graph(model, manifest, Shape(1, HEIGHT, WIDTH, True), opset=17, device=CPU)


class Bessel(torch.nn.Module):
    """What ONNX has no operator for."""

    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_an_operator_that_onnx_lacks_is_one_line(model, manifest, capfd):
    model.pixel_decoder.mask_projection = torch.nn.Sequential(model.pixel_decoder.mask_projection, Bessel())
    with pytest.raises(OneFormerError) as error:
        write_graph(model, manifest, Shape(1, HEIGHT, WIDTH), opset=17, device=CPU)
    assert str(error.value).startswith("export.opset_version: torch cannot write opset 17: ")
    assert "bessel_j0" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_an_opset_that_nobody_knows_is_an_error(model, manifest):
    with pytest.raises(OneFormerError, match=r"^export\.opset_version: 99: onnx .* knows opsets up to \d\d$"):
        write_graph(model, manifest, Shape(1, HEIGHT, WIDTH), opset=99, device=CPU)


@pytest.fixture
def spec(tmp_path, training_model, manifest):
    """A spec that exports a checkpoint of the tiny network."""
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest)
    section = ExportSection(checkpoint=str(path), input_height=HEIGHT, input_width=WIDTH)
    return Spec(results_dir=str(tmp_path / "results"), export=section)


def test_the_command_writes_a_file_that_knows_itself(spec, tmp_path, manifest, capsys):
    export.run(spec)
    path = tmp_path / "results" / "export" / "model.onnx"
    assert f"exported: {path}" in capsys.readouterr().out
    graph = onnx.load(path)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert Manifest.from_json(metadata[METADATA_KEY], path) == manifest.with_fixed_size((HEIGHT, WIDTH))
    onnx.checker.check_model(graph)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["experiment.yaml", "model.onnx", "status.json"]


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [({}, False), ({"input_height": 96}, True), ({"input_height": 96, "dynamic_size": True}, False)],
)
def test_a_size_that_the_checkpoint_was_not_made_for_is_told(spec, capsys, changes, is_told):
    export.run(replace(spec, export=replace(spec.export, **changes)))
    expected = "see images at 96 x 96 pixels, the checkpoint was made for others: shortest edge 64"
    assert (expected in capsys.readouterr().err) is is_told


def test_a_file_that_is_there_stays_unless_forced(spec, tmp_path):
    path = tmp_path / "kept.onnx"
    path.write_bytes(b"kept")
    spec = replace(spec, export=replace(spec.export, onnx_file=str(path)))
    with pytest.raises(UsageError) as error:
        export.run(spec)
    assert str(error.value) == f"{path}: exists; replace it with --force, or name another export.onnx_file"
    assert path.read_bytes() == b"kept"
    export.run(spec, force=True)
    onnx.checker.check_model(onnx.load(path))


def test_a_failed_export_leaves_no_file(spec, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OneFormerError("the exported graph is wrong")

    monkeypatch.setattr(onnx_graph, "write_graph", fail)
    path = tmp_path / "results" / "export" / "model.onnx"
    with pytest.raises(OneFormerError) as error:
        export.run(spec)
    assert str(error.value) == f"{path}: not written: the exported graph is wrong"
    assert not path.exists()


def test_what_is_missing_is_named_before_anything_is_written(spec, tmp_path, monkeypatch):
    def without(**fields):
        return replace(spec, export=replace(spec.export, **fields))

    with pytest.raises(SpecError, match=r"^export\.checkpoint: "):
        export.run(without(checkpoint=""))
    with pytest.raises(CheckpointError, match="does not exist"):
        export.run(without(checkpoint=str(tmp_path / "none.pth")))
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match=r"^export\.gpu_id: 0: torch sees 0 GPUs"):
            export.run(without(on_cpu=False))
    monkeypatch.setattr(export, "NEEDED", ("onnx", "a_package_that_is_not_there"))
    with pytest.raises(UsageError, match=r"needs a_package_that_is_not_there; .*'oneformer-model\[onnx\]'"):
        export.run(spec)
    assert not (tmp_path / "results").exists()
