"""The tiny family: small models that are trained here."""
