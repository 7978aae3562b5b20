"""What the user wrote wins over a model's own values, and nothing else does."""

import json

import numpy as np
import pytest

from oneformer_spec import Labels, Manifest, SpecError, Thresholds
from oneformer_spec.errors import UsageError
from oneformer_spec.hooks import Runtime
from oneformer_spec.loading.load import load_spec
from oneformer_spec.processes.world import World
from oneformer_spec.segmentation import model_file
from oneformer_spec.segmentation.frame import FitInto, ShortestEdge
from oneformer_spec.segmentation.model_file import input_rule, model_path, with_thresholds
from oneformer_spec.segmentation.segmenter import Segmenter

LABELS = Labels.parse([{"id": 1, "name": "cat", "isthing": 1}], "test")


def segmenter(fixed_size: tuple[int, int] | None = None) -> Segmenter:
    manifest = Manifest(
        labels=LABELS,
        model={},
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size=ShortestEdge(256, 300),
        divisibility=32,
        thresholds=Thresholds(0.5, 0.7, 50),
        fixed_size=fixed_size,
    )
    return Segmenter(lambda image, tokens: (np.zeros(0), np.zeros(0)), manifest, fixed_batch=3)


def test_a_threshold_that_is_not_written_is_the_models() -> None:
    chosen = with_thresholds(segmenter(), load_spec([], ["model.test.overlap_threshold=0.9"]).spec)
    assert chosen.manifest.thresholds == Thresholds(0.5, 0.9, 50)
    assert chosen.fixed_batch == 3


class OwnSegmenter(Segmenter):
    """A runtime's own way to predict, with state of its own."""

    licence = "none"


def test_a_runtimes_own_segmenter_is_used_and_stays_as_it_was() -> None:
    own = OwnSegmenter(segmenter().run, segmenter().manifest)
    own.licence = "paid"
    chosen = with_thresholds(own, load_spec([], ["model.test.overlap_threshold=0.9"]).spec)
    assert isinstance(chosen, OwnSegmenter)
    assert chosen.licence == "paid"
    assert (chosen.manifest.thresholds.overlap, own.manifest.thresholds.overlap) == (0.9, 0.7)


def test_a_written_threshold_wins_even_when_it_is_the_default() -> None:
    chosen = with_thresholds(segmenter(), load_spec([], ["model.test.object_mask_threshold=0.4"]).spec)
    assert chosen.manifest.thresholds.object_mask == 0.4


def test_the_input_size_is_the_models_unless_written() -> None:
    def rule(*overrides: str) -> object:
        spec = load_spec([], overrides).spec
        return input_rule(segmenter(), spec, spec.inference)

    assert rule() is None
    assert rule("dataset.image_size=[64, 48]") == FitInto(height=48, width=64)
    assert rule("dataset.augmentation.test_min_size=480") == ShortestEdge(480, 1333)
    assert rule("inference.image_size=96", "dataset.image_size=[64, 48]") == FitInto(96, 96)


def test_a_model_of_fixed_size_keeps_it_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    spec = load_spec([], ["inference.image_size=96"]).spec
    assert input_rule(segmenter(fixed_size=(32, 64)), spec, spec.inference) is None
    assert "note: the model was exported at 64 x 32 pixels" in capsys.readouterr().err


def test_exactly_one_model_file_is_needed() -> None:
    spec = load_spec([], ["inference.checkpoint=a.onnx"]).spec
    assert model_path(spec.inference, "inference") == "a.onnx"
    with pytest.raises(SpecError, match=r"evaluate\.checkpoint, evaluate\.trt_engine: exactly one is needed, neither"):
        model_path(spec.evaluate, "evaluate")


def test_a_runtime_gets_the_device_the_threads_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolve(target: str) -> object:
        def open_file(path: str, device: str, num_threads: int | None, key: str | None) -> Segmenter:
            asked.append((path, device, num_threads, key))
            return segmenter()

        return open_file

    monkeypatch.setattr(model_file, "resolve", resolve)
    words = ["inference.num_threads=3", "evaluate.num_threads=2", "inference.gpu_ids=[1]", "encryption_key=s3cret"]
    spec = load_spec([], words).spec
    monkeypatch.setattr(model_file, "registry", lambda: _Registry("fp32"))
    model_file.open_model("a.onnx", spec, spec.inference)
    model_file.open_model("a.onnx", spec, spec.evaluate)
    assert asked == [("a.onnx", "cuda:1", 3, "s3cret"), ("a.onnx", "auto", 2, "s3cret")]


@pytest.mark.parametrize(
    ("gpus", "overrides", "asked"),
    [
        (0, ["inference.num_gpus=2"], [("auto", 4), ("auto", 4)]),
        (0, ["inference.num_gpus=2", "inference.num_threads=1"], [("auto", 1), ("auto", 1)]),
        (0, ["inference.gpu_ids=[0,70]"], [("auto", 4), ("cuda:70", 4)]),  # which every runtime refuses
        (8, ["inference.num_gpus=2"], [("auto", 4), ("cuda:1", 4)]),
        (8, ["inference.gpu_ids=[5,2]"], [("cuda:5", 4), ("cuda:2", 4)]),
    ],
)
def test_each_process_takes_its_device_and_its_part_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, gpus: int, overrides: list[str], asked: list[tuple[str, int]]
) -> None:
    found: list[tuple[str, int]] = []

    def open_file(path: str, device: str, num_threads: int, key: str | None) -> Segmenter:
        found.append((device, num_threads))
        return segmenter()

    monkeypatch.setattr(model_file, "resolve", lambda target: open_file)
    monkeypatch.setattr(model_file, "registry", lambda: _Registry("fp32"))
    monkeypatch.setattr(model_file, "num_gpus_here", lambda: gpus)
    monkeypatch.setattr(model_file, "thread_share", lambda processes: 8 // processes)
    spec = load_spec([], overrides).spec
    for rank in range(2):
        model_file.open_model("a.onnx", spec, spec.inference, World(rank, rank, 2, 2))
    assert found == asked


class _Registry:
    def __init__(self, *precisions: str) -> None:
        self.precisions = precisions

    def runtime(self, path: str, name: str | None) -> Runtime:
        return Runtime(name or "by suffix", "fake:open", (".onnx",), precisions=self.precisions)


def test_only_a_runtime_of_several_precisions_is_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def open_file(*arguments: str, **options: object) -> Segmenter:
        asked.append(options)
        return segmenter()

    monkeypatch.setattr(model_file, "resolve", lambda target: open_file)
    spec = load_spec([], ["inference.precision=bf16", "inference.runtime=mine"]).spec
    monkeypatch.setattr(model_file, "registry", lambda: _Registry("fp32", "bf16"))
    model_file.open_model("a.onnx", spec, spec.inference)
    assert asked == [{"num_threads": None, "key": None, "precision": "bf16"}]
    monkeypatch.setattr(model_file, "registry", lambda: _Registry("fp32"))
    with pytest.raises(UsageError) as error:
        model_file.open_model("a.onnx", spec, spec.inference)
    assert str(error.value) == "a.onnx: the runtime mine does not support bf16; available: fp32"


def test_written_paths_survive_experiment_yaml(tmp_path) -> None:
    from oneformer_spec.documents.resolved import dump

    path = tmp_path / "experiment.yaml"
    path.write_text(dump(load_spec([], ["model.test.overlap_threshold=0.9"]).spec))
    assert "model.test.overlap_threshold" in load_spec([path]).spec.written
    assert json.dumps(sorted(load_spec([], ["train.optim.lr=1e-3"]).spec.written)) == '["train.optim.lr"]'
