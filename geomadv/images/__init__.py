"""Images with labels: arrays, named data sets, folders and files."""

from geomadv.images.imageset import ImageSet
from geomadv.images.loading import list_images, load_images

__all__ = ["ImageSet", "list_images", "load_images"]
