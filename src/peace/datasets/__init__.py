"""The image data that zoo models learn, and the tasks made of their classes."""

from typing import TYPE_CHECKING

from peace.registry import Registry

if TYPE_CHECKING:
    from peace.datasets.images import ImageData

DATASETS: "Registry[ImageData]" = Registry("data set", __name__)
