"""Metrics and durations as people read them."""

from collections.abc import Mapping
from typing import Any

# Metrics whose name ends so are fractions, and shown in percent.
FRACTIONS = ("accuracy", "top1", "top5", "calibration_error")


def format_duration(seconds: float, digits: int = 0) -> str:
    """A duration such as "14 s", "3 min" or "1 h 05 min".

    Args:
      seconds: how long it is.
      digits: how many digits of seconds below a minute are shown after the point.
    """
    if round(seconds, digits) < 60:
        return f"{seconds:.{digits}f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def format_metric(name: str, value: Any) -> str:
    """A metric's value, such as "87.3 %" of an accuracy or "0.5123" of a loss."""
    if value is None:
        return "unknown"
    return f"{value:.1%}".replace("%", " %") if name.endswith(FRACTIONS) else f"{value:.4g}"


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Names and values, such as "loss 0.5123, learning rate 0.001"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {format_metric(name, value)}" for name, value in metrics.items()
    )
