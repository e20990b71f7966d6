"""The parts a decoder is built from, each aware of the rank it runs on."""
