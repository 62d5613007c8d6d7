"""The certificate authority: RFC 5280 certificates, their register, revocation and CRLs."""
