"""What must hold between fields, and of the files that a task needs."""

import json

import pytest

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec

RELATIONS = [
    (
        ["model.one_former.hidden_dim=100"],
        "model.one_former.hidden_dim (100) must be a multiple of model.one_former.nheads (8)",
    ),
    (
        ["model.one_former.nheads=3", "model.sem_seg_head.convs_dim=96"],
        "nheads: model.one_former.hidden_dim (256) must be",
    ),
    (["model.one_former.hidden_dim=250", "model.one_former.nheads=2"], "found 250, expected a multiple of 4"),
    (["model.sem_seg_head.convs_dim=100"], "convs_dim (100) must be a multiple of model.one_former.nheads (8)"),
    (["model.one_former.num_object_queries=16"], "num_object_queries (16) must be above text_encoder.n_ctx (16)"),
    (["model.text_encoder.n_ctx=150"], "model.text_encoder.n_ctx: num_object_queries (150) must be above"),
    (["dataset.max_seq_len=64"], "text_encoder.context_length (77) must equal dataset.max_seq_len (64)"),
    (["model.backbone.swin.depths=[2, 2, 2]"], "depths has 3 stages, num_heads 4"),
    (
        ["model.backbone.swin.num_heads=[5, 10, 20, 40]"],
        "stage 0 has 192 channels, which is no multiple of its 5 heads",
    ),
    (
        ["model.backbone.swin.depths=[2, 2]", "model.backbone.swin.num_heads=[6, 12]"],
        "stage 3 is handed out, but depths has 2 stages",
    ),
    (
        ["model.backbone.dinat.out_indices=[1, 2]", "model.backbone.dinat.out_features=[res2, res3]"],
        "out_indices [1, 2] means res3, res4, but out_features is res2, res3",
    ),
    (["model.backbone.type=dinat", "model.backbone.dinat.kernel_size=6"], "found 6, expected an odd number"),
    (
        ["model.backbone.type=dinat", "model.backbone.dinat.dilations=[[1, 2, 1], [1], [1], [1]]"],
        "found lists of [3, 1, 1, 1] numbers, expected one number per block: [3, 4, 18, 5]",
    ),
    (["model.backbone.swin.out_features=[res2, res3, res4]"], "res5 is not in model.backbone.swin.out_features"),
    (["model.sem_seg_head.in_features=[res4, res5]"], "res3 is not in in_features (res4, res5)"),
    (["dataset.min_scale=3"], "dataset.min_scale (3.0) must not be above dataset.max_scale (2.0)"),
    (["dataset.augmentation.test_min_size=2000"], "test_min_size (2000) must not be above"),
    (
        ["dataset.augmentation.train_min_size=[640, 2000]"],
        "train_min_size (2000) must not be above train_max_size (1333)",
    ),
    (["dataset.task_prob_train.semantic=0.5"], "the probabilities sum to 0.5, expected 1"),
    (["train.optim.milestones=[5, 5]"], "found [5, 5], expected"),
    (["train.optim.steps=[9, 5]"], "found [9, 5], expected rising numbers"),
    (
        ["train.optim.steps=[5, 9]", "train.optim.milestones=[11]"],
        "train.optim.milestones is set too; keep one of them",
    ),
    (["evaluate.checkpoint=a.pth", "evaluate.trt_engine=b.engine"], "evaluate.trt_engine are both set"),
    (["inference.checkpoint=a.pth", "inference.trt_engine=b.engine"], "inference.trt_engine are both set"),
    (["train.val_check_interval=2.5"], "found 2.5, expected a part of an epoch up to 1 or a whole number of steps"),
    (
        ["train.val_check_interval=500", "train.validation_interval=2"],
        "val_check_interval (500 steps) counts over epochs; leave validation_interval (2) out",
    ),
    (["train.checkpointer.replace_periodic=true"], "replace_periodic needs enable_topk"),
    (["train.checkpointer.enable_topk=true"], "enable_topk needs the metric in monitor"),
    (["export.onnx_file=a.pt"], "expected a name that ends with .onnx or .etlt"),
    (["export.onnx_file=a.etlt"], "a .etlt file is encrypted; set encryption_key"),
    (["gen_trt_engine.tensorrt.min_batch_size=2"], "must not be above gen_trt_engine.tensorrt.opt_batch_size (1)"),
]


@pytest.mark.parametrize(("overrides", "problem"), RELATIONS, ids=lambda value: str(value)[:60])
def test_relation(overrides, problem):
    with pytest.raises(SpecError) as caught:
        load_spec([], overrides)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]
    assert any(caught.value.problems[0].startswith(f"{override}: ") for override in overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.one_former.hidden_dim=96", "model.one_former.nheads=4"],
        ["model.text_encoder.context_length=64", "dataset.max_seq_len=64"],
        ["dataset.task_prob_train={semantic: 0.3, instance: 0.3, panoptic: 0.4}"],
        ["dataset.task_prob_train={semantic: 0.33, instance: 0.33, panoptic: 0.33}"],
        ["train.optim.steps=[5, 9]"],
        ["export.onnx_file=a.etlt", "encryption_key=key"],
        ["model.backbone.swin.out_features=[res3, res4, res5]"],
    ],
)
def test_what_fits_is_taken(overrides):
    load_spec([], overrides)


def test_a_relation_of_a_wrong_field_is_not_reported_too():
    with pytest.raises(SpecError) as caught:
        load_spec([], ["model.one_former.hidden_dim=x", "model.one_former.nheads=3"])
    assert caught.value.problems == (
        'model.one_former.hidden_dim=x: model.one_former.hidden_dim: found "x", expected a whole number >= 1',
        "model.one_former.nheads=3: model.one_former.nheads: model.sem_seg_head.convs_dim (256) must be a multiple "
        "of model.one_former.nheads (3)",
    )


class TestLabelMap:
    @pytest.fixture
    def label_map(self, tmp_path):
        path = tmp_path / "labels.json"
        path.write_text(json.dumps([{"id": 1, "name": "cell", "isthing": 1}, {"id": 7, "name": "glass", "isthing": 0}]))
        return path

    def problems(self, *overrides):
        with pytest.raises(SpecError) as caught:
            load_spec([], overrides)
        return caught.value.problems

    def test_as_many_classes_as_categories(self, label_map):
        load_spec([], [f"dataset.label_map={label_map}", "model.sem_seg_head.num_classes=2"])
        found = self.problems(f"dataset.label_map={label_map}", "model.sem_seg_head.num_classes=3")
        assert found == (
            f"model.sem_seg_head.num_classes=3: model.sem_seg_head.num_classes: num_classes is 3, but {label_map} "
            "has 2 categories",
        )

    def test_ids_that_count_through(self, label_map):
        found = self.problems(
            f"dataset.label_map={label_map}", "model.sem_seg_head.num_classes=2", "dataset.contiguous_id=false"
        )
        assert "false needs the category ids 1..2, but" in found[0]
        assert "has the id 7" in found[0]

    def test_a_category_id_of_zero(self, label_map):
        label_map.write_text('[{"id": 0, "name": "cell", "isthing": 1}]')
        assert (
            "category 0: the id must be an integer greater than 0" in self.problems(f"dataset.label_map={label_map}")[0]
        )


class TestTasks:
    def problems(self, task, *overrides):
        with pytest.raises(SpecError) as caught:
            load_spec([], overrides, task=task)
        return list(caught.value.problems)

    @pytest.mark.parametrize(
        ("task", "expected"),
        [
            (
                "train",
                [
                    "dataset.train.annotations: is not set; train needs it",
                ],
            ),
            (
                "evaluate",
                [
                    "evaluate.checkpoint: is not set; evaluate needs a model file",
                    "dataset.test.annotations: is not set; evaluate needs it",
                ],
            ),
            (
                "inference",
                [
                    "inference.images_dir: is not set; inference needs it",
                    "inference.checkpoint: is not set; inference needs a model file",
                ],
            ),
            ("export", ["export.checkpoint: is not set; export needs it"]),
            ("gen_trt_engine", ["gen_trt_engine.onnx_file: is not set; gen_trt_engine needs it"]),
            ("quantize", ["quantize.model_path: is not set; quantize needs it"]),
        ],
    )
    def test_what_a_task_needs(self, task, expected):
        assert self.problems(task) == expected

    def test_a_missing_field_is_located_at_its_section(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "spec.yaml").write_text("results_dir: out\nexport:\n  batch_size: 1\n")
        with pytest.raises(SpecError) as caught:
            load_spec(["spec.yaml"], task="export")
        assert caught.value.problems == ("spec.yaml:3:3: export.checkpoint: is not set; export needs it",)

    def test_named_files_exist(self, tmp_path):
        (tmp_path / "folder.json").mkdir()
        (tmp_path / "file.json").touch()
        missing = tmp_path / "missing.json"
        found = self.problems(
            "train",
            f"dataset.train.images={tmp_path / 'file.json'}",
            f"dataset.train.annotations=[{tmp_path / 'file.json'}, {missing}]",
            f"dataset.val.annotations={tmp_path / 'folder.json'}",
            f"dataset.label_map={missing}",
        )
        assert [problem.partition(": ")[2] for problem in found] == [
            f"dataset.train.images: {tmp_path / 'file.json'} is not a folder",
            f"dataset.train.annotations: {missing} does not exist",
            f"dataset.val.annotations: {tmp_path / 'folder.json'} is a folder, expected a file",
            f"dataset.label_map: {missing} does not exist",
        ]

    @pytest.mark.parametrize(
        ("annotations", "type"),
        [
            ("https://host/train/shards.json", None),
            ("https://host/train/shards.json?token=a.b", None),
            ("https://host/train/index.json", "webdataset"),
            ("{folder}/train-{{000000..000003}}.tar", None),
            ("{folder}/train-*.tar", None),
            ("{folder}/train-00000[0-3].tar", None),
            ("{folder}/train-000002.tar", None),
            ("{folder}", "webdataset"),
        ],
    )
    def test_tar_shards_are_named_by_url_pattern_file_or_folder(self, tmp_path, annotations, type):
        for number in range(4):
            (tmp_path / f"train-{number:06d}.tar").touch()
        overrides = [f"dataset.train.annotations={json.dumps(annotations.format(folder=tmp_path))}"]
        load_spec([], [*overrides, *([f"dataset.train.type={type}"] if type else [])], task="train")

    @pytest.mark.parametrize("type", [None, "webdataset"])
    @pytest.mark.parametrize(
        ("annotations", "absent"),
        [
            ("a/shards.json", "a/shards.json"),
            ("a/b.tar", "a/b.tar"),
            ("a/b-*.tar", "a/b-*.tar"),
            ("b-{00..11}.tar", "b-11.tar"),
            ("b-{00..10}-{x,y}.tar", "b-00-x.tar"),
        ],
    )
    def test_tar_shards_must_exist(self, tmp_path, monkeypatch, type, annotations, absent):
        monkeypatch.chdir(tmp_path)
        for number in range(11):
            (tmp_path / f"b-{number:02d}.tar").touch()
        typed = [f"dataset.train.type={type}"] if type else []
        (problem,) = self.problems("train", f"dataset.train.annotations={json.dumps(annotations)}", *typed)
        assert problem.endswith(f"dataset.train.annotations: {absent} does not exist")

    @pytest.mark.parametrize(
        ("annotations", "problem"),
        [
            ("https://host/a.json", "https://host/a.json is a URL; coco_instance is read from files alone"),
            ("a-*.json", "a-*.json does not exist"),
            (
                "a.txt",
                "is not set, and the name of a.txt does not show the format; recognised are .json as coco_instance, "
                ".json with dataset.train.panoptic as coco_panoptic, .jsonl as semantic_jsonl, .tar and shards.json as "
                "webdataset",
            ),
        ],
    )
    def test_other_annotations_are_files_that_show_their_format(self, tmp_path, monkeypatch, annotations, problem):
        monkeypatch.chdir(tmp_path)
        for name in ("a-1.json", "a.txt"):
            (tmp_path / name).touch()
        (found,) = self.problems("train", f"dataset.train.annotations={annotations}")
        assert found.endswith(f": {problem}")

    def test_each_annotation_file_of_a_list_is_in_a_format_of_its_own(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.json").touch()
        (tmp_path / "maps").mkdir()
        names = '["a.json", "https://host/shards.json", "https://host/b.json"]'
        (found,) = self.problems(
            "train", f"dataset.train.annotations={names}", 'dataset.train.panoptic=["maps", "", "maps"]'
        )
        assert found.endswith("https://host/b.json is a URL; coco_panoptic is read from files alone")

    def test_a_task_does_not_ask_for_the_files_of_another(self, tmp_path):
        checkpoint = tmp_path / "model.pth"
        checkpoint.touch()
        load_spec([], [f"export.checkpoint={checkpoint}", "dataset.train.images=/missing"], task="export")

    def test_evaluate_takes_val_where_test_is_not_set(self, tmp_path):
        for name in ("model.pth", "val.json"):
            (tmp_path / name).touch()
        overrides = [
            f"evaluate.checkpoint={tmp_path / 'model.pth'}",
            f"dataset.val.annotations={tmp_path / 'val.json'}",
        ]
        load_spec([], overrides, task="evaluate")

    def test_a_name_that_no_file_can_have(self):
        assert "does not exist" in self.problems("export", f"export.checkpoint={'x' * 5000}")[0]

    def test_levels_of_a_deformable_encoder_bind_that_one_alone(self):
        load_spec(
            [], ["model.sem_seg_head.in_features=[res4]", "model.sem_seg_head.pixel_decoder_name=BasePixelDecoder"]
        )

    def test_files_are_not_looked_for_without_a_task(self):
        load_spec([], ["dataset.train.images=/missing", "dataset.label_map=/missing"])
