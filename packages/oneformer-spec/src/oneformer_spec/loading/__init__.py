"""From a spec file and settings to a checked `Spec`."""
