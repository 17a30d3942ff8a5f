"""Photos with labelled boxes: read from COCO, Pascal VOC and YOLO, and changed at random."""
