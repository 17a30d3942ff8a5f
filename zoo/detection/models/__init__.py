"""The detectors: a family a file, and what families share."""

from zoo.detection.models import faster_rcnn, fcos, retinanet, ssd, ssdlite  # noqa: F401 - register
