"""Model cards tell what weights are, whatever their metadata hold."""

from zoo_pretrained.model_card import make_model_card

METADATA = {
    "model": "ResNet18",
    "weights": "pets",
    "labels": ["cat", ["n02084071", "dog"]],
    "licence": "MIT",
    "preprocessing": {"size": 96, "channels": "grey"},
    "source": {"url": "https://example.org/base.pth"},
    "extra": {"training": {"images": 120, "settings": {"rate": 0.1}}},
}


def test_the_card_tells_what_the_metadata_hold():
    card = make_model_card(METADATA, "ResNet18-pets-0123abcd.tar")
    assert card.startswith("# ResNet18, weights pets\n")
    for line in (
        "- 2 classes: cat, dog",
        "- images: 96x96 pixels, grey",
        "- licence: MIT",
        "- made from: https://example.org/base.pth",
        "model = zoo.trained('ResNet18', weights='pets')",
        "- images: 120",
        "  - rate: 0.1",
    ):
        assert line in card.splitlines(), line


def test_the_card_of_a_detector():
    metadata = {"model": "SSD300_VGG16", "labels": "coco", "accuracy": {"box_map": 25.1}}
    lines = make_model_card(metadata, "a.tar").splitlines()
    assert "- mean average precision of boxes on COCO: 25.1 %" in lines
    assert 'model.detect("photo.jpg")' in lines
    assert not any("classify" in line or "top-1" in line for line in lines)
    assert 'model.classify("photo.jpg")' in make_model_card(METADATA, "a.tar")


def test_many_classes_are_cut_off_and_a_licence_may_be_missing():
    labels = [f"class {number}" for number in range(1000)]
    card = make_model_card({"model": "A", "labels": labels}, "A-b.tar")
    assert "and 980 more" in card
    assert "class 19" in card
    assert "class 20" not in card
    assert "- licence: not stated" in card


def test_metadata_cannot_write_markup():
    labels = ["<script>alert(1)</script>", "[a](javascript:b)", "x\n# y"]
    card = make_model_card({"model": "A", "weights": "`w`", "labels": labels}, "A-b.tar")
    assert "<script>" not in card.replace("\\<", "")
    assert "[a]" not in card.replace("\\[", "")
    assert "\n# y" not in card
