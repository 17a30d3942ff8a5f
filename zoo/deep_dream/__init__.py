"""DeepDream: pictures, galleries over layers, and zooming videos."""

from zoo.deep_dream.dream import dream, dream_layers
from zoo.deep_dream.video import dream_video

__all__ = ["dream", "dream_layers", "dream_video"]
