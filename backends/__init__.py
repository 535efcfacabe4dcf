"""Backends: from a planned Program to an artefact, one folder each."""
