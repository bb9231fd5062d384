"""Widgets of our own, one subject a module."""
