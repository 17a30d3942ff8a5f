"""Object detection: models, and what people do with them.

detector = zoo.trained(zoo.detection.SSD300_VGG16)
detector.detect("street.jpg", threshold=0.5)         # [Detection(label, score, box), …]
"""

from zoo.detection.detections import Detection
from zoo.detection.draw import draw_detections
from zoo.detection.evaluation.evaluate import DetectionScore, evaluate
from zoo.detection.initialize import initialize, with_backbone
from zoo.detection.models.detector import Detector, Predictions
from zoo.detection.models.faster_rcnn import (
    FasterRCNN_MobileNetV3_Large_320_FPN,
    FasterRCNN_MobileNetV3_Large_FPN,
    FasterRCNN_ResNet50_FPN,
    FasterRCNN_ResNet50_FPN_V2,
)
from zoo.detection.models.fcos import FCOS_ResNet50_FPN
from zoo.detection.models.matching import Truth
from zoo.detection.models.retinanet import RetinaNet_ResNet50_FPN, RetinaNet_ResNet50_FPN_V2
from zoo.detection.models.ssd import SSD300_VGG16
from zoo.detection.models.ssdlite import SSDLite320_MobileNetV3_Large
from zoo.detection.trained import TrainedDetector

__all__ = [
    "SSD300_VGG16",
    "Detection",
    "DetectionScore",
    "Detector",
    "FCOS_ResNet50_FPN",
    "FasterRCNN_MobileNetV3_Large_320_FPN",
    "FasterRCNN_MobileNetV3_Large_FPN",
    "FasterRCNN_ResNet50_FPN",
    "FasterRCNN_ResNet50_FPN_V2",
    "Predictions",
    "RetinaNet_ResNet50_FPN",
    "RetinaNet_ResNet50_FPN_V2",
    "SSDLite320_MobileNetV3_Large",
    "TrainedDetector",
    "Truth",
    "draw_detections",
    "evaluate",
    "initialize",
    "with_backbone",
]
