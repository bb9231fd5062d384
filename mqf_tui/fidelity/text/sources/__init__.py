"""Texts of every kind as documents, read when they are asked for."""
