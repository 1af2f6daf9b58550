"""Preparation of data folders: a user's own images, GlaS and CRAG. Used by scripts/prepare_data.py."""
