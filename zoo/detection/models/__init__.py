"""The detectors: a family a file, and what families share."""

from zoo.detection.models import faster_rcnn, fcos, retinanet, ssd, ssdlite

# Importing a family enters its detectors into the table.
__all__ = ["faster_rcnn", "fcos", "retinanet", "ssd", "ssdlite"]
