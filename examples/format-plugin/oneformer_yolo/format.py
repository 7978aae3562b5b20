"""YOLO segmentation labels: `data.yaml` names classes and folders; a text file per image has a polygon per line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from oneformer_data import FileFormat, Sample, SegmentInfo, draw_mask, stack_masks
from oneformer_spec import Content, DataError, Labels, content, find_images, read_image


@dataclass(frozen=True)
class Record:
    """The names of an image and of its labels, below the folder of `data.yaml`."""

    image: str
    labels: str


class Yolo(FileFormat[Record]):
    """Lines of `class x1 y1 x2 y2 …`: classes count from 0, coordinates are shares of the image's width and height."""

    record_type = Record
    members = {"labels": "txt"}

    def labels(self) -> Labels:
        """Return the classes; their ids count from 1, because 0 is void."""
        names = self.entry("names")
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return Labels.parse([{"id": number + 1, "name": name} for number, name in pairs], self.source.annotations)

    def records(self, labels: Labels) -> list[Record]:
        """Return a record per image of the folder that `data.yaml` has under the split's name."""
        root = Path(self.root("image"))
        images = [path.relative_to(root) for path in find_images(root / self.entry(self.source.split))]
        return [Record(str(image), str(label_file(image))) for image in images]

    def inputs(self) -> Iterator[bytes]:
        """Yield what the records depend on: `data.yaml`, the split, and which images there are."""
        yield from super().inputs()
        yield repr([self.source.split, self.records(self.labels())]).encode()

    def sample(self, record: Record, files: Mapping[str, Path | Content], labels: Labels) -> Sample:
        """Draw the polygons of an image; each keeps all its pixels where they overlap."""
        image = read_image(files["image"])
        size = height, width = image.shape[:2]
        masks, segments = [], []
        for number, line in enumerate(content(files["labels"]).decode(errors="replace").splitlines(), start=1):
            try:
                category, *shares = line.split()
                index = labels.indices[int(category) + 1]
                corners = [float(share) * size[1 - place % 2] for place, share in enumerate(shares)]
                if len(corners) < 6 or len(corners) % 2 or not all(0 <= float(share) <= 1 for share in shares):
                    raise ValueError
            except (ValueError, KeyError):
                expected = "expected a class and the corners of a polygon"
                raise DataError(f"{files['labels']}:{number}: {expected}, found {line!r}") from None
            masks.append(draw_mask((tuple(corners),), (height, width)))
            segments.append(SegmentInfo(number, index, labels[index].isthing, is_crowd=False))
        return Sample(record.image, record.image, image, stack_masks(masks, (height, width)), tuple(segments))

    def entry(self, name: str) -> Any:
        """Return an entry of `data.yaml`."""
        path = Path(self.source.annotations)
        try:
            return YAML(typ="safe").load(path.read_text(encoding="utf-8"))[name]
        except (KeyError, TypeError):
            raise DataError(f"{path}: has no entry {name!r}") from None
        except (OSError, ValueError, YAMLError) as error:
            raise DataError(f"{path}: {' '.join(str(error).split())}") from None


def label_file(image: Path) -> Path:
    """Return the labels of an image: below `labels` in place of `images`, with the suffix `.txt`."""
    return Path(*["labels" if part == "images" else part for part in image.parts]).with_suffix(".txt")
