"""How people prove who they are: one file per method reference value of RFC 8176."""
