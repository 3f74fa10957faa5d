"""Stages: how the tissue moves along the probe, from the depths of peaks; and traces as if it had not."""
