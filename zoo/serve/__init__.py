"""A server of image classification: HTTP, dynamic batching, and limits on what it takes."""
