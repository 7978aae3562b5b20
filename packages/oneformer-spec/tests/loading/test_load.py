"""Files, overrides, aliases and derived fields become one spec."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import KEY_VARIABLE, load_spec, to_dict
from oneformer_spec.schema import Spec, SwinOptions

SAMPLE = Path(__file__).parents[1] / "sample_spec.yaml"


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="spec.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def problems(*arguments, **keywords):
    with pytest.raises(SpecError) as caught:
        load_spec(*arguments, **keywords)
    return caught.value.problems


def test_the_documented_sample_loads_unchanged():
    spec = load_spec([SAMPLE]).spec
    assert spec.model.backbone.type == "swin"
    assert spec.model.backbone.options == SwinOptions()
    assert spec.train.precision == "fp32"
    assert spec.train.gpu_ids == tuple(range(8))
    assert spec.train.num_nodes == 4
    assert spec.train.pretrained_model_path.endswith("swin_base/train/model_epoch_006_step_25879.pth")
    assert spec.model.backbone.pretrained_weights is None
    assert spec.model.test.object_mask_threshold == 0.8
    assert spec.dataset.image_size == 1024
    assert spec.inference.image_size == (1024, 1024)
    assert (spec.dataset.val.batch_size, spec.dataset.val.num_workers) == (4, 4)


def test_a_spec_is_a_typed_frozen_value():
    spec = load_spec([SAMPLE], ["train.optim.lr=1"]).spec
    assert isinstance(spec.train.optim.lr, float)
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(AttributeError):
        spec.train.num_epochs = 3


def test_json_and_yaml_say_the_same(write):
    nested = {"train": {"optim": {"lr": 1e-4, "milestones": [3, 5]}, "freeze": None}, "model_name": "café 😀\t/"}
    spaced = write(json.dumps(nested, indent="\t"), "spec.json")
    yaml = write('train: {optim: {lr: 1e-4, milestones: [3, 5]}, freeze: null}\nmodel_name: "café 😀\\t/"\n')
    assert load_spec([spaced]).spec == load_spec([yaml]).spec
    assert load_spec([yaml]).spec.train.optim.milestones == (3, 5)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "train:\nmodel:\n  one_former:\n", "{}"])
def test_what_is_left_out_is_default(write, text):
    assert load_spec([write(text)]).spec == load_spec([]).spec


def test_later_files_win_and_overrides_win_over_files(write):
    first = write("train: {num_epochs: 3, seed: 5, freeze: [a, b]}", "a.yaml")
    second = write("train: {num_epochs: 4, freeze: [c]}", "b.yaml")
    spec = load_spec([first, second], ["train.seed=6", "train.seed=7"]).spec
    assert (spec.train.num_epochs, spec.train.seed, spec.train.freeze) == (4, 7, ("c",))


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.optim.lr=1e-4", 1e-4),
        ("train.optim.lr=3", 3.0),
        ("train.optim.milestones=[3, 5]", [3, 5]),
        ("train.iters_per_epoch=1e3", 1000),
        ("train.freeze=null", None),
        ("train.verbose=yes", True),
        ("dataset.train.images=[/a, /b c]", ["/a", "/b c"]),
        ("dataset.train.images=/a: b # c", "/a: b # c"),
        ("dataset.train.images=2017", "2017"),
        ("model_name=1.0", "1.0"),
        ("model_name=a=b", "a=b"),
        ("model_name='null'", "null"),
        ("model_name=", None),
        ("evaluate.checkpoint=", ""),
        ("train.precision=16", "fp16"),
        ("train.clip_grad_norm_type=inf", "inf"),
        ("quantize.backend_kwargs={a: {b: 1}}", {"a": {"b": 1}}),
        ("quantize.backend_kwargs.a.b=1", {"a": {"b": 1}}),
    ],
)
def test_overrides_are_yaml_but_text_needs_no_quotes(override, value):
    found = to_dict(load_spec([], [override]).spec)
    for key in override.partition("=")[0].replace(".a.b", "").split("."):
        found = found[key]
    assert found == value
    assert type(found) is type(value)


ALIASES = [
    ("model.backbone.name", "D2DiNAT", "model.backbone.type", "dinat"),
    ("model.mode", "panoptic", "inference.mode", "panoptic"),
    ("model.object_mask_threshold", 0.5, "model.test.object_mask_threshold", 0.5),
    ("model.overlap_threshold", 0.5, "model.test.overlap_threshold", 0.5),
    ("model.test_topk_per_image", 5, "model.test.test_topk_per_image", 5),
    ("train.pretrained_model", "a.pth", "train.pretrained_model_path", "a.pth"),
    ("train.pretrained_backbone", "b.pth", "model.backbone.pretrained_weights", "b.pth"),
    ("train.clip_gradients.enabled", False, "train.clip_grad_type", "none"),
    ("train.clip_gradients.clip_type", "full_model", "train.clip_grad_type", "full"),
    ("train.clip_gradients.clip_value", 0.5, "train.clip_grad_norm", 0.5),
    ("train.clip_gradients.norm_type", 1.0, "train.clip_grad_norm_type", 1.0),
]


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def value_at(spec, path):
    for key in path.split("."):
        spec = getattr(spec, key)
    return spec


@pytest.mark.parametrize(("alias", "written", "path", "value"), ALIASES)
class TestAlias:
    def test_is_read_with_a_note(self, write, alias, written, path, value):
        loaded = load_spec([write(json.dumps(nested(alias, written)), "spec.json")])
        assert value_at(loaded.spec, path) == value
        assert any(alias in note and path in note for note in loaded.notes)
        assert loaded.spec.notes == loaded.notes

    def test_may_agree_with_the_canonical_path(self, alias, written, path, value):
        text = str(written).lower() if isinstance(written, bool) else written
        spec = load_spec([], [f"{alias}={text}", f"{path}={value}"]).spec
        assert value_at(spec, path) == value

    def test_that_disagrees_is_an_error_naming_both(self, write, alias, written, path, value):
        other = {"dinat": "swin", "none": "value", "full": "value", "panoptic": "instance", 5: 6, 1.0: 2.0}
        document = nested(alias, written)
        second = write(
            json.dumps(nested(path, other.get(value, 0.25 if isinstance(value, float) else "c.pth"))), "b.json"
        )
        whole = write("{" + json.dumps(document)[1:-1] + "}", "a.json")
        load_spec([whole, second])  # a later file may change its mind
        merged = json.loads(second.read_text())
        merge(merged, document)
        found = problems([write(json.dumps(merged, indent=1), "c.json")])
        assert len(found) == 1
        assert alias in found[0]
        assert path in found[0]
        assert "c.json:" in found[0]


def merge(lower, upper):
    for key, value in upper.items():
        if isinstance(value, dict) and key in lower:
            merge(lower[key], value)
        else:
            lower[key] = value


@pytest.mark.parametrize(
    ("path", "written", "value"),
    [
        ("train.precision", "32", "fp32"),
        ("train.precision", "16", "fp16"),
        ("train.precision", '"16-mixed"', "fp16"),
        ("train.precision", "BF16-mixed", "bf16"),
        ("train.precision", "32-true", "fp32"),
        ("train.clip_grad_type", "full_model", "full"),
        ("train.optim.lr_scheduler", "Warmuppoly", "WarmupPoly"),
        ("model.backbone.type", "D2SwinTransformer", "swin"),
        ("model.backbone.type", "d2dinat", "dinat"),
        ("train.optim.type", "adamw", "AdamW"),
        ("model.sem_seg_head.norm", "syncbn", "SyncBN"),
    ],
)
def test_older_words_and_any_case_are_read(write, path, written, value):
    *keys, last = path.split(".")
    text = "".join(f"{'  ' * depth}{key}:\n" for depth, key in enumerate(keys))
    spec = load_spec([write(f"{text}{'  ' * len(keys)}{last}: {written}\n")]).spec
    assert value_at(spec, path) == value


class TestDerived:
    @pytest.mark.parametrize("task", ["train", "evaluate", "inference"])
    @pytest.mark.parametrize(
        ("written", "count", "ids"),
        [
            ({"num_gpus": 1, "gpu_ids": [0, 1]}, 2, (0, 1)),
            ({"num_gpus": 3, "gpu_ids": [4]}, 3, (0, 1, 2)),
            ({"num_gpus": 2}, 2, (0, 1)),
            ({"gpu_ids": [5, 2]}, 2, (5, 2)),
            ({"gpu_ids": [3]}, 1, (3,)),
        ],
    )
    def test_the_setting_that_implies_more_gpus_wins(self, write, task, written, count, ids):
        section = getattr(load_spec([write(json.dumps({task: written}), "s.json")]).spec, task)
        assert (section.num_gpus, section.gpu_ids) == (count, ids)

    def test_workers_of_a_split(self):
        dataset = load_spec([], ["dataset.workers=3", "dataset.val.num_workers=0"]).spec.dataset
        assert [split.num_workers for split in (dataset.train, dataset.val, dataset.test)] == [3, 0, 3]

    def test_a_preset_fills_what_is_not_set(self):
        options = load_spec(
            [], ["model.backbone.swin.preset=Tiny", "model.backbone.swin.window_size=8"]
        ).spec.model.backbone.options
        assert (options.embed_dim, options.depths, options.num_heads) == (96, (2, 2, 6, 2), (3, 6, 12, 24))
        assert options.window_size == 8

    def test_a_preset_is_no_keyword_of_the_backbone(self):
        backbone = load_spec([], ["model.backbone.swin.preset=tiny"]).spec.model.backbone
        assert backbone.keywords()["embed_dim"] == 96
        assert "preset" not in backbone.keywords()

    def test_sizes_of_the_shortest_edge_choose_that_way_to_resize(self):
        augmentation = "dataset.augmentation."
        chosen = load_spec([], [f"{augmentation}train_min_size=[640, 800]"]).spec.dataset.augmentation
        assert chosen.resize == "shortest_edge"
        stated = load_spec(
            [], [f"{augmentation}train_min_size=[640]", f"{augmentation}resize=lsj"]
        ).spec.dataset.augmentation
        assert stated.resize == "lsj"

    def test_one_list_of_outputs_gives_the_other(self):
        options = load_spec(
            [],
            [
                "model.backbone.swin.out_indices=[1, 2, 3]",
                "model.backbone.dinat.out_features=[res3, res5]",
            ],
        ).spec.model.backbone.sections
        assert options["swin"].out_features == ("res3", "res4", "res5")
        assert options["dinat"].out_indices == (1, 3)

    def test_a_task_that_is_left_out_has_probability_zero(self):
        spec = load_spec([], ["dataset.task_prob_train={panoptic: 1}"]).spec
        assert spec.dataset.task_prob_train == {"semantic": 0.0, "instance": 0.0, "panoptic": 1.0}


class TestNotes:
    @pytest.mark.parametrize("name", ["semantic_on", "instance_on", "panoptic_on", "detection_on"])
    def test_a_field_without_effect_is_named(self, name):
        notes = load_spec([], [f"model.test.{name}=true"]).notes
        assert [note for note in notes if f"model.test.{name} has no effect" in note]

    def test_task_probabilities_of_validation_have_no_effect(self):
        assert "dataset.task_prob_val has no effect" in load_spec([], ["dataset.task_prob_val.semantic=1"]).notes[0]

    def test_an_option_of_another_backbone_is_named(self):
        words = ["model.backbone.dinat.kernel_size=5", "model.backbone.timm.pretrained=false"]
        assert load_spec([], words).notes == (
            "model.backbone.dinat.kernel_size has no effect: model.backbone.type is swin",
        )
        assert load_spec([], [*words, "model.backbone.type=dinat"]).notes == ()

    def test_options_of_radio_are_ignored_with_one_note(self, write):
        file = write("model:\n  backbone:\n    radio: {num_teacher: 4, backbone: vit_base_patch16_224}\n")
        loaded = load_spec([file], ["model.backbone.radio.window_size=16"])
        assert loaded.notes == ("model.backbone.radio has no effect: no backbone 'radio' is installed",)
        assert "radio" not in to_dict(loaded.spec)["model"]["backbone"]

    @pytest.mark.parametrize("task", [None, "export"])
    @pytest.mark.parametrize("algorithm", ["awq_clip", "awq_lite", "AWQ_full"])
    def test_an_awq_algorithm_is_ignored_where_nothing_is_quantized(self, write, tmp_path, task, algorithm):
        model = tmp_path / "model.pth"
        model.touch()
        file = write(f"quantize: {{algorithm: {algorithm}}}\nexport: {{checkpoint: {model}}}\n")
        loaded = load_spec([file], task=task)
        assert loaded.notes == (f"quantize.algorithm: {algorithm} is ignored: AWQ is not available yet",)
        assert loaded.spec.quantize.algorithm == "minmax"
        assert "quantize.algorithm" not in loaded.spec.written

    @pytest.mark.parametrize(
        ("kind", "setting", "part"),
        [
            ("BasePixelDecoder", "model.sem_seg_head.transformer_enc_layers=2", "encoder"),
            ("BasePixelDecoder", "model.precise_msda=true", "deformable attention"),
            (
                "TransformerEncoderPixelDecoder",
                "model.sem_seg_head.deformable_transformer_encoder_in_features=[res5]",
                "deformable encoder",
            ),
        ],
    )
    def test_a_field_of_a_part_that_the_pixel_decoder_lacks_is_named(self, kind, setting, part):
        chosen = f"model.sem_seg_head.pixel_decoder_name={kind}"
        assert load_spec([], [chosen, setting]).notes == (
            f"{setting.partition('=')[0]} has no effect: {kind} has no {part}",
        )
        assert load_spec([], [setting]).notes == load_spec([], [chosen]).notes == ()

    def test_nothing_is_evaluated(self):
        loaded = load_spec([], ["results_dir=${eval:__import__('os').getcwd()}"])
        assert loaded.spec.results_dir == "${eval:__import__('os').getcwd()}"
        assert "nothing in it is evaluated" in loaded.notes[0]

    def test_more_gpus_than_there_are(self, monkeypatch):
        monkeypatch.setattr("oneformer_spec.loading.load.num_gpus_here", lambda: 0)
        assert load_spec([], ["train.num_gpus=8"]).notes == (
            "train.num_gpus: 8 GPUs are asked for, this machine shows 0; as many CPU processes take their place",
        )
        assert load_spec([], ["train.num_gpus=8"], task="quantize_nothing").notes == ()

    def test_a_plain_spec_has_none(self):
        assert load_spec([], ["train.num_epochs=3"]).notes == ()


class TestEncryptionKey:
    def test_comes_from_the_environment_too(self, monkeypatch):
        monkeypatch.setenv(KEY_VARIABLE, "from the environment")
        assert load_spec([]).spec.encryption_key == "from the environment"
        assert load_spec([], ["encryption_key=1234"]).spec.encryption_key == "1234"

    def test_is_never_shown(self, write):
        assert "s3cret" not in repr(load_spec([], ["encryption_key=s3cret"]).spec)
        assert "s3cret" not in str(problems([], ['encryption_key="s3cret', "train.seed=x"]))
        assert "s3cret" not in str(problems([write("encryption_key: [s3cret]")]))


def test_loading_imports_nothing_heavy():
    code = (
        "import sys, oneformer_spec; from oneformer_spec.loading.load import load_spec\n"
        f"load_spec([{str(SAMPLE)!r}])\n"
        "print(sorted(set(sys.modules) & {'torch', 'numpy', 'timm', 'PIL', 'rich', 'pytorch_lightning'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_defaults_are_built_without_a_file():
    assert Spec().train.optim.lr == 2e-4
