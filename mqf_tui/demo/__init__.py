"""The bundled demo model and the built-in corpus."""
