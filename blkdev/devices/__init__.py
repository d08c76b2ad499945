"""Devices of the operating system."""
