"""Fine-tunes EfficientNet-Lite0 on photos of your own, and names what another photo shows.

    python examples/fine_tune.py photos/ cat.jpg      photos/CLASS/*.jpg

Started again after an interruption, it goes on. Needs the extra "train".
"""

import argparse

import zoo


def main() -> None:
    """Trains, evaluates and classifies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a folder with a folder of photos for each class")
    parser.add_argument("photo", help="what to classify afterwards")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--size", type=int, help="of the photos in training, in pixels")
    parser.add_argument("--out", default="runs/fine_tune", help="the run's folder")
    options = parser.parse_args()

    lite = zoo.trained(zoo.EfficientNetLite0)
    splits = zoo.data.load(options.photos)  # holds a fifth out for validation
    settings = zoo.training.Settings.read("finetune", epochs=options.epochs, size=options.size)
    mine = zoo.training.fit(lite, splits, settings=settings, folder=options.out)

    evaluation = zoo.training.evaluate(mine, splits.val)
    print(f"accuracy on the photos that were held out: {evaluation.top1:.1%}")
    for index in evaluation.worst(3):
        guess = mine.labels[evaluation.predicted[index]]
        print(f"told worst: {evaluation.names[index]}, taken for {guess}")
    print(options.photo, mine.classify(options.photo))


if __name__ == "__main__":
    main()
