"""The floor of the house: mechanisms every room stands on, without a word of PKI or OpenID."""
