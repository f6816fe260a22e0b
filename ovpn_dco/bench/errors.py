"""What can go wrong with a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """The bench cannot go on; the message says why, and what to do."""


class UnavailableError(BenchError):
    """Something that the machine lacks: a program, a right, a device."""


class MeasurementError(BenchError):
    """A measurement failed."""
