"""From a results table to answers: metrics, the floor and a calibrated prediction, and the study's claims."""
