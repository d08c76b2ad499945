"""Tests. The folders mirror the packages; `suites` holds one conformance suite per interface."""
