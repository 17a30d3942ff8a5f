"""Models taken apart: adapted, fused, described, and read at inner layers."""
