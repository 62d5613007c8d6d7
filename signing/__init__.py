"""Document signing, time-stamping and validation: PAdES, RFC 3161, EN 319 102-1."""
