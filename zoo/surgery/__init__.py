"""Changes models and looks inside: adapt, fuse, features, backbone, describe, intercept."""
