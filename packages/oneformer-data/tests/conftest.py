"""A panoptic data set of two small pictures that tests may break."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oneformer_data.datasets import Samples
from oneformer_data.formats.coco_panoptic import CocoPanoptic, Record
from oneformer_data.formats.id_png import write_ids
from oneformer_data.opening.sources import Source
from oneformer_spec.labels import Labels

CATEGORIES = [
    {"id": 3, "name": "square", "isthing": 1, "color": [220, 20, 60]},
    {"id": 7, "name": "ground", "isthing": 0, "color": [60, 60, 60]},
]
RED, GRAY = (200, 40, 40), (60, 60, 60)


@dataclass
class PanopticFolder:
    """Files of a data set: `images/`, `panoptic/` and `panoptic.json`, which `save` writes."""

    root: Path
    document: dict[str, Any] = field(default_factory=lambda: {"images": [], "annotations": []})

    @property
    def json(self) -> Path:
        return self.root / "panoptic.json"

    @property
    def source(self) -> Source:
        folders = {"images": f"{self.root / 'images'}", "panoptic": f"{self.root / 'panoptic'}"}
        return Source("dataset.val", f"{self.json}", **folders)

    def add(self, image_id: int, ids: np.ndarray, segments: list[dict[str, Any]]) -> None:
        """Add a picture whose things are red and whose other pixels are gray."""
        things = [segment["id"] for segment in segments if segment["category_id"] == 3]
        picture = np.where(np.isin(ids, things)[..., None], RED, GRAY).astype(np.uint8)
        Image.fromarray(picture).save(self.root / "images" / f"{image_id}.png")
        write_ids(self.root / "panoptic" / f"{image_id}.png", ids)
        height, width = ids.shape
        name = f"{image_id}.png"
        self.document["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
        self.document["annotations"].append({"image_id": image_id, "file_name": name, "segments_info": segments})

    def save(self) -> None:
        self.json.write_text(json.dumps(self.document))

    def open(self) -> Samples[Record]:
        self.save()
        return CocoPanoptic(self.source).open(Labels.parse(CATEGORIES, source="labels"))


@pytest.fixture
def labels() -> Labels:
    return Labels.parse(CATEGORIES, source="labels")


@pytest.fixture
def folder(tmp_path: Path) -> PanopticFolder:
    """Two pictures of 24 x 32: ground with two squares, and ground with a square, a crowd and void."""
    for name in ("images", "panoptic"):
        (tmp_path / name).mkdir()
    folder = PanopticFolder(tmp_path)
    ids = np.full((24, 32), 70_000, dtype=np.int32)
    ids[2:10, 2:12] = 5
    ids[12:22, 16:30] = 300
    rows = [{"id": 70_000, "category_id": 7}, {"id": 5, "category_id": 3}, {"id": 300, "category_id": 3}]
    folder.add(11, ids, rows)
    ids = np.full((24, 32), 9, dtype=np.int32)
    ids[0:8, 0:8], ids[10:20, 10:20], ids[20:24] = 1, 2, 0
    crowd = {"id": 2, "category_id": 3, "iscrowd": 1}
    folder.add(12, ids, [{"id": 9, "category_id": 7}, {"id": 1, "category_id": 3}, crowd])
    folder.save()
    return folder


@pytest.fixture
def formats(folder: PanopticFolder) -> dict[str, Source]:
    """Two pictures annotated in each format: objects that overlap, a picture without any, a name below a folder."""
    root, pictures = folder.root, folder.root / "images"
    (pictures / "deep").mkdir()
    Image.new("RGB", (7, 5), RED).save(pictures / "deep" / "ä b.JPG", format="JPEG", comment=b"kept")
    images = [
        {"id": 1, "file_name": "11.png", "height": 24, "width": 32, "license": 4},
        {"id": "two", "file_name": "deep/ä b.JPG", "height": 5, "width": 7},
    ]
    rows = [
        {"id": 1, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9], [1.5, 2, 8, 3, 7, 20.25]]},
        {"id": 2, "category_id": 3, "segmentation": [[4, 1, 20, 1, 20, 9]], "note": "overlaps 1"},
        {"id": 3, "category_id": 3, "segmentation": {"size": [24, 32], "counts": [5, 7, 756]}, "iscrowd": 1},
    ]
    document = {"images": images, "annotations": [{"image_id": 1, **row} for row in rows]}
    (root / "instances.json").write_text(json.dumps(document))
    for name, size, value in (("m.png", (24, 32), 7), ("n.png", (5, 7), 3)):
        mask = np.full(size, value, dtype=np.uint8)
        mask[0] = 0
        Image.fromarray(mask).save(pictures / name)
    lines = [{"img": "11.png", "segm": "m.png"}, {"img": "deep/ä b.JPG", "segm": "n.png"}]
    (root / "masks.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    plain = replace(folder.source, panoptic=None)
    return {
        "coco_panoptic": folder.source,
        "coco_instance": replace(plain, annotations=f"{root / 'instances.json'}"),
        "semantic_jsonl": replace(plain, annotations=f"{root / 'masks.jsonl'}"),
    }


@pytest.fixture(scope="session")
def nuclei(repository: Path) -> Path:
    """The example's data set."""
    folder = repository / "examples" / "nuclei"
    if not (folder / "demo.yaml").is_file():
        pytest.skip(f"{folder} does not exist: this test reads the example's images")
    return folder


IN_REPOSITORY = ("coco_open", "coco_inst_open", "nuclei_few")


@pytest.fixture
def data_set(repository: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Return a function that finds a set of real data: small ones lie in the repository, larger ones beside it."""

    def find(name: str) -> Path:
        if name in IN_REPOSITORY:
            return repository / "tests" / "data" / "real" / name
        shared: Path = request.getfixturevalue("shared_data")
        return shared / "data" / name

    return find


@pytest.fixture(scope="session")
def oracle(repository: Path) -> Path:
    """Predictions with the scores that independent tools gave them."""
    folder = repository / "tests" / "data" / "oracle"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: this test compares with reference scores")
    return folder
