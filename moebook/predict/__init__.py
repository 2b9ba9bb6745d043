"""The roofline bound of a device, and a calibrated prediction of times."""
