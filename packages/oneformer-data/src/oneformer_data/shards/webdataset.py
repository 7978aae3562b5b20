"""The annotation type `webdataset`: tar files of samples in any file-based format, with or without an index."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from oneformer_data.formats.coco_images import category_labels, category_problems
from oneformer_data.opening.format import Format
from oneformer_data.shards import verification
from oneformer_data.shards.decoding import format_at
from oneformer_data.shards.index import Index
from oneformer_data.shards.locating import open_index
from oneformer_data.shards.reader import Shards
from oneformer_data.shards.store import Store
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.labels import Labels


class WebDataset(Format):
    """Tar shards. Their index is read once, when it is first needed."""

    def open(self, labels: Labels) -> Shards:
        """Return the samples, after checking the label map against the index, and that every shard exists.

        Raises:
            SpecError: `images` or `panoptic` is set, which shards do not need.
            DataError: The index is invalid or contradicts the label map, or a shard is missing or has the wrong size.
        """
        index, store = self._shards
        for problem in category_problems({"categories": index.categories}, labels):
            raise DataError(f"{self.source.annotations}: {problem}")
        for shard in index.shards:
            absent = store.problem(shard)
            if absent is not None:
                raise DataError(absent)
        return Shards(index, store, labels, self.source)

    def labels(self) -> Labels:
        """Return the classes that the index lists."""
        categories = self._shards[0].categories
        return category_labels({"categories": categories}, self.source.annotations) or super().labels()

    def tasks(self, labels: Labels) -> tuple[str, ...]:
        """Return the tasks for which the samples' format has targets."""
        return format_at(self._shards[0].type, self.source.annotations, self.source).tasks(labels)

    def problems(self, labels: Labels) -> Iterator[str]:
        """Yield one line per problem in the index, the tar files and the samples."""
        try:
            index, store = self._shards
        except DataError as error:
            yield str(error)
        else:
            yield from verification.problems(self.source, index, store, labels)

    def num_pictures(self, labels: Labels) -> int:
        """Return how many samples the index lists."""
        try:
            return len(self._shards[0])
        except DataError:
            return 0

    def may_overlap(self) -> bool:
        """Return whether segments of the samples' format can share pixels."""
        return format_at(self._shards[0].type, self.source.annotations, self.source).may_overlap()

    @cached_property
    def _shards(self) -> tuple[Index, Store]:
        section, path = self.source.section, self.source.annotations
        for field in ("images", "panoptic"):
            if getattr(self.source, field):
                why = f"is set, but the shards of {path} contain all files; set it to null"
                raise SpecError(f"{section}.{field}: {why}")
        return open_index(self.source)
