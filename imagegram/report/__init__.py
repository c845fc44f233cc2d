"""The report page of a run: pictures, provenance, figures, tables."""
