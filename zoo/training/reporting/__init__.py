"""What a training tells of itself: the live line, the record of metrics, and the report."""
