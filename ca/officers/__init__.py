"""Who may act for the certificate authority, and what needs more than one of them (RFC 3647 5.2)."""
