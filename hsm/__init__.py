"""Key custody: keys that sign without leaving their PKCS#11 token."""
