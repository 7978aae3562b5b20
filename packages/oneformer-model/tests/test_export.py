from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from oneformer_model import checkpoint, export, onnx_graph, task_tokens
from oneformer_model.onnx_graph import Shape, write_graph
from oneformer_spec.errors import CheckpointError, OneFormerError, SpecError, UsageError
from oneformer_spec.manifest import METADATA_KEY, Manifest
from oneformer_spec.schema import ExportSection, Spec
from oneformer_spec.tasks import TASKS

HEIGHT, WIDTH = 64, 96
CPU = torch.device("cpu")


def session(graph):
    content = graph if isinstance(graph, str) else graph.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def axes(values):
    return {value.name: list(value.shape) for value in values}


@pytest.mark.parametrize("opset", [16, 17, 20])
def test_every_opset_computes_the_network(model, manifest, opset):
    graph = write_graph(model, manifest, Shape(None, HEIGHT, WIDTH), opset=opset, device=CPU)
    assert [(entry.domain, entry.version) for entry in graph.opset_import if not entry.domain] == [("", opset)]
    running = session(graph)
    assert axes(running.get_inputs()) == {"image": ["batch", 3, HEIGHT, WIDTH], "task_tokens": ["batch", 77]}
    assert axes(running.get_outputs()) == {
        "class_logits": ["batch", 12, 4],
        "mask_logits": ["batch", 12, HEIGHT // 4, WIDTH // 4],
    }
    image, tokens = torch.randn(4, 3, HEIGHT, WIDTH), torch.cat([task_tokens(task) for task in (*TASKS, TASKS[0])])
    with torch.inference_mode():
        expected = model(image, tokens)
    found = running.run(["class_logits", "mask_logits"], {"image": image.numpy(), "task_tokens": tokens.numpy()})
    np.testing.assert_allclose(found[0], expected.class_logits, atol=1e-4)
    np.testing.assert_allclose(found[1], expected.mask_logits, atol=1e-3)


def test_a_fixed_batch_is_fixed(model, manifest):
    graph = write_graph(model, manifest, Shape(2, HEIGHT, WIDTH), opset=17, device=CPU)
    assert axes(session(graph).get_inputs())["image"] == [2, 3, HEIGHT, WIDTH]


def test_the_model_is_left_as_it_was(model, manifest):
    write_graph(model, manifest, Shape(None, HEIGHT, WIDTH), opset=17, device=CPU)
    assert not model.training
    assert all(layer.attention.sampler is None for layer in model.pixel_decoder.layers)


def test_a_wrong_graph_is_an_error(model, manifest, monkeypatch):
    write = onnx_graph._write_torchscript

    def write_wrong(*arguments):
        graph = write(*arguments)
        bias = next(value for value in graph.graph.initializer if value.name.endswith("class_head.bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.05, bias.name))
        return graph

    monkeypatch.setattr(onnx_graph, "_write_torchscript", write_wrong)
    with pytest.raises(OneFormerError, match="the exported graph is wrong: its logits differ"):
        write_graph(model, manifest, Shape(None, HEIGHT, WIDTH), opset=17, device=CPU)


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
