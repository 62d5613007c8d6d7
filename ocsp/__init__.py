"""The OCSP responder: RFC 6960, answered from the register by delegated responders."""
