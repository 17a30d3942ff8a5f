"""Photos with labelled boxes: read from COCO, Pascal VOC and YOLO, and changed at random."""

from zoo.detection.data.augment import DetectionAugmentation, DetectionResize, DetectionSample
from zoo.detection.data.coco import load_coco, save_coco
from zoo.detection.data.dataset import DetectionDataset, DetectionExample
from zoo.detection.data.load import DetectionSplits, load_detection
from zoo.detection.data.shapes import make_shapes
from zoo.detection.data.tiles import cut_tiles
from zoo.detection.data.trees import load_trees
from zoo.detection.data.voc import load_voc
from zoo.detection.data.yolo import load_yolo

__all__ = [
    "DetectionAugmentation",
    "DetectionDataset",
    "DetectionExample",
    "DetectionResize",
    "DetectionSample",
    "DetectionSplits",
    "cut_tiles",
    "load_coco",
    "load_detection",
    "load_trees",
    "load_voc",
    "load_yolo",
    "make_shapes",
    "save_coco",
]
