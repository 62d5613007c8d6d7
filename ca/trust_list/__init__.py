"""The trust list: which certification authorities are accepted, for what, since when and why. Every version is kept."""
