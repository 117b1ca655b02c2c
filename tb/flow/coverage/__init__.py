"""Coverage of many runs: merged, with exclusions taken out, shown as tables and pages."""
