"""Single sign-on: the OpenID provider that people log in to and relying parties rely on."""
