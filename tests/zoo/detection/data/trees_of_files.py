"""Small detection sets on disk for the tests."""

import json

from PIL import Image

WIDTH, HEIGHT = 100, 60


def save_photo(path, size=(WIDTH, HEIGHT), orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size, (90, 120, 150)).save(path, exif=exif)
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def annotation(number, box, image=7, category=30, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}


def save_json(root, annotations, *, indent=None, **changes):
    """COCO's annotations of the photos 7 (a.jpg) and 3 (b.jpg); returns the JSON file."""
    for name in ("a.jpg", "b.jpg"):
        save_photo(root / "train2017" / name)
    content = {
        "info": {"annotations": [1, {"x": "}]"}]},
        "images": [
            {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for number, name in ((7, "a.jpg"), (3, "b.jpg"))
        ],
        "annotations": annotations,
        "categories": [{"id": 30, "name": "dog"}, {"id": 4, "name": "cat"}],
        **changes,
    }
    path = root / "annotations" / "instances_train2017.json"
    return write(path, json.dumps(content, indent=indent))


def voc_object(box, name="cat", difficult=0, more=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>{more}"
        f"<bndbox>{corners}</bndbox></object>"
    )


def save_xml(root, name, objects, *, size=(WIDTH, HEIGHT), file_name=None, folders=True):
    """VOC's annotations of a photo, an object a line from the third one; returns the XML file."""
    save_photo(root / ("JPEGImages" if folders else "") / f"{name}.jpg")
    sides = (
        "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    )
    lines = [
        "<annotation>",
        f"<filename>{file_name or name + '.jpg'}</filename>{sides}",
        *objects,
        "</annotation>",
    ]
    return write(root / ("Annotations" if folders else "") / f"{name}.xml", "\n".join(lines))


def save_labels(root, image, lines, **photo):
    """YOLO's labels of a photo below the folder "images"; returns the text file."""
    save_photo(root / "images" / image, **photo)
    return write((root / "labels" / image).with_suffix(".txt"), "\n".join(lines))
